"""What one database still needs: judged from a survey, without touching anything."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from opal_registry.errors import Problem
from opal_registry.migrations.history import History
from opal_registry.migrations.progress import describe_ahead, stamp
from opal_registry.schema.live import Difference
from opal_registry.store import ledger, revisions
from opal_registry.store.ledger import Entry, Image
from opal_registry.suite import LoadedSubApp
from opal_registry.survey import Survey
from opal_registry.withheld import Withholding

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
        histories: Of those that have one.
    """

    apps: Sequence[LoadedSubApp]
    found: Survey
    entries: Mapping[str, Entry]
    has_seed: Callable[[LoadedSubApp], bool]
    image: Image | None = None
    histories: Mapping[str, History] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return self.found.is_up_to_date and not any(self.needs(app) for app in self.apps)

    @property
    def is_fine(self) -> bool:
        """Whether everything will be complete in the end, nothing pending, and every table what its model says."""
        stamped = self.withholding.stamped
        if any(each.pending for name, each in self.withholding.progress.items() if name not in stamped):
            return False
        differences = (found for several in self.found.differences.values() for found in several)
        return not self.withheld and not any(difference.harmful for difference in differences)

    @cached_property
    def withholding(self) -> Withholding:
        """Decides what is not done here, and which histories begin at their heads."""
        return Withholding(self.apps, self.found, self.histories)

    @property
    def withheld(self) -> dict[str, str]:
        """Sub-apps that are not brought up here, and why."""
        return self.withholding.reasons

    def find_differences(self, app: LoadedSubApp) -> Sequence[Difference]:
        """How its tables differ from their models, but for what revisions are there to change, or have changed since."""
        progress = self.withholding.progress.get(app.name)
        is_elsewhere = progress is not None and progress.state in {"behind", "diverged", "ahead"}
        return () if is_elsewhere or app.name in self.found.renamed else self.found.differences.get(app.name, ())

    def find_ahead(self, app: LoadedSubApp) -> str:
        """That a later release of it was here, which nobody has to mend; empty if none was, or it has not finished."""
        return describe_ahead(app, self.withholding.progress.get(app.name), self.found)

    def iter_stamps(self, app: LoadedSubApp) -> Iterator[sa.Executable]:
        """What records that a sub-app whose tables come from the models is at the heads of its history."""
        if app.name not in self.withholding.stamped:
            return
        history, catalog = self.histories[app.name], self.found.catalog
        table = revisions.make_version_table(app.name)
        if not catalog.find(table):
            yield CreateTable(table)
        yield from stamp(history, self.found.standings.get(app.name, revisions.NOWHERE))

    @cached_property
    def to_create(self) -> dict[str, list[sa.Table]]:
        """By sub-app, the tables that are missing, and those that a run which ended had begun."""
        left_alone = self.withheld.keys() | self.found.renamed.keys()
        return {app.name: [] if app.name in left_alone else self._missing(app) for app in self.apps}

    @property
    def number_of_tables(self) -> int:
        """How many tables are to be created."""
        return sum(map(len, self.to_create.values()))

    def needs(self, app: LoadedSubApp) -> bool:
        """Whether anything is to be done for a sub-app."""
        if app.name in self.withheld or app.name in self.found.renamed:
            return False
        if self.to_create[app.name] or app.name in self.found.steps or self.needs_seed(app):
            return True
        if app.name in self.withholding.stamped:
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
            if app.name in self.withholding.progress and self.withholding.progress[app.name].beyond:
                continue  # a later release was here, which may have handed the table over
            taken = self.histories[app.name].taken if app.name in self.histories else {}
            for name in sorted(owned.keys() & {table.fullname for table in app.tables}):
                entry = owned[name]
                if entry.name in {*app.sub_app.renamed_from, taken.get(name)} or entry == self.found.renamed.get(
                    app.name
                ):
                    continue
                what = f"the table {name!r} has two owners: sub-app {entry.name!r} ({entry.distribution} {entry.version}), "
                what += f"which the ledger knows from another image, and sub-app {app.name!r} ({app.distribution} {app.version})"
                yield Problem(what, where, "rename one of them, or use a database that the other never used")

    def _missing(self, app: LoadedSubApp) -> list[sa.Table]:
        begun = {step.table for step in self.found.steps.get(app.name, ()) if step.number}
        missing = set(self.found.missing[app.name])
        return [table for table in app.tables if table in missing or table.fullname in begun]
