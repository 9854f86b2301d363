"""One run at a time: a lock in the database itself, freed when its holder dies.

    PostgreSQL   an advisory lock of the transaction, which works behind PgBouncer as well
    SQLite       the lock file that names the holder; then SQLite's own lock, against writers that are no runs
    MySQL        a named lock of a connection that is used for nothing else

Behind PgBouncer in transaction mode a run that waits for the lock keeps no server connection: each attempt is a short
transaction. Where the pool has one connection only, the next run cannot even ask: it waits in PgBouncer's queue, where it
cannot be told for whom and ``locks.wait`` does not count, and fails after ``query_wait_timeout`` (120 s). A run that needs
a second connection while it holds the lock (many tables, in several transactions; revisions) would wait for itself
there; it is told to go past PgBouncer (``migration_url``).
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from random import SystemRandom
from typing import Protocol

import sqlalchemy as sa

from opal_registry.errors import DatabaseError, LockTimeoutError, Problem
from opal_registry.store.holder import Holder
from opal_registry.store.native_locks import (
    AdvisoryLock,
    NamedLock,
    WriteLock,
    find_advisory_holder,
    find_file,
    is_lock_held,
    make_limit,
    make_mysql_limit,
)
from opal_registry.store.pooler import check_pool
from opal_registry.store.sidecar import Sidecar

LONGEST_PAUSE = 5.0
CHANCE = SystemRandom()

PATIENCE = 1.0
"""So many seconds of waiting for somebody without a name are no news."""

SELDOM = 10.0
"""So many seconds lie between two announcements."""


PREPARE = "SELECT pg_backend_pid(), set_config('idle_in_transaction_session_timeout', '0', true)"
"""Asks a PostgreSQL session which one it is, and lets its transaction be idle as long as a run lasts."""


class AnotherRunError(LockTimeoutError):
    """Another run, or on SQLite any other writer, did not let go of the database in time."""


class Lock(Protocol):
    """A lock, whoever keeps it.

    Attributes:
        holding: What its holder does, as the beginning of a sentence with room for the holder's name.
        awaited: Who its holder is, as the end of a sentence.
        attempt: For how many seconds at most to try at a time: then an interrupt, or a new holder, is noticed.
    """

    holding: str
    awaited: str
    attempt: float

    def take(self, seconds: float) -> bool:
        """Get the lock, within so many seconds."""

    def find_holder(self) -> Holder | None:
        """Who has it; None if nobody, or if that is not known yet."""

    def release(self) -> None:
        """Let go of it, if it does not end by itself."""


def ignore(_: str) -> None:
    """Announce nothing."""


@contextmanager
def hold_lock(
    engine: sa.Engine,
    *,
    wait: float,
    where: str,
    announce: Callable[[str], None] = ignore,
    statement_wait: float | None = None,
) -> Iterator[sa.Connection]:
    """Be the only run in this database.

    Args:
        engine: The database.
        wait: How many seconds to wait for others.
        where: Which database it is, for the error.
        announce: Told who is waited for; when that has become another one, again, but not more often than every 10 s.
        statement_wait: What :func:`make_limit_of_waiting` limits, without a round trip of its own.

    Yields:
        The connection that holds the lock: on PostgreSQL and SQLite its transaction does, which is committed at the end of
        the block; on MySQL the connection itself, which is in AUTOCOMMIT and used for nothing else: should it be lost, so
        is the lock, and that is no error at the end.

    Raises:
        AnotherRunError: If another one does not let go in time.
    """
    deadline = time.monotonic() + wait
    with _connect(engine) as connection, ExitStack() as stack:
        for lock in _make_locks(connection, statement_wait):
            stack.callback(lock.release)
            _take(lock, deadline, announce, wait=wait, where=where)
        stack.enter_context(_transaction_of(connection))
        yield connection


def check_lock(connection: sa.Connection, *, where: str) -> None:
    """See to it that a run whose lock was lost does nothing more: another one may have it.

    Args:
        connection: The one that holds the lock, on PostgreSQL or MySQL.
        where: Which database it is, for the error.

    Raises:
        DatabaseError: If it does not hold it any more.
        sqlalchemy.exc.DBAPIError: If it is lost itself.
    """
    if not is_lock_held(connection):
        raise DatabaseError(Problem("the lock of this run was lost", where, "run the command again"))


@contextmanager
def hold_run(
    engine: sa.Engine, *, wait: float, where: str, announce: Callable[[str], None] = ignore
) -> Iterator[Callable[[], None]]:
    """Be the only run in this database, through several transactions on other connections.

    On SQLite other writers are kept out by each transaction itself.

    Args:
        engine: The database.
        wait: How many seconds to wait for others.
        where: Which database it is, for the error.
        announce: As for :func:`hold_lock`.

    Yields:
        A function that raises an error if the lock was lost; see :func:`check_lock`.

    Raises:
        AnotherRunError: If another one does not let go in time.
        DatabaseError: If a pooler has no other connection for this run.
    """
    if engine.dialect.name == "sqlite":
        with _hold_file(engine, wait, where, announce):
            yield lambda: None
        return
    with ExitStack() as stack:
        guard = stack.enter_context(hold_lock(engine, wait=wait, where=where, announce=announce))
        if engine.dialect.name == "postgresql":
            check_pool(engine, guard, guard.exec_driver_sql(PREPARE).scalar(), where=where)
        held = stack.pop_all()
    try:
        yield partial(check_lock, guard, where=where)
    finally:
        with suppress(sa.exc.SQLAlchemyError):  # one that is lost has let go; what went wrong in the block counts
            held.close()


@contextmanager
def _hold_file(engine: sa.Engine, wait: float, where: str, announce: Callable[[str], None]) -> Iterator[None]:
    with engine.connect() as connection:
        file = find_file(connection)
    if file is None:
        yield
        return
    lock = Sidecar(file)
    try:
        _take(lock, time.monotonic() + wait, announce, wait=wait, where=where)
        yield
    finally:
        lock.release()


@contextmanager
def try_lock(engine: sa.Engine, *, statement_wait: float | None = None) -> Iterator[sa.Connection | None]:
    """Be the only run in this database, or be told at once, with None, that another one is; see :func:`hold_lock`."""
    with _connect(engine) as connection, ExitStack() as stack:
        locks = _make_locks(connection, statement_wait)
        for lock in locks:
            stack.callback(lock.release)
        is_ours = all(lock.take(0) for lock in locks)
        stack.enter_context(_transaction_of(connection))
        yield connection if is_ours else None


def find_run(connection: sa.Connection) -> Holder | None:
    """The run that has the lock of a server's database; None if none has, or that may not be known. Nothing is locked."""
    match connection.dialect.name:
        case "sqlite":
            return None
        case "postgresql":
            with suppress(sa.exc.ProgrammingError):
                return find_advisory_holder(connection)
            return None
        case _:
            return NamedLock(connection).find_holder()


def _connect(engine: sa.Engine) -> sa.Connection:
    """On MySQL one in AUTOCOMMIT, which outlives transactions."""
    connection = engine.connect()
    if connection.dialect.name in {"postgresql", "sqlite"}:
        return connection
    return connection.execution_options(isolation_level="AUTOCOMMIT")


def _transaction_of(connection: sa.Connection) -> AbstractContextManager[object]:
    """The transaction that holds the lock, if one does: committed at the end of the block, and ended by nothing in it."""
    transaction = connection.get_transaction()
    is_lock = transaction is not None and connection.dialect.name in {"postgresql", "sqlite"}
    return transaction if is_lock else nullcontext()  # type: ignore[return-value]


def make_limit_of_waiting(dialect: str, seconds: float) -> str:
    """The statement that limits for how long each further one waits for a table that is in use.

    While it waits, everybody who comes later and wants that table waits for it. On PostgreSQL the limit ends with the
    transaction, on MySQL (in whole seconds, at least one) with the connection; on SQLite nothing is locked but everything.

    Example:
        >>> make_limit_of_waiting("postgresql", 2), make_limit_of_waiting("mysql", 0.5), make_limit_of_waiting("sqlite", 2)
        ('SET LOCAL lock_timeout = 2000', 'SET SESSION lock_wait_timeout = 1', '')
    """
    match dialect:
        case "postgresql":
            return make_limit(seconds)
        case "mysql" | "mariadb":
            return f"SET {make_mysql_limit(seconds)}"
        case _:
            return ""


def retry_pauses(retries: int) -> Iterator[float]:
    """How long to wait before each further attempt: twice as long each time, within reason.

    Each pause is cut by up to a half, at random, so that runs which got into each other's way do not do so again.

    Example:
        >>> [longest / 2 <= pause <= longest for longest, pause in zip((0.2, 0.4, 0.8), retry_pauses(3), strict=True)]
        [True, True, True]
    """
    return (min(0.2 * 2**attempt, LONGEST_PAUSE) * CHANCE.uniform(0.5, 1) for attempt in range(retries))


def _make_locks(connection: sa.Connection, statement_wait: float | None = None) -> Sequence[Lock]:
    match connection.dialect.name:
        case "postgresql":
            return [AdvisoryLock(connection, statement_wait)]
        case "sqlite":
            file = find_file(connection)
            return [Sidecar(file), WriteLock(connection)] if file else [WriteLock(connection)]
        case _:
            return [NamedLock(connection, statement_wait)]


def _take(lock: Lock, deadline: float, announce: Callable[[str], None], *, wait: float, where: str) -> None:
    told, named_from = None, time.monotonic()
    unnamed_from = named_from + PATIENCE
    seconds = 0.0
    while not lock.take(seconds):
        holder, now = lock.find_holder() or Holder(), time.monotonic()
        if now >= deadline:
            raise AnotherRunError(_make_problem(lock, holder, wait, where))
        if holder != told and now >= (named_from if str(holder) else unnamed_from):
            announce(_make_announcement(lock, holder))
            told, named_from, unnamed_from = holder, now + SELDOM, math.inf
        seconds = min(deadline - now, lock.attempt, PATIENCE if told is None else math.inf)


def _make_announcement(lock: Lock, holder: Holder) -> str:
    named = f": {holder}" if str(holder) else ""
    age = f" ({holder.age})" if holder.age else ""
    return f"waiting for {lock.awaited}{named}{age}"


def _make_problem(lock: Lock, holder: Holder, wait: float, where: str) -> Problem:
    what = lock.holding.format(f"({holder}) " if str(holder) else "")
    mend = "run the command again when it has ended, or raise locks.wait"
    mend += f"; {holder.remedy}" if holder.remedy else ""
    return Problem(f"{what} for longer than {wait:g} s", where, mend)
