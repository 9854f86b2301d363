"""Where the revisions of a sub-app are: a folder in its own package, found without importing the package."""

import sysconfig
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from opal_registry.discovery import InstalledSubApp
from opal_registry.errors import PluginError, Problem
from opal_registry.guard import guarded
from opal_registry.suite import LoadedSubApp

VERSIONS = "versions"
"""The folder inside another one that Alembic keeps revisions in; used where it is there."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where the revisions of one sub-app are.

    Args:
        value: As its plugin says it: ``package:folder``.
        folder: The folder that holds, or shall hold, the files.
    """

    value: str
    folder: Path

    @property
    def is_installed(self) -> bool:
        """Whether the files are a copy that was installed, and not the source of the sub-app."""
        installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
        return any(folder in installed or folder.name in {"site-packages", "dist-packages"} for folder in self._parents)

    @property
    def _parents(self) -> list[Path]:
        return list(self.folder.resolve().parents)


def find_location(app: InstalledSubApp | LoadedSubApp) -> Location:
    """Find the folder that a sub-app's ``migrations`` names; it need not be there yet.

    Args:
        app: A sub-app that has ``migrations``.

    Raises:
        PluginError: If there is no such package, or it is no folder.
    """
    value, where = app.sub_app.migrations or "", str(app.plugin)
    package, _, inner = value.partition(":")
    if not inner:
        mend = f'write it as package:folder, like migrations="{app.name}:migrations"'
        raise PluginError(Problem(f"sub-app {app.name!r}: migrations cannot be {value!r}", where, mend))
    with guarded(f"looking for {package}", where=where, own=package):
        spec = find_spec(package)
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    if not places:
        mend = f"correct migrations={value!r}, or reinstall the distribution"
        raise PluginError(Problem(f"sub-app {app.name!r}: there is no package {package!r}", where, mend))
    folders = [place / inner for place in places]
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return Location(value, folder / VERSIONS if (folder / VERSIONS).is_dir() else folder)
