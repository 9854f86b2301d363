"""Where a sub-app stands between its history and a database: what is pending, and whether the database is ahead."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from opal_registry.errors import ConfigError, PluginError, Problem
from opal_registry.migrations.history import History
from opal_registry.migrations.revision_file import Revision
from opal_registry.store.ledger import Entry, is_later
from opal_registry.store.revisions import Standing, make_head, make_record, make_removal, make_version_table
from opal_registry.suite import LoadedSubApp
from opal_registry.survey import Survey

State = Literal["new", "unknown", "current", "behind", "ahead", "diverged"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How a database stands to one history.

    Args:
        state: ``new`` (nothing of the sub-app is there), ``unknown`` (its tables are there, but not which revision they
            are at), ``current``, ``behind`` (revisions are pending), ``ahead`` (a later release was here) or ``diverged``
            (both at once).
        pending: The revisions that the database lacks, in order.
        beyond: The identifiers that it has, and the history does not; sorted.
        written_by: The release that brought those, as far as is known.
    """

    state: State
    pending: tuple[Revision, ...] = ()
    beyond: tuple[str, ...] = ()
    written_by: str = ""

    @property
    def can_wait(self) -> bool:
        """Whether this code can work all the same: what is pending only takes away what it does not use any more."""
        return self.state == "behind" and all(each.can_wait for each in self.pending)


def find_progress(history: History, standing: Standing, *, has_tables: bool) -> Progress:
    """Hold a history against what a database says.

    Args:
        history: The history that is installed here.
        standing: How far the sub-app has come in the database.
        has_tables: Whether any of its tables is there, made by somebody who finished.
    """
    if history.location.command is not None:
        return _find_progress_of_command(history, standing, has_tables=has_tables)
    applied = find_applied(history, standing)
    with suppress(PluginError):  # whoever plans is told
        history = seen_from(history, standing)
    pending = tuple(each for id_, each in history.revisions.items() if id_ not in applied)
    beyond = tuple(sorted(applied - history.revisions.keys() - history.retired.keys() - history.replaced.keys()))
    if not applied:
        state: State = "unknown" if has_tables and pending else "new" if pending else "current"
        return Progress(state, pending)
    versions = sorted({standing.applied[each].version for each in beyond if each in standing.applied})
    state = ("diverged" if pending else "ahead") if beyond else ("behind" if pending else "current")
    return Progress(state, pending, beyond, ", ".join(versions))


def describe_ahead(app: LoadedSubApp, progress: Progress | None, found: Survey) -> str:
    """That a later release was here, in words for people; empty if none was, or it has not finished.

    Args:
        app: The sub-app as it is installed here.
        progress: How the database stands to its history, if it has one.
        found: What the database holds.
    """
    if app.name in found.unfinished:
        return ""
    if app.name in found.renamed:
        return f"{describe_later_name(app.name, found.renamed[app.name])}; install that release"
    if progress is None or progress.state != "ahead":
        return ""
    release = f", written by {progress.written_by}" if progress.written_by else ""
    gone = ", ".join(table.fullname for table in found.missing[app.name])
    end = f"; it does not have {gone}" if gone else ""
    return f"the database is ahead of the installed {app.version}: {', '.join(progress.beyond)}{release}{end}"


def describe_later_name(name: str, entry: Entry) -> str:
    """That a database knows a sub-app by a later name, and who gave it."""
    release = f"{entry.distribution or entry.name} {entry.version}"
    return f"this database knows {name!r} as {entry.name!r} now: written by {release}"


def check_has_its_name(name: str, found: Survey, where: str) -> None:
    """Refuse to change what a database knows of a sub-app by a later name.

    Raises:
        ConfigError: If it does; with that name.
    """
    if name in found.renamed:
        raise ConfigError(Problem(describe_later_name(name, found.renamed[name]), where, "install that release"))


def has_own_tables(history: History, present: Iterable[sa.Table]) -> bool:
    """Whether some of the tables that are there can only have come from a sub-app, and not from one that it took them from."""
    return any(table.fullname not in history.taken for table in present)


def _find_progress_of_command(history: History, standing: Standing, *, has_tables: bool) -> Progress:
    """A package that upgrades in its own way is called once for each release; it knows what to do."""
    pending = tuple(history.revisions.values())
    if not standing.heads:
        return Progress("behind" if has_tables else "new", pending)
    if history.revisions.keys() & set(standing.heads):
        return Progress("current")
    if all(is_later(each, history.version) for each in standing.heads):
        return Progress("ahead", beyond=standing.heads, written_by=", ".join(standing.heads))
    return Progress("behind", pending)


def find_applied(history: History | None, standing: Standing) -> set[str]:
    """Every revision that a database has, by its version table or by what is recorded.

    Args:
        history: The history, if it is installed here: what a head needs is applied too.
        standing: How far the sub-app has come in the database.
    """
    if not standing.heads:
        return set()
    known = {*standing.heads, *standing.applied}
    if history is None:
        return known
    known |= history.ancestors(standing.heads)
    for each in history.revisions.values():
        if each.replaces and known.issuperset(each.replaces):
            known |= history.ancestors([each.id])
        elif each.id in known:
            known.update(each.replaces)
    return known


def seen_from(history: History, standing: Standing) -> History:
    """A history as a database has to go through it; see :meth:`History.seen_from`."""
    return history.seen_from(find_applied(history, standing))


def iter_unmet_pins(history: History, applied: Mapping[str, set[str]]) -> Iterator[str]:
    """The revisions of other sub-apps that a history pins and a database lacks, as ``app@revision``; in order.

    Args:
        history: The history.
        applied: What the database has, by sub-app.
    """
    for revision in history.revisions.values():
        for app, ids in revision.pins.items():
            yield from (f"{app}@{id_}" for id_ in ids if id_ not in applied.get(app, ()))


def stamp(history: History, standing: Standing) -> Iterator[sa.Insert | sa.Delete]:
    """What records every revision of a history as applied, without running it; its version table is there, and empty.

    Args:
        history: The history.
        standing: How far the sub-app has come in the database: what is recorded by then is replaced.
    """
    yield from (make_head(history.app, head) for head in history.heads)
    if standing.applied:
        yield make_removal(history.app, standing.applied)
    for each in history.revisions.values():
        yield from map(make_record, each.iter_applied(history.version))


def cross(history: History, standing: Standing) -> Iterator[sa.Insert | sa.Delete]:
    """What takes a database over to the revisions that stand for some it has: nothing of them is run.

    Args:
        history: The history.
        standing: How far the sub-app has come in the database.
    """
    applied = find_applied(history, standing)
    table = make_version_table(history.app)
    for each in history.revisions.values():
        heads = [head for head in standing.heads if head in each.replaces]
        if each.replaces and each.id in applied and heads:
            yield sa.delete(table).where(table.c.version_num.in_(heads))
            yield make_head(history.app, each.id)
            yield make_removal(history.app, [each.id])
            yield make_record(list(each.iter_applied(history.version))[-1])
