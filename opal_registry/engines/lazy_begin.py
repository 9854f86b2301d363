"""PostgreSQL without needless round trips: a plain SELECT runs alone, the first other statement begins the transaction.

A driver sends BEGIN before the first statement, whatever that is, so that a single read takes three round trips: BEGIN,
SELECT, ROLLBACK. At READ COMMITTED each statement sees what is committed when it begins, within a transaction as
without one, so that a SELECT that leaves nothing behind needs none. Whether it is one is decided by the text that is sent,
word by word: what is not known to be harmless begins a transaction.
"""

import functools
import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPICursor

from opal_registry.engines.in_transaction import IS_OPEN, is_open

ALONE = "opal_alone"
"""What an error is marked with that ended no transaction, because the statement ran without one."""

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
    *("ALL", "AND", "ANY", "AS", "CASE", "ELSE", "EXCEPT", "EXISTS", "FROM", "HAVING", "IN", "INTERSECT", "LATERAL"),
    *("LIMIT", "NOT", "OFFSET", "ON", "OR", "SELECT", "THEN", "UNION", "WHEN", "WHERE"),
    *("COUNT", "SUM", "MIN", "MAX", "COALESCE", "CAST"),
    *("CHAR", "NUMERIC", "VARCHAR"),
}
"""Words that brackets may follow, and that no function can be called by; any other one may be, and do anything.

JOIN, LIKE, BY and MATERIALIZED are none of them: https://www.postgresql.org/docs/current/sql-keywords-appendix.html
"""


def begin_lazily(engine: sa.Engine) -> None:
    """Begin the transactions of a PostgreSQL engine at the first statement that needs one.

    That is any but a plain SELECT of SQLAlchemy's: no ``text()``, none that writes or locks, no function but ``count``,
    ``sum``, ``min``, ``max`` and ``coalesce``, no server-side cursor. Nothing changes where an isolation level other than
    READ COMMITTED is asked for, or is the server's own, and with drivers that do not tell whether a transaction is open.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
    """
    if engine.dialect.name == "postgresql" and engine.dialect.driver in IS_OPEN:
        sa.event.listen(engine, "do_execute", _run_alone)  # of the dialect: those of connections are dear to look up


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


def _run_alone(cursor: DBAPICursor, statement: str, parameters: Any, context: Any) -> bool | None:
    """Run a plain SELECT outside of a transaction; whoever uses the driver's connection itself finds it as ever."""
    if not _is_plain(context) or not _is_lazy(context.root_connection):
        return None
    connection = context.root_connection.connection
    if is_open(context.dialect, connection):
        return None
    connection.dbapi_connection.autocommit = True
    try:
        context.dialect.do_execute(cursor, statement, parameters, context)
    except Exception as error:
        setattr(error, ALONE, True)
        raise
    finally:
        if not is_open(context.dialect, connection):  # as one is that was lost
            connection.dbapi_connection.autocommit = False
    return True


def _is_lazy(connection: sa.Connection) -> bool:
    return (
        connection.dialect.default_isolation_level == "READ COMMITTED"
        and "isolation_level" not in connection.get_execution_options()
    )


def _is_plain(context: Any) -> bool:
    compiled = getattr(context, "compiled", None)
    if compiled is None or not isinstance(compiled.statement, (sa.Select, sa.CompoundSelect)):
        return False
    return not context._is_server_side and is_plain(compiled.string)
