"""Columns and rows that are too long for a database, and tables with too many columns, or none."""

import re
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from opal_registry.errors import Problem
from opal_registry.preflight.keys import BINARY, BYTES, LARGE, TEXT, bytes_per_character
from opal_registry.preflight.target import MYSQL, Subject

MOST_COLUMNS = {"postgresql": 1600, "mysql": 1017, "mariadb": 1017}
"""MaxHeapAttributeNumber of PostgreSQL, REC_MAX_N_USER_FIELDS of InnoDB; SQLite is asked."""

USUAL_SQLITE_COLUMNS = 2000

MOST_CHARACTERS = 10_485_760
"""The longest VARCHAR and CHAR of PostgreSQL."""

MOST_ROW_BYTES = 65_535
"""The longest row of MySQL, without what is kept beside it."""

MOST_CHAR = 255
MOST_PRECISION = {"postgresql": 1000, "mysql": 65, "mariadb": 65}
MOST_BITS = 53
"""The most that a FLOAT may be asked to keep: those of a double."""

MOST_LABEL_BYTES = 63
BESIDE = 9
"""What MySQL keeps in the row at least of a value that is beside it."""

SIZED = re.compile(r"((?:VAR)?CHAR)\((\d+)\)")
BITS = re.compile(r"FLOAT\((\d+)\)")
PRECISE = re.compile(r"(?:NUMERIC|DECIMAL)\((\d+)")


def find_too_long(subject: Subject) -> Iterator[Problem]:
    """What a table has too much of."""
    if subject.target.names == {"sqlite"}:
        return
    found = list(_check_columns(subject))
    yield from found
    if subject.target.is_mysql and not found:
        yield from _check_row(subject)


def find_wrong_number(subject: Subject) -> Iterator[Problem]:
    """A table without columns, or with too many."""
    number = len(subject.table.columns)
    if not number:
        says = "You have an error in your SQL syntax" if subject.target.is_mysql else "syntax error"
        mend = "give it one, or take the table out"
        yield from subject.refuse(MYSQL | {"sqlite"}, "it has no columns", mend, says=says)
    sqlite_limit = _sqlite_limit(subject)
    by, most = subject.exceeds(number, MOST_COLUMNS | sqlite_limit)
    if most:
        what = f"it has {number} columns, {subject.target.title} allows {most}"
        words = {"sqlite": f"too many columns on {subject.table.name}", "postgresql": f"tables can have at most {most}"}
        says = words.get(subject.target.dialect.name, "Too many columns")
        unsure = () if sqlite_limit or number <= USUAL_SQLITE_COLUMNS else {"sqlite"}
        yield from subject.refuse(by, what, "make two tables of it", says=says, unsure=unsure)


def _sqlite_limit(subject: Subject) -> dict[str, int]:
    """How many columns SQLite was built for, if it can be asked."""
    connection = subject.target.connection
    if connection is None or connection.dialect.driver != "pysqlite":
        return {}
    import sqlite3

    driver: Any = connection.connection.driver_connection
    return {"sqlite": driver.getlimit(sqlite3.SQLITE_LIMIT_COLUMN)}


def _check_columns(subject: Subject) -> Iterator[Problem]:
    for column, text in subject.columns:
        if sized := SIZED.match(text):
            yield from _check_length(subject, column, sized[1], int(sized[2]))
        elif text.startswith("TEXT("):
            what = f"column {column.name!r} is a Text with a length, which PostgreSQL does not have"
            says = 'type modifier is not allowed for type "text"'
            yield from subject.refuse({"postgresql"}, what, "make it a String, or take the length away", says=says)
        elif precise := PRECISE.match(text):
            yield from _check_precision(subject, column, int(precise[1]))
        elif bits := BITS.match(text):
            yield from _check_bits(subject, column, int(bits[1]))
        if isinstance(column.type, sa.Enum):
            yield from _check_labels(subject, column, column.type)


def _check_length(subject: Subject, column: sa.Column[Any], word: str, length: int) -> Iterator[Problem]:
    limits = {"postgresql": MOST_CHARACTERS}
    if length > MOST_CHAR and subject.target.is_strict:
        width = bytes_per_character(subject, subject.target.type_text(column)) if subject.target.is_mysql else 4
        limits |= dict.fromkeys(MYSQL, MOST_CHAR if word == "CHAR" else 65_532 // width)
    by, most = subject.exceeds(length, limits)
    if most:
        what = f"column {column.name!r} is a {word}({length}), {subject.target.title} allows {most} characters"
        says = f"Column length too big for column '{column.name}' (max = {most})"
        if not subject.target.is_mysql:
            says = f"length for type {word.lower()} cannot exceed {most}"
        yield from subject.refuse(by, what, "make it shorter, or a Text", says=says)


def _check_precision(subject: Subject, column: sa.Column[Any], precision: int) -> Iterator[Problem]:
    by, most = subject.exceeds(precision, MOST_PRECISION)
    if most:
        what = f"column {column.name!r} is a NUMERIC of {precision} digits, {subject.target.title} allows {most}"
        says = f"NUMERIC precision {precision} must be between 1 and {most}"
        if subject.target.is_mysql:
            says = f"Too big precision specified for '{column.name}'. Maximum is {most}"
        yield from subject.refuse(by, what, "give it fewer digits", says=says)


def _check_bits(subject: Subject, column: sa.Column[Any], bits: int) -> Iterator[Problem]:
    if bits > MOST_BITS:
        what = f"column {column.name!r} is a FLOAT({bits}), {subject.target.title} allows {MOST_BITS} bits"
        says = f"precision for type float must be less than {MOST_BITS + 1} bits"
        if subject.target.is_mysql:
            says = f"Incorrect column specifier for column '{column.name}'"
        mend = "make it a Double()"
        yield from subject.refuse(MYSQL | {"postgresql"}, what, mend, says=says)


def _check_labels(subject: Subject, column: sa.Column[Any], kind: sa.Enum) -> Iterator[Problem]:
    """PostgreSQL keeps labels as names; to MySQL two that differ in case only are one."""
    if not kind.native_enum:
        return
    for label in kind.enums:
        if len(label.encode()) > MOST_LABEL_BYTES:
            what = f"column {column.name!r} has the enum value {label!r}, which is longer than {MOST_LABEL_BYTES} bytes"
            says = f'invalid enum label "{label}"'
            yield from subject.refuse({"postgresql"}, what, "make it shorter, or write native_enum=False", says=says)
    folded = [_fold(label) for label in kind.enums]
    for label, name in zip(kind.enums, folded, strict=True):
        if kind.enums[folded.index(name)] != label and subject.target.is_strict:
            what = f"column {column.name!r} has the enum values {kind.enums[folded.index(name)]!r} and {label!r}"
            what += f", which are one to {subject.target.title}"
            says = f"Column '{column.name}' has duplicated value"
            yield from subject.refuse(MYSQL, what, "rename one of them, or write native_enum=False", says=says)


def _check_row(subject: Subject) -> Iterator[Problem]:
    nullable = sum(bool(column.nullable and not column.primary_key) for column, _ in subject.columns)
    length = sum(_row_bytes(subject, text) for _, text in subject.columns) + (nullable + 7) // 8
    if length > MOST_ROW_BYTES:
        what = f"a row is {length} bytes long, {subject.target.title} allows {MOST_ROW_BYTES}"
        yield from subject.refuse(MYSQL, what, "make the longest columns shorter, or a Text", says="Row size too large")


def _row_bytes(subject: Subject, text: str) -> int:
    """What a column takes at least in a row of MySQL: a text that may vary has its length before it."""
    characters, octets = TEXT.match(text), BINARY.match(text)
    if characters:
        length = int(characters[1]) * bytes_per_character(subject, text)
    elif octets:
        length = int(octets[1])
    else:
        return BESIDE if LARGE.match(text) else BYTES.get(re.split(r"\W", text)[0], 0)
    return length + (1 + (length > MOST_CHAR) if text.startswith("VAR") else 0)


def _fold(label: str) -> str:
    return label.lower() if label.isascii() else label
