"""PostgreSQL without needless round trips: a plain SELECT runs alone, the first other statement begins the transaction.

A driver sends BEGIN before the first statement, whatever that is, so that a single read takes three round trips: BEGIN,
SELECT, ROLLBACK. At READ COMMITTED each statement sees what is committed when it begins, within a transaction as
without one, so that a SELECT that leaves nothing behind needs none. Whether it is one is decided by the text that is sent,
word by word: what is not known to be harmless begins a transaction.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPICursor, ExecutionContext

IS_OPEN: dict[str, Callable[[Any], bool]] = {
    "psycopg": lambda driver: driver.pgconn.transaction_status != 0,  # libpq's PQTRANS_IDLE
    "asyncpg": lambda driver: driver.is_in_transaction(),
}
"""Whether a connection is in a transaction, by driver; the others begin as they are used to."""

TOKEN = re.compile(
    r"""\s+
    | "[^"]*"(?!\s*\()                              # a name, but not that of a function
    | '[^'\\]*' | \d+(?:\.\d+)?                     # text and numbers
    | %\([^()]*\)s | \$\d+ | __\[[A-Z]+_[^\[\]]*\]  # parameters; what SQLAlchemy fills in when it is executed
    | (?P<sign>[-+*/<>=!|%:~@#&^?`]+)
    | [(),.\[\]]
    | (?P<word>[^\W\d]\w*)(?P<opens>\s*\()?
    """,
    re.VERBOSE,
)
SIGNS = {"=", "!=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "%%", "||", "::", ":", "->", "->>"}
FORBIDDEN = {
    *("CALL", "DELETE", "DO", "EXECUTE", "FOR", "INSERT", "INTO", "MERGE", "TABLESAMPLE", "UPDATE"),
    *("CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP"),  # when the transaction began
}
BEFORE_BRACKETS = {
    *("ALL", "AND", "ANY", "AS", "BY", "CASE", "ELSE", "EXCEPT", "EXISTS", "FROM", "HAVING", "IN", "INTERSECT", "JOIN"),
    *("LATERAL", "LIKE", "ILIKE", "LIMIT", "MATERIALIZED", "NOT", "OFFSET", "ON", "OR", "SELECT", "THEN", "UNION"),
    *("WHEN", "WHERE"),
    *("COUNT", "SUM", "MIN", "MAX", "COALESCE", "CAST"),
    *("CHAR", "NUMERIC", "VARCHAR"),
}
"""Words that brackets may follow; any other one may be a function, and do anything."""


def begin_lazily(engine: sa.Engine) -> None:
    """Begin the transactions of a PostgreSQL engine at the first statement that needs one.

    That is any but a plain SELECT of SQLAlchemy's: no ``text()``, none that writes or locks, no function but ``count``,
    ``sum``, ``min``, ``max`` and ``coalesce``, no server-side cursor. Nothing changes where an isolation level other than
    READ COMMITTED is asked for, or is the server's own, and with drivers that are not in :data:`IS_OPEN`.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
    """
    if engine.dialect.driver in IS_OPEN:
        sa.event.listen(engine, "before_cursor_execute", _let_alone)
        sa.event.listen(engine, "after_cursor_execute", _end)
        sa.event.listen(engine, "handle_error", _end_in_error)


@functools.lru_cache(maxsize=2000)
def is_plain(statement: str) -> bool:
    """Whether a statement reads, and does nothing else, as far as its text can tell.

    Example:
        >>> is_plain("SELECT count(*) FROM users WHERE users.id = %(id_1)s::INTEGER")
        True
        >>> is_plain("WITH x AS (DELETE FROM users RETURNING id) SELECT id FROM x")
        False
        >>> is_plain("SELECT pg_advisory_lock(1)")
        False
    """
    if not statement.startswith(("SELECT", "WITH", "(SELECT")):
        return False
    position = 0
    while position < len(statement):
        token = TOKEN.match(statement, position)
        if token is None or not _is_harmless(token, statement):
            return False
        position = token.end()
    return True


def _is_harmless(token: re.Match[str], statement: str) -> bool:
    if (sign := token["sign"]) is not None:
        return sign in SIGNS
    if (word := token["word"]) is None:
        return True
    if token["opens"] is not None:
        return word.upper() in BEFORE_BRACKETS and statement[: token.start()].rstrip()[-1:] != "."
    return word.upper() not in FORBIDDEN


def _let_alone(
    connection: sa.Connection,
    _cursor: DBAPICursor,
    _statement: str,
    _parameters: Any,
    context: ExecutionContext | None,
    _many: bool,  # noqa: FBT001 -- SQLAlchemy's signature
) -> None:
    if context is None or not _is_lazy(connection) or not _is_alone(context):
        return
    fairy: Any = connection.connection
    if not IS_OPEN[connection.dialect.driver](fairy.driver_connection):
        fairy.dbapi_connection.autocommit = True


def _end(connection: sa.Connection, *_: Any) -> None:
    """What uses the driver's connection directly finds it as it is used to."""
    dbapi: Any = connection.connection.dbapi_connection
    if dbapi.autocommit and _is_lazy(connection):
        dbapi.autocommit = False


def _end_in_error(context: sa.ExceptionContext) -> None:
    if context.connection is not None and not (context.connection.invalidated or context.is_disconnect):
        _end(context.connection)


def _is_lazy(connection: sa.Connection) -> bool:
    dialect = connection.dialect
    return (
        dialect.default_isolation_level == "READ COMMITTED"
        and "isolation_level" not in connection.get_execution_options()
    )


def _is_alone(context: Any) -> bool:
    compiled = context.compiled
    if compiled is None or not isinstance(compiled.statement, (sa.Select, sa.CompoundSelect)):
        return False
    return not context._is_server_side and is_plain(compiled.string)
