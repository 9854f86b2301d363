"""One run at a time: a lock in the database itself, freed when its holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import sqlalchemy as sa

from opal_registry.errors import LockTimeoutError, Problem

NAME = "opal_registry"
KEY = int.from_bytes(sha256(NAME.encode()).digest()[:8], signed=True)
"""The advisory lock's number on PostgreSQL, where it is one per database."""


@contextmanager
def hold_lock(connection: sa.Connection, *, wait: float) -> Iterator[None]:
    """Be the only run in this database, from here to the end of the connection's transaction.

    Args:
        connection: No statement has been sent in its transaction yet.
        wait: How many seconds to wait for another run.

    Raises:
        LockTimeoutError: If the other one does not finish in time. (On PostgreSQL and SQLite the driver's own error
            says so, and means the same.)
    """
    match connection.dialect.name:
        case "postgresql":
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {max(1, int(wait * 1000))}")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(KEY)))
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            yield
        case "sqlite":
            connection.exec_driver_sql(f"PRAGMA busy_timeout={int(wait * 1000)}")
            connection.execute(sa.text("SELECT 1"))  # the first statement begins the transaction: BEGIN IMMEDIATE
            yield
        case _:
            yield from _hold_named_lock(connection, wait)


def _hold_named_lock(connection: sa.Connection, wait: float) -> Iterator[None]:
    name = f"{NAME}.{connection.engine.url.database}"[:64]
    if not connection.scalar(sa.select(sa.func.get_lock(name, int(wait)))):
        what = f"another run holds the lock {name!r} for longer than {wait:g} s"
        raise LockTimeoutError(Problem(what, mend="wait for it to end, or raise locks.wait"))
    try:
        yield
    finally:
        connection.scalar(sa.select(sa.func.release_lock(name)))
