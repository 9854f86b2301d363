"""Running what a plan says in one database: under its lock, each revision a transaction of its own, recorded in it."""

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import groupby

import sqlalchemy as sa

from opal_registry.engines.errors.failures import explained
from opal_registry.engines.migration import begin_with
from opal_registry.engines.url import describe_url
from opal_registry.errors import DatabaseError, LockTimeoutError, OpalError, Problem
from opal_registry.guard import Step as Show
from opal_registry.guard import quiet_step
from opal_registry.migrations.environment import TRANSACTIONAL, CommittedError, Ran, run_revisions
from opal_registry.migrations.foreign import run_command, run_env, write_release
from opal_registry.migrations.history import History
from opal_registry.migrations.leftovers import Leftover, find_leftovers
from opal_registry.migrations.revision_file import Revision
from opal_registry.migrations.steps import Plan, Step
from opal_registry.migrations.trespass import check_statement, find_others_tables
from opal_registry.mixins import utc_now
from opal_registry.schema.catalog import read_catalog
from opal_registry.schema.compiled import Compiler
from opal_registry.settings.model import LocksSettings
from opal_registry.store import events, journal, ledger, tables
from opal_registry.store.locks import AnotherRunError, hold_run, ignore, make_limit_of_waiting, retry_pauses
from opal_registry.store.revisions import RECORD, make_removal, make_row
from opal_registry.survey import read_own_columns

Announce = Callable[[str], None]
MakePlan = Callable[[sa.Connection], Plan]
"""Decides what is to be run, from what a database holds."""


@dataclass
class MigrationRun:
    """One run in one database.

    Args:
        engine: The database.
        make_plan: Decides what is to be run; asked under the lock.
        locks: How long to wait for whom.
        command: What is recorded as run.
        downgrade: Whether revisions are taken back.
        announce: Told what a person should know while it happens.
        show: Told what is being done.

    Attributes:
        done: What was run.
        plan: What was to be run.
        entries: The ledger, when it began.
    """

    engine: sa.Engine
    make_plan: MakePlan
    locks: LocksSettings
    command: str = "upgrade"
    downgrade: bool = False
    announce: Announce = ignore
    show: Show = quiet_step
    done: list[Ran] = field(default_factory=list)
    plan: Plan = field(default_factory=Plan)
    entries: Mapping[str, ledger.Entry] = field(default_factory=dict)

    def run(self) -> None:
        """Do it; what was done before an error stays done.

        Raises:
            LockTimeoutError: If another run, or somebody who uses a table, does not let go in time.
            PluginError: If a revision fails by itself, or the plan cannot be.
            DatabaseError: If the database fails, or refuses a statement.
        """
        where = describe_url(self.engine.url)
        with (
            explained(self.engine.url),
            hold_run(self.engine, wait=self.locks.wait, where=where, announce=self.announce) as check,
            self._connect() as connection,
        ):
            self.plan = self.make_plan(connection)
            connection.rollback()
            if self.plan.steps:
                self._run_recorded(connection, check)

    def _run_recorded(self, connection: sa.Connection, check: Callable[[], None]) -> None:
        started_at = utc_now()
        self._prepare(connection, events.make_event(self.command, started_at))
        self.entries = ledger.read_ledger(connection, read_own_columns(connection, read_catalog(connection)))
        before = self._tell_of_leftovers(connection)
        try:
            with explained(self.engine.url):
                self._run_all(connection, check)
        except OpalError as error:
            self._record_end(connection, started_at, events.FAILED, error=[each.what for each in error.problems])
            raise self._with_leftovers(error, before) from error.__cause__
        except KeyboardInterrupt:
            self._record_end(connection, started_at, events.INTERRUPTED)
            raise
        self._record_end(connection, started_at, events.DONE)

    def _record_end(
        self, connection: sa.Connection, started_at: dt.datetime, outcome: str, **detail: Sequence[str]
    ) -> None:
        """Write down how it ended; where it failed, whatever hinders that has been said by the error itself."""
        detail |= {"revisions": [str(ran.revision) for ran in self.done]}
        end = events.make_update(events.make_event(self.command, started_at, outcome=outcome, **detail))
        try:
            connection.rollback()
            with connection.begin():
                connection.execute(end)
        except Exception:
            if outcome == events.DONE:
                raise
            with suppress(Exception):
                connection.invalidate()
            with suppress(Exception), self.engine.begin() as another:
                another.execute(end)

    def _prepare(self, connection: sa.Connection, event: events.Event) -> None:
        """Bring the registry's own tables up to date, and write down that a run has begun."""
        compiler = Compiler(connection.dialect)
        with connection.begin():
            columns = read_own_columns(connection, read_catalog(connection))
            for ddl in tables.iter_upgrade(columns, compiler.dialect):
                connection.exec_driver_sql(compiler.text(ddl), execution_options={"no_parameters": True})
            if self.downgrade or any(step.revision.phase == "contract" for step in self.plan.steps):
                connection.execute(ledger.make_forgetting(sorted({step.app for step in self.plan.steps})))
            connection.execute(events.make_burial())
            connection.execute(events.make_insert(event))
            for statement in self.plan.crossings:
                connection.execute(statement)

    def _tell_of_leftovers(self, connection: sa.Connection) -> set[Leftover]:
        """Name the indexes on the sub-apps' tables that are not valid; returns those of the whole database."""
        concerned = {step.app for step in self.plan.steps}
        tables = {table for app in concerned & self.entries.keys() for table in self.entries[app].tables}
        found = find_leftovers(connection)
        connection.rollback()
        for each in found:
            if each.table in tables:
                what = f"the index {each.name} on {each.table} is not valid, as a CREATE INDEX CONCURRENTLY that failed leaves it"
                self.announce(f"{what}: {each.remedy}")
        return set(found)

    def _with_leftovers(self, error: OpalError, before: set[Leftover]) -> OpalError:
        """The same error, which says as well which indexes are left behind and how to be rid of them."""
        new: list[Leftover] = []
        with suppress(Exception), self.engine.connect() as connection:
            new = [each for each in find_leftovers(connection) if each not in before]
        first, *others = error.problems
        remedy = "".join(f"; an index is left behind that is not valid: {each.remedy}" for each in new)
        return type(error)(replace(first, mend=first.mend + remedy), *others) if new else error

    def _run_all(self, connection: sa.Connection, check: Callable[[], None]) -> None:
        self._refuse_what_is_unfinished(connection)
        pauses = retry_pauses(self.locks.retries)
        while waiting := self.plan.steps[len(self.done) :]:
            try:
                for app, steps in groupby(waiting, key=lambda step: step.app):
                    check()
                    self._run_group(connection, self.plan.histories[app], list(steps))
            except LockTimeoutError as error:
                pause = next(pauses, None)
                is_final = isinstance(error, (AnotherRunError, CommittedError)) or self.engine.dialect.name == "sqlite"
                if pause is None or is_final:
                    raise
                time.sleep(pause)

    def _refuse_what_is_unfinished(self, connection: sa.Connection) -> None:
        """Build nothing on a revision that was begun, unless this run finishes it.

        Raises:
            DatabaseError: If there is one.
        """
        planned = {(step.app, step.revision.id, self.command) for step in self.plan.steps}
        found = journal.read_journal(connection, tables.COMPLETE).unfinished
        connection.rollback()
        problems = [
            Problem(f"{app}: {each}", describe_url(self.engine.url), each.describe_ways(self._find_before(each)))
            for app in sorted({step.app for step in self.plan.steps})
            for each in found.get(app, ())
            if (app, each.revision, each.command) not in planned
        ]
        if problems:
            raise DatabaseError(*problems)

    def _find_before(self, unfinished: journal.Unfinished) -> str:
        """What a revision that was begun follows, as far as it is known here."""
        revision = self.plan.histories[unfinished.sub_app].revisions.get(unfinished.revision)
        return (revision.parents[0] if revision.parents else "base") if revision else "REV"

    def _run_group(self, connection: sa.Connection, history: History, steps: Sequence[Step]) -> None:
        def note(connection: sa.Connection, ran: Ran) -> None:
            check_foreign_keys(connection, broken, ran.revision)
            with explained(self.engine.url, doing=f"recording the revision {ran.revision} ({ran.revision.path})"):
                if self.engine.dialect.name not in TRANSACTIONAL:
                    connection.execute(journal.make_finish(ran.revision.app, ran.revision.id))
                self._record(connection, history, ran)
            self.done.append(ran)

        broken = find_broken_keys(connection)
        connection.rollback()

        def check(statement: str, revision: Revision, sent: Sequence[str]) -> None:
            check_statement(statement, revision, others, sent)

        others = find_others_tables(history, self.entries, downgrade=self.downgrade)
        revisions = [step.revision for step in steps]
        if history.location.command or history.location.options.env:
            self._run_in_its_own_way(connection, history, revisions)
            return
        names = ", ".join(each.id for each in revisions)
        with self.show(f"{history.app}: {names}"):
            run_revisions(connection, history, revisions, record=note, check=check, downgrade=self.downgrade)

    def _record(self, connection: sa.Connection, history: History, ran: Ran) -> None:
        """Write down that a revision is applied, or is not any more."""
        if gone := [each for each in ran.revision.ids if f"{history.app}@{each}" in self.plan.recorded]:
            connection.execute(make_removal(history.app, gone))
        for applied in () if self.downgrade else ran.revision.iter_applied(history.version, ran.seconds):
            connection.execute(RECORD, make_row(applied))

    def _run_in_its_own_way(self, connection: sa.Connection, history: History, revisions: Sequence[Revision]) -> None:
        """Through other connections; what was done is recorded afterwards."""
        with self.show(f"{history.app}: in its own way"):
            if history.location.command:
                done = run_command(self.engine, history)
            else:
                done = run_env(self.engine, history, revisions, downgrade=self.downgrade)
        with connection.begin():
            for ran in done:
                if history.location.command:
                    write_release(connection, history, ran)
                else:
                    self._record(connection, history, ran)
        self.done += done

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        """A connection whose statements wait for a table that is in use for so long and no longer."""
        limit = make_limit_of_waiting(self.engine.dialect.name, self.locks.ddl_lock_timeout)
        if self.locks.statement_timeout is not None and self.engine.dialect.name == "postgresql":
            limit += f"; SET LOCAL statement_timeout = {max(1, int(self.locks.statement_timeout * 1000))}"
        with self.engine.connect() as connection:
            if self.engine.dialect.name == "sqlite":
                with without_foreign_keys(connection):
                    yield connection
                return
            if self.engine.dialect.name == "postgresql":
                sa.event.listen(connection, "begin", lambda begun: begin_with(begun, limit))
            else:
                connection.exec_driver_sql(limit)
                connection.rollback()
            yield connection


@contextmanager
def without_foreign_keys(connection: sa.Connection) -> Iterator[None]:
    """Let SQLite rebuild tables for the length of a block: with foreign keys on, dropping a parent deletes its children.

    The switch counts outside of transactions only (SQLite's documentation of ``PRAGMA foreign_keys``).
    """
    connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
    connection.rollback()
    try:
        yield
    finally:
        with suppress(Exception):  # it may be closed, or broken
            connection.rollback()
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")
            connection.rollback()


def find_broken_keys(connection: sa.Connection) -> dict[tuple[str, str], int]:
    """How many rows of which table refer to a row of which other table that is not there; SQLite only."""
    found: dict[tuple[str, str], int] = {}
    if connection.dialect.name == "sqlite":
        for table, _, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            found[table, parent] = found.get((table, parent), 0) + 1
    return found


def check_foreign_keys(connection: sa.Connection, before: Mapping[tuple[str, str], int], revision: Revision) -> None:
    """See to it that a revision took from no more rows what they refer to; the transaction is not committed then.

    Raises:
        DatabaseError: If some did.
    """
    after = find_broken_keys(connection)
    problems = [
        Problem(
            f"{number - before.get(pair, 0)} rows of {pair[0]} refer to rows of {pair[1]} that are not there any more",
            f"{describe_url(connection.engine.url)}; running the revision {revision} ({revision.path})",
            "correct the revision: it was taken back",
        )
        for pair, number in sorted(after.items())
        if number > before.get(pair, 0)
    ]
    if problems:
        raise DatabaseError(*problems)
