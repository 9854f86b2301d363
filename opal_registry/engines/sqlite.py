"""SQLite made safe: foreign keys, WAL, and transactions that begin as they are meant.

The driver's own transactions are not atomic for DDL and lose updates. So it is told to begin none, and each begins here
at its first statement: IMMEDIATE, or deferred where the intent is to read. Always IMMEDIATE would starve the writers
beside a few readers; always deferred fails as soon as somebody reads, another writes, and the first writes too.
"""

import contextlib
import re
import sqlite3
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor, ExecutionContext
from sqlalchemy.pool import ConnectionPoolEntry

Intent = Literal["read_write", "read_first", "read_only"]
"""What a transaction is for. ``read_first`` may write, but is not expected to (a GET request)."""

OPTION = "opal_intent"
OUTSIDE = re.compile(r"\s*(PRAGMA|VACUUM|ATTACH|DETACH|BEGIN|COMMIT|ROLLBACK)\b", re.IGNORECASE)
READS = re.compile(r"\s*(SELECT|WITH|VALUES|EXPLAIN)\b", re.IGNORECASE)


def make_safe(engine: sa.Engine, *, wait: float) -> None:
    """Prepare every connection of a SQLite engine, and begin its transactions by intent.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
        wait: How many seconds a statement waits for another process that writes.
    """

    def prepare(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        _prepare(connection, wait)

    sa.event.listen(engine, "connect", prepare)
    sa.event.listen(engine, "before_cursor_execute", _begin)


def is_stale_read(error: sa.ExceptionContext) -> bool:
    """Whether a statement failed because its transaction had read before another one wrote."""
    name = getattr(error.original_exception, "sqlite_errorname", "")
    intent = error.connection.get_execution_options().get(OPTION) if error.connection else None
    return name == "SQLITE_BUSY_SNAPSHOT" or (name == "SQLITE_BUSY" and intent == "read_first")


def _prepare(connection: DBAPIConnection, wait: float) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(wait * 1000)}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _begin(
    connection: sa.Connection,
    cursor: DBAPICursor,
    statement: str,
    _parameters: Any,
    context: ExecutionContext | None,
    _many: bool,  # noqa: FBT001 -- SQLAlchemy's signature
) -> None:
    options = connection.get_execution_options()
    if OUTSIDE.match(statement) or options.get("isolation_level") == "AUTOCOMMIT" or _in_transaction(connection):
        return
    intent: Intent = options.get(OPTION, "read_write")
    _set_read_only(connection, cursor, read_only=intent == "read_only")
    if intent == "read_write" or (intent == "read_first" and _writes(statement, context)):
        _use_wal(connection, cursor)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")


def _in_transaction(connection: sa.Connection) -> bool:
    driver = connection.connection.driver_connection
    return bool(driver and driver.in_transaction)


def _use_wal(connection: sa.Connection, cursor: DBAPICursor) -> None:
    """Switch the file to WAL before the first write of a connection: who only looks must not change it."""
    if not connection.connection.info.get("opal_wal"):
        with contextlib.suppress(sqlite3.OperationalError):  # the write itself says better what is wrong
            cursor.execute("PRAGMA journal_mode=WAL")
        connection.connection.info["opal_wal"] = True


def _set_read_only(connection: sa.Connection, cursor: DBAPICursor, *, read_only: bool) -> None:
    info = connection.connection.info
    if info.get("opal_read_only", False) != read_only:
        cursor.execute(f"PRAGMA query_only={int(read_only)}")
        info["opal_read_only"] = read_only


def _writes(statement: str, context: ExecutionContext | None) -> bool:
    if context is not None and context.compiled is not None and READS.match(statement):
        return getattr(context.compiled.statement, "_for_update_arg", None) is not None or bool(context.isinsert)
    return READS.match(statement) is None
