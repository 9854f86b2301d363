"""A history as Alembic sees it: its own classes, made from what is known already; a file is imported when it is run."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from alembic.script import Script, ScriptDirectory
from alembic.script.revision import MultipleHeads, RevisionError
from alembic.util import CommandError

from opal_registry.errors import PluginError, Problem
from opal_registry.guard import guarded
from opal_registry.migrations.revision_file import Revision

TEMPLATE = Path(__file__).parent / "template"
"""Holds what new files are made from."""


def make_script(folder: Path, revisions: Mapping[str, Revision]) -> ScriptDirectory:
    """Make Alembic's view of a history; nothing is imported."""
    return _Scripts(folder, revisions)


def resolve(script: ScriptDirectory, target: str) -> tuple[str, ...]:
    """The revisions that a symbol means to Alembic.

    Raises:
        ValueError: If it means none, or more than one.
    """
    try:
        found = script.revision_map.get_revisions(target)
    except MultipleHeads as error:
        raise ValueError(f"there is more than one head: {', '.join(error.heads)}") from error
    except (RevisionError, CommandError) as error:
        raise ValueError(str(error).rstrip(".")) from error
    return tuple(each.revision for each in found if isinstance(each, Script))


def find_undone(script: ScriptDirectory, target: str, heads: Sequence[str]) -> list[str]:
    """The revisions between some heads and one below them, the last one first.

    Raises:
        ValueError: If there is no such one below them, or it is not clear below which.
    """
    if target.startswith("-") and len(heads) > 1:
        raise ValueError(f"there is more than one head: {', '.join(heads)}; say which branch by its label")
    if target == "-1" and _find_merge(script, heads[0]) == heads[0]:
        return [heads[0]]
    try:
        steps = script._downgrade_revs(target, tuple(heads))  # type: ignore[arg-type]  # what its command hands it
    except (RevisionError, CommandError) as error:
        if "Ambiguous walk" in str(error) and (merge := _find_merge(script, heads[0])):
            parents = " and ".join(script.get_revision(merge)._versioned_down_revisions)
            raise ValueError(f"{merge} is a merge of {parents}; name the one to go back to") from error
        raise ValueError(str(error).rstrip(".")) from error
    return [step.revision.revision for step in steps]


def _find_merge(script: ScriptDirectory, head: str) -> str:
    """The first revision on the way down from a head that follows several; empty if none does."""
    while len(parents := script.get_revision(head)._versioned_down_revisions) == 1:
        head = parents[0]
    return head if parents else ""


class _Scripts(ScriptDirectory):
    def __init__(self, folder: Path, revisions: Mapping[str, Revision]) -> None:
        quiet: Any = {"quiet": True}
        super().__init__(TEMPLATE, version_locations=[folder], messaging_opts=quiet)
        self._known = revisions

    def _load_revisions(self) -> Iterator[Script]:
        for each in self._known.values():
            yield Script(_Module(each), each.id, each.path)


class _Module(ModuleType):
    """A revision's module. What it says about itself is known; everything else is imported when it is asked for."""

    def __init__(self, revision: Revision) -> None:
        super().__init__(f"{revision.app}_{revision.id}", revision.title)
        self.revision = revision.id
        self.down_revision = revision.parents or None
        self.depends_on = revision.depends_on or None
        self.branch_labels = revision.labels or None
        self._revision, self._real = revision, None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._real is None:
            self.__dict__["_real"] = load_module(self._revision)
        if name in {"upgrade", "downgrade"} and not callable(getattr(self._real, name, None)):
            mend = f"write def {name}() into it, with pass in it if there is nothing to do"
            raise PluginError(Problem(f"{self._revision} has no function {name}", str(self._revision.path), mend))
        return getattr(self._real, name)


def load_module(revision: Revision) -> ModuleType:
    """Import a revision's file.

    Raises:
        PluginError: If it fails.
    """
    name = f"opal_revision_{revision.app}_{revision.id}"
    with guarded(f"importing the revision {revision}", where=str(revision.path), own=name):
        spec = spec_from_file_location(name, revision.path)
        module = module_from_spec(spec)  # type: ignore[arg-type]  # its name ends in .py
        module.__spec__.loader.exec_module(module)  # type: ignore[union-attr]
        return module
