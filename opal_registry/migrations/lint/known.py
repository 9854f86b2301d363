"""What is known beside the revisions: who uses what of whom, and how big tables are."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.engines.mysql import NAMES
from opal_registry.migrations.lint.case import Use
from opal_registry.migrations.lint.recording import full_name
from opal_registry.ownership.definitions import get_mappers
from opal_registry.ownership.owners import Declared
from opal_registry.store.ledger import Entry
from opal_registry.suite import Suite

SIZES_ON_POSTGRESQL = """
SELECT n.nspname, c.relname, n.nspname = current_schema(),
       CASE WHEN c.reltuples > 0 AND c.relpages > 0
            THEN c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::float)
            ELSE pg_relation_size(c.oid) / current_setting('block_size')::float * 291 END
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""
"""As the planner does: rows a page when it was last analysed, by pages now; before that as many as a page can hold."""

SIZES_ON_MYSQL = """
SELECT table_schema, table_name, table_schema = DATABASE(), table_rows FROM information_schema.tables
 WHERE table_type = 'BASE TABLE' AND table_rows IS NOT NULL
   AND table_schema NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')
"""

NOT_NULL_CHECKS = """
SELECT n.nspname, t.relname, n.nspname = current_schema(), a.attname
  FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = c.conkey[1]
 WHERE c.contype = 'c' AND c.convalidated AND array_length(c.conkey, 1) = 1
   AND pg_get_constraintdef(c.oid) LIKE 'CHECK ((% IS NOT NULL))' AND pg_get_constraintdef(c.oid) NOT LIKE '% OR %'
"""


def family(dialect: str) -> str:
    """Which rules count for a dialect: MariaDB's are those of MySQL.

    Example:
        >>> family("mariadb"), family("postgresql")
        ('mysql', 'postgresql')
    """
    return "mysql" if dialect in NAMES else dialect


def read_sizes(connection: sa.Connection) -> dict[str, int]:
    """How many rows each table has, about: no row is looked at. Nothing is known on SQLite."""
    query = {"postgresql": SIZES_ON_POSTGRESQL, "mysql": SIZES_ON_MYSQL}.get(family(connection.dialect.name))
    if query is None:
        return {}
    return {name: round(rows) for name, rows in _read(connection, query)}


def read_not_null(connection: sa.Connection) -> frozenset[tuple[str, str]]:
    """The columns that a validated CHECK keeps from being NULL; PostgreSQL only."""
    if connection.dialect.name != "postgresql":
        return frozenset()
    return frozenset(_read(connection, NOT_NULL_CHECKS))


def _read(connection: sa.Connection, query: str) -> Iterator[tuple[str, Any]]:
    """Each table's name, with its schema and, where that is the usual one, without, and what is known about it."""
    for schema, table, is_usual, value in connection.exec_driver_sql(query, execution_options={"no_parameters": True}):
        yield full_name(table, schema), value
        if is_usual:
            yield table, value


def find_owners(suite: Suite, entries: Mapping[str, Entry]) -> dict[str, str]:
    """Whose each table is, by what is installed here, and else by the ledger."""
    absent = {name: entry for name, entry in entries.items() if name not in {app.name for app in suite.sub_apps}}
    owners = {table: name for name, entry in absent.items() for table in entry.tables}
    return owners | {table.fullname: app.name for app in suite.sub_apps for table in app.tables}


def find_uses(suite: Suite, base: type[sa_orm.DeclarativeBase], entries: Iterable[Entry]) -> tuple[Use, ...]:
    """What sub-apps use of tables that are not theirs.

    Args:
        suite: Those that are installed here.
        base: What their models are mapped on.
        entries: What the ledger says, also of others.
    """
    here = {app.name for app in suite.sub_apps}
    found = [*_by_foreign_key(suite), *_by_second_definition(suite), *_by_mapping(suite, base)]
    for entry in entries:
        if entry.name not in here:
            found += [_from_ledger(entry, column) for column in entry.foreign_columns]
    return tuple(dict.fromkeys(found))


def _from_ledger(entry: Entry, column: str) -> Use:
    table, _, name = column.rpartition(".")
    return Use(entry.name, table, name, f"{entry.version}, not installed here, by its entry in the ledger")


def _by_foreign_key(suite: Suite) -> Iterator[Use]:
    for app in suite.sub_apps:
        for table in app.tables:
            for key in table.foreign_keys:
                if not app.owns(key.column.table):
                    how = f"by the foreign key of {table.fullname}.{key.parent.name}"
                    yield Use(app.name, key.column.table.fullname, key.column.name, how)


def _by_second_definition(suite: Suite) -> Iterator[Use]:
    """Those who define a table of another one again, on a ``MetaData`` of their own."""
    owners = {table: app.name for app in suite.sub_apps for table in app.tables}
    for app in suite.sub_apps:
        for twin, table in app.twins.items():
            if owners.get(table, app.name) != app.name:
                yield from (
                    Use(app.name, table.fullname, column.name, "by a definition of its own") for column in twin.columns
                )


def _by_mapping(suite: Suite, base: type[sa_orm.DeclarativeBase]) -> Iterator[Use]:
    """Those who map a class of their own to a table of another one."""
    declared = Declared(suite.discovery.sub_apps)
    by_name = {app.name: app for app in suite.sub_apps}
    for mapper in get_mappers(base):
        for name in declared.who([mapper.class_.__module__]):
            if name in by_name:
                yield from _foreign_columns(mapper, name, by_name[name].owns)


def _foreign_columns(mapper: sa_orm.Mapper[object], app: str, owns: Callable[[sa.Table], bool]) -> Iterator[Use]:
    for table in mapper.tables:
        if isinstance(table, sa.Table) and not owns(table):
            how = f"mapped by {mapper.class_.__name__}"
            yield from (
                Use(app, table.fullname, column.name, how) for column in mapper.columns if column.table is table
            )
