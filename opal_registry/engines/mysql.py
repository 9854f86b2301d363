"""MySQL and MariaDB made safe: nothing is cut to fit, times are UTC, and who only reads cannot write.

A deadlock ends the whole transaction, with its savepoints, and what comes after it would be a transaction of its own, as if
nothing had happened. So it is refused here, as PostgreSQL does.
"""

import copy
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from opal_registry.engines.errors.neutral import DeadlockError, SerializationError
from opal_registry.engines.sqlite import OPTION

NAMES = {"mysql", "mariadb"}

LATIN = {"pymysql", "asyncmy"}
"""Drivers that send a password in Latin-1, unless it comes in bytes."""

ENDED = "opal_ended"
"""Under which a connection keeps the error with which the server ended its transaction."""

PREPARE = (
    "SET time_zone = '+00:00',"
    " sql_mode = IF(FIND_IN_SET('STRICT_TRANS_TABLES', @@sql_mode), @@sql_mode,"
    " CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES'))"
)
"""What a connection is set to. In a zone of its own the server would fill in times that are no UTC."""


def make_safe(engine: sa.Engine) -> None:
    """Prepare every connection of a MySQL or MariaDB engine, and begin its transactions by intent.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
    """
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    sa.event.listen(engine, "rollback", _forget_the_end)
    sa.event.listen(engine, "handle_error", _note_the_end)
    for event in ("savepoint", "rollback_savepoint", "release_savepoint", "commit"):
        sa.event.listen(engine, event, _refuse_the_rest)


def encode_passwords(dialect: sa.Dialect) -> None:
    """Send passwords as UTF-8, as servers keep those that came with a statement; some drivers would take them for Latin-1.

    Args:
        dialect: The engine's.
    """
    if dialect.driver not in LATIN:
        return
    connect: Any = dialect.connect

    def connect_encoded(*arguments: Any, **told: Any) -> Any:
        if isinstance(password := told.get("password"), str):
            told["password"] = password.encode()
        return connect(*arguments, **told)

    dialect.connect = connect_encoded  # type: ignore[method-assign]


def _prepare(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute(PREPARE)
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(OPTION) == "read_only":
        connection.exec_driver_sql("START TRANSACTION READ ONLY")


def _note_the_end(context: sa.ExceptionContext) -> None:
    error = getattr(context, "chained_exception", None)
    if isinstance(error, (DeadlockError, SerializationError)) and context.connection is not None:
        context.connection.info[ENDED] = error


def _forget_the_end(connection: sa.Connection) -> None:
    if not connection.invalidated:
        connection.info.pop(ENDED, None)


def _refuse_the_rest(connection: sa.Connection, *_: object) -> None:
    if not connection.invalidated and (error := connection.info.get(ENDED)):
        raise copy.copy(error)
