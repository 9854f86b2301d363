"""How an existing table differs from its model."""

import contextlib
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.engine.reflection import ObjectKind
from sqlalchemy.schema import CreateColumn

from opal_registry.schema.catalog import Catalog
from opal_registry.schema.column_types import TypeComparison, type_text
from opal_registry.schema.compiled import Compiler

EARLIER_SHAPES = {
    frozenset({"id", "username", "hashed_password", "first_name", "last_name"}): "it is the table of the original suite"
}
"""Tables that are known to be older than their history, by their columns."""

MIGRATE = "migrate the column, or correct the model"


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
    """What existing tables look like, read in few queries however many they are.

    Args:
        connection: The database; only read.
        tables: The tables of interest.
        catalog: The names that the database holds.
    """

    def __init__(self, connection: sa.Connection, tables: Collection[sa.Table], catalog: Catalog) -> None:
        self._connection, self._catalog = connection, catalog
        self._tables = [table for table in tables if catalog.find(table)]
        self._inspector = sa.inspect(connection)
        self._comparison = TypeComparison(connection)
        self._key = catalog.key

    def differences(self, tables: Sequence[sa.Table]) -> list[Difference]:
        """How the tables that exist differ from their models.

        Args:
            tables: Some of the tables of interest; those that do not exist are passed over.
        """
        return [
            difference
            for table in tables
            if (found := self._catalog.find(table))
            for difference in self._compare(table, found.kind)
        ]

    @cached_property
    def _dialect(self) -> sa.Dialect:
        """What texts are made with: a driver's own would double each % sign."""
        return Compiler(self._connection.dialect).dialect

    def _fold(self, name: str) -> str:
        """The name of a column as the database compares it; SQLAlchemy leaves backticks doubled that it reads from MySQL."""
        if self._connection.dialect.name in {"mysql", "mariadb"}:
            name = name.replace("``", "`")
        return self._catalog.fold(name)

    @cached_property
    def _columns(self) -> dict[tuple[str | None, str], list[ReflectedColumn]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sa.exc.SAWarning)  # a type that SQLAlchemy does not know
            return self._read("get_multi_columns")

    @cached_property
    def _primary_keys(self) -> dict[tuple[str | None, str], Any]:
        return self._read("get_multi_pk_constraint")

    def _read(self, method: str) -> dict[tuple[str | None, str], Any]:
        """What the inspector says about all tables of interest that are there: one question for each schema."""
        found: dict[tuple[str | None, str], Any] = {}
        names: dict[str | None, list[str]] = {}
        for table in self._tables:
            schema, name = self._key(table)
            names.setdefault(schema, []).append(self._catalog.relations[schema, name].name)
        for schema, wanted in names.items():
            ask = getattr(self._inspector, method)
            answers = ask(schema=schema, filter_names=wanted, kind=ObjectKind.ANY)
            found |= {(schema, self._catalog.fold_table(name)): answer for (_, name), answer in answers.items()}
        return found

    def _compare(self, table: sa.Table, kind: str) -> Iterator[Difference]:
        if "view" in kind and not table.is_view:
            yield Difference(table.fullname, "", f"there is a {kind} of that name", f"drop or rename the {kind}")
            return
        columns = {self._fold(column["name"]): column for column in self._columns[self._key(table)]}
        wanted = {self._fold(column.name): column for column in table.columns}
        origin = EARLIER_SHAPES.get(frozenset(columns), "") if table.name == "users" else ""
        for name, column in wanted.items():
            if name in columns:
                yield from self._compare_column(table, column, columns[name])
            else:
                yield self._missing(table, column, origin)
        yield from (_extra(table, column) for name, column in columns.items() if name not in wanted)
        yield from self._compare_key(table)

    def _missing(self, table: sa.Table, column: sa.Column[Any], origin: str) -> Difference:
        kind = type_text(column.type, self._dialect)
        what = f"the model has this column ({kind}), the table lacks it{f' ({origin})' if origin else ''}"
        return Difference(table.fullname, column.name, what, f"add it: {self._how_to_add(table, column, kind)}")

    def _how_to_add(self, table: sa.Table, column: sa.Column[Any], kind: str) -> str:
        names = self._dialect.identifier_preparer
        add = f"ALTER TABLE {names.format_table(table)} ADD COLUMN "
        if column.nullable or column.server_default is not None:
            with contextlib.suppress(sa.exc.CompileError):  # a type that the database does not have
                return f"{add}{CreateColumn(column).compile(dialect=self._dialect)}"
        return f"{add}{names.format_column(column)} {kind}, give every row a value, then forbid NULL"

    def _compare_column(self, table: sa.Table, column: sa.Column[Any], there: ReflectedColumn) -> Iterator[Difference]:
        is_coarser = self._comparison.is_coarser(column, there)
        if is_coarser or not self._comparison.is_same(column, there):
            is_, should = type_text(there["type"], self._dialect), type_text(column.type, self._dialect)
            what = f"the type is {is_}, the model says {should}{': fractions of a second are lost' * is_coarser}"
            yield Difference(table.fullname, column.name, what, MIGRATE, harmful=not is_coarser)
        elif lacking := _lacking_labels(column.type, there["type"]):
            name = getattr(there["type"], "name", None)  # MySQL's enums have none
            what = f"the type {name} lacks the value {lacking}" if name else f"the type lacks the value {lacking}"
            mend = "add it: ALTER TYPE ... ADD VALUE, or migrate the column" if name else MIGRATE
            yield Difference(table.fullname, column.name, what, mend)
        if there["nullable"] != column.nullable and not column.primary_key:
            states = {True: "may be NULL", False: "may not be NULL"}
            what = f"the column {states[there['nullable']]}, the model says it {states[bool(column.nullable)]}"
            yield Difference(table.fullname, column.name, what, MIGRATE)

    def _compare_key(self, table: sa.Table) -> Iterator[Difference]:
        there = self._primary_keys[self._key(table)]["constrained_columns"]
        wanted = [column.name for column in table.primary_key.columns]
        if {self._fold(name) for name in there} != {self._fold(name) for name in wanted}:
            what = f"the primary key is ({', '.join(there)}), the model says ({', '.join(wanted)})"
            yield Difference(table.fullname, "", what, "migrate the table, or correct the model")


def _lacking_labels(wanted: sa.types.TypeEngine[Any], there: sa.types.TypeEngine[Any]) -> str:
    """The values of a model's enum that the database's type does not have."""
    if not (isinstance(wanted, sa.Enum) and isinstance(there, sa.Enum)):
        return ""
    return ", ".join(repr(label) for label in wanted.enums if label not in there.enums)


def _extra(table: sa.Table, column: ReflectedColumn) -> Difference:
    """A column that the model does not know: harmless unless an INSERT would have to fill it."""
    filled = column.get("default") or column.get("identity") or column.get("computed")
    harmful = not column["nullable"] and not filled and column.get("autoincrement") is not True
    what = "the table has this column, the model does not know it"
    if harmful:
        what += ", and it may not be NULL: every INSERT would fail"
    mend = "install the release that knows it, or drop it" if not harmful else "give it a default, or migrate the table"
    return Difference(table.fullname, column["name"], what, mend, harmful)
