"""Which sub-apps are installed here: entry points, loaded one by one inside a guard.

What cannot be loaded becomes a :class:`Fault`; whether that stops everybody or
only whoever needs it is decided by ``sub_apps.on_error``.
"""

import difflib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module, metadata
from itertools import islice
from typing import Literal

import pluggy

from opal_registry import hookspecs
from opal_registry.errors import ConfigError, PluginError, Problem
from opal_registry.guard import Step, guarded, quiet_step
from opal_registry.sub_app import SubApp

GROUP = hookspecs.PROJECT
OWN_DISTRIBUTION = "opal-registry"
MOST_SUB_APPS = 1000
"""More than this from one plugin is a loop that does not end."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """Where sub-apps come from: an entry point, or a list of modules in the configuration."""

    name: str
    value: str
    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        if not self.distribution:
            return f"sub-app {self.name!r} (sub_apps.modules in the configuration)"
        return f"plugin {self.name!r} ({self.distribution} {self.version}, {self.value})"


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
    """Which of the installed sub-apps to load; see ``sub_apps`` in the configuration."""

    enabled: Literal["all"] | Sequence[str] = "all"
    disabled: Collection[str] = ()
    modules: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Discovery:
    """What was found: the sub-apps, the plugin manager that calls their hooks, and what went wrong."""

    manager: pluggy.PluginManager
    sub_apps: list[InstalledSubApp] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def hook(self, name: str, plugin: Plugin) -> "pluggy.HookCaller":
        """The hook ``name`` of one plugin alone."""
        own = self.manager.get_plugin(str(plugin))
        others = [other for other in self.manager.get_plugins() if other is not own]
        return self.manager.subset_hook_caller(name, others)

    def implements(self, name: str, plugin: Plugin) -> bool:
        """Whether a plugin implements the hook ``name``."""
        return bool(self.hook(name, plugin).get_hookimpls()) and hasattr(self.manager.get_plugin(str(plugin)), name)


def discover(choice: Choice, *, step: Step = quiet_step) -> Discovery:
    """Find and load the plugins, and collect what they contribute. Imports no models.

    Args:
        choice: Which of them to load; a name that is enabled brings in what it requires.
        step: Told of each import before it happens.

    Raises:
        ConfigError: If ``enabled`` names a sub-app that is not there.
    """
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    found = Discovery(manager)
    found.sub_apps = [_from_modules(name, models) for name, models in sorted(choice.modules.items())]
    plugins = [plugin for plugin in find_plugins() if plugin.name not in choice.disabled]
    if choice.enabled == "all":
        _load_all(found, plugins, step)
    else:
        _load_needed(found, plugins, choice.enabled, step)
    found.sub_apps = [app for app in found.sub_apps if app.name not in choice.disabled]
    return found


def find_plugins() -> list[Plugin]:
    """The entry points of all installed distributions, the built-in one first, then by name. Imports nothing."""
    found = [
        Plugin(
            point.name, point.value, point.dist.name if point.dist else "?", point.dist.version if point.dist else "?"
        )
        for point in metadata.entry_points(group=GROUP)
    ]
    return sorted(set(found), key=lambda plugin: (plugin.distribution != OWN_DISTRIBUTION, plugin.name, str(plugin)))


def import_models(app: InstalledSubApp, *, step: Step = quiet_step) -> None:
    """Import the modules that hold a sub-app's models; packages are walked, in order of their names.

    Raises:
        PluginError: If one of them cannot be imported.
    """
    for name in app.sub_app.models:
        module = _import(name, app, step)
        for child in _iter_children(name, getattr(module, "__path__", None)):
            _import(child, app, step)


def _import(name: str, app: InstalledSubApp, step: Step) -> object:
    where = str(app.plugin)
    with step(f"importing {name} of {app}"), guarded(f"importing {name}", where=where, own=name):
        return import_module(name)


def _iter_children(package: str, path: Iterable[str] | None) -> Iterable[str]:
    from pkgutil import iter_modules

    for info in sorted(iter_modules(path) if path else (), key=lambda info: info.name):
        name = f"{package}.{info.name}"
        if info.name != "__main__":
            yield name
            if info.ispkg:
                yield from _iter_children(name, getattr(import_module(name), "__path__", None))


def _load_all(found: Discovery, plugins: Sequence[Plugin], step: Step) -> None:
    for plugin in plugins:
        try:
            found.sub_apps += _load(found.manager, plugin, step)
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
    _check_wanted(found, plugins, wanted)


def _check_wanted(found: Discovery, plugins: Sequence[Plugin], wanted: Sequence[str]) -> None:
    known = {app.name for app in found.sub_apps} | {fault.names[0] for fault in found.faults}
    choices = sorted(known | {plugin.name for plugin in plugins})
    problems = []
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, choices, 1)
            mend = f"write {near[0]!r}" if near else f"install it, or choose from: {', '.join(choices) or 'none'}"
            problems.append(Problem(f"no sub-app {name!r} is installed here", "sub_apps.enabled", mend))
    if problems:
        raise ConfigError(*problems)


def _load(manager: pluggy.PluginManager, plugin: Plugin, step: Step) -> list[InstalledSubApp]:
    module = plugin.value.partition(":")[0].strip()
    where = str(plugin)
    with step(f"importing {plugin}"), guarded(f"importing {module}", where=where, own=module):
        loaded = _entry_point(plugin).load()
    with guarded("registering the plugin", where=where):
        _register(manager, plugin, loaded)
    with step(f"asking {plugin} for its sub-apps"), guarded("calling opal_sub_apps", where=where):
        return [InstalledSubApp(sub_app, plugin) for sub_app in _contributions(manager, plugin)]


def _entry_point(plugin: Plugin) -> metadata.EntryPoint:
    return metadata.EntryPoint(plugin.name, plugin.value, GROUP)


def _register(manager: pluggy.PluginManager, plugin: Plugin, loaded: object) -> None:
    if manager.is_registered(loaded):
        other = manager.get_name(loaded)
        raise PluginError(Problem(f"it loads the same object as {other}", mend="keep one of the two entry points"))
    try:
        manager.register(loaded, name=str(plugin))
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        manager.unregister(loaded)
        raise PluginError(
            Problem(_validation_text(error), mend=f"the hooks are: {', '.join(_hook_names())}")
        ) from error
    if not manager.get_hookcallers(loaded):
        manager.unregister(loaded)
        mend = "let the entry point name the module (or object) whose functions carry @hookimpl from opal_registry"
        raise PluginError(Problem(f"{plugin.value} implements no hook", mend=mend))


def _validation_text(error: pluggy.PluginValidationError) -> str:
    return " ".join(str(error).split()).replace(f"Plugin {str(error.plugin)!r} ", "")


def _hook_names() -> list[str]:
    return sorted(name for name in vars(hookspecs) if name.startswith("opal_"))


def _contributions(manager: pluggy.PluginManager, plugin: Plugin) -> list[SubApp]:
    own = manager.get_plugin(str(plugin))
    if not hasattr(own, "opal_sub_apps"):
        return []
    others = [other for other in manager.get_plugins() if other is not own]
    results = manager.subset_hook_caller("opal_sub_apps", others)()
    contributed = []
    for result in results or [None]:
        if isinstance(result, (str, bytes, dict, SubApp)) or not isinstance(result, Iterable):
            raise _wrong_type(f"opal_sub_apps returned {_a(result)}")
        contributed += list(islice(result, MOST_SUB_APPS + 1))
    for item in contributed:
        if not isinstance(item, SubApp):
            raise _wrong_type(f"opal_sub_apps yielded {_a(item)}")
    if len(contributed) > MOST_SUB_APPS:
        raise PluginError(Problem(f"opal_sub_apps yielded more than {MOST_SUB_APPS}", mend="end the loop"))
    return contributed


def _wrong_type(what: str) -> PluginError:
    return PluginError(Problem(what, mend="yield SubApp(...) objects, imported from opal_registry"))


def _a(value: object) -> str:
    return "nothing (None)" if value is None else f"an object of type {type(value).__name__}"


def _from_modules(name: str, models: Sequence[str]) -> InstalledSubApp:
    top = models[0].partition(".")[0] if models else ""
    owners = metadata.packages_distributions().get(top, [])
    version = metadata.version(owners[0]) if owners else ""
    where = "sub_apps.modules in the configuration"
    try:
        sub_app = SubApp(name=name, models=tuple(models))
    except PluginError as error:
        raise ConfigError(*(replace(problem, where=where) for problem in error.problems)) from None
    return InstalledSubApp(sub_app, Plugin(name, ", ".join(models), owners[0] if owners else "", version))
