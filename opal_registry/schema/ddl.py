"""Creating tables, or showing the exact statements that would."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.schema import CheckFirst, CreateSchema

NEW_ONLY = CheckFirst.TYPES | CheckFirst.SEQUENCES
"""Tables were looked for already; types and sequences may be shared by several of them."""


def create_tables(connection: sa.Connection, tables: Sequence[sa.Table]) -> None:
    """Create tables that do not exist yet, with their indexes, types and sequences.

    Args:
        connection: Where, inside a transaction.
        tables: Of one sub-app; what they refer to outside exists already.
    """
    for schema in sorted({table.schema for table in tables if table.schema}):
        if schema not in sa.inspect(connection).get_schema_names():
            connection.execute(CreateSchema(schema))
    for metadata, group in _by_metadata(tables):
        metadata.create_all(connection, tables=group, checkfirst=NEW_ONLY)


def render_ddl(tables: Sequence[sa.Table], dialect: sa.Dialect, *, existing: Iterable[str] = ()) -> list[str]:
    """The statements that :func:`create_tables` would send, in its order.

    Args:
        tables: Of one sub-app.
        dialect: The target database's dialect.
        existing: Names of types, sequences and schemas that are there already.
    """
    there = set(existing)
    schemas = sorted({table.schema for table in tables if table.schema} - there)
    statements = [str(CreateSchema(schema).compile(dialect=dialect)) for schema in schemas]

    def collect(element: Any, *_: Any, **__: Any) -> None:
        name = getattr(getattr(element, "element", None), "name", None)
        if isinstance(element, (sa.Table, sa.schema.CreateTable, sa.schema.CreateIndex)) or name not in there:
            statements.append(str(element.compile(dialect=dialect)).strip())

    engine = MockConnection(dialect, collect)
    for metadata, group in _by_metadata(tables):
        metadata.create_all(engine, tables=group, checkfirst=False)
    return statements


def _by_metadata(tables: Sequence[sa.Table]) -> Iterator[tuple[sa.MetaData, list[sa.Table]]]:
    for _, group in groupby(tables, key=lambda table: id(table.metadata)):
        found = list(group)
        yield found[0].metadata, found


def create_database(url: sa.URL) -> bool:
    """Make the database of a URL where it is missing; SQLite makes its own.

    Args:
        url: The database; its user must be allowed to make one.

    Returns:
        Whether it was made just now.
    """
    backend, name = url.get_backend_name(), url.database
    if backend == "sqlite" or not name:
        return False
    server = sa.create_engine(
        url.set(database="postgres" if backend == "postgresql" else None),
        poolclass=sa.NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
    )
    with server.connect() as connection:
        if name in _database_names(connection):
            return False
        quoted = connection.dialect.identifier_preparer.quote_identifier(name)
        encoding = "ENCODING 'UTF8' TEMPLATE template0" if backend == "postgresql" else "CHARACTER SET utf8mb4"
        connection.exec_driver_sql(f"CREATE DATABASE {quoted} {encoding}")
    return True


def _database_names(connection: sa.Connection) -> set[str]:
    catalog = "SELECT datname FROM pg_database" if connection.dialect.name == "postgresql" else "SHOW DATABASES"
    return set(connection.exec_driver_sql(catalog).scalars())
