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

from opal_registry.engines.errors.neutral import SerializationError
from opal_registry.engines.sqlite_async import give_up_well

Intent = Literal["read_write", "read_first", "read_only"]
"""What a transaction is for. ``read_first`` may write, but is not expected to (a GET request)."""

OPTION = "opal_intent"

_START = r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*"
OUTSIDE = re.compile(_START + r"(PRAGMA|VACUUM|ATTACH|DETACH|BEGIN|COMMIT|END|ROLLBACK)\b", re.IGNORECASE | re.DOTALL)
"""Statements that no transaction is begun for: SQLite refuses them inside one, or they are about one."""

READS = re.compile(_START + r"(SELECT|WITH|VALUES|EXPLAIN|SAVEPOINT|RELEASE)\b", re.IGNORECASE | re.DOTALL)

STALE_READ = (
    "this transaction read before another one wrote, so that what it wants to write may rest on what is no longer true. "
    "Roll it back and run it again from the start; or read with with_for_update(), or do the work in a session that "
    "writes from the first statement on: session_scope(), SessionLocal(), or get_db in a request other than GET"
)
READ_ONLY = "the session was declared read-only: open it without read_only=True, or move the write out of it"


class StaleReadError(SerializationError):
    """A transaction that was expected to read wrote after all, and another one had written since its first read.

    Waiting would not help, so that SQLite fails at once. Running the whole transaction again does.
    """


def make_safe(engine: sa.Engine, *, wait: float) -> None:
    """Prepare every connection of a SQLite engine, and begin its transactions by intent.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
        wait: How many seconds a statement waits for another process that writes.
    """

    def prepare(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        _prepare(connection, wait)

    sa.event.listen(engine, "connect", prepare)
    sa.event.listen(engine, "reset", _make_writable)
    for event in (
        "do_execute",
        "do_executemany",
        "do_execute_no_params",
    ):  # of the dialect: those of connections cost more
        sa.event.listen(engine, event, _begin)
    sa.event.listen(engine, "handle_error", _explain)
    if engine.dialect.driver == "aiosqlite":
        give_up_well(engine)


def _prepare(connection: DBAPIConnection, wait: float) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(wait * 1000)}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(cursor: DBAPICursor, statement: str, *others: Any) -> None:
    context: ExecutionContext = others[-1]
    connection = context.root_connection
    if _in_transaction(connection):
        return
    options = connection.get_execution_options()
    intent: Intent = options.get(OPTION, "read_write")
    _set_read_only(connection.connection, cursor, read_only=intent == "read_only")
    outside = OUTSIDE.match(statement) is not None
    may_write = intent == "read_write" or (intent == "read_first" and not outside and _writes(statement, context))
    if may_write:
        _use_wal(connection, cursor)
    if outside or options.get("isolation_level") == "AUTOCOMMIT":
        return
    connection.connection.dbapi_connection.isolation_level = None  # type: ignore[union-attr]  # AUTOCOMMIT resets it
    cursor.execute("BEGIN IMMEDIATE" if may_write else "BEGIN")


def _in_transaction(connection: sa.Connection) -> bool:
    driver = connection.connection.driver_connection
    return bool(driver and driver.in_transaction)


def _use_wal(connection: sa.Connection, cursor: DBAPICursor) -> None:
    """Switch the file to WAL before a connection may write for the first time: who only looks must not change it."""
    if not connection.connection.info.get("opal_wal"):
        with contextlib.suppress(sqlite3.OperationalError):  # the write itself says better what is wrong
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.fetchall()  # until its answer is read, it is not in force
            cursor.execute("PRAGMA synchronous=NORMAL")  # reads the file, so that it may have to wait: not for a look
            connection.connection.info["opal_wal"] = True


def _set_read_only(connection: sa.PoolProxiedConnection, cursor: DBAPICursor, *, read_only: bool) -> None:
    if connection.info.get("opal_read_only", False) != read_only:
        cursor.execute(f"PRAGMA query_only={int(read_only)}")
        connection.info["opal_read_only"] = read_only


def _writes(statement: str, context: ExecutionContext | None) -> bool:
    """Whether a statement writes, or says that the next one will: ``with_for_update()``."""
    if context is not None and (compiled := context.compiled) is not None:
        locks = getattr(compiled.statement, "_for_update_arg", None) is not None
        if locks or isinstance(compiled.statement, sa.UpdateBase):  # also one that begins with WITH
            return True
    return READS.match(statement) is None


def _make_writable(connection: DBAPIConnection, record: ConnectionPoolEntry, state: sa.PoolResetState) -> None:
    """Leave no ``query_only`` behind for whoever takes the connection from the pool without SQLAlchemy's help."""
    if record.info.pop("opal_read_only", False) and not state.terminate_only:
        connection.cursor().execute("PRAGMA query_only=0")


def _explain(error: sa.ExceptionContext) -> StaleReadError | None:
    """Say what to do, where SQLite's own words do not."""
    name = getattr(error.original_exception, "sqlite_errorname", "")
    intent = error.connection.get_execution_options().get(OPTION) if error.connection else None
    shown = error.sqlalchemy_exception
    if shown is None:
        return None
    if intent == "read_only" and name == "SQLITE_READONLY":
        shown.add_detail(READ_ONLY)
    if not _is_stale_read(error, name):
        return None
    stale = StaleReadError(shown.statement, shown.params, error.original_exception, shown.hide_parameters)
    stale.add_detail(STALE_READ)
    return stale


def _is_stale_read(error: sa.ExceptionContext, name: str) -> bool:
    """Whether a transaction that has read already is refused to write; waiting for BEGIN IMMEDIATE is another matter."""
    if name == "SQLITE_BUSY_SNAPSHOT":
        return True
    return name == "SQLITE_BUSY" and error.statement is not None and _has_begun_to_read(error.connection)


def _has_begun_to_read(connection: sa.Connection | None) -> bool:
    if connection is None or connection.get_execution_options().get(OPTION) != "read_first":
        return False
    return _in_transaction(connection)
