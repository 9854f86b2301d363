"""DDL on its way to a database: kept back while it is made, and sent in few round trips.

``create_all`` and the listeners of the tables execute DDL one statement at a time. A batch stands in for their
connection: it compiles what they execute and keeps it back, and sends it before anything else runs, so that whatever a
listener reads or writes sees what came before it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.schema import ExecutableDDLElement

from opal_registry.engines.errors.failures import explained
from opal_registry.schema.compiled import Compiler

RAW: Any = {"no_parameters": True}
"""Execute text as it is: the driver looks for no placeholders in it."""

SAVEPOINT = "SAVEPOINT opal_batch"
SEPARATOR = "\n;\n"
"""Between statements: one may end in a comment."""

OF_NO_STATEMENT = ("08", "25", "40", "53", "55", "57", "58")
"""The classes of PostgreSQL's errors that are not about one statement: it would be no use to send them one by one."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, compiled.

    Args:
        text: What is sent.
        element: What it was compiled from.
        doing: What it is for, in words, such as "creating the tables of sub-app 'core'".
    """

    text: str
    element: Any
    doing: str


Send = Callable[[sa.Connection, Sequence[Statement]], None]
"""Sends statements that were kept back."""


class Batch:
    """Statements that wait to be sent.

    Args:
        connection: Where to, inside a transaction; or a mock, which sends nothing.
        compiler: Makes text of them.
        send: Sends them.
    """

    def __init__(self, connection: sa.Connection | MockConnection, compiler: Compiler, send: Send) -> None:
        self.connection, self.compiler, self.send = connection, compiler, send
        self.doing = ""
        self._waiting: list[Statement] = []

    def add(self, element: Any) -> None:
        """Keep a statement back."""
        self._waiting.append(Statement(self.compiler.text(element), element, self.doing))

    def flush(self, *_: Any) -> None:
        """Send what waits, in order."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.send(self.connection, waiting)  # type: ignore[arg-type]

    @contextmanager
    def open(self) -> Iterator["Batch"]:
        """Send what waits before anything else is executed, and at the end of the block."""
        if isinstance(self.connection, MockConnection):
            yield self
            self.flush()
            return
        sa.event.listen(self.connection, "before_cursor_execute", self.flush)
        try:
            yield self
            self.flush()
        finally:
            sa.event.remove(self.connection, "before_cursor_execute", self.flush)

    def stand_in(self, is_wanted: Callable[[Any], bool]) -> Any:
        """A connection for ``create_all``: the same one in all respects, but the DDL it executes is kept back.

        Args:
            is_wanted: Whether a DDL element is to be executed at all.
        """
        batch, kind = self, type(self.connection)

        class StandIn(kind):  # type: ignore[misc, valid-type]
            def execute(self, statement: Any, *arguments: Any, **options: Any) -> Any:
                if not isinstance(statement, ExecutableDDLElement):
                    return super().execute(statement, *arguments, **options)
                return batch.add(statement) if is_wanted(statement) else None

            @property
            def connection(self) -> Any:
                batch.flush()
                return super().connection

        stand_in = StandIn.__new__(StandIn)
        stand_in.__dict__ = self.connection.__dict__
        return stand_in


def send_singly(connection: sa.Connection, statements: Sequence[Statement]) -> None:
    """Send statements one by one."""
    for statement in statements:
        with explained(connection.engine.url, doing=statement.doing):
            connection.exec_driver_sql(statement.text, execution_options=RAW)


def send_together(connection: sa.Connection, statements: Sequence[Statement]) -> None:
    """Send statements as one text, in one round trip.

    PostgreSQL runs such a text as one (its manual, "Simple Query"), within the transaction that is open. Where it says at
    which character it stopped, the statement is known; else they are sent again one by one.
    """
    if len(statements) == 1 or connection.dialect.driver != "psycopg":
        send_singly(connection, statements)
        return
    texts = [SAVEPOINT, *(statement.text for statement in statements), f"RELEASE {SAVEPOINT}"]
    try:
        connection.exec_driver_sql(SEPARATOR.join(texts), execution_options=RAW)
    except sa.exc.DBAPIError as error:
        if _is_about_one(error):
            guilty = _find_guilty(error, statements)
        else:
            guilty = Statement("", None, ", ".join(dict.fromkeys(statement.doing for statement in statements)))
        if guilty is not None:
            error.statement = guilty.text or None
            with explained(connection.engine.url, doing=guilty.doing):
                raise
        connection.exec_driver_sql(f"ROLLBACK TO {SAVEPOINT}", execution_options=RAW)
        send_singly(connection, statements)


def _is_about_one(error: sa.exc.DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None) or ""
    return bool(state) and state[:2] not in OF_NO_STATEMENT and not error.connection_invalidated


def _find_guilty(error: sa.exc.DBAPIError, statements: Sequence[Statement]) -> Statement | None:
    """The statement in which the server stopped, if it says where that is."""
    position = getattr(getattr(error.orig, "diag", None), "statement_position", None)
    if position is None:
        return None
    end = len(SAVEPOINT)
    for statement in statements:
        end += len(SEPARATOR) + len(statement.text)
        if int(position) <= end:
            return statement
    return statements[-1]
