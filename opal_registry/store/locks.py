"""One run at a time: a lock in the database itself, freed when its holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import sqlalchemy as sa

from opal_registry.errors import LockTimeoutError, Problem

NAME = "opal_registry"
KEY = int.from_bytes(sha256(NAME.encode()).digest()[:8], signed=True)
"""The advisory lock's number on PostgreSQL, where it is one per database."""

LONGEST_PAUSE = 5.0
TAKEN = ("55P03", "SQLITE_BUSY", "SQLITE_BUSY_RECOVERY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_BUSY_TIMEOUT")
"""How a database says that a lock was not to be had in time."""


class AnotherRunError(LockTimeoutError):
    """Another run, or on SQLite any other writer, did not let go of the database in time."""


@contextmanager
def hold_lock(connection: sa.Connection, *, wait: float, statement_wait: float, where: str) -> Iterator[None]:
    """Be the only run in this database, from here to the end of the connection's transaction.

    Args:
        connection: No statement has been sent in its transaction yet.
        wait: How many seconds to wait for another run.
        statement_wait: How many seconds a statement may wait for a table that is in use; while it waits, everybody who
            comes later and wants that table waits for it. (Not on SQLite, where there is one lock for everything.)
        where: Which database it is, for the error.

    Raises:
        AnotherRunError: If the other one does not finish in time.
    """
    try:
        match connection.dialect.name:
            case "postgresql":
                _take_advisory_lock(connection, wait)
                _limit_waiting(connection, statement_wait)
                yield
            case "sqlite":
                _take_write_lock(connection, wait)
                yield
            case _:
                yield from _hold_named_lock(connection, wait)
    except _TakenError as error:
        mend = "run the command again when it has ended, or raise locks.wait"
        raise AnotherRunError(Problem(f"{error} for longer than {wait:g} s", where, mend)) from error.__cause__


@contextmanager
def kept_open(connection: sa.Connection) -> Iterator[None]:
    """See to it that code which is handed the connection does not commit what is not finished."""

    def refuse(_: sa.Connection) -> None:
        raise RuntimeError("the connection must not be committed here: that is done when everything is")

    sa.event.listen(connection, "commit", refuse)
    try:
        yield
    finally:
        sa.event.remove(connection, "commit", refuse)


def retry_pauses(retries: int) -> Iterator[float]:
    """How long to wait before each further attempt: twice as long each time, within reason.

    Example:
        >>> list(retry_pauses(3))
        [0.2, 0.4, 0.8]
    """
    return (min(0.2 * 2**attempt, LONGEST_PAUSE) for attempt in range(retries))


class _TakenError(Exception):
    """Who has the lock, as the beginning of a sentence."""


def _take_advisory_lock(connection: sa.Connection, wait: float) -> None:
    _limit_waiting(connection, wait)
    with _taken_by("another run of opal-db works on this database"):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(KEY)))


def _limit_waiting(connection: sa.Connection, seconds: float) -> None:
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {max(1, int(seconds * 1000))}")


def _take_write_lock(connection: sa.Connection, wait: float) -> None:
    usual = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
    connection.exec_driver_sql(f"PRAGMA busy_timeout={int(wait * 1000)}")
    try:
        with _taken_by("another process writes to this database"):
            connection.execute(sa.text("SELECT 1"))  # the first statement begins the transaction: BEGIN IMMEDIATE
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={usual}")


def _hold_named_lock(connection: sa.Connection, wait: float) -> Iterator[None]:
    name = f"{NAME}.{connection.engine.url.database}"[:64]
    if not connection.scalar(sa.select(sa.func.get_lock(name, int(wait)))):
        raise _TakenError("another run of opal-db works on this database")
    try:
        yield
    finally:
        connection.scalar(sa.select(sa.func.release_lock(name)))


@contextmanager
def _taken_by(whom: str) -> Iterator[None]:
    try:
        yield
    except sa.exc.OperationalError as error:
        original = error.orig
        if (getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", "")) in TAKEN:
            raise _TakenError(whom) from error
        raise
