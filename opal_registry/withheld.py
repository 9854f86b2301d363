"""Why ``init`` does not bring a sub-app up: somebody else does, its revisions do, or it needs what is not there yet."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import sqlalchemy as sa

from opal_registry.migrations.history import History
from opal_registry.migrations.progress import Progress, find_applied, find_progress, has_own_tables, iter_unmet_pins
from opal_registry.ownership.references import iter_needed
from opal_registry.store.revisions import NOWHERE
from opal_registry.suite import LoadedSubApp
from opal_registry.survey import Survey

TO_BE_RUN = {"new", "behind", "diverged"}
"""How a database stands to a history that is to be run."""

NO_HISTORIES: Mapping[str, History] = {}


class Withholding:
    """Which of the sub-apps that live in one database are not brought up by ``init``, and why.

    Args:
        apps: The sub-apps, in order.
        found: What the database holds.
        histories: Of those that have one.
    """

    def __init__(
        self, apps: Sequence[LoadedSubApp], found: Survey, histories: Mapping[str, History] = NO_HISTORIES
    ) -> None:
        self._apps, self._found, self._histories = apps, found, histories

    @cached_property
    def progress(self) -> dict[str, Progress]:
        """How the database stands to the history of each sub-app that has one."""
        return {app.name: self._find_progress(app) for app in self._apps if app.name in self._histories}

    @cached_property
    def reasons(self) -> dict[str, str]:
        """The sub-apps that are not brought up, and why."""
        reasons: dict[str, str] = {}
        absent: dict[sa.Table, str] = {}
        applied = {name: find_applied(self._histories.get(name), at) for name, at in self._found.standings.items()}
        for app in self._apps:
            found = (
                *self._iter_unfinished(app),
                *self._own_reasons(app),
                *self._reasons_of_others(app, absent, reasons, applied),
            )
            if found:
                reasons[app.name] = found[0]
                missing = self._found.missing[app.name]
                absent |= dict.fromkeys(missing, app.name)
                absent |= {twin: app.name for twin, table in app.twins.items() if table in missing}
            elif app.name in self.stamped:
                applied[app.name] = set(self._histories[app.name].revisions)
        return reasons

    @cached_property
    def stamped(self) -> dict[str, History]:
        """The sub-apps that are new to the database, whose tables come from the models: they are at their heads then."""
        new = {app.name for app in self._apps if app.is_created_here and self._state(app) == "new"}
        return {name: history for name, history in self._histories.items() if name in new - self.migrated}

    @cached_property
    def migrated(self) -> set[str]:
        """The sub-apps whose tables come from their revisions: also where such a one gets a table of theirs on the way."""
        found = {app.name for app in self._apps if app.sub_app.create == "migrations"}
        givers = {app.name: self._histories[app.name] for app in self._apps if app.name in self._histories}
        while more := {name for name, each in givers.items() if found.intersection(each.given.values())} - found:
            found |= more
        return found

    @cached_property
    def blocked(self) -> dict[str, str]:
        """Those that cannot be upgraded, each with the one that the database does not say the revisions of.

        That is itself, or one that its history rests on.
        """
        states = {app.name: self._state(app) for app in self._apps}
        pinned = {name: self._histories[name].pinned for name, state in states.items() if state in TO_BE_RUN}
        found = {name: name for name, state in states.items() if state == "unknown"}
        while more := {name: found[need] for name, needs in pinned.items() for need in needs if need in found}:
            found |= more
            pinned = {name: needs for name, needs in pinned.items() if name not in found}
        return found

    def _find_progress(self, app: LoadedSubApp) -> Progress:
        history, begun = self._histories[app.name], app.name in self._found.steps or app.name in self._found.unfinished
        has_tables = has_own_tables(history, self._found.present[app.name]) and not begun
        return find_progress(history, self._found.standings.get(app.name, NOWHERE), has_tables=has_tables)

    def _state(self, app: LoadedSubApp) -> str:
        """How the database stands to its history, for its code: what can wait does not count."""
        progress = self.progress.get(app.name)
        if progress is None:
            return ""
        return "current" if progress.can_wait and not self._found.missing[app.name] else progress.state

    def _iter_unfinished(self, app: LoadedSubApp) -> Iterator[str]:
        """Its revisions that were begun and not finished."""
        for each in self._found.unfinished.get(app.name, ()):
            yield f"{each} ({each.describe_ways()})"

    def _own_reasons(self, app: LoadedSubApp) -> Iterator[str]:
        """What its own name, its own history, or its own way of coming to be has against it."""
        state = self._state(app)
        if former := find_former_name(app, self._found):
            yield f"the database knows it as {former!r}: opal-db upgrade renames what it knows"
        if (origin := self.blocked.get(app.name, app.name)) != app.name and app.name not in self.stamped:
            yield f"its revisions rest on {origin}'s, and nobody knows which the database has (opal-db adopt {origin})"
        elif state in {"behind", "diverged"}:
            yield _describe_pending(self.progress[app.name])
        elif state == "unknown":
            yield f"its tables are there, but not which of its revisions they are at (opal-db adopt {app.name})"
        elif missing := self._found.missing[app.name]:
            yield from self._reasons_of_tables(app, missing, state)

    def _reasons_of_tables(self, app: LoadedSubApp, missing: Sequence[sa.Table], state: str) -> Iterator[str]:
        names = ", ".join(table.fullname for table in missing)
        if app.sub_app.create == "external":
            here = "it is brought up its own way: do that, then run opal-db init again"
            yield f"{_count(missing)} not there yet, and {here} ({names})"
        elif app.name in self.migrated and state != "current":
            come = "comes" if len(missing) == 1 else "come"
            yield f"{_count(missing)} not there yet, and {come} from its migrations: opal-db upgrade ({names})"
        elif state == "ahead":
            yield f"{_count(missing)} not there, and the database is ahead of this release ({names})"
        elif state == "current" and (unknown := self._never_made(app, missing)):
            yield f"{_count(unknown)} in the models, but in no revision: opal-db revision {app.name} -m TEXT ({names})"

    def _never_made(self, app: LoadedSubApp, missing: Sequence[sa.Table]) -> list[sa.Table]:
        """Those that the ledger does not know either, so that nobody can have dropped them."""
        entry = self._found.entries.get(app.name)
        return [table for table in missing if entry is None or table.fullname not in entry.tables]

    def _reasons_of_others(
        self,
        app: LoadedSubApp,
        absent: Mapping[sa.Table, str],
        reasons: Mapping[str, str],
        applied: Mapping[str, set[str]],
    ) -> Iterator[str]:
        """What it needs of others, and is not there yet."""
        missing = self._found.missing[app.name]
        if not missing:
            return
        targets = {target for table in missing for target, _ in iter_needed(table)}
        waits_for = sorted({absent[target] for target in targets & absent.keys()} - {app.name})
        behind = [need for need in app.needs if need in reasons and self.progress.get(need)]
        unmet = list(iter_unmet_pins(self._histories[app.name], applied)) if app.name in self.stamped else []
        if waits_for:
            what = f"{_count(missing)} not created: {app.name} refers to tables of {', '.join(waits_for)}"
            yield f"{what} that are not there yet"
        elif behind:
            what = f"{_count(missing)} not created: {app.name} needs {', '.join(behind)}"
            yield f"{what}, which {'is' if len(behind) == 1 else 'are'} not up to date"
        elif unmet:
            what = f"{_count(missing)} not created: {app.name} needs {', '.join(dict.fromkeys(unmet))}"
            yield f"{what}, which the database lacks (opal-db upgrade)"


def find_former_name(app: LoadedSubApp, found: Survey) -> str:
    """The name that a database knows a sub-app by, if that is a former one; else empty."""
    known = {*found.entries, *found.standings}
    return next((name for name in app.sub_app.renamed_from if name in known and app.name not in known), "")


def _describe_pending(progress: Progress) -> str:
    ids = ", ".join(revision.id for revision in progress.pending)
    number = len(progress.pending)
    what = f"{number} revision{'' if number == 1 else 's'} pending: opal-db upgrade ({ids})"
    if not progress.beyond:
        return what
    release = f" of {progress.written_by}" if progress.written_by else ""
    return f"{what}; the database also has {', '.join(progress.beyond)}{release}, which this release lacks"


def _count(tables: Sequence[sa.Table]) -> str:
    return "1 table is" if len(tables) == 1 else f"{len(tables)} tables are"
