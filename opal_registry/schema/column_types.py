"""Whether a column has the type that its model says: Alembic's judgement, and the database's own in case of doubt.

Alembic compares words, and takes some types for different that a database takes for the same: ``FLOAT(24)`` is ``REAL``
to PostgreSQL, ``CLOB`` is ``TEXT`` to SQLAlchemy's reflection of SQLite. A false alarm stops a deployment; so whenever
the words differ, the database is asked, or, if it is MySQL, its manual.
"""

import contextlib
import re
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn

PRECISION = re.compile(r"FLOAT\((\d+)\)")
LARGE = re.compile(r"(TEXT|BLOB)\((\d+)\)")
CHARSET = re.compile(r" (CHARACTER SET|COLLATE) \w+")
FRACTION = re.compile(r"(?P<kind>DATETIME|TIMESTAMP|TIME)(\((?P<digits>\d)\))?")
"""How MySQL says how many digits of a second's fraction it keeps; none unless it is told."""

SIZES = {"TINY": 2**8, "": 2**16, "MEDIUM": 2**24, "LONG": 2**32}
"""How MySQL calls texts and binaries of fewer bytes than this."""


class TypeComparison:
    """Compares columns of one database with those of models.

    Args:
        connection: The database; only read.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def is_same(self, column: sa.Column[Any], there: ReflectedColumn) -> bool:
        """Whether a column of a table has the type that its model says."""
        known = not isinstance(there["type"], sa.types.NullType)
        if known and not self._alembic.compare_type(sa.Column(column.name, there["type"]), column):
            return True
        ask = {"sqlite": self._is_declared, "postgresql": self._is_same_to_postgresql}
        return ask.get(self._connection.dialect.name, self._is_same_to_mysql)(column, there)

    def is_coarser(self, column: sa.Column[Any], there: ReflectedColumn) -> bool:
        """Whether MySQL keeps the times of a column with fewer digits than its model says, and does nothing else to them."""
        dialect = self._connection.dialect
        if dialect.name not in {"mysql", "mariadb"}:
            return False
        live, model = (FRACTION.fullmatch(type_text(kind, dialect)) for kind in (there["type"], column.type))
        if not (live and model) or live["kind"] != model["kind"]:
            return False
        return int(live["digits"] or 0) < int(model["digits"] or 0)

    @cached_property
    def _alembic(self) -> Any:
        from alembic.migration import MigrationContext  # heavy, and only needed where tables exist already

        return MigrationContext.configure(self._connection).impl

    def _is_declared(self, column: sa.Column[Any], there: ReflectedColumn) -> bool:
        """Whether the column was declared with the very words of the model."""
        question = sa.text("SELECT type FROM pragma_table_info(:table) WHERE name = :name")
        declared = self._connection.scalar(question, {"table": column.table.name, "name": there["name"]})
        return _folded(str(declared)) == _folded(type_text(column.type, self._connection.dialect))

    def _savepoint(self) -> contextlib.AbstractContextManager[object]:
        """Keeps a question that the server refuses from ending the transaction, where there is one."""
        alone = self._connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
        return contextlib.nullcontext() if alone else self._connection.begin_nested()

    def _is_same_to_postgresql(self, column: sa.Column[Any], there: ReflectedColumn) -> bool:
        """Whether a value of the model's type and the column have one type and length to the server."""
        table = sa.table(column.table.name, sa.column(there["name"]), schema=column.table.schema)
        question = sa.select(sa.cast(sa.null(), column.type), table.c[there["name"]]).limit(0)
        try:
            with self._savepoint():
                model, live = self._connection.execute(question).cursor.description
        except (sa.exc.DBAPIError, sa.exc.CompileError):  # the server does not know the model's type
            return False
        return tuple(model)[1:] == tuple(live)[1:]

    def _is_same_to_mysql(self, column: sa.Column[Any], there: ReflectedColumn) -> bool:
        """Whether the column has the type that MySQL makes of the model's; an enum may have other values."""
        if isinstance(there["type"], sa.Enum) and isinstance(column.type, sa.Enum):
            return bool(column.type.native_enum)
        dialect = self._connection.dialect
        live, model = type_text(there["type"], dialect), type_text(column.type, dialect)
        if model.startswith("NATIONAL "):  # a character set, which is not called the same in all releases
            return CHARSET.sub("", live) == model.removeprefix("NATIONAL ")
        return _without_fraction(live) == _without_fraction(_stored_by_mysql(model))


def type_text(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> str:
    """A type in the words of a database; in SQLAlchemy's where the database does not have it."""
    try:
        return kind.compile(dialect=dialect)
    except (sa.exc.ArgumentError, sa.exc.CompileError):
        return repr(kind)


def _folded(text: str) -> str:
    return "".join(text.split()).casefold()


def _without_fraction(text: str) -> str:
    time = FRACTION.fullmatch(text)
    return time["kind"] if time else text


def _stored_by_mysql(text: str) -> str:
    """What MySQL makes of some types (its manual, "Floating-Point Types", and "The BLOB and TEXT Types").

    Example:
        >>> [_stored_by_mysql(text) for text in ("REAL", "FLOAT(24)", "FLOAT(25)", "BLOB(10)", "TEXT(70000)")]
        ['DOUBLE', 'FLOAT', 'DOUBLE', 'TINYBLOB', 'MEDIUMTEXT']
    """
    if precision := PRECISION.fullmatch(text):
        return "FLOAT" if int(precision[1]) < 25 else "DOUBLE"
    if large := LARGE.fullmatch(text):
        size = int(large[2]) * (4 if large[1] == "TEXT" else 1)  # bytes of a character of utf8mb4
        return next((name for name, end in SIZES.items() if size < end), "LONG") + large[1]
    return "DOUBLE" if text == "REAL" else text
