"""Which rule of a table a row breaks, as each driver tells it."""

import re
from typing import Any

import sqlalchemy as sa

from opal_registry.engines.errors.neutral import Rule

SAID = (
    re.compile(r"^(?:UNIQUE|NOT NULL) constraint failed: (?P<dotted>.+)$"),  # SQLite
    re.compile(r"^CHECK constraint failed: (?P<name>\w+)$"),
    re.compile(r"for key '(?:(?P<table>[^'.]+)\.)?(?P<name>[^']+)'$"),  # MySQL says the table, MariaDB does not
    re.compile(r"^Column '(?P<columns>[^']+)' cannot be null$"),
    re.compile(r"^Field '(?P<columns>[^']+)' doesn't have a default value$"),
    re.compile(
        r"foreign key constraint fails \((?:`[^`]+`\.)?`(?P<table>[^`]+)`, "
        r"CONSTRAINT `(?P<name>[^`]+)` FOREIGN KEY \((?P<columns>[^)]+)\)"
    ),
    re.compile(r"^CONSTRAINT `(?P<name>[^`]+)` failed for (?:`[^`]+`\.)?`(?P<table>[^`]+)`"),  # MariaDB
    re.compile(r"^Check constraint '(?P<name>[^']+)' is violated"),  # MySQL
)
"""How SQLite and MySQL say which rule it is, who have only words for it, some with a value that anybody may have written."""

KEY = re.compile(r"Key \((?P<columns>[^=]+)\)=")
"""How PostgreSQL begins its detail of a key; what follows are values, which nobody needs to see."""


def find_rule(error: sa.exc.DBAPIError) -> Rule:
    """Which rule a row breaks, as far as the database says.

    Args:
        error: What SQLAlchemy made of the driver's error.

    Example:
        >>> import sqlite3
        >>> find_rule(sa.exc.IntegrityError("", (), sqlite3.IntegrityError("UNIQUE constraint failed: t.a, t.b")))
        Rule(name='', table='t', columns=('a', 'b'))
    """
    original: Any = error.driver_exception
    told = next(iter(original.args), None)
    if isinstance(told, dict):  # pg8000, by the letters of the protocol
        return _rule(told.get("n"), told.get("t"), told.get("c"), told.get("D"))
    if diagnosis := getattr(original, "diag", None):  # psycopg
        return _rule(diagnosis.constraint_name, diagnosis.table_name, diagnosis.column_name, diagnosis.message_detail)
    if hasattr(original, "constraint_name"):  # asyncpg
        return _rule(original.constraint_name, original.table_name, original.column_name, original.detail)
    return _read(str(original.args[1] if isinstance(told, int) else original))  # MySQL: number and words


def _rule(name: str | None, table: str | None, column: str | None, detail: str | None) -> Rule:
    key = KEY.match(detail or "")
    columns = (column,) if column else _split(key["columns"]) if key else ()
    return Rule(name or "", table or "", columns)


def _read(text: str) -> Rule:
    found = next((match.groupdict() for said in SAID if (match := said.search(text))), {})
    if dotted := found.get("dotted"):
        places = [place.rpartition(".") for place in dotted.split(", ")]
        return Rule("", places[0][0], tuple(place[2] for place in places))
    return Rule(found.get("name") or "", found.get("table") or "", _split(found.get("columns") or ""))


def _split(columns: str) -> tuple[str, ...]:
    return tuple(column.strip().strip('"`') for column in columns.split(",") if column.strip())
