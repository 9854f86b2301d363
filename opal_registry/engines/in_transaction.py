"""Whether a connection is in a transaction, asked of its driver, which asks nobody."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

IS_OPEN: dict[str, Callable[[Any], bool]] = {
    "psycopg": lambda driver: driver.pgconn.transaction_status != 0,  # libpq's PQTRANS_IDLE
    "asyncpg": lambda driver: driver.is_in_transaction(),
    "pysqlite": lambda driver: driver.in_transaction,
    "aiosqlite": lambda driver: driver.in_transaction,
}
"""By driver; of the others it is not known."""


def is_open(dialect: sa.Dialect, connection: Any) -> bool:
    """Whether a transaction is open on a connection, as far as its driver tells; if it does not, there may be one.

    Args:
        dialect: What the connection is used with.
        connection: The driver's, or what SQLAlchemy wraps it in.

    Example:
        >>> engine = sa.create_engine("sqlite://")
        >>> with engine.connect() as connection:
        ...     is_open(engine.dialect, connection.connection)
        False
    """
    asked = IS_OPEN.get(dialect.driver)
    return asked is None or asked(dialect.get_driver_connection(connection))


def roll_back_only_what_is_open(dialect: sa.Dialect) -> None:
    """Ask neither a server nor a thread to end a transaction that has not begun; SQLAlchemy does so twice for each session."""
    roll_back: Any = dialect.do_rollback

    def roll_back_if_open(connection: Any) -> None:
        with suppress(sa.exc.InvalidRequestError):  # a forked process leaves those of its parent, and asks them nothing
            if is_open(dialect, connection):
                roll_back(connection)

    dialect.do_rollback = roll_back_if_open  # type: ignore[method-assign, assignment]
