"""The history of one sub-app: its revisions, in order, with what they need of each other."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from opal_registry.discovery import Fault, InstalledSubApp
from opal_registry.errors import ConfigError, OpalError, PluginError, Problem
from opal_registry.migrations.location import Location, find_location
from opal_registry.migrations.revision_file import Revision, read_revision
from opal_registry.plan import CycleError, order
from opal_registry.store.revisions import LONGEST_ID, VERSION_TABLE
from opal_registry.suite import LoadedSubApp

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory


@dataclass(frozen=True)
class History:
    """The revisions of one sub-app.

    Args:
        app: The sub-app.
        version: Of the distribution that brings it.
        location: Where the files are.
        revisions: By identifier, each after those it needs.
        retired: Those that another one stands for, as far as their files are still there; in order too.
    """

    app: str
    version: str
    location: Location
    revisions: Mapping[str, Revision] = field(default_factory=dict)
    retired: Mapping[str, Revision] = field(default_factory=dict)

    @property
    def version_table(self) -> str:
        """The table that holds which of them a database is at."""
        return VERSION_TABLE + self.app

    @cached_property
    def heads(self) -> tuple[str, ...]:
        """Those that no other one needs; sorted."""
        needed = {need for revision in self.revisions.values() for need in revision.needs}
        return tuple(sorted(self.revisions.keys() - needed))

    @cached_property
    def pinned(self) -> tuple[str, ...]:
        """The other sub-apps whose revisions any of them needs; sorted."""
        return tuple(sorted({app for revision in self.revisions.values() for app in revision.pins}))

    def ancestors(self, ids: Iterable[str]) -> set[str]:
        """Those among some revisions that are known, with everything that they need in this history."""
        found: set[str] = set()
        waiting = [each for each in ids if each in self.revisions]
        while waiting:
            each = waiting.pop()
            if each not in found:
                found.add(each)
                waiting += self.revisions[each].needs
        return found

    def descendants(self, ids: Iterable[str]) -> set[str]:
        """Some revisions, with everything that needs them in this history."""
        found = set(ids)
        for revision in self.revisions.values():  # each after those it needs
            if found.intersection(revision.needs):
                found.add(revision.id)
        return found

    def find_heads(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Those among some revisions that none of the others needs: what the version table says of them; sorted."""
        known = set(ids)
        return tuple(
            sorted(known - {need for each in known & self.revisions.keys() for need in self.revisions[each].needs})
        )

    @cached_property
    def replaced(self) -> dict[str, str]:
        """Every revision that another one stands for, with that one, whether its file is still there or not."""
        return {old: each.id for each in self.revisions.values() for old in each.replaces}

    @cached_property
    def taken(self) -> dict[str, str]:
        """Tables that it took over from other sub-apps, each with the one that had it."""
        return {table: app for each in self.revisions.values() for table, app in each.takes.items()}

    @cached_property
    def given(self) -> dict[str, str]:
        """Tables that it handed over to other sub-apps, each with the one that has it."""
        return {table: app for each in self.revisions.values() for table, app in each.gives.items()}

    def seen_from(self, applied: Collection[str]) -> "History":
        """The history as a database has to go through it that has some revisions.

        One that is in the midst of what another revision stands for goes the old way first.

        Raises:
            PluginError: If the files of the old way are not there any more.
        """
        for each in self.revisions.values():
            lacking = [old for old in each.replaces if old not in applied]
            if each.id in applied or not lacking or len(lacking) == len(each.replaces):
                continue
            if gone := [old for old in lacking if old not in self.retired]:
                what = f"the database is in the midst of what {each} stands for: it lacks {', '.join(gone)}"
                mend = f"upgrade it with a release of {self.app!r} that still has them, and then with this one"
                raise PluginError(Problem(what, str(each.path), mend))
            return replace(self, revisions=self.retired, retired={})
        return self

    def with_pins_renamed(self, names: Mapping[str, str]) -> "History":
        """The same history, whose pins name other sub-apps as they are called today.

        Args:
            names: Former names, each with the one of today.
        """

        def renamed(revision: Revision) -> Revision:
            return replace(revision, pins={names.get(app, app): ids for app, ids in revision.pins.items()})

        return replace(self, revisions={id_: renamed(each) for id_, each in self.revisions.items()})

    @cached_property
    def script(self) -> "ScriptDirectory":
        """The same for Alembic."""
        from opal_registry.migrations.scripts import make_script  # brings Alembic, which a plan does without

        return make_script(self.location.folder, self.revisions)

    def resolve(self, target: str) -> tuple[str, ...]:
        """The revisions that a person means: ``head``, ``heads``, ``base``, a label, ``1a2b`` or the beginning of one.

        Returns:
            The identifiers; none for ``base``.

        Raises:
            ConfigError: If there is no such revision, or more than one that may be meant.
        """
        if target in self.revisions:
            return (target,)
        from opal_registry.migrations.scripts import resolve

        try:
            return resolve(self.script, target)
        except ValueError as error:
            raise ConfigError(
                Problem(f"{self.app}@{target}: {error}", str(self.location.folder), self._choices)
            ) from None

    def find_undone(self, target: str, heads: Sequence[str]) -> list[str]:
        """The revisions that lie between a database's heads and one to go back to, the last one first.

        Args:
            target: ``base``, ``-1``, a label, an identifier or the beginning of one.
            heads: What the database is at.

        Raises:
            ConfigError: If there is no way back to it.
        """
        from opal_registry.migrations.scripts import find_undone

        if not heads:
            if not target.startswith("-"):
                self.resolve(target)
            return []
        try:
            return find_undone(self.script, target, heads)
        except ValueError as error:
            raise ConfigError(
                Problem(f"{self.app}@{target}: {error}", str(self.location.folder), self._choices)
            ) from None

    @property
    def _choices(self) -> str:
        known = [f"{each.id} ({each.title})" if each.title else each.id for each in self.revisions.values()]
        return f"choose from: base, head, heads, {', '.join(known[-10:])}" if known else "it has no revisions yet"


def load_histories(
    apps: Sequence[LoadedSubApp | InstalledSubApp], get_dialect: Callable[[str], str] = lambda _: ""
) -> dict[str, History]:
    """The histories of those sub-apps that have one.

    Args:
        apps: The sub-apps.
        get_dialect: Knows of which kind the database of a bind is, for those that have revisions for each.

    Raises:
        PluginError: What is wrong in all of them, at once.
    """
    found, faults = load_readable(apps, get_dialect)
    if faults:
        raise PluginError(*(problem for fault in faults for problem in fault.error.problems))
    return found


def load_readable(
    apps: Sequence[LoadedSubApp | InstalledSubApp], get_dialect: Callable[[str], str] = lambda _: ""
) -> tuple[dict[str, History], list[Fault]]:
    """The histories of those sub-apps that have one which can be read, and what is wrong with the others.

    Args:
        apps: The sub-apps.
        get_dialect: As for :func:`load_histories`.
    """
    found: dict[str, History] = {}
    faults: list[Fault] = []
    names = {old: app.name for app in apps for old in app.sub_app.renamed_from}
    for app in apps:
        try:
            if app.sub_app.migrations is not None:
                found[app.name] = load_history(app, get_dialect(app.sub_app.bind))
        except PluginError as error:
            faults.append(Fault((app.name,), error, app.plugin))
    if names:
        found = {name: history.with_pins_renamed(names) for name, history in found.items()}
    return found, faults


def load_history(app: LoadedSubApp | InstalledSubApp, dialect: str = "", *, may_be_missing: bool = False) -> History:
    """Read the history of a sub-app; nothing of it is executed.

    Args:
        app: A sub-app that has ``migrations``.
        dialect: Of its database, where there are revisions for each.
        may_be_missing: Whether its folder need not be there yet.

    Raises:
        PluginError: What is wrong with its folder, its files, or how they hang together.
    """
    location = find_location(app, dialect)
    if location.command is not None:
        release = Revision(app.name, app.plugin.version[:LONGEST_ID] or "1", title=f"calls {location.value}")
        return History(app.name, app.plugin.version, location, {release.id: release})
    if not location.folder.is_dir() and not may_be_missing:
        what = f"sub-app {app.name!r}: the folder of its migrations is not there: {location.folder}"
        mend = f"is it in the wheel? A new one is made by: opal-db revision {app.name} -m TEXT"
        raise PluginError(Problem(what, str(app.plugin), mend))
    found = _read_all(app.name, _list_files(app.name, location))
    replaced = {old: each.id for each in found for old in each.replaces}
    retired = [each for each in found if each.id in replaced]
    current = [_with_needs_replaced(each, replaced) for each in found if each.id not in replaced]
    folder = location.folder
    ordered = _in_order(app.name, current, folder)
    return History(app.name, app.plugin.version, location, ordered, _in_order(app.name, retired, folder))


def _list_files(app: str, location: Location) -> list[Path]:
    folder = location.folder
    try:
        found = (
            sorted(folder.rglob("*.py") if location.options.recursive else folder.iterdir()) if folder.exists() else []
        )
    except OSError as error:
        mend = "let the user who runs this read it"
        raise PluginError(
            Problem(f"the revisions of {app!r} cannot be read: {error.strerror}", str(folder), mend)
        ) from error
    passed_over = {"env.py"} if location.options.env else set()
    files = [path for path in found if path.suffix == ".py" and path.name not in passed_over]
    return [path for path in files if not path.name.startswith((".", "__init__"))]


def _read_all(app: str, files: Sequence[Path]) -> list[Revision]:
    found: list[Revision] = []
    problems: list[Problem] = []
    for file in files:
        try:
            found.append(read_revision(app, file))
        except OpalError as error:
            problems += error.problems
    if problems:
        raise PluginError(*problems)
    return found


def _in_order(app: str, revisions: Sequence[Revision], folder: Path) -> dict[str, Revision]:
    """Each after those it needs, ties by identifier."""
    known = _by_id(revisions)
    labels = {label: revision.id for revision in revisions for label in revision.labels}
    known = {each.id: _with_labels_resolved(each, labels) for each in revisions}
    if problems := [problem for each in known.values() for problem in _find_missing(each, known)]:
        raise PluginError(*problems)
    try:
        return {name: known[name] for name in order({each.id: each.needs for each in known.values()})}
    except CycleError as error:
        what = f"revisions of {app!r} follow each other in a circle: {' -> '.join(error.path)}"
        raise PluginError(Problem(what, str(folder), "correct down_revision or depends_on of one of them")) from None


def _by_id(revisions: Iterable[Revision]) -> dict[str, Revision]:
    known: dict[str, Revision] = {}
    for each in revisions:
        if each.id in known:
            what = f"two files are the revision {each}"
            raise PluginError(
                Problem(what, f"{known[each.id].path} and {each.path}", "give one of them another identifier")
            )
        known[each.id] = each
    return known


def _with_labels_resolved(revision: Revision, labels: Mapping[str, str]) -> Revision:
    return replace(revision, depends_on=tuple(labels.get(each, each) for each in revision.depends_on))


def _with_needs_replaced(revision: Revision, replaced: Mapping[str, str]) -> Revision:
    """The same revision, after what stands for those it follows."""

    def current(ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(replaced.get(each, each) for each in ids))

    return replace(revision, parents=current(revision.parents), depends_on=current(revision.depends_on))


def _find_missing(revision: Revision, known: Mapping[str, Revision]) -> Iterable[Problem]:
    for need in revision.needs:
        if need == revision.id:
            yield Problem(f"{revision} follows itself", str(revision.path), "correct its down_revision or depends_on")
        if need not in known:
            what = f"{revision} follows the revision {need!r}, which is not there"
            yield Problem(what, str(revision.path), "restore its file, or correct down_revision")
