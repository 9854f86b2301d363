"""Tables that one sub-app defines twice, on two ``MetaData``: one table to the database if they are alike.

Packages do so where text cannot refer from one ``MetaData`` into another. Alike are tables of which every database makes
the same columns, keys, constraints and indexes, under the same names; their order does not count.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn, CreateIndex

from opal_registry.ownership.definitions import find_query, name_kind

ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def find_twins(owners: Mapping[sa.Table, str]) -> dict[sa.Table, sa.Table]:
    """The tables that are one of the same owner's defined again, each with the first one.

    Args:
        owners: The owner of each table, in the order in which they count.
    """
    first: dict[tuple[str, str], sa.Table] = {}
    pairs = [(table, first.setdefault((owner, table.fullname), table)) for table, owner in owners.items()]
    return {table: other for table, other in pairs if other is not table and not find_differences(other, table)}


def find_differences(first: sa.Table, second: sa.Table) -> list[str]:
    """How two tables of one name differ, in the words of the first kind of database that would make a difference.

    Example:
        >>> one = sa.Table("rates", sa.MetaData(), sa.Column("share", sa.String(5)))
        >>> find_differences(one, sa.Table("rates", sa.MetaData(), sa.Column("share", sa.String(9))))
        ["column 'share' is VARCHAR(5) in the first and VARCHAR(9) in the second"]
    """
    for dialect in _make_dialects():
        one, other = _parts(first, dialect), _parts(second, dialect)
        names = [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]
        if names:
            return [_differ(name, one.get(name), other.get(name)) for name in names]
    return []


def _make_dialects() -> Iterator[sa.Dialect]:
    from sqlalchemy.dialects import mysql, postgresql, sqlite  # only where two tables have one name

    yield from (postgresql.dialect(), mysql.dialect(), sqlite.dialect())  # type: ignore[no-untyped-call]


def _differ(name: str, one: str | None, other: str | None) -> str:
    if one is not None and other is not None:
        return f"{name} is {one} in the first and {other} in the second"
    return f"only the {'second' if one is None else 'first'} has {name}"


def _parts(table: sa.Table, dialect: sa.Dialect) -> dict[str, str]:
    """What a database would make of a table: the name of each part, and the words for it."""
    query = find_query(table)
    if query is not None:
        return {"the query": _text(query, dialect)}
    parts = {f"column {column.name!r}": _column(column, dialect) for column in table.columns}
    parts |= {f"index {index.name!r}": _text(CreateIndex(index), dialect) for index in table.indexes}
    parts |= dict(_constraint(constraint, dialect) for constraint in table.constraints)
    parts |= {f"the option {key}": _plain(repr(value)) for key, value in table.dialect_kwargs.items()}
    return parts | ({"the comment": repr(table.comment)} if table.comment else {})


def _column(column: sa.Column[Any], dialect: sa.Dialect) -> str:
    text = _text(CreateColumn(column), dialect) or _plain(repr(column.type))
    comment = f", commented {column.comment!r}" if column.comment and not dialect.inline_comments else ""
    return text.removeprefix(f"{dialect.identifier_preparer.format_column(column)} ") + comment


def _constraint(constraint: sa.Constraint, dialect: sa.Dialect) -> tuple[str, str]:
    try:
        text = _plain(str(dialect.ddl_compiler(dialect, None).process(constraint)))  # type: ignore[arg-type]
    except (sa.exc.SQLAlchemyError, NotImplementedError):
        text = _plain(repr(constraint))
    if isinstance(constraint, sa.PrimaryKeyConstraint):
        return "the primary key", text
    named = isinstance(constraint.name, str) and constraint.name
    return (f"{name_kind(constraint)} {constraint.name!r}", text) if named else (text, text)


def _text(statement: Any, dialect: sa.Dialect) -> str:
    """The statement in words; empty if the database has none for it, so that there is nothing to compare."""
    try:
        return _plain(str(statement.compile(dialect=dialect)))
    except (sa.exc.SQLAlchemyError, NotImplementedError):
        return ""


def _plain(text: str) -> str:
    return " ".join(ADDRESS.sub("", text).split())
