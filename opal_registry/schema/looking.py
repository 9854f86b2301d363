"""Looking at a database without waiting for long: somebody may have locked a table for good."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from opal_registry.engines.factory import for_looking
from opal_registry.engines.sqlite import OPTION
from opal_registry.store.locks import make_limit_of_waiting
from opal_registry.store.native_locks import set_patience

READ_ONLY = "SET TRANSACTION READ ONLY"


@contextmanager
def look_at(engine: sa.Engine, *, wait: float, role: str | None = None) -> Iterator[sa.Connection]:
    """A connection to look with, which can write nothing; no statement waits longer for a table that is locked.

    With psycopg each statement is a transaction of its own, sent together with what limits it: it costs no round trip, and
    nothing stays behind in the connection or a pooler. Elsewhere the look is one transaction.

    Args:
        engine: The database.
        wait: For how many seconds a statement waits for a table; on SQLite the look for the file.
        role: The role that the engine's transactions work as, if any: it needs one.
    """
    limit = make_limit_of_waiting(engine.dialect.name, wait)
    if engine.dialect.driver == "psycopg" and not role:
        options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", OPTION: "read_only"}
        with engine.connect().execution_options(**options) as connection:
            _send_before_each(connection, [READ_ONLY, limit])
            yield connection
        return
    with for_looking(engine).connect() as connection:
        if engine.dialect.name == "sqlite":
            with _patience(connection, wait):
                yield connection
            return
        if engine.dialect.name != "postgresql":
            connection.detach()  # the limit is the connection's, and must not come back with it to a pool
        connection.exec_driver_sql(limit)
        yield connection


@contextmanager
def _patience(connection: sa.Connection, wait: float) -> Iterator[None]:
    usual = set_patience(connection, wait)
    try:
        yield
    finally:
        if not connection.invalidated:
            set_patience(connection, usual)


def _send_before_each(connection: sa.Connection, settings: list[str]) -> None:
    """Let some settings go out before each statement, in one text with it.

    A server takes several statements in one text only if its values are written into it (PostgreSQL's manual, "Simple
    Query"); it runs them as one transaction.
    """

    def precede(
        connection: sa.Connection, _cursor: object, statement: str, parameters: Any, context: Any, _many: object
    ) -> tuple[str, None]:
        values = None if context.no_parameters else parameters
        writer = connection.dialect.loaded_dbapi.ClientCursor(connection.connection.driver_connection)
        return "; ".join([*settings, writer.mogrify(statement, values)]), None

    def pass_over(_connection: object, cursor: Any, *_: object) -> None:
        for _setting in settings:
            cursor.nextset()

    sa.event.listen(connection, "before_cursor_execute", precede, retval=True)
    sa.event.listen(connection, "after_cursor_execute", pass_over)
