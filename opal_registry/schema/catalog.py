"""Which names a database holds: tables, views, types, sequences, schemas, all of them from one query."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from string import ascii_uppercase

import sqlalchemy as sa

FOLDS_CASE = {"sqlite", "mysql", "mariadb"}
"""Databases that take ``Name`` and ``name`` for the same column; whether for the same table, MySQL decides by its set-up."""

ASCII_LOWER = {ord(letter): letter.lower() for letter in ascii_uppercase}

Row = tuple[str, str, str, bool]
"""A schema, a name in it, what is called so, and whether it is meant by the name alone."""

POSTGRESQL = """
    SELECT n.nspname, c.relname, c.relkind::text, pg_table_is_visible(c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    UNION ALL
    SELECT n.nspname, t.typname, 'type', pg_type_is_visible(t.oid)
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype IN ('e', 'd') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    UNION ALL
    SELECT nspname, '', 'schema', false FROM pg_namespace
"""
MYSQL = """
    SELECT table_schema, table_name, table_type, table_schema = DATABASE() FROM information_schema.tables
    WHERE table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')
    UNION ALL
    SELECT schema_name, '', 'schema', 0 FROM information_schema.schemata
    UNION ALL
    SELECT '', '', 'folds', @@lower_case_table_names > 0
"""
SQLITE = "SELECT '', name, type, 1 FROM sqlite_master WHERE type IN ('table', 'view')"
QUERIES = {"postgresql": POSTGRESQL, "mysql": MYSQL, "mariadb": MYSQL, "sqlite": SQLITE}

KINDS = {
    "r": "table",
    "p": "table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
    "S": "sequence",
    "BASE TABLE": "table",
    "SYSTEM VERSIONED": "table",
    "VIEW": "view",
    "SYSTEM VIEW": "view",
    "SEQUENCE": "sequence",
}
"""The databases' words for what a name stands for."""


@dataclass(frozen=True, slots=True)
class Relation:
    """Something that has a name among the tables: a table, a view, a sequence."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """The names that a database holds.

    Args:
        dialect: The name of the database's dialect.
        relations: What is called so, by schema (None where the name alone is enough) and name, folded.
        types: Enum types, domains and sequences, with their schema before them where it takes one.
        schemas: The schemas.
        folds_tables: Whether ``Users`` and ``users`` are one table.
    """

    dialect: str
    relations: Mapping[tuple[str | None, str], Relation]
    types: frozenset[str]
    schemas: frozenset[str]
    folds_tables: bool

    def find(self, table: sa.Table) -> Relation | None:
        """What has the name of a table: the table itself, or something that is in its way."""
        found = self.relations.get(self.key(table))
        return None if found is None or found.kind == "sequence" else found

    def key(self, table: sa.Table) -> tuple[str | None, str]:
        """The schema and name under which a table is found; SQLite has no schemas."""
        return None if self.dialect == "sqlite" else table.schema, self.fold_table(table.name)

    def fold(self, name: str) -> str:
        """The name of a column or index as the database compares it."""
        return _lower(name, self.dialect) if self.dialect in FOLDS_CASE else name

    def fold_table(self, name: str) -> str:
        """The name of a table as the database compares it."""
        return _lower(name, self.dialect) if self.folds_tables else name

    @property
    def known(self) -> frozenset[str]:
        """Types and sequences as they are called, and the schemas, each with a dot at its end."""
        return self.types | {f"{schema}." for schema in self.schemas}


def read_catalog(connection: sa.Connection) -> Catalog:
    """Ask a database for all its names at once.

    Example:
        >>> with sa.create_engine("sqlite://").connect() as connection:
        ...     _ = connection.exec_driver_sql("CREATE TABLE users (id INTEGER)")
        ...     read_catalog(connection).relations
        {(None, 'users'): Relation(name='users', kind='table')}
    """
    dialect = connection.dialect.name
    rows = connection.exec_driver_sql(QUERIES[dialect]).all()
    return make_catalog(dialect, [(schema, name, kind, bool(alone)) for schema, name, kind, alone in rows])


def make_catalog(dialect: str, rows: Collection[Row] = ()) -> Catalog:
    """A catalog of the rows that its query gives; without rows that of an empty database."""
    folds = dialect == "sqlite" or any(kind == "folds" and alone for _, _, kind, alone in rows)
    relations = {
        (schema, _lower(name, dialect) if folds else name): Relation(name, KINDS.get(kind, kind))
        for full_schema, name, kind, alone in rows
        if kind not in {"type", "schema", "folds"}
        for schema in _names_of(full_schema, alone=alone)
    }
    types = {
        f"{schema}.{name}" if schema else name
        for full_schema, name, kind, alone in rows
        if KINDS.get(kind, kind) in {"type", "sequence"}
        for schema in _names_of(full_schema, alone=alone)
    }
    schemas = {schema for schema, _, kind, _ in rows if kind == "schema"}
    return Catalog(dialect, relations, frozenset(types), frozenset(schemas), folds)


def _names_of(schema: str, *, alone: bool) -> Iterator[str | None]:
    """The ways to say a schema: by its name, and by none if it is the default one."""
    if schema:
        yield schema
    if alone:
        yield None


def _lower(name: str, dialect: str) -> str:
    """A name in lower case; SQLite leaves all letters but A to Z as they are."""
    return name.translate(ASCII_LOWER) if dialect == "sqlite" else name.lower()
