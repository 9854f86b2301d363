"""What is in the database: which tables there are, and how an existing one differs from its model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn

FOLDS_CASE = {"sqlite", "mysql", "mariadb"}
"""Databases that take ``Users`` and ``users`` for the same table."""

EARLIER_SHAPES = {
    frozenset({"id", "username", "hashed_password", "first_name", "last_name"}): "it is the table of the original suite"
}
"""Tables that are known to be older than their history, by their columns."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How one existing table differs from its model.

    Args:
        table: The table's name.
        column: The column it is about; empty if it is about the table.
        what: What differs.
        mend: What to do about it.
        harmful: Whether the model cannot work with it.
    """

    table: str
    column: str
    what: str
    mend: str
    harmful: bool = True

    def __str__(self) -> str:
        return f"{self.table}.{self.column}: {self.what}" if self.column else f"{self.table}: {self.what}"


class Live:
    """The names in a database, read once, and differences on request.

    Args:
        connection: The database; only read.
        schemas: Which schemas to read; None is the default one.
    """

    def __init__(self, connection: sa.Connection, schemas: Iterable[str | None] = (None,)) -> None:
        self._connection = connection
        self._inspector = sa.inspect(connection)
        self._folds = connection.dialect.name in FOLDS_CASE
        there = set(self._inspector.get_schema_names()) if any(schemas) else set()
        self._names = {schema: self._read(schema) for schema in {None, *schemas} if schema is None or schema in there}
        self.schemas = there

    def has(self, table: sa.Table) -> bool:
        """Whether there is a table (or a view) of that name."""
        return self._fold(table.name) in self._names.get(table.schema, {})

    def is_view(self, table: sa.Table) -> bool:
        """Whether what is there is a view."""
        return self._names[table.schema][self._fold(table.name)] == "view"

    def type_names(self) -> set[str]:
        """The enum types and sequences that are there already, and the schemas."""
        names = set(self.schemas)
        if self._connection.dialect.name == "postgresql":
            names |= {enum["name"] for enum in self._enums()}
        if self._connection.dialect.supports_sequences:
            names |= set(self._inspector.get_sequence_names())
        return names

    def differences(self, tables: Sequence[sa.Table]) -> list[Difference]:
        """How the tables that exist differ from their models.

        Args:
            tables: Tables for which :meth:`has` is true.
        """
        found: list[Difference] = []
        for table in tables:
            if self.is_view(table):
                found.append(Difference(table.fullname, "", "there is a view of that name", "drop or rename the view"))
            else:
                found += self._compare(table)
        return found

    def _read(self, schema: str | None) -> dict[str, str]:
        names = dict.fromkeys((self._fold(name) for name in self._inspector.get_view_names(schema=schema)), "view")
        return names | dict.fromkeys(
            (self._fold(name) for name in self._inspector.get_table_names(schema=schema)), "table"
        )

    def _fold(self, name: str) -> str:
        return name.casefold() if self._folds else name

    def _enums(self) -> Any:
        return self._inspector.get_enums()  # type: ignore[attr-defined]  # the PostgreSQL inspector has it

    def _compare(self, table: sa.Table) -> list[Difference]:
        columns = {self._fold(c["name"]): c for c in self._inspector.get_columns(table.name, schema=table.schema)}
        wanted = {self._fold(column.name): column for column in table.columns}
        origin = EARLIER_SHAPES.get(frozenset(columns), "") if table.name == "users" else ""
        found = [self._missing(table, column, origin) for name, column in wanted.items() if name not in columns]
        found += [_extra(table, column) for name, column in columns.items() if name not in wanted]
        for name in sorted(wanted.keys() & columns.keys()):
            found += self._compare_column(table, wanted[name], columns[name])
        return found + self._compare_key(table)

    def _missing(self, table: sa.Table, column: sa.Column[Any], origin: str) -> Difference:
        kind = column.type.compile(dialect=self._connection.dialect)
        note = f" ({origin})" if origin else ""
        mend = f"add it: ALTER TABLE {table.fullname} ADD COLUMN {column.name} {kind}; or migrate the table"
        return Difference(
            table.fullname, column.name, f"the model has this column ({kind}), the table lacks it{note}", mend
        )

    def _compare_column(self, table: sa.Table, column: sa.Column[Any], there: ReflectedColumn) -> list[Difference]:
        from alembic.migration import MigrationContext  # heavy, and only needed where tables exist already

        found = []
        dialect = self._connection.dialect
        impl = MigrationContext.configure(self._connection).impl
        if impl.compare_type(sa.Column(column.name, there["type"]), column):
            is_, should = there["type"].compile(dialect=dialect), column.type.compile(dialect=dialect)
            what = f"the type is {is_}, the model says {should}"
            found.append(Difference(table.fullname, column.name, what, "migrate the column, or correct the model"))
        if there["nullable"] != column.nullable and not column.primary_key:
            states = {True: "may be NULL", False: "may not be NULL"}
            what = f"the column {states[there['nullable']]}, the model says it {states[bool(column.nullable)]}"
            found.append(Difference(table.fullname, column.name, what, "migrate the column, or correct the model"))
        return found

    def _compare_key(self, table: sa.Table) -> list[Difference]:
        there = self._inspector.get_pk_constraint(table.name, schema=table.schema)["constrained_columns"]
        wanted = [column.name for column in table.primary_key.columns]
        if {self._fold(name) for name in there} == {self._fold(name) for name in wanted}:
            return []
        what = f"the primary key is ({', '.join(there)}), the model says ({', '.join(wanted)})"
        return [Difference(table.fullname, "", what, "migrate the table, or correct the model")]


def _extra(table: sa.Table, column: Mapping[str, Any]) -> Difference:
    """A column that the model does not know: harmless unless an INSERT would have to fill it."""
    harmful = not column["nullable"] and column.get("default") is None and column.get("autoincrement") is not True
    what = "the table has this column, the model does not know it"
    if harmful:
        what += ", and it may not be NULL: every INSERT would fail"
    mend = "install the release that knows it, or drop it" if not harmful else "give it a default, or migrate the table"
    return Difference(table.fullname, str(column["name"]), what, mend, harmful)
