"""What a database would refuse is found before the first statement; what it takes is not held against anybody."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from opal_registry.base import NAMING_CONVENTION
from opal_registry.errors import Problem
from opal_registry.ownership.definitions import find_place
from opal_registry.preflight.checks import find_equal_names, find_impossible, find_unfit_database
from opal_registry.preflight.target import TITLES
from opal_registry.schema.compiled import Compiler
from tests.conftest import MARIADB, POSTGRES
from tests.distributions import Site
from tests.mariadb import MariaDB
from tests.postgres import Cluster
from tests.preflight import app_of, connected, counted, look, refusal
from tests.refusals import CASES, make, read_texts
from tests.writing import model, models

TEXTS = read_texts()
SAYS = re.compile(r" says: (.*?)(, at the first INSERT)?\)(?:;|$)")
SAMPLES = """
    import os
    import sqlalchemy as sa
    from opal_registry.engines.factory import make_engine
    from opal_registry.registry import Registry
    from opal_registry.schema.compiled import Compiler
    from opal_registry.preflight.checks import find_impossible
    from opal_registry.settings.model import Settings

    settings = Settings.model_validate({"database": {"url": os.environ["URL"]}})
    apps, queries = Registry(settings).suite.sub_apps, []
    with make_engine(settings.databases["default"]).connect() as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda *arguments: queries.append(arguments[2]))
        compiler = Compiler(connection.dialect)
        found = [find_impossible(app, app.tables, compiler, connection) for app in apps]
    print(len(apps), sum(found, []), queries)
"""


@pytest.fixture(scope="module", params=["sqlite", *POSTGRES, MARIADB])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database that all tests here share, on every kind of database there is."""
    if request.param == "sqlite":
        yield "sqlite://"
        return
    server: Cluster | MariaDB = request.getfixturevalue(request.param)
    server.start()
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def connection(url: str) -> Iterator[sa.Connection]:
    """A connection to it; what a test creates is gone at its end."""
    with connected(url) as connection:
        connection.scalar(sa.select(1))
        yield connection


@pytest.fixture
def database(connection: sa.Connection) -> str:
    """Its short name, as in ``refusals.txt``."""
    return "mariadb" if connection.dialect.name == "mysql" else connection.dialect.name


@pytest.mark.filterwarnings("ignore:Computed column items.y is being created as 'STORED'")
@pytest.mark.parametrize("case", CASES)
def test_what_a_database_refuses_is_found_beforehand(case: str, connection: sa.Connection, database: str) -> None:
    expected = TEXTS[case].get(database)
    metadata = make(case)
    with counted(connection) as queries:
        found = look(metadata.sorted_tables, connection)
    assert len(queries) <= 1
    said = refusal(connection, metadata, insert=expected is not None and "at the first INSERT" in expected[0])
    if expected is None:
        assert (found, said) == ([], "")
    elif expected[0] == "unsure":
        assert found == []
    else:
        assert found == [expected]
        words = SAYS.search(expected[0])
        assert said, "the database takes it"
        assert words is None or words[1].replace("(...)", "(") in said.replace("\n", " ") or "(...)" in words[1]


def test_whoever_is_said_to_take_a_model_does_not_refuse_it() -> None:
    for case, texts in TEXTS.items():
        for what, _ in texts.values():
            takers = re.search(r"; ([\w, ]+) would take it$", what)
            claimed = {name for name, title in TITLES.items() if takers and title in takers[1]} - {"mysql"}
            needs_extension = {"postgresql"} if "PostgreSQL's extension" in what else set()
            assert not claimed & (texts.keys() - needs_extension), case


def test_ordinary_tables_are_taken_without_a_query(connection: sa.Connection) -> None:
    metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)
    sa.Table("colours", metadata, sa.Column("code", sa.String(40), primary_key=True))
    items = sa.Table(
        "items",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(f"c{n}", kind) for n, kind in enumerate(ORDINARY)),
        sa.Column("name", sa.String(200), unique=True, index=True),
        sa.Column("colour", sa.ForeignKey("colours.code", ondelete="SET NULL")),
        sa.Column("parent_id", sa.ForeignKey("items.id", ondelete="CASCADE"), index=True, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.func.now()),
        sa.Column("is_new", sa.Boolean(create_constraint=True), server_default=sa.false()),
        sa.Column("price", sa.Numeric(10, 2), server_default="0"),
        sa.Column("note", sa.String(80), server_default="now()::text 'AT TIME ZONE'"),
        sa.Column("literal", sa.String(80), server_default=sa.text("'gen_random_uuid() :: ~ ILIKE'")),
        sa.Column("total", sa.Integer, sa.Computed("1 + 1", persisted=True)),
        sa.CheckConstraint("price >= 0 AND name <> '::'"),
        sa.CheckConstraint("length(name) > 2 AND name IN ('a', 'b') OR name LIKE 'gen_random_uuid()%'"),
        sa.UniqueConstraint("name", "price"),
        sa.Index("ix_body", "made_at", "name", postgresql_where=sa.text("price > 0"), mysql_length={"name": 100}),
    )
    sa.Index("ix_last", items.c.made_at.desc())
    sa.Index("ix_lower", sa.func.lower(items.c.name)).ddl_if(dialect=("sqlite", "postgresql"))  # type: ignore[arg-type]
    sa.Index("ix_trigrams", "name", postgresql_using="gin", _table=items).ddl_if(dialect="oracle")
    with counted(connection) as queries:
        assert look(metadata.sorted_tables, connection) == []
    assert queries == []
    metadata.create_all(connection)


ORDINARY: list[sa.types.TypeEngine[Any]] = [
    sa.SmallInteger(),
    sa.BigInteger(),
    sa.Float(),
    sa.Double(),
    sa.REAL(),
    sa.DECIMAL(8, 3),
    sa.Text(),
    sa.Unicode(30),
    sa.UnicodeText(),
    sa.CHAR(3),
    sa.LargeBinary(),
    sa.PickleType(),
    sa.Date(),
    sa.Time(),
    sa.DateTime(),
    sa.TIMESTAMP(),
    sa.Interval(),
    sa.JSON(),
    sa.Uuid(),
    sa.Enum("small", "large", name="size"),
    sa.Enum("small", "large", native_enum=False),
    sa.String(30).with_variant(postgresql.CITEXT(), "oracle"),
    sa.JSON().with_variant(postgresql.JSONB(), "postgresql"),
    sa.JSON().with_variant(postgresql.ARRAY(sa.Enum("red", "green", name="colour")), "postgresql"),
    sa.Text().with_variant(mysql.LONGTEXT(), "mysql").with_variant(postgresql.TSVECTOR(), "postgresql"),
]


def test_the_sample_sub_apps_are_taken_without_a_query(any_database_url: str, site: Site) -> None:
    done = site.python(SAMPLES, env={"URL": any_database_url}, suite=True)
    assert (done.err, done.out) == ("", "8 [] []\n")


def test_a_table_in_a_schema_is_fine_on_sqlite() -> None:
    table = sa.Table("items", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), schema="shop")
    assert look([table], dialect=sqlite.dialect()) == []


def test_nothing_is_created_where_anything_is_impossible(any_database_url: str, quick_site: Site) -> None:
    quick_site.sub_app("shop", models(model("Item", "shop_items", "x = sa.Column(sa.types.NullType)")))
    quick_site.sub_app("depot", models(model("Box", "depot_boxes", "y = sa.Column(sa.types.NullType)")))
    done = quick_site.run("init", env={"OPAL_DATABASE__URL": any_database_url})
    found = re.findall(r"sub-app '(\w+)': table '(\w+)': column '(\w)' has a type that", done.err)
    assert (done.code, found) == (3, [("depot", "depot_boxes", "y"), ("shop", "shop_items", "x")])
    with connected(any_database_url) as connection:
        assert sa.inspect(connection).get_table_names() == []


def test_all_problems_are_found_at_once_and_each_names_its_place(url: str) -> None:
    metadata = sa.MetaData()
    sa.Table("empty", metadata, sa.Column("x"), sa.Column("y"))
    sa.Table("items", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("z"))
    with connected(url) as connection:
        found = find_impossible(app_of("shop"), metadata.sorted_tables, Compiler(connection.dialect), connection)
    columns = [re.match(r"sub-app 'shop': (table '\w+': column '\w') has a type", problem.what)[1] for problem in found]  # type: ignore[index]
    assert columns == ["table 'empty': column 'x'", "table 'empty': column 'y'", "table 'items': column 'z'"]
    assert {problem.where for problem in found} == {find_place(table) for table in metadata.sorted_tables}


def test_without_a_database_only_what_is_certain_is_said() -> None:
    dialect: sa.Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    assert look(make("a type that nobody has").sorted_tables, dialect=dialect) == []
    assert look(make("a function of MySQL as a default").sorted_tables, dialect=dialect) == []
    assert look(make("now() as a default").sorted_tables, dialect=sqlite.dialect()) == []
    assert look(make("an index of a function").sorted_tables, dialect=mysql.dialect()) == []
    assert look(make("a type of an extension").sorted_tables, dialect=dialect) == [
        (
            "column 'x' has the type CITEXT of the extension 'citext', which is not installed in this database "
            '(PostgreSQL says: type "citext" does not exist)',
            "make the database first (opal-db init --create-database), then run CREATE EXTENSION IF NOT EXISTS citext; "
            "in the database",
        )
    ]
    assert look(make("a long primary key").sorted_tables, dialect=mysql.dialect()) == [
        (
            "the primary key of 'x' is 3076 bytes long, MySQL or MariaDB allows 3072 (MySQL or MariaDB says: "
            "Specified key was too long; max key length is 3072 bytes); SQLite and PostgreSQL would take it",
            "make its columns shorter, or take some out",
        )
    ]


def test_mysql_refuses_more_than_mariadb() -> None:
    """MySQL itself is not run here: these are from its manual."""
    dialect = mysql.dialect()
    dialect.server_version_info = (8, 4, 0)
    metadata = sa.MetaData()
    items = sa.Table(
        "items",
        metadata,
        sa.Column("id", sa.UUID, primary_key=True),
        sa.Column("name", sa.String(769), unique=True),
        sa.Column("body", sa.Text, index=True),
        sa.Column("data", sa.JSON, server_default="{}"),
    )
    sa.Index("ix_ok", items.c.body, mysql_length=20)
    too_long = "(MySQL says: Specified key was too long; max key length is 3072 bytes)"
    assert [what for what, _ in look([items], dialect=dialect)] == [
        "column 'id' has the type UUID, which MySQL does not have; SQLite, PostgreSQL and MariaDB would take it",
        f"the unique constraint of 'name' is 3076 bytes long, MySQL allows 3072 {too_long}; "
        "SQLite, PostgreSQL and MariaDB would take it",
        "the index 'ix_items_body' holds the column 'body' of the type TEXT (MySQL says: BLOB/TEXT column 'body' used in "
        "key specification without a key length); SQLite, PostgreSQL and MariaDB would take it",
        "column 'data' is of the type JSON and has a default (MySQL says: BLOB, TEXT, GEOMETRY or JSON column 'data' "
        "can't have a default value); SQLite, PostgreSQL and MariaDB would take it",
    ]


def test_prefixes_character_sets_and_other_engines_keep_keys_short(connection: sa.Connection, database: str) -> None:
    metadata = sa.MetaData()
    latin: Any = {"mysql_charset": "latin1", "mysql_engine": "InnoDB"}
    long = mysql.VARCHAR(3000, charset="latin1") if database == "mariadb" else sa.String(3000)
    sa.Table(
        "items",
        metadata,
        sa.Column("id", sa.String(3000), primary_key=True),
        sa.Column("x", sa.String(20_000)),
        **latin,
    )
    sa.Table("words", metadata, sa.Column("id", long, primary_key=True), sa.Column("x", sa.Text, index=True))
    columns: list[Any] = [
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("x", sa.Text),
        sa.Column("y", sa.String(3000)),
    ]
    some = sa.Index("ix_some", "x", "y", mysql_length={"x": 300, "y": 400})
    sa.Table("notes", metadata, *columns, some, sa.Index("ix_full", "x", mysql_prefix="FULLTEXT"))
    assert look(metadata.sorted_tables, connection) == []
    assert refusal(connection, metadata) == ""


def named(schema: str | None, *indexes: sa.Index) -> sa.Table:
    return sa.Table("items", sa.MetaData(), sa.Column("id", sa.Integer), *indexes, schema=schema)


def test_names_that_become_one_where_schemas_are_left_out() -> None:
    shop, depot = named("shop", sa.Index("ix_id", "id")), named("depot", sa.Index("IX_ID", "id"))
    apps = [app_of("shop", shop), app_of("depot", depot)]
    where = f"{find_place(shop)} and {find_place(depot)}"
    mend = "rename one of them, or use a database that has schemas"
    assert find_equal_names(apps, Compiler(sqlite.dialect())) == [
        Problem(
            "the table 'shop.items' of sub-app 'shop' (opal-shop 2.0) and the table 'depot.items' of sub-app 'depot' "
            "(opal-depot 2.0) have one name on SQLite, which has no schemas",
            where,
            mend,
        ),
        Problem(
            "the index 'shop.ix_id' of sub-app 'shop' (opal-shop 2.0) and the index 'depot.IX_ID' of sub-app 'depot' "
            "(opal-depot 2.0) have one name on SQLite, which has no schemas",
            where,
            mend,
        ),
    ]
    assert find_equal_names(apps, Compiler(postgresql.dialect())) == []  # type: ignore[no-untyped-call]
    assert (
        find_equal_names([app_of("shop", named(None)), app_of("depot", named(None))], Compiler(sqlite.dialect())) == []
    )


def test_a_postgresql_that_cannot_hold_every_text_is_unfit(postgres: Cluster) -> None:
    postgres.execute("CREATE DATABASE opal_latin ENCODING 'LATIN1' TEMPLATE template0")
    with connected(postgres.url("opal_latin")) as connection:
        assert find_unfit_database(connection) == [
            Problem(
                "the database has the encoding LATIN1, which cannot hold every text",
                f"postgresql+psycopg://postgres@127.0.0.1:{postgres.port}/opal_latin",
                "make another one: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
            )
        ]
    postgres.drop_database("opal_latin")


def test_a_mariadb_that_cannot_hold_every_text_is_unfit(mariadb: MariaDB, mariadb_url: str) -> None:
    name = sa.make_url(mariadb_url).database
    mariadb.execute(f"ALTER DATABASE `{name}` CHARACTER SET latin1")
    with connected(mariadb_url) as connection:
        connection.exec_driver_sql("SET default_storage_engine = MyISAM")
        with counted(connection) as queries:
            found = find_unfit_database(connection)
        where = mariadb_url.replace("root:@", "root@")
        assert found == [
            Problem(
                "the database has the character set latin1, which cannot hold every text",
                where,
                f"ALTER DATABASE `{name}` CHARACTER SET utf8mb4",
            ),
            Problem(
                "the server makes tables with MyISAM unless told otherwise, which keeps no foreign keys and takes nothing "
                "back",
                where,
                "set default_storage_engine=InnoDB in the server's configuration",
            ),
        ]
        assert len(queries) == 1


def test_an_ordinary_database_is_fit(connection: sa.Connection) -> None:
    assert find_unfit_database(connection) == []
