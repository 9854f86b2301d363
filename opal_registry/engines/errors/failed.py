"""Transactions of PostgreSQL in which a statement failed: their COMMIT is answered with ROLLBACK, and no driver tells.

MySQL and SQLite undo the statement only, so that one may go on there.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from opal_registry.engines.caller import find_place
from opal_registry.engines.errors.failures import find_code
from opal_registry.engines.errors.translation import AT_COMMIT
from opal_registry.engines.lazy_begin import ALONE
from opal_registry.errors import OpalError, Problem

FAILED = "opal_failed"

IS_FAILED: dict[str, Callable[[Any], bool]] = {
    "psycopg": lambda driver: driver.pgconn.transaction_status == 3,  # libpq's PQTRANS_INERROR
    "pg8000": lambda driver: driver._transaction_status == b"E",
}
"""By driver, whether a transaction is at its end: a savepoint may have been rolled back by a statement of one's own."""


class FailedTransactionError(OpalError, sa.exc.PendingRollbackError):
    """A transaction in which a statement failed was to be committed, which PostgreSQL would have taken for a rollback."""


def note_failures(engine: sa.Engine) -> None:
    """Let each connection know whether a statement of its transaction failed, until that or its savepoint is rolled back.

    Its COMMIT is refused then, with a :class:`FailedTransactionError`.

    Args:
        engine: An engine of PostgreSQL; for asyncio its ``sync_engine``.
    """
    dialect: Any = engine.dialect
    sa.event.listen(engine, "handle_error", _note)
    dialect.do_begin = _forgetting(dialect.do_begin)
    dialect.do_commit = _refusing(dialect)
    dialect.do_rollback_to_savepoint = _forgetting(dialect.do_rollback_to_savepoint)


def has_failed(connection: sa.Connection) -> bool:
    """Whether a COMMIT of this connection's transaction would commit nothing; drivers that know are asked."""
    return (
        not connection.closed and not connection.invalidated and _is_failed(connection.dialect, connection.connection)
    )


def _is_failed(dialect: sa.Dialect, connection: Any) -> bool:
    if FAILED not in connection.info:
        return False
    asked = IS_FAILED.get(dialect.driver)
    return asked is None or asked(connection.driver_connection)


def refuse_lost_commit(connection: sa.Connection) -> None:
    """Refuse a COMMIT that would commit nothing.

    Raises:
        FailedTransactionError: If a statement failed.
    """
    if has_failed(connection):
        raise _refusal()


def _refusal() -> FailedTransactionError:
    what = "a statement of this transaction failed, so that PostgreSQL would take its COMMIT for a ROLLBACK"
    mend = (
        "let the error pass, or do what may fail in a savepoint: with session.begin_nested(), or that of the connection"
    )
    return FailedTransactionError(Problem(what, find_place(), mend))


def _refusing(dialect: Any) -> Callable[[Any], None]:
    """The dialect's COMMIT; an event of connections would be looked up for each statement."""
    commit = dialect.do_commit

    def commit_or_refuse(connection: Any) -> None:
        if _is_failed(dialect, connection):
            dialect.do_rollback(connection)  # SQLAlchemy takes it for ended
            raise _refusal()
        commit(connection)

    return commit_or_refuse


def _note(context: sa.ExceptionContext) -> None:
    original = context.original_exception
    if context.connection is None or context.is_disconnect or not isinstance(original, Exception):
        return
    driver = context.connection.connection.dbapi_connection
    ended = hasattr(original, AT_COMMIT) or hasattr(original, ALONE) or getattr(driver, "autocommit", False)
    if find_code(original) and not ended:  # without a code, it never got to the server
        context.connection.info[FAILED] = True


def _forgetting(method: Callable[..., None]) -> Callable[..., None]:
    def forget(connection: Any, *arguments: Any) -> None:
        method(connection, *arguments)
        connection.info.pop(FAILED, None)

    return forget
