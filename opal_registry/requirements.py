"""Whether the sub-apps that were found fit together: one of each name, and everybody has what they require."""

import difflib
from collections.abc import Iterable

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from opal_registry.discovery import Choice, Discovery, Fault, InstalledSubApp
from opal_registry.errors import PluginError, Problem


def check_requirements(found: Discovery, choice: Choice) -> list[InstalledSubApp]:
    """Move every sub-app that cannot take part from ``found.sub_apps`` to ``found.faults``, with its reason.

    Args:
        found: What was discovered; changed in place.
        choice: What was asked for, so that a reason can say "disabled".

    Returns:
        Those that require a sub-app which is not there at all.
    """
    _drop_duplicates(found)
    look = _Look(found, choice)
    while gone := [app.name for app in look.here.values() if any(look.faults_of(app))]:
        look.faulty.update(gone)
        look.here = {name: app for name, app in look.here.items() if name not in gone}
    failed = [app for app in found.sub_apps if app.name not in look.here]
    found.faults += [fault for app in failed for fault in look.faults_of(app)]
    found.sub_apps = list(look.here.values())
    return [app for app in failed if look.is_homeless(app)]


def _drop_duplicates(found: Discovery) -> None:
    """Two sub-apps of one name: neither may stand, but for ``core``, whose name nobody else may take."""
    by_name: dict[str, list[InstalledSubApp]] = {}
    for app in found.sub_apps:
        by_name.setdefault(app.name, []).append(app)
    for name, apps in by_name.items():
        if any(app.plugin.is_builtin for app in apps):
            found.faults += [_usurper(app) for app in apps if not app.plugin.is_builtin]
            found.sub_apps = [app for app in found.sub_apps if app.name != name or app.plugin.is_builtin]
        elif len(apps) > 1:
            found.faults.append(_namesakes(name, apps))
            found.sub_apps = [app for app in found.sub_apps if app.name != name]


def _usurper(app: InstalledSubApp) -> Fault:
    what = f"the name {app.name!r} belongs to the built-in sub-app"
    return Fault(
        (app.plugin.name,), PluginError(Problem(what, str(app.plugin), "give the sub-app another name")), app.plugin
    )


def _namesakes(name: str, apps: Iterable[InstalledSubApp]) -> Fault:
    plugins = list(dict.fromkeys(app.plugin for app in apps))
    where = " and ".join(str(plugin) for plugin in plugins)
    mend = "rename one, or leave one out with sub_apps.disabled" if len(plugins) > 1 else "rename one of them"
    return Fault((name,), PluginError(Problem(f"two sub-apps are called {name!r}", where, mend)))


def left_out(app: InstalledSubApp, requirement: Requirement) -> Fault:
    """The fault of a sub-app that requires one which has a fault of its own."""
    what = f"{app} requires {str(requirement)!r}, which is left out"
    mend = f"mend {requirement.name!r}, whose own fault is reported as well"
    return Fault((app.name,), PluginError(Problem(what, str(app.plugin), mend)), app.plugin, derived=True)


class _Look:
    """Who is here, who is faulty, and so what is wrong with whose requirements."""

    def __init__(self, found: Discovery, choice: Choice) -> None:
        self.here = {app.name: app for app in found.sub_apps}
        self.faulty = {name for fault in found.faults for name in fault.names}
        self.choice = choice

    def faults_of(self, app: InstalledSubApp) -> Iterable[Fault]:
        """What is wrong with a sub-app's requirements; what only follows from others' faults is kept apart."""
        own: list[Problem] = []
        for requirement in app.sub_app.requirements:
            if requirement.name not in self.here and requirement.name in self.faulty:
                yield left_out(app, requirement)
            elif reason := self._reason(requirement):
                what = f"{app} requires {str(requirement)!r}, {reason[0]}"
                own.append(Problem(what, str(app.plugin), reason[1]))
        if own:
            yield Fault((app.name,), PluginError(*own), app.plugin)

    def is_homeless(self, app: InstalledSubApp) -> bool:
        """Whether a sub-app requires one that is neither here nor faulty."""
        return not self.here.keys() | self.faulty >= set(app.needs)

    def _reason(self, requirement: Requirement) -> tuple[str, str] | None:
        """Why a requirement is not met, and what to do about it; None if it is met."""
        name, other = requirement.name, self.here.get(requirement.name)
        if other is not None:
            return _version_reason(requirement, other)
        if name in self.choice.disabled:
            return "which is disabled", f"take {name!r} out of sub_apps.disabled, or disable this one too"
        near = difflib.get_close_matches(name, self.here, 1, cutoff=0.8)
        mend = f"write {near[0]!r}, or " if near else ""
        return "which is not installed here", f"{mend}install the distribution that brings {name!r}"


def _version_reason(requirement: Requirement, other: InstalledSubApp) -> tuple[str, str] | None:
    distribution, version = other.plugin.distribution, other.plugin.version
    try:
        if not requirement.specifier or requirement.specifier.contains(Version(version), prereleases=True):
            return None
    except InvalidVersion:
        return f"but the version of {other.name!r} is {version or 'not known'}", "require it without a version"
    mend = f"install a release of {distribution} that fits, or another one of the distribution that asks for it"
    return f"but {distribution} {version} is installed", mend
