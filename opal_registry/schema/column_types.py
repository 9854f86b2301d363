"""Whether a column has the type that its model says: Alembic's judgement, and the database's own in case of doubt.

Alembic compares words, and takes some types for different that a database takes for the same: ``FLOAT(24)`` is ``REAL``
to PostgreSQL, ``CLOB`` is ``TEXT`` to SQLAlchemy's reflection of SQLite. A false alarm stops a deployment; so whenever
the words differ, the database is asked.
"""

import contextlib
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedColumn


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
        dialect = self._connection.dialect.name
        return dialect in ask and ask[dialect](column, there["name"])

    @cached_property
    def _alembic(self) -> Any:
        from alembic.migration import MigrationContext  # heavy, and only needed where tables exist already

        return MigrationContext.configure(self._connection).impl

    def _is_declared(self, column: sa.Column[Any], name: str) -> bool:
        """Whether the column was declared with the very words of the model."""
        question = sa.text("SELECT type FROM pragma_table_info(:table) WHERE name = :name")
        declared = self._connection.scalar(question, {"table": column.table.name, "name": name})
        return _folded(str(declared)) == _folded(type_text(column.type, self._connection.dialect))

    def _savepoint(self) -> contextlib.AbstractContextManager[object]:
        """Keeps a question that the server refuses from ending the transaction, where there is one."""
        alone = self._connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
        return contextlib.nullcontext() if alone else self._connection.begin_nested()

    def _is_same_to_postgresql(self, column: sa.Column[Any], name: str) -> bool:
        """Whether a value of the model's type and the column have one type and length to the server."""
        table = sa.table(column.table.name, sa.column(name), schema=column.table.schema)
        question = sa.select(sa.cast(sa.null(), column.type), table.c[name]).limit(0)
        try:
            with self._savepoint():
                model, live = self._connection.execute(question).cursor.description
        except (sa.exc.DBAPIError, sa.exc.CompileError):  # the server does not know the model's type
            return False
        return tuple(model)[1:] == tuple(live)[1:]


def type_text(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> str:
    """A type in the words of a database; in SQLAlchemy's where the database does not have it."""
    try:
        return kind.compile(dialect=dialect)
    except sa.exc.CompileError:
        return repr(kind)


def _folded(text: str) -> str:
    return "".join(text.split()).casefold()
