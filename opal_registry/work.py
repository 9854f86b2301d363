"""What one database still needs: judged from a survey, without touching anything."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import sqlalchemy as sa

from opal_registry.errors import Problem
from opal_registry.ownership.references import iter_needed
from opal_registry.store import ledger
from opal_registry.store.ledger import Entry, Image
from opal_registry.suite import LoadedSubApp
from opal_registry.survey import Survey

MOST_TABLES = 500
"""So many tables are created in one transaction at most: PostgreSQL holds about 13 locks for each until it ends, and has
room for ``max_locks_per_transaction * max_connections``, 6,400 unless configured otherwise."""


@dataclass(frozen=True)
class Work:
    """What is to be done in one database.

    Args:
        apps: The sub-apps that live there, in order.
        found: What it holds.
        entries: What the ledger should say about each of them.
        has_seed: Whether a sub-app brings first rows.
        image: The image that works on it; None if it is only a part of one.
    """

    apps: Sequence[LoadedSubApp]
    found: Survey
    entries: Mapping[str, Entry]
    has_seed: Callable[[LoadedSubApp], bool]
    image: Image | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return self.found.is_up_to_date and not any(self.needs(app) for app in self.apps)

    @property
    def is_fine(self) -> bool:
        """Whether everything will be complete in the end, and every table what its model says."""
        differences = (found for several in self.found.differences.values() for found in several)
        return not self.withheld and not any(difference.harmful for difference in differences)

    @cached_property
    def withheld(self) -> dict[str, str]:
        """Sub-apps whose missing tables are not created here, and why."""
        return find_withheld(self.apps, self.found)

    @cached_property
    def to_create(self) -> dict[str, list[sa.Table]]:
        """By sub-app, the tables that are missing, and those that a run which ended had begun."""
        return {app.name: [] if app.name in self.withheld else self._missing(app) for app in self.apps}

    @property
    def number_of_tables(self) -> int:
        """How many tables are to be created."""
        return sum(map(len, self.to_create.values()))

    def needs(self, app: LoadedSubApp) -> bool:
        """Whether anything is to be done for a sub-app."""
        if app.name in self.withheld:
            return False
        if self.to_create[app.name] or app.name in self.found.steps or self.needs_seed(app):
            return True
        return ledger.needs_writing(self.entries[app.name], self.found.entries.get(app.name))

    def needs_seed(self, app: LoadedSubApp) -> bool:
        """Whether tables are new, or the version is not the one that was seeded (a later one's seeds are left alone)."""
        if not self.has_seed(app):
            return False
        entry = self.found.entries.get(app.name)
        if self.to_create[app.name] or app.name in self.found.steps or entry is None:
            return True
        return entry.seeded != self.entries[app.name].seeded and not entry.is_newer_than(app.distribution, app.version)

    def chunks(self, dialect: str) -> list[list[LoadedSubApp]]:
        """The sub-apps that are brought up in one transaction each."""
        if dialect == "sqlite":
            return [list(self.apps)]
        most = MOST_TABLES if dialect == "postgresql" else 0
        chunks: list[list[LoadedSubApp]] = [[]]
        number = 0
        for app in self.apps:
            number += len(self.to_create[app.name])
            if chunks[-1] and (number > most):
                chunks.append([])
                number = len(self.to_create[app.name])
            chunks[-1].append(app)
        return chunks

    def find_taken(self, where: str) -> Iterator[Problem]:
        """Tables that the ledger gives to a sub-app which does not live here for this image: another image's.

        Args:
            where: The database.
        """
        here = {app.name for app in self.apps}
        absent = [entry for name, entry in self.found.entries.items() if name not in here]
        owned = {table: entry for entry in absent for table in entry.tables}
        for app in self.apps:
            for name in sorted(owned.keys() & {table.fullname for table in app.tables}):
                entry = owned[name]
                what = f"the table {name!r} has two owners: sub-app {entry.name!r} ({entry.distribution} {entry.version}), "
                what += f"which the ledger knows from another image, and sub-app {app.name!r} ({app.distribution} {app.version})"
                yield Problem(what, where, "rename one of them, or use a database that the other never used")

    def _missing(self, app: LoadedSubApp) -> list[sa.Table]:
        begun = {step.table for step in self.found.steps.get(app.name, ()) if step.number}
        missing = set(self.found.missing[app.name])
        return [table for table in app.tables if table in missing or table.fullname in begun]


def find_withheld(apps: Sequence[LoadedSubApp], found: Survey) -> dict[str, str]:
    """The sub-apps whose missing tables ``init`` does not create, and why.

    Those that are brought up in another way and are not yet, and those that refer to what is not there.
    """
    withheld: dict[str, str] = {}
    absent: dict[sa.Table, str] = {}
    for app in apps:
        missing = found.missing[app.name]
        targets = {target for table in missing for target, _ in iter_needed(table)}
        waits_for = sorted({absent[target] for target in targets & absent.keys()} - {app.name})
        if missing and not app.is_created_here:
            withheld[app.name] = _why_not_here(app, missing)
        elif waits_for:
            what = f"{_count(missing)} not created: {app.name} refers to tables of {', '.join(waits_for)}"
            withheld[app.name] = f"{what} that are not there yet"
        if app.name in withheld:
            absent |= dict.fromkeys(missing, app.name)
            absent |= {twin: app.name for twin, table in app.twins.items() if table in missing}
    return withheld


def _why_not_here(app: LoadedSubApp, missing: Sequence[sa.Table]) -> str:
    names = ", ".join(table.fullname for table in missing)
    if app.sub_app.create == "external":
        return f"{_count(missing)} not there yet, and it is brought up its own way: do that, then run opal-db init again ({names})"
    come = "comes" if len(missing) == 1 else "come"
    return f"{_count(missing)} not there yet, and {come} from its migrations, which this release does not run ({names})"


def _count(tables: Sequence[sa.Table]) -> str:
    return "1 table is" if len(tables) == 1 else f"{len(tables)} tables are"
