"""The registry's own tables. They only ever grow: a later release adds columns that may be NULL, and no more."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.reflection import ObjectKind
from sqlalchemy.schema import CreateColumn, CreateTable

from opal_registry.errors import DatabaseError, Problem
from opal_registry.mixins import UtcDateTime


class Json(sa.TypeDecorator[Any]):
    """The database's JSON, which can be written into the text of a statement as well."""

    impl = sa.JSON(none_as_null=True)
    cache_ok = True

    def literal_processor(self, dialect: sa.Dialect) -> Callable[[Any], str]:
        """Quote the text of a value."""
        quote: Any = sa.String().dialect_impl(dialect).literal_processor(dialect)
        return lambda value: quote(json.dumps(value))


metadata = sa.MetaData()

sub_apps = sa.Table(
    "opal_sub_apps",
    metadata,
    sa.Column("name", sa.String(30), primary_key=True),
    sa.Column("distribution", sa.String(200), nullable=False),
    sa.Column("version", sa.String(100), nullable=False),
    sa.Column("bind", sa.String(63), nullable=False),
    sa.Column("schema", sa.String(63)),
    sa.Column("fingerprint", sa.String(64)),
    sa.Column("heads", Json),
    sa.Column("tables", Json, nullable=False),
    sa.Column("pins", Json),
    sa.Column("foreign_columns", Json),
    sa.Column("seeded", sa.String(100)),
    sa.Column("sources", Json),
    sa.Column("min_reader", sa.Integer, nullable=False),
    sa.Column("written_by", sa.String(100), nullable=False),
    sa.Column("installed_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    mysql_charset="utf8mb4",
)
"""The ledger: one row per sub-app."""

steps = sa.Table(
    "opal_steps",
    metadata,
    sa.Column("sub_app", sa.String(30), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("table_name", sa.String(255), nullable=False),
    sa.Column("statement", sa.Text, nullable=False),
    sa.Column("begun_at", UtcDateTime),
    sa.Column("revision", sa.String(32)),
    sa.Column("command", sa.String(30)),
    sa.Column("checksum", sa.String(64)),
    sa.Column("digest", sa.String(64)),
    mysql_charset="utf8mb4",
)
"""The journal of a run that is not one transaction: what it has begun, or still has to do. Empty when it is done.

The last four columns are NULL for what ``init`` does; else they say which revision a statement is part of, whether that is
run or taken back, what its file was then, and which statement with which values it was."""

events = sa.Table(
    "opal_events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("command", sa.String(30), nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("os_user", sa.String(100), nullable=False),
    sa.Column("written_by", sa.String(100), nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("seconds", sa.Float),
    sa.Column("outcome", sa.String(20), nullable=False),
    sa.Column("detail", Json),
    mysql_charset="utf8mb4",
)
"""Who ran what, and when; nothing is written for a run that found nothing to do."""

revisions = sa.Table(
    "opal_revisions",
    metadata,
    sa.Column("sub_app", sa.String(30), primary_key=True),
    sa.Column("revision", sa.String(32), primary_key=True),
    sa.Column("checksum", sa.String(64)),
    sa.Column("pins", Json),
    sa.Column("phase", sa.String(10)),
    sa.Column("version", sa.String(100), nullable=False),
    sa.Column("written_by", sa.String(100), nullable=False),
    sa.Column("applied_at", UtcDateTime, nullable=False),
    sa.Column("seconds", sa.Float),
    mysql_charset="utf8mb4",
)
"""Every revision that is applied; ``seconds`` is NULL where it was not run, but its tables came from the models."""

Columns = Mapping[str, Collection[str]]
"""The names of the columns of those of the tables above that are there."""

COMPLETE: Columns = {table.name: frozenset(table.columns.keys()) for table in metadata.sorted_tables}
"""All of them, as this release makes them."""


def read_columns(connection: sa.Connection, present: Collection[sa.Table]) -> dict[str, frozenset[str]]:
    """The columns that the registry's own tables have: fewer than ours if an earlier release made them.

    Raises:
        DatabaseError: If a table only has the name of one of ours.
    """
    if not present:
        return {}
    found = sa.inspect(connection).get_multi_columns(
        filter_names=[table.name for table in present], kind=ObjectKind.ANY
    )
    there = {name: frozenset(column["name"] for column in columns) for (_, name), columns in found.items()}
    problems = [problem for table in present for problem in _find_stranger(table, there[table.name])]
    if problems:
        raise DatabaseError(*problems)
    return there


def _find_stranger(table: sa.Table, there: Collection[str]) -> Iterator[Problem]:
    lacking = [column.name for column in table.columns if not column.nullable and column.name not in there]
    if lacking:
        what = f"there is a table {table.name!r} which is not the registry's: it has no column {', '.join(lacking)}"
        yield Problem(what, table.name, "rename it: names that start with opal_ are kept for the registry")


def iter_upgrade(there: Columns, dialect: sa.Dialect) -> Iterator[sa.schema.ExecutableDDLElement]:
    """The DDL that brings the registry's own tables up to this release."""
    for table in metadata.sorted_tables:
        if table.name not in there:
            yield CreateTable(table)
        else:
            for column in table.columns:
                if column.name not in there[table.name]:
                    text = CreateColumn(column).compile(dialect=dialect)
                    yield sa.DDL(f"ALTER TABLE {table.name} ADD COLUMN {text}")  # type: ignore[no-untyped-call]


def select_known(table: sa.Table, there: Columns) -> "sa.Select[tuple[object, ...]]":
    """A query for those of a table's columns that are there."""
    return sa.select(*(column for column in table.columns if column.name in there[table.name]))
