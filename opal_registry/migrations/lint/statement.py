"""What a statement that a revision executes is: only as far as the rules have to know."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

Kind = Literal["backfill", "validate", "rename value", "concurrently", "using index", "set", "query", "ddl", "other"]

NAME = r"([\w.\"`]+)"
PARTS = re.compile(r"(?:'(?:[^']|'')*'|\"[^\"]*\"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/|[^;])+", re.DOTALL)
TEXTS = re.compile(r"'(?:[^']|'')*'")
COMMENTS = re.compile(r"\A(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", re.DOTALL)
PATTERNS: tuple[tuple[Kind, str], ...] = (
    ("validate", rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?{NAME} VALIDATE CONSTRAINT"),
    ("using index", rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?{NAME} ADD CONSTRAINT .* USING INDEX"),
    ("rename value", rf"ALTER TYPE {NAME} RENAME VALUE"),
    ("concurrently", rf"(?:CREATE|DROP|REINDEX)\b.*?\bCONCURRENTLY (?:IF (?:NOT )?EXISTS )?{NAME}"),
    ("backfill", rf"UPDATE (?:ONLY |LOW_PRIORITY |IGNORE )*{NAME}"),
    ("backfill", rf"DELETE\s+FROM (?:ONLY )?{NAME}"),
    ("backfill", rf"(?:INSERT|REPLACE) (?:IGNORE )?INTO {NAME}.*\bSELECT\b"),
    ("backfill", rf"MERGE INTO (?:ONLY )?{NAME}"),
    ("backfill", r"WITH\b.*\b(?:UPDATE|DELETE FROM|INSERT INTO) (?:ONLY )?" + NAME),
    ("set", r"SET\b()"),
    ("query", r"(?:SELECT|SHOW|EXPLAIN|TABLE|VALUES|WITH)\b()"),
    ("ddl", r"(?:CREATE|ALTER|DROP|TRUNCATE|RENAME|CLUSTER|REINDEX|VACUUM|OPTIMIZE)\b()"),
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement.

    Args:
        kind: What it does: a ``backfill`` changes as many rows as a table may have.
        table: What it does it to; empty if that is not known.
        text: The statement, on one line.
    """

    kind: Kind
    table: str
    text: str


def read_statements(sql: Any) -> Iterator[Statement]:
    """What the argument of ``op.execute`` is.

    Example:
        >>> [(each.kind, each.table) for each in read_statements("UPDATE notes SET a = ';'; SET x = 1")]
        [('backfill', 'notes'), ('set', '')]
    """
    if isinstance(sql, (sa.Update, sa.Delete)):
        yield Statement("backfill", getattr(sql.table, "fullname", ""), str(sql.table))
    elif isinstance(sql, sa.Insert):
        kind: Kind = "backfill" if sql.select is not None else "other"
        yield Statement(kind, getattr(sql.table, "fullname", ""), str(sql.table))
    elif isinstance(sql, (str, sa.TextClause, sa.DDL)):
        yield from _read_text(sql.statement if isinstance(sql, sa.DDL) else str(sql))
    elif isinstance(sql, sa.SelectBase):
        yield Statement("query", "", "")
    else:
        yield Statement("other", "", type(sql).__name__)


def _read_text(text: str) -> Iterator[Statement]:
    for part in PARTS.finditer(text):
        if statement := " ".join(COMMENTS.sub("", part[0]).split()):
            yield _classify(statement)


def _classify(text: str) -> Statement:
    bare = TEXTS.sub("''", text)
    for kind, pattern in PATTERNS:
        if found := re.match(pattern, bare, re.IGNORECASE):
            return Statement(kind, re.sub(r'["`]', "", found[1]), text)
    return Statement("other", "", text)
