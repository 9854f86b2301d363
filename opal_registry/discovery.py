"""Which sub-apps are installed here: entry points, loaded one by one inside a guard.

What cannot be loaded becomes a :class:`Fault`; whether that stops everybody or
only whoever needs it is decided by ``sub_apps.on_error``.
"""

import difflib
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module, metadata
from typing import Literal

import pluggy

from opal_registry.entry_point import get_sub_apps, load_object, make_manager
from opal_registry.errors import ConfigError, PluginError, Problem
from opal_registry.guard import Step, guarded, quiet_step
from opal_registry.sub_app import SubApp

logger = logging.getLogger("opal_registry")

GROUP = "opal_registry"
OWN_DISTRIBUTION = "opal-registry"
OWN_PLUGIN = "opal_registry.builtin"


@dataclass(frozen=True, slots=True)
class Plugin:
    """Where sub-apps come from: an entry point, or a list of modules in the configuration.

    Args:
        name: Of the entry point, or of the sub-app where the configuration lists its modules.
        value: The entry point, ``module`` or ``module:attribute``; or the modules.
        distribution: The distribution that brings it; empty if none is known.
        version: Of that distribution.
        is_configured: Whether it comes from ``sub_apps.modules``.
    """

    name: str
    value: str
    distribution: str = ""
    version: str = ""
    is_configured: bool = False

    @property
    def is_builtin(self) -> bool:
        """Whether it is the one that brings ``core``."""
        return (self.distribution, self.value) == (OWN_DISTRIBUTION, OWN_PLUGIN)

    def __str__(self) -> str:
        release = f"{self.distribution} {self.version}".strip()
        if self.is_configured:
            return (
                f"sub-app {self.name!r} ({', '.join(filter(None, ('sub_apps.modules in the configuration', release)))})"
            )
        return f"plugin {self.name!r} ({release}, {self.value})"


@dataclass(frozen=True, slots=True)
class InstalledSubApp:
    """A sub-app with the plugin that brought it."""

    sub_app: SubApp
    plugin: Plugin

    @property
    def name(self) -> str:
        """The sub-app's name."""
        return self.sub_app.name

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the sub-apps that it requires."""
        return tuple(requirement.name for requirement in self.sub_app.requirements)

    def __str__(self) -> str:
        version = f"{self.plugin.distribution} {self.plugin.version}".strip() or "from sub_apps.modules"
        return f"sub-app {self.name!r} ({version})"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why some sub-apps cannot take part.

    Args:
        names: The sub-apps concerned; the plugin's name where its sub-apps are not known yet.
        error: What is wrong.
        plugin: Whose fault it is, if it is one plugin's.
        derived: Whether it only follows from another fault.
    """

    names: tuple[str, ...]
    error: PluginError
    plugin: Plugin | None = None
    derived: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of the installed sub-apps to load; see ``sub_apps`` in the configuration.

    Args:
        enabled: ``all``, or the names of those to load; what they require comes with them.
        disabled: Names of plugins that are not imported at all, and of sub-apps that are left out.
        modules: Sub-apps without an entry point: their name, and the modules that hold their models.
    """

    enabled: Literal["all"] | Sequence[str] = "all"
    disabled: Collection[str] = ()
    modules: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Discovery:
    """What was found: the sub-apps, the plugins' hooks, and what went wrong."""

    sub_apps: list[InstalledSubApp] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    _managers: dict[Plugin, pluggy.PluginManager] = field(default_factory=dict, repr=False)

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """Every plugin that was loaded, in order; one may listen without contributing sub-apps."""
        return tuple(self._managers)

    def hook(self, name: str, plugin: Plugin) -> "pluggy.HookCaller":
        """The hook ``name`` of one plugin alone: each is registered with a manager of its own."""
        manager = self._managers.get(plugin) or make_manager()
        caller: pluggy.HookCaller = getattr(manager.hook, name)
        return caller

    def implements(self, name: str, plugin: Plugin) -> bool:
        """Whether a plugin implements the hook ``name``."""
        return bool(self.hook(name, plugin).get_hookimpls())

    def find_app_of(self, module: str) -> str:
        """The sub-app in whose package a module is; empty if it is in none."""
        while module and module not in self._packages:
            module = module.rpartition(".")[0]
        return self._packages.get(module, "")

    @cached_property
    def _packages(self) -> dict[str, str]:
        return {models.rpartition(".")[0] or models: app.name for app in self.sub_apps for models in app.sub_app.models}

    def add(self, plugin: Plugin, *, step: Step) -> None:
        """Load a plugin, and ask it for its sub-apps.

        Raises:
            PluginError: If it cannot be loaded, or contributes anything else.
        """
        module, where = plugin.value.partition(":")[0].strip(), str(plugin)
        with step(f"importing {plugin}"), guarded(f"importing {module}", where=where, own=module):
            loaded = load_object(plugin.value)
        with guarded("registering the plugin", where=where):
            for other, manager in self._managers.items():
                if manager.is_registered(loaded):
                    mend = "keep one of the two entry points"
                    raise PluginError(Problem(f"it loads the same object as {other}", mend=mend))
            self._managers[plugin] = make_manager(loaded)
        with step(f"asking {plugin} for its sub-apps"), guarded("calling opal_sub_apps", where=where):
            self.sub_apps += [InstalledSubApp(sub_app, plugin) for sub_app in get_sub_apps(self._managers[plugin])]


def discover(choice: Choice, *, step: Step = quiet_step) -> Discovery:
    """Find and load the plugins, and collect what they contribute. Imports no models.

    Args:
        choice: Which of them to load.
        step: Told of each import before it happens.

    Raises:
        ConfigError: If the choice names a sub-app to load that is not there.
    """
    found = Discovery([_from_modules(name, models) for name, models in sorted(choice.modules.items())])
    installed = find_plugins()
    plugins = [plugin for plugin in installed if plugin.name not in choice.disabled]
    if choice.enabled == "all":
        _load_all(found, plugins, step)
    else:
        _load_needed(found, plugins, choice.enabled, step)
        _check_wanted(found, plugins, choice)
    _warn_of_misspelt(choice.disabled, {plugin.name for plugin in installed} | {app.name for app in found.sub_apps})
    found.sub_apps = [app for app in found.sub_apps if app.name not in choice.disabled]
    return found


def find_plugins() -> list[Plugin]:
    """The entry points of all installed distributions, the built-in one first, then by name. Imports nothing."""
    found = {Plugin(point.name, point.value, *_release(point)) for point in metadata.entry_points(group=GROUP)}
    return sorted(found, key=lambda plugin: (not plugin.is_builtin, plugin.name, str(plugin)))


def _release(point: metadata.EntryPoint) -> tuple[str, str]:
    """The distribution of an entry point and its version; ``?`` where an interrupted installation left no METADATA."""
    try:
        return (point.dist.name or "?", point.dist.version or "?") if point.dist else ("?", "?")
    except Exception:  # noqa: BLE001 -- importlib.metadata promises no kind of error
        return "?", "?"


def import_models(app: InstalledSubApp, *, step: Step = quiet_step) -> None:
    """Import the modules that hold a sub-app's models; packages are walked, in order of their names.

    A package's ``__main__`` and the sub-app's own revisions are no models, and are passed over.

    Raises:
        PluginError: If one of them cannot be imported.
    """
    for name in app.sub_app.models:
        module = _import(name, app, step)
        for child in _iter_children(name, getattr(module, "__path__", None), without=_find_revisions(app)):
            _import(child, app, step)


def _import(name: str, app: InstalledSubApp, step: Step) -> object:
    where = str(app.plugin)
    with step(f"importing {name} of {app}"), guarded(f"importing {name}", where=where, own=name):
        return import_module(name)


def _find_revisions(app: InstalledSubApp) -> set[str]:
    """The dotted names of the folders that hold a sub-app's revisions."""
    history = app.sub_app.history
    return {each.replace(":", ".").replace("/", ".") for each in (history.locations if history else ())}


def _iter_children(package: str, path: Iterable[str] | None, *, without: Collection[str]) -> Iterable[str]:
    from pkgutil import iter_modules

    for info in sorted(iter_modules(path) if path else (), key=lambda info: info.name):
        name = f"{package}.{info.name}"
        if info.name != "__main__" and name not in without:
            yield name
            if info.ispkg:
                yield from _iter_children(name, getattr(import_module(name), "__path__", None), without=without)


def _load_all(found: Discovery, plugins: Sequence[Plugin], step: Step) -> None:
    for plugin in plugins:
        try:
            found.add(plugin, step=step)
        except PluginError as error:
            found.faults.append(Fault((plugin.name,), error, plugin))


def _load_needed(found: Discovery, plugins: Sequence[Plugin], wanted: Sequence[str], step: Step) -> None:
    """Load plugins by the names that are asked for; the rest only if a name is still missing then."""
    waiting = list(plugins)
    names = {"core", *wanted}
    while True:
        names |= {need for app in found.sub_apps if app.name in names for need in app.needs}
        batch = [plugin for plugin in waiting if plugin.name in names]
        missing = names - {app.name for app in found.sub_apps} - {fault.names[0] for fault in found.faults}
        if not batch and missing:
            batch = waiting
        if not batch:
            break
        waiting = [plugin for plugin in waiting if plugin not in batch]
        _load_all(found, batch, step)
    found.sub_apps = [app for app in found.sub_apps if app.name in names]
    found.faults = [fault for fault in found.faults if fault.names[0] in names]


def _check_wanted(found: Discovery, plugins: Sequence[Plugin], choice: Choice) -> None:
    known = {app.name for app in found.sub_apps} | {fault.names[0] for fault in found.faults}
    choices = sorted(known | {plugin.name for plugin in plugins})
    where = "sub_apps.enabled, or the sub_apps of the Registry"
    problems = []
    for name in choice.enabled:
        if name in choice.disabled:
            what = f"sub-app {name!r} is enabled and disabled at once"
            problems.append(Problem(what, where, "take it out of sub_apps.disabled, or do not ask for it"))
        elif name not in known:
            near = difflib.get_close_matches(name, choices, 1)
            mend = f"write {near[0]!r}" if near else f"install it, or choose from: {', '.join(choices) or 'none'}"
            problems.append(Problem(f"no sub-app {name!r} is installed here", where, mend))
    if problems:
        raise ConfigError(*problems)


def _warn_of_misspelt(disabled: Iterable[str], known: Collection[str]) -> None:
    """An unknown name is no error: one configuration serves many images. One that is nearly known may be a slip."""
    for name in disabled:
        near = difflib.get_close_matches(name, known, 1, cutoff=0.8)
        if near and name not in known:
            logger.warning("sub_apps.disabled: no %r is installed here; did you mean %r?", name, near[0])


def _from_modules(name: str, models: Sequence[str]) -> InstalledSubApp:
    where = "sub_apps.modules in the configuration"
    if not models:
        mend = f"write it like {name}: [{name}.models], or take it out"
        raise ConfigError(Problem(f"sub-app {name!r} lists no modules", where, mend))
    try:
        sub_app = SubApp(name=name, models=tuple(models))
    except PluginError as error:
        raise ConfigError(*(replace(problem, where=where) for problem in error.problems)) from None
    owners = metadata.packages_distributions().get(models[0].partition(".")[0], [])
    release = (owners[0], metadata.version(owners[0])) if owners else ("", "")
    return InstalledSubApp(sub_app, Plugin(name, ", ".join(models), *release, is_configured=True))
