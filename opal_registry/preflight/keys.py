"""The keys and indexes of a table, whatever they were declared as, and how long they may be."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from opal_registry.errors import Problem
from opal_registry.preflight.target import MYSQL, Subject

MOST_PARTS = {"postgresql": 32, "mysql": 16, "mariadb": 32}
"""How many columns a key may have: INDEX_MAX_KEYS of PostgreSQL, MAX_REF_PARTS and MAX_KEY_PARTS."""

MOST_KEY_BYTES = 3072
"""How long a key of InnoDB may be with pages of 16 KiB and dynamic rows, as they are unless configured otherwise."""

BYTES = {
    "TINYINT": 1,
    "BOOL": 1,
    "YEAR": 1,
    "SMALLINT": 2,
    "MEDIUMINT": 3,
    "DATE": 3,
    "TIME": 3,
    "INT": 4,
    "INTEGER": 4,
    "FLOAT": 4,
    "TIMESTAMP": 4,
    "DATETIME": 5,
    "BIGINT": 8,
    "DOUBLE": 8,
}
"""What a value takes at least in MySQL, by the first word of its type ("Data Type Storage Requirements")."""

LARGE = re.compile(r"(TINY|MEDIUM|LONG)?(TEXT|BLOB)\b|JSON\b")
"""Types that MySQL keeps beside the row, and that have no length of their own in a key."""

BYTES_PER_CHARACTER = {"utf8mb4": 4, "utf8mb3": 3, "utf8": 3, "utf16": 2, "ucs2": 2}
"""The most that a character takes, by character set; 1 for those not known, so that nothing is refused in error."""

TEXT = re.compile(r"(?:VAR)?CHAR\((\d+)\)")
BINARY = re.compile(r"(?:VAR)?BINARY\((\d+)\)")
CHARSET = re.compile(r"\b(?:CHARACTER SET|COLLATE) ([a-z0-9]+)", re.IGNORECASE)

Kind = Literal["primary key", "unique constraint", "unique index", "index", "foreign key"]


@dataclass(frozen=True, slots=True)
class Key:
    """Columns of a table that are kept sorted.

    Args:
        kind: What it was declared as.
        name: Its name; empty if it has none.
        columns: The columns, in order.
        prefix: How much of each column MySQL is to keep; None where nothing is said.
    """

    kind: Kind
    name: str
    columns: tuple[sa.Column[Any], ...]
    prefix: int | dict[Any, int] | None = None

    def __str__(self) -> str:
        names = ", ".join(repr(column.name) for column in self.columns)
        return f"the {self.kind} {self.name!r}" if self.name else f"the {self.kind} of {names}"

    def prefix_of(self, column: sa.Column[Any]) -> int | None:
        """How many characters or bytes of a column are kept."""
        if isinstance(self.prefix, dict):
            return self.prefix.get(column.name, self.prefix.get(column))
        return self.prefix


def iter_keys(subject: Subject) -> Iterator[Key]:
    """The keys that a database makes for a table; indexes on expressions, full text and places are no keys here.

    MySQL makes one for each foreign key too.
    """
    table = subject.table
    if table.primary_key.columns:
        yield Key("primary key", "", tuple(table.primary_key.columns))
    for constraint in _unique_constraints(subject):
        yield Key("unique constraint", _name(constraint), tuple(constraint.columns))
    for index in subject.indexes:
        if columns := plain_columns(index):
            kind: Kind = "unique index" if index.unique else "index"
            yield Key(kind, _name(index), columns, _option(subject, index, "length"))
    if subject.target.is_mysql:
        yield from (Key("foreign key", "", tuple(key.columns)) for key in subject.foreign_keys)


def plain_columns(index: sa.Index) -> tuple[sa.Column[Any], ...]:
    """The columns of an index; none if it is of expressions, or not an ordinary one for MySQL."""
    if any(index.kwargs.get(f"{name}_prefix") for name in MYSQL):
        return ()
    found = tuple(part for part in index.expressions if isinstance(part, sa.Column))
    return found if len(found) == len(index.expressions) else ()


def find_long_keys(subject: Subject) -> Iterator[Problem]:
    """Keys of too many columns or, in MySQL and MariaDB, too many bytes."""
    if not subject.target.is_mysql and len(subject.table.columns) <= min(MOST_PARTS.values()):
        return
    for key in iter_keys(subject):
        yield from _check_parts(subject, key)
        if subject.target.is_mysql and subject.option("engine").lower() in {"", "innodb"}:
            yield from _check_large(subject, key)
            yield from _check_bytes(subject, key)


def bytes_per_character(subject: Subject, text: str) -> int:
    """How much a character of a column takes, going by its type and its table; databases here are in utf8mb4."""
    named = CHARSET.search(text)
    charset = named[1] if named else subject.option("charset") or subject.option("default_charset")
    charset = charset or subject.option("collate").partition("_")[0]
    if not charset and subject.table.schema:  # another database, with a character set of its own
        return 1
    return BYTES_PER_CHARACTER.get(charset.lower() or "utf8mb4", 1)


def _check_parts(subject: Subject, key: Key) -> Iterator[Problem]:
    number = len(key.columns)
    by, most = subject.exceeds(number, MOST_PARTS)
    if most and key.kind != "foreign key":
        what = f"{key} has {number} columns, {subject.target.title} allows {most}"
        says = f"Too many key parts specified; max {most} parts allowed"
        if not subject.target.is_mysql:
            says = f"cannot use more than {most} columns in an index"
        yield from subject.refuse(by, what, "leave some of them out", says=says)


def _check_large(subject: Subject, key: Key) -> Iterator[Problem]:
    """MariaDB keeps the beginning for an ordinary index of one column, and makes a unique one by hash."""
    for column in key.columns:
        if LARGE.match(subject.target.type_text(column)) and key.prefix_of(column) is None:
            taken = key.kind.startswith("unique") or (key.kind == "index" and len(key.columns) == 1)
            what = f"{key} holds the column {column.name!r} of the type {subject.target.type_text(column)}"
            mend = f"make it a String with a length, or keep the beginning only: Index(..., mysql_length={{{column.name!r}: 255}})"
            if key.kind != "index":
                mend = "make it a String with a length"
            says = f"BLOB/TEXT column '{column.name}' used in key specification without a key length"
            if subject.target.names == {"mariadb"} and key.kind == "index":
                says = f"Specified key was too long; max key length is {MOST_KEY_BYTES} bytes"
            yield from subject.refuse({"mysql"} if taken else MYSQL, what, mend, says=says)


def _check_bytes(subject: Subject, key: Key) -> Iterator[Problem]:
    length = sum(_key_bytes(subject, key, column) for column in key.columns)
    if length > MOST_KEY_BYTES:
        what = f"{key} is {length} bytes long, {subject.target.title} allows {MOST_KEY_BYTES}"
        mend = "make its columns shorter, or take some out"
        says = f"Specified key was too long; max key length is {MOST_KEY_BYTES} bytes"
        yield from subject.refuse(_refuses_bytes(subject, key), what, mend, says=says)


def _refuses_bytes(subject: Subject, key: Key) -> set[str]:
    """MariaDB makes a unique key by hash; of one column in an ordinary index it keeps the beginning, as MySQL may."""
    if key.kind in {"unique constraint", "unique index"}:
        return {"mysql"}
    if key.kind == "index" and len(key.columns) == 1:
        return {"mysql"} if subject.target.is_strict else set()
    return set(MYSQL)


def _key_bytes(subject: Subject, key: Key, column: sa.Column[Any]) -> int:
    """What a column takes in a key at least."""
    text, prefix = subject.target.type_text(column), key.prefix_of(column)
    characters, octets = TEXT.match(text), BINARY.match(text)
    if characters or (prefix and "TEXT" in text):
        length = prefix or int(characters[1] if characters else 0)
        return length * bytes_per_character(subject, text)
    if octets or prefix:
        return prefix or int(octets[1] if octets else 0)
    return BYTES.get(re.split(r"\W", text)[0], 0)


def _unique_constraints(subject: Subject) -> Sequence[sa.UniqueConstraint]:
    found = [item for item in subject.table.constraints if isinstance(item, sa.UniqueConstraint)]
    return sorted(filter(subject.target.is_created, found), key=lambda item: tuple(item.columns.keys()))


def _option(subject: Subject, index: sa.Index, name: str) -> Any:
    return index.kwargs.get(f"{subject.target.dialect.name}_{name}")


def _name(item: sa.Index | sa.Constraint) -> str:
    return item.name if isinstance(item.name, str) else ""
