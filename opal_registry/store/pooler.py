"""Whether a pooler between this run and the server has a second connection for it."""

import select
from contextlib import closing
from typing import Any

import sqlalchemy as sa

from opal_registry.errors import DatabaseError, Problem

PATIENCE = 5.0
"""So many seconds a run waits for its second connection."""


def check_pool(engine: sa.Engine, guard: sa.Connection, session: int | None, *, where: str) -> None:
    """See to it that a run that holds one connection can have another one, and does not wait for itself.

    A pooler such as PgBouncer makes a client wait in its queue where no statement and no timeout of the server counts.
    Without a pooler, or with another driver than psycopg, nothing is asked.

    Args:
        engine: The database.
        guard: The connection, in its transaction.
        session: The number of the server's process that it works with.
        where: Which database it is, for the error.

    Raises:
        DatabaseError: If none is to be had within :data:`PATIENCE`.
    """
    if engine.dialect.driver != "psycopg" or session == _told(guard):
        return
    with closing(engine.raw_connection()) as second:
        if not _answers(second.driver_connection.pgconn):  # type: ignore[union-attr]
            second.invalidate()
            what = f"the pooler had no second connection for this run within {PATIENCE:g} s, and the first one holds the lock"
            mend = "let runs go to the server directly: set database.migration_url; or make the pooler's pool larger"
            raise DatabaseError(Problem(what, where, mend))


def _told(connection: sa.Connection) -> int:
    """The process that the driver was told of when it connected; a pooler tells it another number."""
    driver: Any = connection.connection.driver_connection
    return int(driver.info.backend_pid)


def _answers(session: Any) -> bool:
    session.send_query(b"SELECT 1")
    if not select.select([session.socket], [], [], PATIENCE)[0]:
        return False
    while session.get_result() is not None:
        pass
    return True
