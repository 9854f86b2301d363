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
            RuntimeError: If code in it tries to: nothing of it is done then. Also if it did, past SQLAlchemy, as soon as
                that is seen.
        """
        self._start()
        try:
            yield
        finally:
            self._stop()
        self._refuse_what_follows()
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

    def _start(self) -> None:
        self._transaction = self._connection.get_transaction()
        self._look()
        for event, listener in self._listeners:
            sa.event.listen(self._connection, event, listener)

    def _stop(self) -> None:
        for event, listener in self._listeners:
            sa.event.remove(self._connection, event, listener)

    @property
    def _listeners(self) -> list[tuple[str, Callable[..., None]]]:
        own = (("before_cursor_execute", self._refuse_statement), ("after_cursor_execute", self._look))
        return [("commit", _refuse_commit), ("rollback", _refuse_rollback), *own]

    def _refuse_statement(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if found := ENDS.match(statement):
            raise RuntimeError(
                f"{found['words'].upper()} must not be executed here: the transaction ends when everything is done"
            )
        self._refuse_what_follows()

    def _look(self, *_: object) -> None:
        """MySQL begins the transaction by itself, and ends it with each statement that creates something."""
        self._was_open = _is_in_transaction(self._connection)

    def _refuse_what_follows(self) -> None:
        is_another = self._connection.get_transaction() is not self._transaction
        if is_another or (self._was_open and not _is_in_transaction(self._connection)):
            raise RuntimeError("the transaction was ended here: that is done when everything is")


@contextmanager
def kept_open(connection: sa.Connection) -> Iterator[None]:
    """Refuse to end the transaction of a connection for the length of a block; see :meth:`KeptOpen.held`."""
    with KeptOpen(connection).held():
        yield


def _refuse_commit(_: sa.Connection) -> None:
    raise RuntimeError("the connection must not be committed here: that is done when everything is")


def _refuse_rollback(_: sa.Connection) -> None:
    raise RuntimeError("the connection must not be rolled back here: undo your own in connection.begin_nested()")


SERVER_STATUS_IN_TRANS = 1
"""The bit by which MySQL says after each statement that it is in a transaction."""


def _is_broken(connection: sa.Connection) -> bool:
    """Whether the server refuses everything else in this transaction."""
    driver: Any = connection.connection.driver_connection
    return connection.dialect.driver == "psycopg" and driver.info.transaction_status.name == "INERROR"


def _is_in_transaction(connection: sa.Connection) -> bool:
    """Whether the driver is in a transaction; where it does not know, it is taken to be.

    MySQL is in one from the first statement that touches a table to the next one that creates something.
    """
    driver = connection.connection.driver_connection
    match connection.dialect.driver:
        case "pysqlite":
            return bool(driver.in_transaction)  # type: ignore[union-attr]
        case "psycopg":
            return bool(driver.info.transaction_status)  # type: ignore[union-attr]  # IDLE is 0
        case "pymysql":
            return bool(driver.server_status & SERVER_STATUS_IN_TRANS)  # type: ignore[union-attr]
        case _:
            return True
