"""Foreign keys that a database cannot hold: to columns that no key covers, or that cannot be compared."""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from opal_registry.errors import Problem
from opal_registry.preflight.target import MYSQL, Subject, has_listeners

Columns = tuple[str, ...]

WORD = re.compile(r"(\w+)(?: PRECISION)?(?:\([\d, ]*\))?(?: WITH(?:OUT)? TIME ZONE)?( UNSIGNED)?")
"""A type of numbers, texts or times as a whole; nothing that has an array or a character set of its own."""

POSTGRESQL_KINDS = {
    "BIGINT": "number",
    "BOOLEAN": "boolean",
    "BYTEA": "bytes",
    "CHAR": "text",
    "DATE": "moment",
    "DECIMAL": "number",
    "DOUBLE": "number",
    "FLOAT": "number",
    "INTEGER": "number",
    "NUMERIC": "number",
    "REAL": "number",
    "SMALLINT": "number",
    "TEXT": "text",
    "TIMESTAMP": "moment",
    "UUID": "uuid",
    "VARCHAR": "text",
}
"""Types that PostgreSQL may compare with each other have one kind; those of different kinds it never compares."""

INTEGERS = {"BIGINT", "INTEGER", "SMALLINT"}

MYSQL_KINDS = {
    "BIGINT": "8 bytes",
    "BINARY": "bytes",
    "BOOL": "1 byte",
    "CHAR": "text",
    "DATE": "date",
    "DATETIME": "bytes",
    "DECIMAL": "bytes",
    "DOUBLE": "double",
    "FLOAT": "float",
    "INTEGER": "4 bytes",
    "NUMERIC": "bytes",
    "SMALLINT": "2 bytes",
    "TIME": "bytes",
    "TIMESTAMP": "bytes",
    "TINYINT": "1 byte",
    "VARBINARY": "bytes",
    "VARCHAR": "text",
}
"""The same for MySQL, to which integers of different sizes are different, and much else is bytes."""


def find_impossible_keys(subject: Subject, made: Collection[sa.Table]) -> Iterator[Problem]:
    """What is wrong with the foreign keys of a table.

    Args:
        subject: The table.
        made: The tables that are to be created together; others may be there, and not quite as their models are.
    """
    for key in subject.foreign_keys:
        target = key.elements[0].column.table
        if isinstance(target, sa.Table) and target._creator_ddl is None:
            yield from _check_cover(subject, key, target, made)
            yield from _check_types(subject, key, target, made)
            yield from _check_null(subject, key)


def _check_cover(
    subject: Subject, key: sa.ForeignKeyConstraint, target: sa.Table, made: Collection[sa.Table]
) -> Iterator[Problem]:
    columns = tuple(element.column.name for element in key.elements)
    if columns == _names(target.primary_key.columns):
        return
    by = {
        name for name in ("sqlite", "postgresql") if set(columns) not in map(set, _unique_keys(subject, target, name))
    }
    if not any(_leads(columns, found) for found in _all_keys(target)):
        by |= MYSQL
    if subject.target.names <= by and not _is_covered_there(subject, target, columns, made):
        names = ", ".join(repr(name) for name in columns)
        what = f"{_describe(key)} points to {target.fullname}({', '.join(columns)}), which no key covers"
        mend = (
            f"make {names} of {target.fullname!r} a primary key or unique, or let the foreign key point to one that is"
        )
        unsure = {"mysql"}  # since 8.4 it wants a unique key too, unless configured otherwise
        yield from subject.refuse(by, what, mend, says=_says_uncovered(subject, target), unsure=unsure)


def _says_uncovered(subject: Subject, target: sa.Table) -> str:
    if subject.target.names == {"sqlite"}:
        return f'foreign key mismatch - "{subject.table.name}" referencing "{target.name}", at the first INSERT'
    if subject.target.names == {"postgresql"}:
        return f'there is no unique constraint matching given keys for referenced table "{target.name}"'
    return "Foreign key constraint is incorrectly formed" if subject.target.names == {"mariadb"} else ""


def _unique_keys(subject: Subject, table: sa.Table, database: str) -> Iterator[Columns]:
    """The columns that identify a row for a database, or may do so."""
    yield _names(table.primary_key.columns)
    items: list[sa.Constraint | sa.Index] = [*table.constraints, *table.indexes]
    for item in items:
        if database in subject.target.names and subject.target.is_left_out(item):
            continue
        if isinstance(item, sa.UniqueConstraint) and not (database == "postgresql" and item.deferrable):
            yield _names(item.columns)
        elif isinstance(item, sa.Index) and item.unique and item.kwargs.get(f"{database}_where") is None:
            yield _plain_names(item)


def _all_keys(table: sa.Table) -> Iterator[Columns]:
    """The columns of everything that InnoDB keeps sorted; it adds the primary key to each."""
    primary = _names(table.primary_key.columns)
    yield primary
    for item in table.constraints:
        if isinstance(item, (sa.UniqueConstraint, sa.ForeignKeyConstraint)):
            yield _names(item.columns) + primary
    yield from (_plain_names(index) + primary for index in table.indexes)


def _is_covered_there(subject: Subject, target: sa.Table, columns: Columns, made: Collection[sa.Table]) -> bool:
    """Whether the table that is there already has what its model lacks, or may come to have it by code of its own."""
    if has_listeners(target):
        return True
    connection = subject.target.connection
    if target in made or connection is None:
        return False
    schema = None if connection.dialect.name == "sqlite" else target.schema
    return any(
        _leads(columns, found) or set(columns) == set(found) for found in _live_keys(connection, target.name, schema)
    )


def _live_keys(connection: sa.Connection, name: str, schema: str | None) -> Iterator[Sequence[str | None]]:
    inspector = sa.inspect(connection)
    if inspector.has_table(name, schema):
        yield inspector.get_pk_constraint(name, schema)["constrained_columns"]
        yield from (found["column_names"] for found in inspector.get_unique_constraints(name, schema))
        is_mysql = connection.dialect.name in MYSQL
        yield from (
            found["column_names"] for found in inspector.get_indexes(name, schema) if is_mysql or found["unique"]
        )


def _check_types(
    subject: Subject, key: sa.ForeignKeyConstraint, target: sa.Table, made: Collection[sa.Table]
) -> Iterator[Problem]:
    for element in key.elements:
        one, other = (subject.target.type_text(column) for column in (element.parent, element.column))
        if one != other and _differ(subject, one, other) and not _is_there(subject, target, made):
            column = f"{target.fullname}.{element.column.name}"
            by = {name for name in ("postgresql", *MYSQL) if not _is_comparable(name, one, other)}
            what = f"{_describe(key)} compares {element.parent.name!r}, of the type {one}, with {column}, of the type {other}"
            yield from subject.refuse(by, what, "give both one type", says=_says_different(subject, key))


def _is_there(subject: Subject, target: sa.Table, made: Collection[sa.Table]) -> bool:
    """Whether a table is there already: its columns may have other types than its model says."""
    connection = subject.target.connection
    if target in made or connection is None:
        return False
    return sa.inspect(connection).has_table(target.name, target.schema)


def _differ(subject: Subject, one: str, other: str) -> bool:
    """Whether it is certain that the database cannot compare two types."""
    names = subject.target.names - {"sqlite"}
    kinds = [(_kind(name, one), _kind(name, other)) for name in names]
    return bool(kinds) and all(all(pair) and len(set(pair)) > 1 for pair in kinds)


def _is_comparable(database: str, one: str, other: str) -> bool:
    """Whether it is certain that a database can compare two types."""
    kind = _kind(database, one)
    if database == "postgresql" and kind == "number":
        return {one, other} <= INTEGERS
    return bool(kind) and kind == _kind(database, other)


def _says_different(subject: Subject, key: sa.ForeignKeyConstraint) -> str:
    if subject.target.names == {"postgresql"}:
        return f'foreign key constraint "{key.name}" cannot be implemented' if isinstance(key.name, str) else ""
    return "Foreign key constraint is incorrectly formed" if subject.target.names == {"mariadb"} else ""


def _kind(database: str, text: str) -> str:
    """What a type can be compared with; empty if that is not certain."""
    found = WORD.fullmatch(text)
    if found is None:
        return ""
    kind = (MYSQL_KINDS if database in MYSQL else POSTGRESQL_KINDS).get(found[1], "")
    if found[2]:
        return f"{kind}, unsigned" if kind[:1].isdigit() else ""
    return kind


def _check_null(subject: Subject, key: sa.ForeignKeyConstraint) -> Iterator[Problem]:
    if "SET NULL" not in {str(key.ondelete).upper(), str(key.onupdate).upper()}:
        return
    for column in key.columns:
        if not column.nullable:
            what = f"{_describe(key)} sets {column.name!r} to NULL, which it may not be"
            says = "Foreign key constraint is incorrectly formed" if subject.target.names == {"mariadb"} else ""
            yield from subject.refuse(MYSQL, what, "let the column be NULL, or write ondelete='CASCADE'", says=says)


def _describe(key: sa.ForeignKeyConstraint) -> str:
    return f"the foreign key of {', '.join(repr(column.name) for column in key.columns)}"


def _leads(columns: Columns, found: Sequence[str | None]) -> bool:
    return columns == tuple(found)[: len(columns)]


def _plain_names(index: sa.Index) -> Columns:
    columns = [part.name for part in index.expressions if isinstance(part, sa.Column)]
    return tuple(columns) if len(columns) == len(index.expressions) else ()


def _names(columns: Any) -> Columns:
    return tuple(column.name for column in columns)
