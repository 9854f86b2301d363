"""Sending DDL where each statement commits by itself (MySQL): journaled, so that the next run goes on where one ended."""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import AddConstraint, CreateIndex, CreateTable, ExecutableDDLElement

from opal_registry.engines.errors.failures import explained
from opal_registry.schema.batch import RAW, Statement, send_singly
from opal_registry.schema.catalog import Catalog
from opal_registry.store import journal
from opal_registry.store.journal import OpenStep

THERE_ALREADY = {1007, 1050, 1061, 1304, 1359, 1826}
"""How MySQL says that a database, table, index, routine, trigger or foreign key is there already."""

PARTS = sa.text("""
    SELECT table_name, index_name FROM information_schema.statistics WHERE table_schema = :schema
    UNION SELECT table_name, constraint_name FROM information_schema.table_constraints WHERE table_schema = :schema
""")
"""The indexes and constraints of one schema: to answer for all, a server opens every table and view that it has."""


KEYS = sa.text("""
    SELECT table_name, GROUP_CONCAT(column_name ORDER BY ordinal_position), referenced_table_name
    FROM information_schema.key_column_usage WHERE table_schema = :schema AND referenced_table_name IS NOT NULL
    GROUP BY table_name, constraint_name, referenced_table_name
""")
"""The foreign keys of one schema: a server makes up names for those that have none."""


class Resumable:
    """Sends the DDL of one sub-app, each statement written down before.

    Args:
        sub_app: The sub-app's name.
        begun: What an earlier run has begun: all but the last of it is done.
        catalog: The tables that are there.
        check: Called before each statement is sent; raises an error if it must not be, because another run may be at work.
    """

    def __init__(self, sub_app: str, begun: Sequence[OpenStep], catalog: Catalog, check: Callable[[], None]) -> None:
        self._sub_app, self._catalog, self._check = sub_app, catalog, check
        self._number = max((step.number for step in begun), default=0)
        self._done = {step.statement for step in begun[:-1]}
        self._last = begun[-1].statement if begun else None
        self._parts: dict[str, frozenset[tuple[str, str]]] = {}

    def send(self, connection: sa.Connection, statements: Sequence[Statement]) -> None:
        """Send statements one by one, without those that took effect already."""
        for statement in statements:
            if not isinstance(statement.element, ExecutableDDLElement):
                send_singly(connection, [statement])
            elif not self._is_done(connection, statement):
                self._send(connection, statement)

    def _send(self, connection: sa.Connection, statement: Statement) -> None:
        was_last = statement.text == self._last
        if not was_last:
            self._number += 1
            table = _table_of(statement.element)
            step = OpenStep(self._sub_app, self._number, table.fullname if table is not None else "", statement.text)
            connection.execute(journal.make_step(step))  # committed by what follows
        self._check()
        with explained(connection.engine.url, doing=statement.doing):
            try:
                connection.exec_driver_sql(statement.text, execution_options=RAW)
            except sa.exc.DBAPIError as error:
                if not (was_last and error.orig and error.orig.args[0] in THERE_ALREADY):
                    raise

    def _is_done(self, connection: sa.Connection, statement: Statement) -> bool:
        if not self._number:
            return False
        element = statement.element
        if isinstance(element, CreateTable):
            return self._catalog.find(element.element) is not None
        if isinstance(element, (AddConstraint, CreateIndex)) and element.element.name:
            return self._is_there(connection, element.element)
        if isinstance(element, AddConstraint) and statement.text == self._last:
            return self._has_key(connection, element.element)
        return statement.text in self._done

    def _is_there(self, connection: sa.Connection, part: Any) -> bool:
        """Whether a table has an index or constraint already."""
        own_schema, table = self._catalog.key(part.table)
        schema = own_schema or connection.dialect.default_schema_name or ""
        if schema not in self._parts:
            rows = connection.execute(PARTS, {"schema": schema})
            self._parts[schema] = frozenset((self._catalog.fold_table(name), part.casefold()) for name, part in rows)
        return (table, str(part.name).casefold()) in self._parts[schema]

    def _has_key(self, connection: sa.Connection, key: Any) -> bool:
        """Whether a table has a foreign key of these columns to that table, whatever its name."""
        own_schema, table = self._catalog.key(key.table)
        schema = own_schema or connection.dialect.default_schema_name or ""
        target = self._catalog.fold_table(key.referred_table.name)
        wanted = (table, ",".join(column.name for column in key.columns).lower(), target)
        rows = connection.execute(KEYS, {"schema": schema})
        fold = self._catalog.fold_table
        return wanted in {(fold(name), columns.lower(), fold(other)) for name, columns, other in rows}


def _table_of(element: Any) -> sa.Table | None:
    part = element.element if isinstance(element, (AddConstraint, CreateIndex, CreateTable)) else None
    return part if isinstance(part, (sa.Table, type(None))) else part.table
