"""Bringing up one database under its lock.

Where DDL is transactional everything happens in one transaction: tables, hooks, first rows, ledger. PostgreSQL locks
each table it makes until the end, so that very many are made in several transactions of whole sub-apps, journaled, under
one lock. MySQL commits each statement, so that each is journaled.
"""

import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from opal_registry import hooks
from opal_registry.discovery import Discovery
from opal_registry.engines.errors.failures import explained
from opal_registry.engines.url import describe_url
from opal_registry.errors import LockTimeoutError, OpalError, OwnershipError
from opal_registry.guard import Step
from opal_registry.mixins import utc_now
from opal_registry.schema.batch import Batch, Send, send_singly, send_together
from opal_registry.schema.compiled import Compiler
from opal_registry.schema.ddl import Creator
from opal_registry.schema.resume import Resumable
from opal_registry.settings.model import LocksSettings
from opal_registry.store import events, journal, ledger, tables
from opal_registry.store.journal import OpenStep
from opal_registry.store.locks import AnotherRunError, hold_lock, hold_run, make_limit_of_waiting, try_lock
from opal_registry.suite import LoadedSubApp
from opal_registry.survey import survey
from opal_registry.work import Work

TRANSACTIONAL = {"postgresql", "sqlite"}
"""Databases that take DDL back."""

SENDERS: dict[str, Send] = {"postgresql": send_together, "sqlite": send_singly}
"""How statements are sent where no journal is kept."""

Announce = Callable[[str], None]
"""Told what a person should know while it happens."""


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done for one sub-app.

    Args:
        created: The tables that were created, or completed.
        seeded: Whether first rows were put in.
        seconds: How long it took.
    """

    created: tuple[str, ...]
    seeded: bool
    seconds: float


@dataclass
class BringUp:
    """One attempt to do what one database needs.

    Args:
        engine: The database.
        compiler: For its dialect.
        work: What it needs, as far as is known before the lock is had.
        discovery: Knows the hooks.
        locks: How long to wait for whom.
        announce: Told what a person should know while it happens.
        step: Told what is being done.
        command: What is recorded as run.

    Attributes:
        deeds: What was done, by sub-app.
    """

    engine: sa.Engine
    compiler: Compiler
    work: Work
    discovery: Discovery
    locks: LocksSettings
    announce: Announce
    step: Step
    command: str = "init"
    deeds: dict[str, Deed] = field(default_factory=dict)

    def run(self) -> None:
        """Do it, all or nothing where DDL is transactional.

        Raises:
            LockTimeoutError: If another run, or somebody who uses a table, does not let go in time.
            PluginError: If a hook fails.
            DatabaseError: If the database does.
        """
        started_at = utc_now()
        with explained(self.engine.url), self._locked() as begin:
            with begin() as batch:
                self._look_again(_connection_of(batch))
                if self.work.is_done:
                    return
                chunks = self.work.chunks(self._dialect)
                self._begin_run(batch, chunks, started_at)
                later = chunks[1:] if self._is_transactional else chunks
                self._bring_up_all(batch, () if later is chunks else chunks[0], is_chunk=bool(later))
                self._end_run(batch, started_at, is_last=not later)
            for chunk in later:
                with begin() as batch:
                    self._bring_up_all(batch, chunk, is_chunk=True)
                    self._end_run(batch, started_at, is_last=chunk is later[-1])

    @property
    def _dialect(self) -> str:
        return self.engine.dialect.name

    @property
    def _is_transactional(self) -> bool:
        return self._dialect in TRANSACTIONAL

    @contextmanager
    def _locked(self) -> Iterator[Callable[[], AbstractContextManager[Batch]]]:
        """Be the only run here; what is yielded begins a transaction."""
        where = describe_url(self.engine.url)
        if self._is_transactional and len(self.work.chunks(self._dialect)) == 1:
            wait, limit = self.locks.wait, self.locks.ddl_lock_timeout
            with (
                hold_lock(
                    self.engine, wait=wait, where=where, announce=self.announce, statement_wait=limit
                ) as connection,
                self._open(connection) as batch,
            ):
                yield lambda: nullcontext(batch)
        else:
            with hold_run(self.engine, wait=self.locks.wait, where=where, announce=self.announce) as self._check_lock:
                yield self._begin_guarded

    @contextmanager
    def _begin_guarded(self) -> Iterator[Batch]:
        """A transaction that is not committed unless the connection that holds the lock is still there."""
        with self.engine.begin() as connection:
            with self._open(connection) as batch:
                batch.add(sa.text(make_limit_of_waiting(self._dialect, self.locks.ddl_lock_timeout)))
                yield batch
            self._check_lock()

    def _open(self, connection: sa.Connection) -> AbstractContextManager[Batch]:
        return Batch(connection, self.compiler, SENDERS.get(self._dialect, send_singly)).open()

    def _look_again(self, connection: sa.Connection) -> None:
        """Another process may have been faster."""
        found = survey(connection, self.work.apps, before=self.work.found)
        self.work = replace(self.work, found=found)
        if taken := list(self.work.find_taken(describe_url(self.engine.url))):
            raise OwnershipError(*taken)
        self._known = set(found.catalog.known)

    def _begin_run(self, batch: Batch, chunks: Sequence[Sequence[LoadedSubApp]], started_at: dt.datetime) -> None:
        """Make the registry's own tables; write down what somebody may have to know before the end."""
        batch.doing = "creating the registry's own tables"
        for ddl in tables.iter_upgrade(self.work.found.columns, self.compiler.dialect):
            batch.add(ddl)
        if not self._is_transactional:
            batch.add(events.make_burial())
            batch.add(events.make_insert(events.make_event(self.command, started_at)))
        elif len(chunks) > 1:
            self._announce_chunks(len(chunks))
            self._journal_chunks(batch, [app for chunk in chunks for app in chunk])

    def _announce_chunks(self, number: int) -> None:
        self.announce(
            f"{self.work.number_of_tables} tables are created in {number} transactions, so that the server's room for "
            "locks suffices; should this run end between them, the next one goes on"
        )

    def _journal_chunks(self, batch: Batch, apps: Sequence[LoadedSubApp]) -> None:
        for app in apps:
            if to_create := self.work.to_create[app.name]:
                batch.add(journal.make_end(app.name))
                batch.add(journal.make_step(OpenStep(app.name, 0, "", _count(to_create))))

    def _bring_up_all(self, batch: Batch, apps: Sequence[LoadedSubApp], *, is_chunk: bool) -> None:
        creator = Creator(batch, self._known)
        for app in apps:
            batch.doing = f"recording sub-app {app.name!r}"
            if self.work.needs(app):
                with self.step(f"bringing up {app.name}"):
                    self.deeds[app.name] = self._bring_up(batch, creator, app)
            elif (note := self._note(app)) is not None:
                batch.add(note)
            if is_chunk or app.name in self.work.found.steps:
                batch.add(journal.make_end(app.name))

    def _bring_up(self, batch: Batch, creator: Creator, app: LoadedSubApp) -> Deed:
        started = time.perf_counter()
        to_create = self.work.to_create[app.name]
        if not self._is_transactional:
            begun = self.work.found.steps.get(app.name, ())
            batch.send = Resumable(app.name, begun, self.work.found.catalog, self._check_lock).send
        if to_create:
            batch.doing = f"creating the tables of sub-app {app.name!r}"
            creator.create(to_create, app.spares)
        self._call_hooks(batch, app, to_create)
        batch.doing = f"recording sub-app {app.name!r}"
        for statement in self.work.iter_stamps(app):
            batch.add(statement)
        old = self.work.found.entries.get(app.name)
        image = self.work.image if self.work.is_fine else None
        entry = ledger.remembering(self.work.entries[app.name], old, image)
        if ledger.needs_writing(entry, old):
            batch.add(ledger.make_write(entry, old))
        elif (note := self._note(app)) is not None:
            batch.add(note)
        return Deed(
            tuple(table.fullname for table in to_create), self.work.needs_seed(app), time.perf_counter() - started
        )

    def _call_hooks(self, batch: Batch, app: LoadedSubApp, created: Sequence[sa.Table]) -> None:
        """What they find out about the database is up to date, and what they raise is theirs."""
        if created and self.discovery.implements("opal_tables_created", app.plugin):
            batch.flush()
            hooks.tell_of_tables(self.discovery, _connection_of(batch), app, created)
        if self.work.needs_seed(app):
            batch.flush()
            hooks.seed(self.discovery, _connection_of(batch), app)

    def _note(self, app: LoadedSubApp) -> sa.Update | None:
        """What records that a sub-app whose row is left alone is complete for this image."""
        old, image = self.work.found.entries.get(app.name), self.work.image
        is_news = old and image and self.work.is_fine and not old.knows(image)
        return ledger.make_note(old.known_to(image)) if is_news else None  # type: ignore[union-attr, arg-type]

    def _end_run(self, batch: Batch, started_at: dt.datetime, *, is_last: bool) -> None:
        if not is_last:
            return
        batch.doing = "recording the run"
        created = {name: list(deed.created) for name, deed in self.deeds.items() if deed.created}
        event = events.make_event(self.command, started_at, outcome=events.DONE, created=created)
        batch.add(events.make_insert(event) if self._is_transactional else events.make_update(event))


def record_end(
    engine: sa.Engine, started_at: dt.datetime, error: OpalError | None, *, command: str, wait: float
) -> None:
    """Write down that a run failed, or was interrupted (no error), if there is where to.

    Whatever hinders that has been said by the error itself, and a table that is locked is waited for so many seconds.
    One that never had the lock has done nothing, and would have to wait for it again; on SQLite so would any other.
    """
    is_transactional = engine.dialect.name in TRANSACTIONAL
    if isinstance(error, AnotherRunError) or (engine.dialect.name == "sqlite" and isinstance(error, LockTimeoutError)):
        return
    if error is None and is_transactional:
        return
    outcome, said = (events.FAILED, error.problems) if error else (events.INTERRUPTED, ())
    event = events.make_event(command, started_at, outcome=outcome, error=[problem.what for problem in said])
    with contextlib.suppress(Exception), engine.begin() as connection:
        if limit := make_limit_of_waiting(engine.dialect.name, wait):
            connection.exec_driver_sql(limit)
        begun = not is_transactional and connection.execute(events.make_update(event)).rowcount
        if not begun:
            connection.execute(events.make_insert(event))


def remember(engine: sa.Engine, work: Work, *, wait: float) -> None:
    """Note the image that everything is complete for, or that it is not any more.

    If somebody is at work, or has locked the ledger for more than so many seconds, that is done another time.
    """
    image, own = work.image, {app.name for app in work.apps}
    entries = [entry for name, entry in work.found.entries.items() if name in own]
    if image is None or all(_is_noted(entry, image, is_fine=work.is_fine) for entry in entries):
        return
    with (
        contextlib.suppress(OpalError, sa.exc.SQLAlchemyError),
        try_lock(engine, statement_wait=wait) as connection,
    ):
        if connection is None:
            return
        found = ledger.read_ledger(connection, work.found.columns)
        for name in own & found.keys():
            entry = found[name].known_to(image) if work.is_fine else found[name].unknown_to(image)
            connection.execute(ledger.make_note(entry))


def _is_noted(entry: ledger.Entry, image: ledger.Image, *, is_fine: bool) -> bool:
    return entry.knows(image) if is_fine else image.fingerprint not in entry.sources


def _count(tables: Sequence[sa.Table]) -> str:
    return "create 1 table" if len(tables) == 1 else f"create {len(tables)} tables"


def _connection_of(batch: Batch) -> sa.Connection:
    assert isinstance(batch.connection, sa.Connection)  # noqa: S101 -- only a dry run has none
    return batch.connection
