"""What is in a database: what differs is reported, and what does not never is."""

import enum
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql as my
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects import sqlite

from opal_registry.base import NAMING_CONVENTION
from opal_registry.engines.factory import with_intent
from opal_registry.mixins import UtcDateTime
from opal_registry.schema.catalog import read_catalog
from opal_registry.schema.live import Difference, Live
from tests.databases import engine_of


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Shouted(sa.TypeDecorator[str]):
    """A type of somebody's own."""

    impl = sa.String(50)
    cache_ok = True


EVERYWHERE: list[Any] = [
    sa.BigInteger(),
    sa.Boolean(),
    sa.Boolean(create_constraint=True),
    sa.Date(),
    sa.DateTime(),
    sa.DateTime(timezone=True),
    sa.Double(),
    sa.Double(53),
    sa.Enum(Colour),
    sa.Enum("a", "bb", name="letters"),
    sa.Enum("a", "bb", native_enum=False, create_constraint=True),
    sa.Enum("a", "bb", native_enum=False, length=40),
    sa.Float(),
    sa.Float(10),
    sa.Float(24),
    sa.Float(53),
    sa.Integer(),
    sa.Interval(),
    sa.Interval(second_precision=3),
    sa.JSON(),
    sa.LargeBinary(),
    sa.LargeBinary(10),
    sa.Numeric(),
    sa.Numeric(10),
    sa.Numeric(10, 2),
    sa.Numeric(10, 2, asdecimal=False),
    sa.PickleType(),
    sa.SmallInteger(),
    sa.String(),
    sa.String(50),
    sa.Text(),
    sa.Time(),
    sa.Time(timezone=True),
    sa.Unicode(),
    sa.Unicode(20),
    sa.UnicodeText(),
    sa.Uuid(),
    sa.Uuid(native_uuid=False),
    sa.BIGINT(),
    sa.BOOLEAN(),
    sa.CHAR(),
    sa.CHAR(10),
    sa.DATE(),
    sa.DECIMAL(),
    sa.DECIMAL(5, 2),
    sa.DOUBLE_PRECISION(),
    sa.FLOAT(),
    sa.FLOAT(5),
    sa.INT(),
    sa.NCHAR(5),
    sa.NUMERIC(8, 3),
    sa.REAL(),
    sa.SMALLINT(),
    sa.TEXT(),
    sa.TIME(),
    sa.TIMESTAMP(),
    sa.TIMESTAMP(timezone=True),
    sa.UUID(),
    sa.VARCHAR(),
    sa.VARCHAR(20),
    Shouted(),
    UtcDateTime(),
    sa.JSON().with_variant(pg.JSONB(), "postgresql"),
    sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
    sa.String(10).with_variant(sa.String(30), "postgresql"),
]
SQLITE: list[Any] = [
    sa.BINARY(10),
    sa.BLOB(),
    sa.CLOB(),
    sa.DATETIME(),
    sa.DOUBLE(),
    sa.NVARCHAR(20),
    sa.Text(100),
    sa.VARBINARY(10),
    *(kind() for kind in (sqlite.DATE, sqlite.DATETIME, sqlite.JSON, sqlite.NUMERIC, sqlite.TIMESTAMP)),
]
PLAIN_POSTGRESQL = (
    "BIT BYTEA CIDR DATEMULTIRANGE DATERANGE INET INT4MULTIRANGE INT4RANGE INT8MULTIRANGE INT8RANGE INTERVAL JSON JSONB"
    " JSONPATH MACADDR MACADDR8 MONEY NUMMULTIRANGE NUMRANGE OID REGCLASS REGCONFIG TIME TIMESTAMP TSMULTIRANGE TSQUERY"
    " TSRANGE TSTZMULTIRANGE TSTZRANGE TSVECTOR"
)
POSTGRESQL: list[Any] = [
    *(getattr(pg, name)() for name in PLAIN_POSTGRESQL.split()),
    pg.ARRAY(sa.Text()),
    pg.BIT(5),
    pg.BIT(varying=True),
    pg.BIT(7, varying=True),
    pg.DOMAIN("positive", sa.Integer(), check="VALUE > 0"),
    pg.ENUM("q", "w", name="queue"),
    pg.INTERVAL(fields="DAY TO SECOND", precision=3),
    pg.INTERVAL(fields="YEAR"),
    pg.TIME(precision=3),
    pg.TIMESTAMP(timezone=True, precision=3),
    pg.UUID(as_uuid=False),
    sa.ARRAY(sa.Enum("x", "y", name="axis")),
    sa.ARRAY(sa.Integer(), dimensions=2),
    sa.ARRAY(sa.String(30)),
    sa.String(50, collation="C"),
]
NOT_ON_MYSQL = ("Double(precision=53)", "String()", "Unicode()", "VARCHAR()")
"""Of the types that are to be had everywhere, those that MySQL has no words for."""

PLAIN_MYSQL = (
    "BIT BLOB DATE DATETIME DECIMAL DOUBLE FLOAT JSON LONGBLOB LONGTEXT MEDIUMBLOB MEDIUMINT MEDIUMTEXT NUMERIC REAL"
    " TEXT TIME TIMESTAMP TINYBLOB TINYINT TINYTEXT YEAR"
)
MYSQL: list[Any] = [
    *(getattr(my, name)() for name in PLAIN_MYSQL.split()),
    my.BIGINT(unsigned=True),
    my.BIT(5),
    my.CHAR(4),
    my.DATETIME(fsp=6),
    my.DECIMAL(10, 2, unsigned=True),
    my.DOUBLE(10, 3),
    my.DOUBLE(asdecimal=False),
    my.ENUM("a", "b"),
    my.FLOAT(7, 2),
    my.FLOAT(unsigned=True),
    my.INTEGER(display_width=11),
    my.INTEGER(display_width=5, zerofill=True),
    my.INTEGER(unsigned=True),
    my.NCHAR(4),
    my.NVARCHAR(9),
    my.SET("a", "b"),
    my.TEXT(100),
    my.TEXT(70_000),
    my.TIME(fsp=3),
    my.TIMESTAMP(fsp=6),
    my.TINYINT(1),
    my.TINYINT(unsigned=True),
    my.VARCHAR(20, charset="latin1"),
    my.VARCHAR(20, collation="utf8mb4_bin"),
    sa.BigInteger().with_variant(my.BIGINT(unsigned=True), "mysql", "mariadb"),
    sa.BINARY(16),
    sa.Enum("it's", "%", "ü"),
    sa.LargeBinary(70_000),
    sa.NVARCHAR(20),
    sa.Text(60),
    sa.VARBINARY(10),
]


def kinds_of(dialect: str) -> list[Any]:
    """Every type that a database has."""
    if dialect in {"mysql", "mariadb"}:
        return [kind for kind in EVERYWHERE if repr(kind) not in NOT_ON_MYSQL] + MYSQL
    return EVERYWHERE + {"sqlite": SQLITE, "postgresql": POSTGRESQL}[dialect]


@pytest.fixture
def engine(any_database_url: str) -> Iterator[sa.Engine]:
    """An engine of an empty database."""
    engine = engine_of(any_database_url)
    yield engine
    engine.dispose()


def thing(*columns: sa.schema.SchemaItem, schema: str | None = None) -> sa.Table:
    """A table ``things`` of some columns."""
    return sa.Table("things", sa.MetaData(naming_convention=NAMING_CONVENTION), *columns, schema=schema)


def live_of(connection: sa.Connection, tables: Sequence[sa.Table]) -> Live:
    return Live(connection, tables, read_catalog(connection))


def compare(engine: sa.Engine, there: sa.Table | str, model: sa.Table) -> list[Difference]:
    """How a table that is there differs from a model."""
    with engine.begin() as connection:
        if isinstance(there, str):
            connection.exec_driver_sql(there)
        else:
            there.metadata.create_all(connection)
    with with_intent(engine, "read_only").connect() as connection:
        return live_of(connection, [model]).differences([model])


def test_what_was_made_from_a_model_never_differs_from_it(engine: sa.Engine) -> None:
    metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)
    key = ("id", sa.Integer)
    kinds = kinds_of(engine.dialect.name)
    tables = [
        sa.Table(f"t{n}", metadata, sa.Column(*key, primary_key=True), sa.Column("c", kind, nullable=n % 2 == 0))
        for n, kind in enumerate(kinds)
    ]
    metadata.create_all(engine)
    with with_intent(engine, "read_only").connect() as connection:
        live = live_of(connection, tables)
        assert [str(difference) for difference in live.differences(tables)] == []


def test_many_tables_take_few_questions(postgres_url: str) -> None:
    engine = engine_of(postgres_url)
    metadata = sa.MetaData()
    tables = [sa.Table(f"t{n}", metadata, sa.Column("id", sa.Integer, primary_key=True)) for n in range(50)]
    metadata.create_all(engine)
    asked: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *arguments: asked.append(arguments[2]))
    with engine.connect() as connection:
        assert live_of(connection, tables).differences(tables) == []
    assert len(asked) <= 10
    engine.dispose()


REAL_CHANGES: list[Any] = [
    (sa.Integer(), sa.BigInteger(), ["postgresql", "sqlite", "mysql"]),
    (sa.String(20), sa.String(80), ["postgresql", "sqlite", "mysql"]),
    (sa.Integer(), sa.Text(), ["postgresql", "sqlite", "mysql"]),
    (sa.Text(), sa.JSON(), ["postgresql", "mysql"]),
    (sa.JSON(), pg.JSONB(), ["postgresql"]),
    (sa.DateTime(), sa.DateTime(timezone=True), ["postgresql"]),
    (sa.Numeric(10, 2), sa.Numeric(12, 2), ["postgresql", "sqlite", "mysql"]),
    (sa.Float(24), sa.Float(53), ["postgresql"]),
    (sa.Float(53), sa.Float(24), ["mysql"]),
    (sa.Boolean(), sa.Integer(), ["postgresql", "sqlite", "mysql"]),
    (sa.Uuid(), sa.String(36), ["postgresql", "sqlite", "mysql"]),
    (sa.Date(), sa.DateTime(), ["postgresql", "sqlite", "mysql"]),
    (sa.Enum("a", name="one"), sa.Enum("a", name="two"), ["postgresql"]),
    (sa.ARRAY(sa.Integer()), sa.ARRAY(sa.BigInteger()), ["postgresql"]),
    (pg.JSONPATH(), pg.TEXT(), ["postgresql"]),
    (my.TEXT(), my.LONGTEXT(), ["mysql"]),
    (sa.LargeBinary(10), sa.LargeBinary(1000), ["mysql"]),
    (sa.NVARCHAR(20), sa.NVARCHAR(30), ["mysql"]),
    (sa.LargeBinary(), sa.Text(), ["postgresql", "sqlite", "mysql"]),
]


def test_every_type_that_differs_is_reported(engine: sa.Engine) -> None:
    there, model = sa.MetaData(), sa.MetaData()
    changes = [(old, new) for old, new, where in REAL_CHANGES if engine.dialect.name in where]
    for n, (old, new) in enumerate(changes):
        sa.Table(f"t{n}", there, sa.Column("c", old))
        sa.Table(f"t{n}", model, sa.Column("c", new))
    there.create_all(engine)
    tables = list(model.tables.values())
    with with_intent(engine, "read_only").connect() as connection:
        differences = live_of(connection, tables).differences(tables)
    assert [(difference.table, difference.column) for difference in differences] == [(t.name, "c") for t in tables]
    assert all(re.match(r"the type is .+, the model says .+", difference.what) for difference in differences)


def test_an_enum_that_lacks_a_value_is_reported(postgres_url: str) -> None:
    engine = engine_of(postgres_url)
    [difference] = compare(
        engine,
        thing(sa.Column("c", sa.Enum("a", "x", name="letters"))),
        thing(sa.Column("c", sa.Enum("a", "b", name="letters"))),
    )
    engine.dispose()
    assert str(difference) == "things.c: the type letters lacks the value 'b'"


@pytest.mark.parametrize(
    ("there", "said"),
    [(("a", "x"), ["things.c: the type lacks the value 'b', 'c'"]), (("c", "b", "a", "newer"), [])],
    ids=["lacks some", "has more"],
)
def test_an_enum_of_mariadb_may_have_more_values_but_not_fewer(
    mariadb_url: str, there: tuple[str, ...], said: list[str]
) -> None:
    engine = engine_of(mariadb_url)
    differences = compare(engine, thing(sa.Column("c", sa.Enum(*there))), thing(sa.Column("c", sa.Enum("a", "b", "c"))))
    engine.dispose()
    assert [str(difference) for difference in differences] == said
    assert all(difference.mend == "migrate the column, or correct the model" for difference in differences)


@pytest.mark.parametrize("there", ["DATETIME", "DATETIME(3)"])
def test_a_moment_that_mariadb_keeps_without_its_fraction_is_a_note(mariadb_url: str, there: str) -> None:
    engine = engine_of(mariadb_url)
    model = thing(sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", UtcDateTime))
    [difference] = compare(engine, f"CREATE TABLE things (id INTEGER PRIMARY KEY, at {there} NULL)", model)
    assert (str(difference), difference.harmful) == (
        f"things.at: the type is {there}, the model says DATETIME(6): fractions of a second are lost",
        False,
    )
    engine.dispose()


def test_one_that_it_keeps_more_finely_than_need_be_is_none(mariadb_url: str) -> None:
    engine = engine_of(mariadb_url)
    model = thing(sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", my.DATETIME(fsp=3)))
    assert compare(engine, "CREATE TABLE things (id INTEGER PRIMARY KEY, at DATETIME(6) NULL)", model) == []
    engine.dispose()


def test_a_type_that_nobody_knows_is_reported_without_a_warning(postgres_url: str) -> None:
    engine = engine_of(postgres_url)
    [difference] = compare(engine, "CREATE TABLE things (c pg_lsn)", thing(sa.Column("c", sa.Text)))
    engine.dispose()
    assert "the model says TEXT" in difference.what


def test_a_missing_column_is_reported_with_the_statement_to_add_it(engine: sa.Engine) -> None:
    [difference] = compare(
        engine, "CREATE TABLE things (a INTEGER)", thing(sa.Column("a", sa.Integer), sa.Column("b C", sa.Date))
    )

    assert str(difference) == "things.b C: the model has this column (DATE), the table lacks it"
    quoted = engine.dialect.identifier_preparer.quote("b C")
    assert difference.mend == f"add it: ALTER TABLE things ADD COLUMN {quoted} DATE"


def test_a_missing_column_that_needs_a_value_says_so(engine: sa.Engine) -> None:
    model = thing(sa.Column("a", sa.Integer), sa.Column("b", sa.Date, nullable=False))
    [difference] = compare(engine, "CREATE TABLE things (a INTEGER)", model)

    assert difference.mend.endswith("ADD COLUMN b DATE, give every row a value, then forbid NULL")


def test_a_missing_column_of_a_type_that_the_database_lacks_is_reported_all_the_same(tmp_path: Path) -> None:
    engine = engine_of(f"sqlite:///{tmp_path / 'x.db'}")
    model = thing(sa.Column("a", sa.Integer), sa.Column("b", sa.ARRAY(sa.Integer)))
    [difference] = compare(engine, "CREATE TABLE things (a INTEGER)", model)
    engine.dispose()
    assert "ARRAY(Integer())" in difference.what


@pytest.mark.parametrize(
    ("ddl", "harmful"),
    [
        ("b INTEGER", False),
        ("b INTEGER NOT NULL", True),
        ("b INTEGER NOT NULL DEFAULT 1", False),
        ("b INTEGER NOT NULL GENERATED ALWAYS AS (a + 1) STORED", False),
    ],
)
def test_a_column_that_the_model_does_not_know_harms_only_inserts(engine: sa.Engine, ddl: str, harmful: bool) -> None:
    if engine.dialect.name == "mysql":  # MariaDB's computed columns may always be NULL
        ddl = ddl.replace("NOT NULL GENERATED", "GENERATED")
    [difference] = compare(engine, f"CREATE TABLE things (a INTEGER, {ddl})", thing(sa.Column("a", sa.Integer)))

    assert difference.what.startswith("the table has this column, the model does not know it")
    assert difference.harmful is harmful
    assert ("every INSERT would fail" in difference.what) is harmful


def test_an_identity_column_that_the_model_does_not_know_is_harmless(postgres_url: str) -> None:
    engine = engine_of(postgres_url)
    ddl = "CREATE TABLE things (a INTEGER, b INTEGER GENERATED ALWAYS AS IDENTITY, c SERIAL)"
    assert [d.harmful for d in compare(engine, ddl, thing(sa.Column("a", sa.Integer)))] == [False, False]
    engine.dispose()


@pytest.mark.parametrize(
    ("nullable", "what"),
    [
        (True, "the column may not be NULL, the model says it may be NULL"),
        (False, "the column may be NULL, the model says it may not be NULL"),
    ],
)
def test_nullability_that_differs_is_reported(engine: sa.Engine, nullable: bool, what: str) -> None:
    ddl = f"CREATE TABLE things (a INTEGER {'NOT NULL' if nullable else ''})"
    [difference] = compare(engine, ddl, thing(sa.Column("a", sa.Integer, nullable=nullable)))

    assert str(difference) == f"things.a: {what}"


def test_a_primary_key_that_differs_is_reported(engine: sa.Engine) -> None:
    ddl = "CREATE TABLE things (a INTEGER NOT NULL, b INTEGER NOT NULL, PRIMARY KEY (a))"
    columns = [sa.Column(name, sa.Integer, primary_key=True) for name in "ab"]
    assert [str(d) for d in compare(engine, ddl, thing(*columns))] == [
        "things: the primary key is (a), the model says (a, b)"
    ]


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_in_place_of_the_table_is_reported(engine: sa.Engine, kind: str) -> None:
    if kind != "VIEW" and engine.dialect.name != "postgresql":
        return
    [difference] = compare(engine, f"CREATE {kind} things AS SELECT 1 AS a", thing(sa.Column("a", sa.Integer)))

    assert str(difference) == f"things: there is a {kind.lower()} of that name"
    assert difference.mend == f"drop or rename the {kind.lower()}"


def test_the_table_of_the_original_suite_is_recognised(engine: sa.Engine) -> None:
    from opal_registry.models import User

    users = User.metadata.tables["users"]
    differences = compare(
        engine,
        """CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, username VARCHAR(50), hashed_password VARCHAR(99),
           first_name VARCHAR(50), last_name VARCHAR(50))""",
        users,
    )
    missing = [difference for difference in differences if "lacks it" in difference.what]
    assert {difference.column for difference in missing} == {"email", "is_active", "roles", "created_at", "updated_at"}
    assert all("it is the table of the original suite" in difference.what for difference in missing)


def test_names_are_compared_as_the_database_does(database_url: str) -> None:
    engine = engine_of(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql('CREATE TABLE "Things" ("A" INTEGER)')
    model = thing(sa.Column("a", sa.Integer))
    with engine.connect() as connection:
        is_there = read_catalog(connection).find(model) is not None
        assert is_there == (engine.dialect.name == "sqlite")
        assert live_of(connection, [model]).differences([model]) == []
    engine.dispose()


def test_schemas_are_told_apart(postgres_url: str) -> None:
    engine = engine_of(postgres_url)
    inside = thing(sa.Column("id", sa.Integer, primary_key=True), schema="shop")
    outside = thing(sa.Column("id", sa.Integer, primary_key=True))
    elsewhere = thing(sa.Column("id", sa.Integer), schema="nowhere")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA shop")
        connection.exec_driver_sql("CREATE TYPE shop.kind AS ENUM ('a')")
        connection.exec_driver_sql("CREATE TABLE shop.things (id BIGSERIAL PRIMARY KEY)")
    with engine.connect() as connection:
        live, catalog = live_of(connection, [inside, outside, elsewhere]), read_catalog(connection)
        assert [catalog.find(table) is not None for table in (inside, outside, elsewhere)] == [True, False, False]
        assert [str(d) for d in live.differences([inside])] == [
            "shop.things.id: the type is BIGINT, the model says INTEGER"
        ]
        assert {"shop.", "public.", "shop.kind", "shop.things_id_seq"} <= catalog.known
    engine.dispose()


def test_a_partitioned_table_and_a_foreign_one_are_tables(postgres_url: str) -> None:
    engine = engine_of(postgres_url)
    ddl = "CREATE TABLE things (a INTEGER) PARTITION BY HASH (a)"
    assert compare(engine, ddl, thing(sa.Column("a", sa.Integer))) == []
    engine.dispose()
