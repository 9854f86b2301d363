"""Keeping a transaction open while other people's code works in it: hooks, seeds and revisions do not end it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

_START = r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*"
_WORDS = r"BEGIN|START\s+TRANSACTION|COMMIT|END|ABORT|ROLLBACK(?!\s+(?:WORK\s+|TRANSACTION\s+)?TO\b)"
ENDS = re.compile(rf"{_START}(?P<words>{_WORDS})\b", re.IGNORECASE | re.DOTALL)
"""Statements that end the transaction they are executed in."""


class KeptOpen:
    """Sees to it that code which is handed a connection does not end the transaction it is in.

    Args:
        connection: The connection, in a transaction.

    Attributes:
        was_lifted: Whether something was committed in between, because :meth:`lifted` allowed it.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self.was_lifted = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Refuse to end the transaction for the length of a block.

        Raises:
            RuntimeError: If code in it tries to: nothing of it is done then. Also if it did, past SQLAlchemy, where the
                driver knows.
        """
        self._transaction = self._connection.get_transaction()
        with self._refusals():
            yield
        if self._connection.get_transaction() is not self._transaction or not _is_in_transaction(self._connection):
            raise RuntimeError("the transaction was ended here: that is done when everything is")
        if _is_broken(self._connection):
            raise RuntimeError(
                "a statement failed, and its error was passed over: use connection.begin_nested() for that"
            )

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Allow it for the length of a block inside; another transaction may be open at its end."""
        self.was_lifted = True
        self._stop()
        try:
            yield
        finally:
            self._start()
            self._transaction = self._connection.get_transaction()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        self._start()
        try:
            yield
        finally:
            self._stop()

    def _start(self) -> None:
        for event, listener in REFUSALS.items():
            sa.event.listen(self._connection, event, listener)

    def _stop(self) -> None:
        for event, listener in REFUSALS.items():
            sa.event.remove(self._connection, event, listener)


@contextmanager
def kept_open(connection: sa.Connection) -> Iterator[None]:
    """Refuse to end the transaction of a connection for the length of a block; see :meth:`KeptOpen.held`."""
    with KeptOpen(connection).held():
        yield


def _refuse_commit(_: sa.Connection) -> None:
    raise RuntimeError("the connection must not be committed here: that is done when everything is")


def _refuse_rollback(_: sa.Connection) -> None:
    raise RuntimeError("the connection must not be rolled back here: undo your own in connection.begin_nested()")


def _refuse_statement(_connection: object, _cursor: object, statement: str, *_: object) -> None:
    if found := ENDS.match(statement):
        raise RuntimeError(
            f"{found['words'].upper()} must not be executed here: the transaction ends when everything is done"
        )


REFUSALS: dict[str, Callable[..., None]] = {
    "commit": _refuse_commit,
    "rollback": _refuse_rollback,
    "before_cursor_execute": _refuse_statement,
}
"""By SQLAlchemy's event, who raises an error."""


def _is_broken(connection: sa.Connection) -> bool:
    """Whether the server refuses everything else in this transaction."""
    driver: Any = connection.connection.driver_connection
    return connection.dialect.driver == "psycopg" and driver.info.transaction_status.name == "INERROR"


def _is_in_transaction(connection: sa.Connection) -> bool:
    """Whether the driver is in a transaction; where it does not know, it is taken to be."""
    driver = connection.connection.driver_connection
    match connection.dialect.driver:
        case "pysqlite":
            return bool(driver.in_transaction)  # type: ignore[union-attr]
        case "psycopg":
            return bool(driver.info.transaction_status)  # type: ignore[union-attr]  # IDLE is 0
        case _:
            return True
