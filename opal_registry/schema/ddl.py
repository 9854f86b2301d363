"""Creating tables, or showing the exact statements that would."""

import contextlib
from collections.abc import Iterator, Sequence
from copy import copy
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.schema import CreateIndex, CreateSchema, CreateTable

from opal_registry.ownership.conflicts import iter_sequences, iter_types

EXISTS_ALREADY = {"42P04", "23505"}
"""What PostgreSQL says if another process made the database in the same moment."""


def create_tables(connection: sa.Connection, tables: Sequence[sa.Table], *, known: set[str] | None = None) -> None:
    """Create tables that do not exist yet, with their indexes, types and sequences.

    Args:
        connection: Where, inside a transaction.
        tables: Of one sub-app; what they refer to outside exists already.
        known: Types, sequences and schemas that are there, as :meth:`Live.type_names` says them; what is made is added.
    """
    _create(connection, tables, set() if known is None else known)


def render_ddl(tables: Sequence[sa.Table], dialect: sa.Dialect, *, known: set[str] | None = None) -> list[str]:
    """The statements that :func:`create_tables` would send, in its order, fit for a script.

    Args:
        tables: Of one sub-app.
        dialect: The target database's dialect.
        known: As for :func:`create_tables`.
    """
    plain = _without_placeholders(dialect)
    statements: list[str] = []

    def collect(element: Any, parameters: Any = None, *_: Any) -> None:
        statements.append(_text(element.values(parameters) if parameters else element, plain))

    _create(MockConnection(plain, collect), tables, set() if known is None else known)
    return statements


def _create(connection: sa.Connection | MockConnection, tables: Sequence[sa.Table], known: set[str]) -> None:
    for schema in sorted({table.schema for table in tables if table.schema and f"{table.schema}." not in known}):
        connection.execute(CreateSchema(schema))
        known.add(f"{schema}.")
    for metadata, group in _by_metadata(tables):
        metadata.create_all(_selective(connection, metadata, group, known), tables=group, checkfirst=False)


def _selective(
    connection: sa.Connection | MockConnection, metadata: sa.MetaData, tables: Sequence[sa.Table], known: set[str]
) -> Any:
    """The same connection, but it makes each type and sequence once, and none that only tables of others use.

    ``create_all`` makes those of the whole ``MetaData``, whichever tables it is given. Listeners are handed what this
    returns: it is a connection in all respects, and shares its state with the one that it stands for.
    """
    own = {name for table in tables for name in _used_names(table)}
    others = {name for table in metadata.tables.values() if table not in tables for name in _used_names(table)}
    kind: Any = type(connection)

    class Selective(kind):  # type: ignore[misc]
        def execute(self, statement: Any, *arguments: Any, **options: Any) -> Any:
            name = _shared_name(getattr(statement, "element", None))
            if name in known or name in others - own:
                return None
            if name is not None:
                known.add(name)
            return super().execute(statement, *arguments, **options)

    selective = Selective.__new__(Selective)
    selective.__dict__ = connection.__dict__
    return selective


def describe_tables(tables: Sequence[sa.Table], dialect: sa.Dialect) -> list[str]:
    """What the tables are made of, as texts that change when they do; independent of everything else in the suite."""
    plain = _without_placeholders(dialect)
    texts = []
    for table in tables:
        statements: list[CreateTable | CreateIndex] = [CreateTable(table), *map(CreateIndex, table.indexes)]
        texts += sorted(_text_or_source(statement, plain) for statement in statements)
        texts += [f"{column.name}: {column.type!r}" for column in table.columns if isinstance(column.type, sa.Enum)]
    return texts


def create_database(engine: sa.Engine, servers: Sequence[sa.Engine], *, dry_run: bool = False) -> bool:
    """Make an engine's database where it is missing; SQLite makes its own.

    Args:
        engine: The database; its user must be allowed to make one.
        servers: Other databases of the same server, to be tried in this order.
        dry_run: Only find out.

    Returns:
        Whether it was missing until now.
    """
    if engine.dialect.name == "sqlite" or not engine.url.database:
        return False
    try:
        with engine.connect():
            return False
    except sa.exc.DBAPIError:
        connection = _connect_to_any(servers)
        if connection is None:
            raise
    try:
        with connection:
            return _create_database(connection, engine.url.database, dry_run=dry_run)
    finally:
        connection.engine.dispose()


def _connect_to_any(servers: Sequence[sa.Engine]) -> sa.Connection | None:
    for server in servers:
        with contextlib.suppress(sa.exc.DBAPIError):
            return server.connect().execution_options(isolation_level="AUTOCOMMIT")
    return None


def _create_database(connection: sa.Connection, name: str, *, dry_run: bool) -> bool:
    postgresql = connection.dialect.name == "postgresql"
    catalog = "SELECT datname FROM pg_database" if postgresql else "SHOW DATABASES"
    if name in connection.exec_driver_sql(catalog).scalars():
        return False
    quoted = connection.dialect.identifier_preparer.quote_identifier(name)
    encoding = "ENCODING 'UTF8' TEMPLATE template0" if postgresql else "CHARACTER SET utf8mb4"
    try:
        if not dry_run:
            connection.exec_driver_sql(f"CREATE DATABASE {quoted} {encoding}")
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in EXISTS_ALREADY:
            raise
    return True


def _by_metadata(tables: Sequence[sa.Table]) -> Iterator[tuple[sa.MetaData, list[sa.Table]]]:
    for _, group in groupby(tables, key=lambda table: id(table.metadata)):
        found = list(group)
        yield found[0].metadata, found


def _shared_name(item: object) -> str | None:
    """The name of a type or sequence, with its schema if it has one; None for anything else."""
    if not isinstance(item, (sa.types.TypeEngine, sa.Sequence)):
        return None
    name, schema = getattr(item, "name", None), getattr(item, "schema", None)
    return f"{schema}.{name}" if schema else name


def _used_names(table: sa.Table) -> Iterator[str]:
    """The names of the types and sequences that a table uses."""
    for column in table.columns:
        for item in (*iter_types(column.type), *iter_sequences(column)):
            if name := _shared_name(item):
                yield name


def _without_placeholders(dialect: sa.Dialect) -> sa.Dialect:
    """The same dialect for text that no driver sees: psycopg's own doubles each % sign."""
    plain = copy(dialect)
    vars(plain).pop("_type_memos", None)  # how types quote for the other one
    vars(plain).update(vars(type(dialect)(paramstyle="named")))  # type: ignore[call-arg]
    return plain


def _text_or_source(statement: CreateTable | CreateIndex, dialect: sa.Dialect) -> str:
    try:
        return _text(statement, dialect)
    except sa.exc.CompileError:  # somebody made the table, though this database could not
        return repr(statement.element)


def _text(element: Any, dialect: sa.Dialect) -> str:
    options = {} if isinstance(element, sa.schema.ExecutableDDLElement) else {"literal_binds": True}
    return str(element.compile(dialect=dialect, compile_kwargs=options)).strip()
