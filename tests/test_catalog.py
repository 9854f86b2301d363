"""The names in a database: all of them, from one query."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from opal_registry.schema.catalog import Catalog, Relation, make_catalog, read_catalog
from opal_registry.schema.compiled import Compiler
from opal_registry.store import tables as own
from tests.databases import engine_of
from tests.mariadb import MariaDB

HARD = ["Mixed Case", "select", "größe %", 'quo"te', "dot.ted", "tick`ed"]
"""Names that need quoting."""


@pytest.fixture
def engine(any_database_url: str) -> Iterator[sa.Engine]:
    """An engine of an empty database."""
    engine = engine_of(any_database_url)
    yield engine
    engine.dispose()


def table(name: str, schema: str | None = None) -> sa.Table:
    return sa.Table(name, sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), schema=schema)


def read(engine: sa.Engine, *statements: str) -> Catalog:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    with engine.connect() as connection:
        return read_catalog(connection)


def test_it_is_one_question(engine: sa.Engine) -> None:
    table("users").create(engine)
    asked: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *arguments: asked.append(arguments[2]))
    with engine.connect() as connection:
        assert read_catalog(connection).find(table("users")) == Relation("users", "table")
    assert len([text for text in asked if not text.startswith("BEGIN")]) == 1


def test_an_empty_database_has_no_tables(engine: sa.Engine) -> None:
    assert read(engine).find(table("users")) is None


@pytest.mark.parametrize("name", HARD)
def test_names_that_need_quoting_are_found(engine: sa.Engine, name: str) -> None:
    table(name).create(engine)
    assert read(engine).find(table(name)) == Relation(name, "table")


def test_a_view_is_found_as_one(engine: sa.Engine) -> None:
    assert read(engine, "CREATE VIEW things AS SELECT 1 AS id").find(table("things")) == Relation("things", "view")


def test_what_only_starts_or_ends_alike_is_not_it(engine: sa.Engine) -> None:
    table("users_x").create(engine)
    table("x_users").create(engine)
    assert read(engine).find(table("users")) is None


def test_the_registrys_own_tables_are_found(engine: sa.Engine) -> None:
    compiler = Compiler(engine.dialect)
    read(engine, *(compiler.text(ddl) for ddl in own.iter_upgrade({}, engine.dialect)))
    catalog = read(engine)
    assert [catalog.find(one) is not None for one in own.metadata.sorted_tables] == [True] * 4


def test_sqlite_knows_neither_schemas_nor_case(tmp_path: Path) -> None:
    engine = engine_of(f"sqlite:///{tmp_path / 'x.db'}")
    catalog = read(engine, "CREATE TABLE Things (id INTEGER)")
    engine.dispose()
    assert catalog.find(table("tHINGS", schema="shop")) == Relation("Things", "table")
    assert catalog.known == frozenset()


class TestPostgreSQL:
    def test_everything_that_has_a_name_is_told_apart(self, postgres_url: str) -> None:
        engine = engine_of(postgres_url)
        catalog = read(
            engine,
            "CREATE TABLE parts (id INTEGER) PARTITION BY RANGE (id)",
            "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (9)",
            "CREATE MATERIALIZED VIEW seen AS SELECT 1 AS id",
            "CREATE SEQUENCE numbers",
            "CREATE TYPE mood AS ENUM ('good')",
            "CREATE DOMAIN positive AS INTEGER CHECK (VALUE > 0)",
            "CREATE TYPE pair AS (a INTEGER, b INTEGER)",
            "CREATE TABLE plain (id SERIAL)",
            "CREATE INDEX ix_plain ON plain (id)",
        )
        engine.dispose()
        kinds = {name: found.kind for (schema, name), found in catalog.relations.items() if schema is None}
        assert kinds == {
            "parts": "table",
            "parts_1": "table",
            "seen": "materialized view",
            "numbers": "sequence",
            "plain": "table",
            "plain_id_seq": "sequence",
        }
        assert catalog.find(table("numbers")) is None
        assert {"numbers", "mood", "positive", "public.mood", "public.", "pg_catalog."} <= catalog.known
        assert {"pair", "plain", "ix_plain"}.isdisjoint(catalog.known)

    def test_schemas_are_told_apart_and_the_path_decides_what_a_name_alone_means(self, postgres_url: str) -> None:
        engine = engine_of(postgres_url)
        catalog = read(
            engine,
            'CREATE SCHEMA "Shop floor"',
            'CREATE TABLE "Shop floor".items (id INTEGER)',
            "CREATE SCHEMA first",
            "CREATE TABLE first.items (id INTEGER)",
            "CREATE VIEW public.items AS SELECT 1 AS id",
            "CREATE TYPE first.mood AS ENUM ('good')",
            f'ALTER DATABASE "{engine.url.database}" SET search_path TO first, public',
        )
        engine.dispose()
        assert catalog.find(table("items")) == Relation("items", "view")
        again = engine_of(postgres_url)
        moved = read(again)
        again.dispose()
        assert moved.find(table("items")) == Relation("items", "table")
        assert moved.find(table("items", "public")) == Relation("items", "view")
        assert moved.find(table("items", "Shop floor")) == Relation("items", "table")
        assert moved.find(table("items", "shop floor")) is None
        assert ("mood" in moved.known, "mood" in catalog.known, "first.mood" in catalog.known) == (True, False, True)

    def test_case_counts(self, postgres_url: str) -> None:
        engine = engine_of(postgres_url)
        catalog = read(engine, 'CREATE TABLE "Things" (id INTEGER)')
        engine.dispose()
        assert (catalog.find(table("things")), catalog.find(table("Things"))) == (None, Relation("Things", "table"))


class TestMariaDB:
    def test_other_databases_of_the_server_are_schemas(self, mariadb: MariaDB, mariadb_url: str) -> None:
        other = mariadb.create_database()
        engine = engine_of(mariadb_url)
        catalog = read(
            engine,
            f"CREATE TABLE {other}.items (id INTEGER)",
            "CREATE TABLE dated (id INTEGER) WITH SYSTEM VERSIONING",
            "CREATE SEQUENCE numbers",
        )
        here = str(engine.url.database)
        engine.dispose()
        mariadb.drop_database(other)
        assert catalog.find(table("items")) is None
        assert catalog.find(table("items", other)) == Relation("items", "table")
        assert catalog.find(table("dated")) == catalog.find(table("dated", here)) == Relation("dated", "table")
        assert catalog.find(table("numbers")) is None
        assert {"numbers", f"{here}.numbers", f"{here}.", f"{other}."} <= catalog.known


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql", "mariadb"])
def test_that_of_a_database_which_does_not_exist_yet_is_empty(dialect: str) -> None:
    catalog = make_catalog(dialect)
    assert (catalog.find(table("users")), catalog.known, dict(catalog.relations)) == (None, frozenset(), {})


@pytest.mark.mariadb
@pytest.mark.parametrize("folds", [0, 1])
def test_whether_a_server_tells_tables_apart_by_case_is_asked(folds: int) -> None:
    with MariaDB(lower_case_table_names=str(folds)) as server:
        engine = engine_of(server.url(server.create_database()))
        catalog = read(engine, "CREATE TABLE Things (id INTEGER)")
        engine.dispose()
    assert (catalog.find(table("things")) is not None) == bool(folds)
    assert catalog.find(table("Things")) is not None
