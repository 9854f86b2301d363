"""What there is to say about histories: their heads, where databases are, what was applied when; changes nothing."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from opal_registry.migrations.history import History, load_readable
from opal_registry.migrations.look import Home, find_history, look_at_homes
from opal_registry.migrations.progress import Progress, describe_later_name, find_applied, find_progress, has_own_tables
from opal_registry.migrations.rename import as_renamed, find_former_names
from opal_registry.migrations.revision_file import Revision
from opal_registry.registry import Registry
from opal_registry.store.journal import Unfinished
from opal_registry.store.revisions import NOWHERE, Applied, Standing
from opal_registry.suite import LoadedSubApp, Quarantined


@dataclass(frozen=True, slots=True)
class Current:
    """Where a database is in the history of one sub-app.

    Args:
        app: The sub-app.
        bind: The database.
        heads: What its version table says.
        progress: How that stands to the history that is installed here; None if none is.
        changed: Applied revisions whose files are not what they were.
        unfinished: Revisions that were begun and not finished.
        left_out: Why it is quarantined; empty if it is not.
        other_name: That the database knows it by another name, in words for people.
    """

    app: str
    bind: str
    heads: tuple[str, ...]
    progress: Progress | None
    changed: tuple[Revision, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    left_out: str = ""
    other_name: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One revision of a history, and what a database knows about it.

    Args:
        id: Its identifier.
        revision: What is installed here; None if the database has it from somewhere else.
        applied: What the database knows; None if it lacks the revision.
        is_applied: Whether it is applied.
    """

    id: str
    revision: Revision | None
    applied: Applied | None
    is_applied: bool

    @property
    def is_changed(self) -> bool:
        """Whether its file is not what it was when it was applied."""
        there = self.applied.checksum if self.applied else None
        return bool(self.revision and there and there != self.revision.checksum)

    @property
    def seconds(self) -> float | None:
        """How long it took, if it was run."""
        return self.applied.seconds if self.applied else None

    @property
    def applied_at(self) -> dt.datetime | None:
        """When it was applied, as far as is known."""
        return self.applied.applied_at if self.applied else None


def get_heads(registry: Registry) -> tuple[list[Revision], tuple[Quarantined, ...]]:
    """The heads of all histories that are installed here, in order, and who is left out; asks no database.

    Raises:
        PluginError: If a sub-app cannot be loaded.
    """
    histories, faults = load_readable(registry.suite.sub_apps, registry.get_dialect)
    heads = [history.revisions[head] for history in histories.values() for head in history.heads]
    return heads, registry.suite.without(faults).quarantined


def get_current(registry: Registry) -> list[Current]:
    """Where every database is in every history, also in those that are not installed here, or cannot be read.

    Raises:
        PluginError: If a sub-app cannot be loaded.
        DatabaseError: If a database is unreachable or refuses.
    """
    histories, faults = load_readable(registry.suite.sub_apps, registry.get_dialect)
    found = [current for home in look_at_homes(registry) for current in _iter_current(registry, home, histories)]
    left_out = {out.name: out.problems for out in registry.suite.without(faults).quarantined}
    reasons = {name: "; ".join(problem.what for problem in problems) for name, problems in left_out.items()}
    return [
        *(current for current in found if current.app not in reasons),
        *(Current(name, "", (), None, left_out=reason) for name, reason in reasons.items()),
    ]


def _iter_current(registry: Registry, home: Home, histories: Mapping[str, History]) -> Iterator[Current]:
    renames = find_former_names(home.apps, home.found)
    home = replace(home, found=as_renamed(home.found, renames))
    for app in home.apps:
        if app.name in histories:
            standing = home.found.standings.get(app.name, NOWHERE)
            unfinished = tuple(home.found.unfinished.get(app.name, ()))
            has_tables = has_own_tables(histories[app.name], home.found.present[app.name]) and not unfinished
            progress = find_progress(histories[app.name], standing, has_tables=has_tables)
            changed = tuple(line.revision for line in _iter_lines(home, histories[app.name]) if line.is_changed)
            yield Current(
                app.name,
                home.bind,
                standing.heads,
                progress,
                tuple(filter(None, changed)),
                unfinished,
                other_name=_find_other_name(home, app, renames),
            )
    here = {app.name for app in registry.suite.sub_apps}
    for name, standing in home.found.standings.items():
        if name not in here:
            unfinished = tuple(home.found.unfinished.get(name, ()))
            yield Current(name, home.bind, standing.heads, None, unfinished=unfinished)


def _find_other_name(home: Home, app: LoadedSubApp, renames: Mapping[str, str]) -> str:
    for old, new in renames.items():
        if new == app.name:
            return f"{old!r} in this database: opal-db upgrade renames what it knows"
    renamed = home.found.renamed
    return describe_later_name(app.name, renamed[app.name]) if app.name in renamed else ""


def get_history(registry: Registry, name: str) -> list[Line]:
    """The history of a sub-app, in order, with what its database knows; what it has beyond comes last.

    Raises:
        ConfigError: If there is no such sub-app here, or it has no history.
        PluginError: If the history is at fault.
        DatabaseError: If the database is unreachable or refuses.
    """
    app, histories = find_history(registry, name)
    (home,) = (home for home in look_at_homes(registry) if home.bind == app.sub_app.bind)
    return list(_iter_lines(home, histories[name]))


def _iter_lines(home: Home, history: History) -> Iterator[Line]:
    standing = home.found.standings.get(history.app, NOWHERE)
    there = find_applied(history, standing)
    for id_, revision in history.revisions.items():
        yield Line(id_, revision, standing.applied.get(id_) or _find_last(revision, standing), id_ in there)
    for id_ in sorted(there - history.revisions.keys()):
        yield Line(id_, None, standing.applied.get(id_), is_applied=True)


def _find_last(revision: Revision, standing: Standing) -> Applied | None:
    """The last one that was applied of those that a revision stands for, where the database has all of them."""
    found = [standing.applied[old] for old in revision.replaces if old in standing.applied]
    dated = [each for each in found if each.applied_at is not None]
    if not dated or len(found) < len(revision.replaces):
        return None
    return replace(max(dated, key=lambda each: each.applied_at), checksum=None)  # type: ignore[arg-type, return-value]
