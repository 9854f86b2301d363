"""Which changes of a column's type leave the rows as they are."""

import re
from typing import Any

import sqlalchemy as sa

SIZED = re.compile(r"(VARCHAR|VARBIT|BIT VARYING|NUMERIC|DECIMAL|CHARACTER VARYING)(?:\((\d+)(?:,\s*(\d+))?\))?\Z")
LONG = 255
"""So many bytes of a text have their length in one byte on MySQL (its manual, "Online DDL Operations")."""

BYTES = 4
"""Of a character in ``utf8mb4``."""


def is_free(old: Any, new: Any, dialect: sa.Dialect) -> bool:
    """Whether a database changes one type into another without looking at the rows.

    Args:
        old: What the column has; None if that is not known.
        new: What it gets.
        dialect: Of the database.

    Example:
        >>> from sqlalchemy.dialects import mysql, postgresql
        >>> [is_free(sa.String(60), sa.String(80), each.dialect()) for each in (postgresql, mysql)]
        [True, False]
    """
    if old is None:
        return False
    before, after = _text(old, dialect), _text(new, dialect)
    if before == after:
        return True
    if dialect.name == "postgresql":
        return _is_free_on_postgresql(before, after)
    if isinstance(old, sa.Enum) and isinstance(new, sa.Enum):
        return len(new.enums) <= LONG and list(new.enums[: len(old.enums)]) == list(old.enums)
    return _is_longer_text_on_mysql(before, after)


def _text(type_: Any, dialect: sa.Dialect) -> str:
    made = type_() if isinstance(type_, type) else type_
    try:
        return str(made.compile(dialect=dialect)).upper()
    except sa.exc.CompileError:
        return repr(made)


def _is_free_on_postgresql(old: str, new: str) -> bool:
    """PostgreSQL's manual, "ALTER TABLE": no rewrite where the old type can be taken for the new one as it is."""
    if {old, new} == {"TEXT", "VARCHAR"} or (old, new) == ("CIDR", "INET"):
        return True
    if old.startswith("VARCHAR") and new == "TEXT":
        return True
    before, after = SIZED.match(old), SIZED.match(new)
    if not before or not after or before[1] != after[1]:
        return False
    if after[2] is None:
        return True
    return before[2] is not None and int(before[2]) <= int(after[2]) and before[3] == after[3]


def _is_longer_text_on_mysql(old: str, new: str) -> bool:
    before, after = SIZED.match(old), SIZED.match(new)
    if not before or not after or before[1] != "VARCHAR" or after[1] != "VARCHAR":
        return False
    sizes = [int(found[2] or 0) * BYTES for found in (before, after)]
    return sizes[0] <= sizes[1] and (sizes[0] > LONG) == (sizes[1] > LONG)
