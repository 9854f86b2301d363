"""Where the revisions of a sub-app are: a folder in its own package, found without importing the package."""

import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa

from opal_registry.discovery import InstalledSubApp
from opal_registry.errors import PluginError, Problem
from opal_registry.guard import guarded
from opal_registry.sub_app import Migrations
from opal_registry.suite import LoadedSubApp

Command = Callable[[sa.Engine], object]

PLAIN = Migrations("package:folder")

VERSIONS = "versions"
"""The folder inside another one that Alembic keeps revisions in; used where it is there."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where the revisions of one sub-app are.

    Args:
        value: As its plugin says it: ``package:folder``, or ``module:function``.
        folder: The folder that holds, or shall hold, the files.
        command: What upgrades its tables instead of files; called with an engine.
        options: How the files are to be taken.
    """

    value: str
    folder: Path
    command: Command | None = None
    options: Migrations = PLAIN

    @property
    def is_installed(self) -> bool:
        """Whether the files are a copy that was installed, and not the source of the sub-app."""
        installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
        parents = self.folder.resolve().parents
        return any(folder in installed or folder.name in {"site-packages", "dist-packages"} for folder in parents)

    @property
    def env(self) -> Path:
        """The ``env.py`` that belongs to the files: beside them, or beside the folder that they are in."""
        beside = self.folder / "env.py"
        return beside if beside.exists() else self.folder.parent / "env.py"


def find_location(app: InstalledSubApp | LoadedSubApp, dialect: str = "") -> Location:
    """Find what a sub-app's ``migrations`` names; a folder need not be there yet.

    Args:
        app: A sub-app that has ``migrations``.
        dialect: Of its database, where there are revisions for each.

    Raises:
        PluginError: If there is no such package, or no such function.
    """
    options, where = app.sub_app.history or PLAIN, str(app.plugin)
    with guarded("looking for its migrations", where=where):
        value = options.get_location(dialect)
    package, _, inner = value.partition(":")
    with guarded(f"looking for {package}", where=where, own=package):
        spec = find_spec(package)
    if spec is None:
        mend = f"correct migrations={value!r}, or reinstall the distribution"
        raise PluginError(Problem(f"sub-app {app.name!r}: there is no package {package!r}", where, mend))
    folders = [Path(place) / inner for place in spec.submodule_search_locations or ()]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    command = None if folder else _find_command(package, inner, where)
    folder = folder or (folders[0] if folders else Path(spec.origin or "").parent / inner)
    return Location(value, folder / VERSIONS if (folder / VERSIONS).is_dir() else folder, command, options)


def _find_command(module: str, name: str, where: str) -> Command | None:
    """The function that is meant where there is no folder; None if there is none either."""
    with guarded(f"importing {module}", where=where, own=module):
        found = getattr(import_module(module), name, None)
    return found if callable(found) and not isinstance(found, ModuleType) else None
