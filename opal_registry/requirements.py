"""Whether the sub-apps that were found fit together: one of each name, and everybody has what they require."""

from collections.abc import Sequence

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from opal_registry.discovery import OWN_DISTRIBUTION, Choice, Discovery, Fault, InstalledSubApp
from opal_registry.errors import PluginError, Problem


def check_requirements(found: Discovery, choice: Choice) -> list[InstalledSubApp]:
    """Move every sub-app that cannot take part from ``found.sub_apps`` to ``found.faults``, with its reason.

    Args:
        found: What was discovered; changed in place.
        choice: What was asked for, so that a reason can say "disabled".

    Returns:
        Those whose requirements are not met.
    """
    _drop_duplicates(found)
    unmet: list[InstalledSubApp] = []
    while True:
        here = {app.name: app for app in found.sub_apps}
        faults = [fault for app in found.sub_apps if (fault := _find_unmet(app, here, found.faults, choice))]
        if not faults:
            return unmet
        found.faults += faults
        failed = {fault.names[0] for fault in faults}
        unmet += [app for app in found.sub_apps if app.name in failed]
        found.sub_apps = [app for app in found.sub_apps if app.name not in failed]


def _drop_duplicates(found: Discovery) -> None:
    """Two sub-apps of one name: neither may stand, but for ``core``, whose name nobody else may take."""
    by_name: dict[str, list[InstalledSubApp]] = {}
    for app in found.sub_apps:
        by_name.setdefault(app.name, []).append(app)
    for name, apps in by_name.items():
        if len(apps) > 1:
            who = " and ".join(str(app.plugin) for app in apps)
            problem = Problem(
                f"two sub-apps are called {name!r}", who, "rename one, or leave one out with sub_apps.disabled"
            )
            found.faults.append(Fault((name,), PluginError(problem)))
            found.sub_apps = [app for app in found.sub_apps if app.name != name or _is_core(app)]


def _is_core(app: InstalledSubApp) -> bool:
    return app.plugin.distribution == OWN_DISTRIBUTION


def _find_unmet(
    app: InstalledSubApp, here: dict[str, InstalledSubApp], faults: Sequence[Fault], choice: Choice
) -> Fault | None:
    problems = [
        problem
        for requirement in app.sub_app.requirements
        if (problem := _unmet(app, requirement, here.get(requirement.name), faults, choice))
    ]
    return Fault((app.name,), PluginError(*problems), app.plugin) if problems else None


def _unmet(
    app: InstalledSubApp,
    requirement: Requirement,
    other: InstalledSubApp | None,
    faults: Sequence[Fault],
    choice: Choice,
) -> Problem | None:
    where = str(app.plugin)
    what = f"sub-app {app.name!r} requires {str(requirement)!r}"
    if other is None:
        return Problem(f"{what}, {_absence(requirement.name, faults, choice)}", where, _absence_mend(requirement.name))
    if not requirement.specifier:
        return None
    try:
        version = Version(other.plugin.version)
    except InvalidVersion:
        known = other.plugin.version or "unknown"
        return Problem(f"{what}, but the version of {other.name!r} is {known}", where, "drop the version specifier")
    if requirement.specifier.contains(version, prereleases=True):
        return None
    found = f"{other.plugin.distribution} {other.plugin.version} is installed"
    return Problem(f"{what}, but {found}", where, f"install a release of {other.plugin.distribution} that fits")


def _absence(name: str, faults: Sequence[Fault], choice: Choice) -> str:
    if name in choice.disabled:
        return "which is disabled by sub_apps.disabled"
    if any(name in fault.names for fault in faults):
        return "which could not be loaded"
    return "which is not installed here"


def _absence_mend(name: str) -> str:
    return f"install the distribution that brings {name!r}, or enable it"
