"""Names that a database would cut, refuse, or take for each other."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import conv

from opal_registry.errors import Problem
from opal_registry.preflight.target import MYSQL, Subject

MOST_BYTES = 63
MOST_CHARACTERS = 64

RESERVED = {"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"}
"""The columns that every table of PostgreSQL has already."""


def find_wrong_names(subject: Subject) -> Iterator[Problem]:
    """Names of a table and its parts that are too long, taken, or one name to the database."""
    for kind, name in _iter_names(subject):
        is_short = len(name) <= MOST_BYTES and name.isascii()
        if not is_short and not isinstance(name, conv):  # SQLAlchemy shortens these by itself, with a digest
            yield from _check_length(subject, kind, name)
    yield from _check_columns(subject)


def find_equal_constraints(subjects: Sequence[Subject]) -> Iterator[Problem]:
    """Foreign keys of several tables that have one name: MySQL keeps these names by database, not by table."""
    first: dict[tuple[str | None, str], sa.Table] = {}
    for subject in subjects:
        for key in subject.foreign_keys:
            if isinstance(key.name, str):
                other = first.setdefault((subject.table.schema, key.name.lower()), subject.table)
                if other is not subject.table:
                    what = f"the foreign key {key.name!r} has the name of one of table {other.fullname!r}"
                    says = "Duplicate key on write or update" if subject.target.names == {"mariadb"} else ""
                    yield from subject.refuse(_mysql_so_far(subject), what, "rename one of them", says=says)


def _mysql_so_far(subject: Subject) -> set[str]:
    """MariaDB 12.1 keeps them by table."""
    connection = subject.target.connection
    version = (connection.dialect.server_version_info or ()) if connection is not None else ()
    return {"mysql"} if version >= (12, 1) and subject.target.names == {"mariadb"} else set(MYSQL)


def _iter_names(subject: Subject) -> Iterator[tuple[str, str]]:
    table = subject.table
    yield "table", table.name
    yield from (("column", column.name) for column in table.columns)
    yield from (("index", index.name) for index in subject.indexes if isinstance(index.name, str))
    yield from (("constraint", item.name) for item in table.constraints if isinstance(item.name, str))


def _check_length(subject: Subject, kind: str, name: str) -> Iterator[Problem]:
    size, characters = len(name.encode()), len(name)
    by = {"postgresql"} if size > MOST_BYTES else set()
    if characters > MOST_CHARACTERS:
        by |= MYSQL
    length, most, says = f"{characters} characters", MOST_CHARACTERS, ""
    if subject.target.names == {"postgresql"}:
        length, most = f"{size} bytes", MOST_BYTES
        says = f'identifier "{name}" will be truncated'
    if by:
        what = f"the {kind} name {name!r} is {length} long, {subject.target.title} allows {most}"
        yield from subject.refuse(by, what, "give it a shorter name", says=says)


def _check_columns(subject: Subject) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for column in subject.table.columns:
        other = seen.setdefault(_fold(column.name), column.name)
        if other != column.name:
            what = f"the columns {other!r} and {column.name!r} are one to {subject.target.title}"
            yield from subject.refuse(MYSQL | {"sqlite"}, what, "rename one of them", says=_says(subject, column))
        if column.name.endswith(" "):
            what, says = f"the column name {column.name!r} ends in a space", f"Incorrect column name '{column.name}'"
            yield from subject.refuse(MYSQL, what, "rename it", says=says)
        if column.name in RESERVED and not column.system:
            says = f'column name "{column.name}" conflicts with a system column name'
            what = f"column {column.name!r} has a name that every table has already"
            yield from subject.refuse({"postgresql"}, what, "rename it, or write system=True to read it", says=says)


def _says(subject: Subject, column: sa.Column[Any]) -> str:
    if subject.target.is_mysql:
        return f"Duplicate column name '{column.name}'"
    return f"duplicate column name: {column.name}"


def _fold(name: str) -> str:
    """A name as every such database folds it: SQLite knows no case outside ASCII."""
    return name.lower() if name.isascii() else "".join(c.lower() if c.isascii() else c for c in name)
