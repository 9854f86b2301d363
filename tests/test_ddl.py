"""Statements for a script: executed in an empty database they make the same schema as creating the tables does."""

import enum
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

from opal_registry.base import NAMING_CONVENTION
from opal_registry.engines.factory import make_server_engines
from opal_registry.schema.compiled import Compiler
from opal_registry.schema.ddl import describe_tables, render_ddl
from opal_registry.schema.server import create_database
from opal_registry.suite import _in_order
from tests.databases import create_tables, database_of, engine_of
from tests.postgres import Cluster

CATALOGUE = {
    "sqlite": "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2",
    "postgresql": """
        SELECT 'column', table_schema || '.' || table_name, column_name,
               concat_ws('|', ordinal_position, column_default, is_nullable, udt_name, character_maximum_length,
                         is_identity, generation_expression,
                         col_description(format('%I.%I', table_schema, table_name)::regclass, ordinal_position))
          FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
        UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
          FROM pg_constraint WHERE connamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
        UNION ALL SELECT 'index', schemaname || '.' || tablename, indexname, indexdef
          FROM pg_indexes WHERE schemaname NOT IN ('pg_catalog')
        UNION ALL SELECT 'enum', t.typname, e.enumlabel, e.enumsortorder::text
          FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid
        UNION ALL SELECT 'sequence', sequence_schema, sequence_name, concat_ws('|', start_value, increment)
          FROM information_schema.sequences
        UNION ALL SELECT 'table', c.oid::regclass::text, obj_description(c.oid), ''
          FROM pg_class c WHERE relkind = 'r' AND relnamespace::regnamespace::text !~ '^(pg_|information)'
        ORDER BY 1, 2, 3
    """,
}


POSTGRESQL = Compiler(postgresql.dialect())  # type: ignore[no-untyped-call]
MYSQL = Compiler(mysql.dialect())


class Colour(enum.Enum):
    RED = "red"
    HALF = "50%"


def plain(metadata: sa.MetaData) -> None:
    sa.Table(
        "people",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(80), nullable=False, unique=True, index=True),
        sa.Column("boss_id", sa.ForeignKey("people.id"), comment="whom they report to"),
        sa.Column("joined", sa.DateTime(timezone=True), server_default=sa.func.now()),
        sa.CheckConstraint("id > 0"),
        comment="everybody's table",
    )


def odd_names(metadata: sa.MetaData) -> None:
    sa.Table(
        "order",
        metadata,
        sa.Column("select", sa.Integer, primary_key=True),
        sa.Column("Mixed Case", sa.String(10)),
        sa.Column("größe", sa.Numeric(10, 2), server_default="1.50"),
        sa.Column("a%b", sa.String(20), server_default="50%"),
        sa.Column("it's", sa.String(20), server_default="it's; -- fine"),
        sa.CheckConstraint("\"a%b\" LIKE '%x%'", name="like"),
        sa.Index("Mixed Index", "Mixed Case", "größe"),
    )
    sa.Table("Größen", metadata, sa.Column("id", sa.ForeignKey("order.select"), primary_key=True))


def long_names(metadata: sa.MetaData) -> None:
    table, column = "t" * 63, "c" * 60
    sa.Table(table, metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column(column, sa.Integer, index=True))


def shared_enum(metadata: sa.MetaData) -> None:
    colour = sa.Enum(Colour)
    for name in ("cars", "bikes"):
        sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("colour", colour, index=True))


def enum_of_the_metadata(metadata: sa.MetaData) -> None:
    size = sa.Enum("small", "large", name="size", metadata=metadata)
    for name in ("shirts", "shoes"):
        sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("size", size))


def cycle(metadata: sa.MetaData) -> None:
    for one, other in (("hens", "eggs"), ("eggs", "hens")):
        key = sa.ForeignKey(f"{other}.id", use_alter=True, name=f"fk_{one}")
        sa.Table(one, metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("from_id", key))


def computed(metadata: sa.MetaData) -> None:
    sa.Table(
        "boxes",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("a", sa.Integer),
        sa.Column("double", sa.Integer, sa.Computed("a * 2", persisted=True)),
        sa.Index("ix_expression", sa.text("(a + 1)")),
        sa.Index("ix_some", "a", sqlite_where=sa.text("a > 5"), postgresql_where=sa.text("a > 5")),
    )


def without_a_key(metadata: sa.MetaData) -> None:
    sa.Table("log", metadata, sa.Column("line", sa.Text))


def with_events(metadata: sa.MetaData) -> None:
    table = sa.Table("kinds", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(9)))
    by_hand = sa.DDL("CREATE INDEX by_hand ON kinds (name) WHERE name LIKE '%%x'")  # type: ignore[no-untyped-call]
    sa.event.listen(table, "after_create", by_hand)
    sa.event.listen(table, "after_create", lambda _, connection, **__: connection.execute(table.insert().values(id=1)))


def sequences(metadata: sa.MetaData) -> None:
    sa.Sequence("numbers", start=100, metadata=metadata)
    tickets = sa.Sequence("tickets_seq", start=5, metadata=metadata)
    sa.Table(
        "tickets", metadata, sa.Column("id", sa.Integer, tickets, server_default=tickets.next_value(), primary_key=True)
    )
    sa.Table("places", metadata, sa.Column("id", sa.BigInteger, sa.Identity(start=7), primary_key=True))


def schemas(metadata: sa.MetaData) -> None:
    kind = sa.Enum("a", "b", name="kind", schema="Shop Floor")
    sa.Table(
        "items", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("kind", kind), schema="Shop Floor"
    )
    sa.Table("items", metadata, sa.Column("id", sa.ForeignKey("Shop Floor.items.id"), primary_key=True))


EVERYWHERE = [
    plain,
    odd_names,
    long_names,
    shared_enum,
    enum_of_the_metadata,
    cycle,
    computed,
    without_a_key,
    with_events,
]
POSTGRES_ONLY = [sequences, schemas]


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine of an empty database."""
    engine = engine_of(database_url)
    yield engine
    engine.dispose()


def tables_of(make: Any) -> Sequence[sa.Table]:
    metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)
    make(metadata)
    return _in_order(list(metadata.tables.values()))


def catalogue(connection: sa.Connection) -> list[Any]:
    """All that a database knows about its schema."""
    found = connection.exec_driver_sql(CATALOGUE[connection.dialect.name].replace("%", "%%")).all()
    return [tuple(" ".join(str(part).split()) for part in row) for row in found]


def run_as_script(engine: sa.Engine, statements: Sequence[str]) -> None:
    """Send the statements in one piece, as ``psql`` and ``sqlite3`` would."""
    raw = engine.raw_connection()
    script = "".join(f"{statement};\n" for statement in statements)
    if engine.dialect.name == "sqlite":
        raw.driver_connection.executescript(script)  # type: ignore[union-attr]
    else:
        raw.cursor().execute(script.encode())
        raw.commit()
    raw.close()


@pytest.mark.parametrize("make", EVERYWHERE + POSTGRES_ONLY, ids=lambda make: make.__name__)
def test_a_script_makes_what_creating_makes(database_url: str, engine: sa.Engine, make: Any) -> None:
    if engine.dialect.name == "sqlite" and make in POSTGRES_ONLY:
        return
    tables = tables_of(make)
    statements = render_ddl(tables, Compiler(engine.dialect))
    with engine.connect() as connection:
        empty = catalogue(connection)
        create_tables(connection, tables)
        made = catalogue(connection)
        connection.rollback()
        assert catalogue(connection) == empty != made
    run_as_script(engine, statements)
    with engine.connect() as connection:
        assert catalogue(connection) == made


def test_types_that_are_there_are_not_made_again(postgres_url: str) -> None:
    engine = engine_of(postgres_url)
    tables = tables_of(shared_enum)
    statements = render_ddl(tables, Compiler(engine.dialect), known={"colour"})

    assert not any("CREATE TYPE" in statement for statement in statements)
    assert len([statement for statement in statements if "CREATE TABLE" in statement]) == 2
    engine.dispose()


def test_what_a_table_is_made_of_does_not_depend_on_others() -> None:
    metadata = sa.MetaData()
    enum_of_the_metadata(metadata)
    sequences(metadata)
    alone = sa.Table("alone", metadata, sa.Column("id", sa.Integer, primary_key=True))

    [text] = describe_tables([alone], POSTGRESQL)
    assert "CREATE TABLE alone" in text


def test_what_an_enum_allows_belongs_to_the_table() -> None:
    def table(*labels: str) -> sa.Table:
        return sa.Table("t", sa.MetaData(), sa.Column("x", sa.Enum(*labels, name="x")))

    assert describe_tables([table("a")], POSTGRESQL) != describe_tables([table("a", "b")], POSTGRESQL)
    assert describe_tables([table("a")], POSTGRESQL) == describe_tables([table("a")], POSTGRESQL)


def test_a_type_that_a_database_lacks_is_described_all_the_same() -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("x", postgresql.HSTORE))
    assert describe_tables([table], MYSQL)


class TestCreateDatabase:
    @pytest.mark.parametrize(
        "name", ["opal_new", "Mixed Case", "größe", 'quo"ted', "per%cent", "semi;colon", "o'brien", "select"]
    )
    def test_a_missing_one_is_made_whatever_its_name(self, postgres: Cluster, name: str) -> None:
        settings = database_of(postgres.url(name))
        engine = engine_of(postgres.url(name))
        try:
            assert create_database(engine, make_server_engines(settings), dry_run=True)
            assert create_database(engine, make_server_engines(settings))
            assert not create_database(engine, make_server_engines(settings))
            with engine.connect() as connection:
                assert connection.execute(sa.text("SELECT current_database()")).scalar() == name
        finally:
            engine.dispose()
            postgres.drop_database(name.replace('"', '""'))

    def test_it_is_made_through_any_database_that_lets_us_in(self, postgres: Cluster) -> None:
        postgres.execute("CREATE ROLE maker LOGIN CREATEDB PASSWORD 'x'")
        postgres.execute("REVOKE CONNECT ON DATABASE postgres FROM public")
        url = postgres.url("opal_made", user="maker", password="x")
        engine = engine_of(url)
        try:
            assert create_database(engine, make_server_engines(database_of(url)))
        finally:
            engine.dispose()
            postgres.execute("GRANT CONNECT ON DATABASE postgres TO public")
            postgres.drop_database("opal_made")
            postgres.execute("DROP ROLE maker")

    def test_sqlite_makes_its_own(self) -> None:
        assert not create_database(engine_of("sqlite:///x.db"), [])


def test_each_sub_app_makes_the_types_and_sequences_of_its_own_tables(postgres_url: str) -> None:
    engine, metadata = engine_of(postgres_url), sa.MetaData()
    number = sa.Sequence("number", metadata=metadata)
    mine = sa.Table("mine", metadata, sa.Column("x", sa.Enum("a", name="my_kind")))
    theirs = sa.Table(
        "theirs",
        metadata,
        sa.Column("x", sa.Enum("a", name="their_kind")),
        sa.Column("n", sa.Integer, server_default=number.next_value()),
    )
    known: set[str] = set()

    first = render_ddl([mine], Compiler(engine.dialect), known=known)
    second = render_ddl([theirs], Compiler(engine.dialect), known=known)

    assert [text.split(" (")[0] for text in first] == ["CREATE TYPE my_kind AS ENUM", "CREATE TABLE mine"]
    assert sorted(known) == ["my_kind", "number", "their_kind"]
    assert [text for text in second if "my_kind" in text] == []
    with engine.begin() as connection:
        create_tables(connection, [mine])
        assert [enum["name"] for enum in sa.inspect(connection).get_enums()] == ["my_kind"]  # type: ignore[attr-defined]
        create_tables(connection, [theirs], known={"my_kind"})
    engine.dispose()
