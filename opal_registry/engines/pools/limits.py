"""How long a network, a statement and a server may keep an application waiting.

Three things can be silent, and each is noticed in another way: a network by the kernel, which asks the other end from time
to time; a statement by the server, which ends it; a server that hangs by the client, once neither of the two was heard of.
"""

import os
import socket
from collections.abc import Callable, Generator
from contextlib import closing
from time import monotonic
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from opal_registry.settings.database import DatabaseSettings

PROBES = 3
"""So many questions of the kernel may stay without an answer."""

DESCRIPTORS: dict[str, Callable[[Any], int]] = {
    "psycopg": lambda connection: int(connection.pgconn.socket),
    "pg8000": lambda connection: int(connection._usock.fileno()),
    "asyncpg": lambda connection: int(connection._transport.get_extra_info("socket").fileno()),
    "pymysql": lambda connection: int(connection._sock.fileno()),
    "asyncmy": lambda connection: int(connection._transport.get_extra_info("socket").fileno()),
}
"""Where each driver has the file descriptor of its socket."""


def limit_waiting(engine: sa.Engine, settings: DatabaseSettings, *, for_run: bool = False) -> None:
    """Prepare every connection of an engine so that nobody waits for ever, however it came about.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
        settings: How long is too long.
        for_run: Whether it is for DDL, whose statements have a limit of their own (``locks.statement_timeout``).
    """
    driver = engine.dialect.driver
    statement = None if for_run else settings.statement_timeout

    def prepare(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        _watch_network(DESCRIPTORS[driver](record.driver_connection), settings.network_timeout)
        if statement is not None:
            _set_limit(connection, engine.dialect.name, statement)
        if driver in BOUND and "read_timeout" not in engine.url.query:
            BOUND[driver](record.driver_connection, find_longest_silence(settings, for_run=for_run))

    if driver in DESCRIPTORS:
        sa.event.listen(engine, "connect", prepare, insert=True)  # before SQLAlchemy asks its first questions
        sa.event.listen(engine, "handle_error", _break_off)


def find_longest_silence(settings: DatabaseSettings, *, for_run: bool = False) -> float | None:
    """After how many seconds without a word a server hangs; None where nobody can tell it from a long statement.

    Example:
        >>> find_longest_silence(DatabaseSettings(statement_timeout="5s", network_timeout="30s"))
        35.0
        >>> find_longest_silence(DatabaseSettings()) is None
        True
    """
    if for_run or settings.statement_timeout is None or not settings.network_timeout:
        return None
    return settings.statement_timeout + settings.network_timeout


def make_waiting_arguments(driver: str, settings: DatabaseSettings, *, for_run: bool = False) -> dict[str, Any]:
    """How long a driver is told to wait: for a connection, and for an answer.

    Those of MySQL count only the handshake of TCP as connecting. They are told to wait as long for each answer, until the
    connection has come about.

    Example:
        >>> make_waiting_arguments("asyncpg", DatabaseSettings(statement_timeout="5s", network_timeout="30s"))
        {'timeout': 10, 'command_timeout': 35.0}
    """
    wait = max(1, round(settings.connect_timeout))
    arguments: dict[str, dict[str, Any]] = {
        "psycopg": {"connect_timeout": wait},
        "pg8000": {"timeout": wait},
        "asyncpg": {"timeout": wait},
        "pymysql": {"connect_timeout": wait, "read_timeout": wait, "write_timeout": wait},
        "asyncmy": {"connect_timeout": wait, "read_timeout": wait},
    }
    silence = find_longest_silence(settings, for_run=for_run)
    if silence is not None:
        arguments["asyncpg"]["command_timeout"] = silence
    return arguments.get(driver, {})


def _watch_network(descriptor: int, seconds: float) -> None:
    """Let the kernel ask the other end of a connection that is silent, and give up what it sent without an answer."""
    with closing(socket.socket(fileno=os.dup(descriptor))) as ours:
        if not seconds or ours.family == socket.AF_UNIX:
            return
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _make_tcp_options(seconds).items():
            if hasattr(socket, name):
                ours.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _make_tcp_options(seconds: float) -> dict[str, int]:
    """Half of the time nobody asks, in the other half several times.

    Example:
        >>> _make_tcp_options(30)["TCP_KEEPIDLE"], _make_tcp_options(30)["TCP_KEEPINTVL"]
        (15, 5)
    """
    idle, interval = max(1, round(seconds / 2)), max(1, round(seconds / 2 / PROBES))
    return {
        "TCP_KEEPIDLE": idle,
        "TCP_KEEPALIVE": idle,  # macOS
        "TCP_KEEPINTVL": interval,
        "TCP_KEEPCNT": PROBES,
        "TCP_USER_TIMEOUT": round(seconds * 1000),
    }


def _set_limit(connection: DBAPIConnection, dialect: str, seconds: float) -> None:
    """Have the server end statements that take too long; MariaDB and MySQL each read their own part of theirs."""
    milliseconds = max(1, round(seconds * 1000))
    if dialect == "postgresql":
        _execute_alone(connection, f"SET statement_timeout = {milliseconds}")
        return
    _execute(
        connection,
        f"SET /*M!100101 max_statement_time = {milliseconds / 1000} */ /*!50708 max_execution_time = {milliseconds} */",
    )


def _execute_alone(connection: Any, statement: str) -> None:
    """Outside of a transaction, whose end might undo it."""
    connection.autocommit = True
    _execute(connection, statement)
    connection.autocommit = False


def _execute(connection: DBAPIConnection, statement: str) -> None:
    cursor = connection.cursor()
    cursor.execute(statement)
    cursor.close()


def _bind_psycopg(connection: Any, seconds: float | None) -> None:
    """Psycopg waits for ever; what it waits with is asked ten times a second whether to go on."""
    if seconds is None:
        return
    wait = connection.wait

    def wait_at_most(work: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        return wait(_give_up(work, connection, seconds), *args, **kwargs)

    connection.wait = wait_at_most


def _give_up(work: Generator[Any, Any, Any], connection: Any, seconds: float) -> Generator[Any, Any, Any]:
    """The same work, that fails, and closes the connection, when the server is silent for too long."""
    from psycopg import OperationalError

    heard, ready = monotonic(), None
    while True:
        try:
            wanted = work.send(ready)
        except StopIteration as end:
            return end.value
        ready = yield wanted
        if ready:
            heard = monotonic()
        elif monotonic() - heard > seconds:
            connection.pgconn.finish()
            raise OperationalError(f"timeout expired: the server was silent for {seconds:g} s")


def _bind_pg8000(connection: Any, seconds: float | None) -> None:
    """pg8000 takes the time that it had for connecting as that of each answer, unless it is told otherwise."""
    connection._usock.settimeout(seconds)


def _break_off(error: sa.ExceptionContext) -> sa.exc.OperationalError | None:
    """Some drivers let Python's own error through, and keep a connection on which the answer may still come: give it up."""
    if not isinstance(error.original_exception, TimeoutError):
        return None
    error.is_disconnect = True
    said = TimeoutError("the server did not answer in time")
    return sa.exc.OperationalError(error.statement, None, said, hide_parameters=True, connection_invalidated=True)


def _bind_mysql(connection: Any, seconds: float | None) -> None:
    """Until here it waited for each answer as long as for the connection."""
    connection._read_timeout = seconds
    if hasattr(connection, "_write_timeout"):
        connection._write_timeout = seconds


BOUND: dict[str, Callable[[Any, float | None], None]] = {
    "psycopg": _bind_psycopg,
    "pg8000": _bind_pg8000,
    "pymysql": _bind_mysql,
    "asyncmy": _bind_mysql,
}
