"""DDL is kept back and sent in few round trips, and nothing that runs in between notices."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.errors import DatabaseError
from opal_registry.schema.batch import Batch, Statement, send_singly, send_together
from opal_registry.schema.compiled import Compiler
from opal_registry.schema.ddl import Creator
from tests.databases import create_tables, engine_of


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = engine_of(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def postgres_engine(postgres_url: str) -> Iterator[sa.Engine]:
    engine = engine_of(postgres_url)
    yield engine
    engine.dispose()


def tables(number: int, **options: Any) -> list[sa.Table]:
    metadata = sa.MetaData()
    return [
        sa.Table(f"t{n}", metadata, sa.Column("id", sa.Integer, primary_key=True), **options) for n in range(number)
    ]


def sent_by(engine: sa.Engine) -> list[str]:
    sent: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *arguments: sent.append(arguments[2]))
    return sent


def test_postgresql_gets_everything_in_one_text(postgres_engine: sa.Engine) -> None:
    sent = sent_by(postgres_engine)
    metadata = sa.MetaData()
    sa.Table("a", metadata, sa.Column("kind", sa.Enum("x", name="kind"), comment="it's 5 %"), comment="everybody's")
    sa.Table("b", metadata, sa.Column("n", sa.Integer, sa.Sequence("numbers"), index=True))
    with postgres_engine.begin() as connection:
        create_tables(connection, list(metadata.tables.values()))

    [text] = sent
    assert text.count("\n;\n") == 8
    with postgres_engine.connect() as connection:
        inspector = sa.inspect(connection)
        assert inspector.get_columns("a")[0]["comment"] == "it's 5 %"
        assert inspector.get_table_comment("a") == {"text": "everybody's"}
        assert inspector.get_sequence_names() == ["numbers"]


def test_what_a_listener_reads_and_writes_comes_after_what_was_created_before(engine: sa.Engine) -> None:
    [first, second] = tables(2)

    @sa.event.listens_for(first, "after_create")
    def fill(_: sa.Table, connection: sa.Connection, **__: Any) -> None:
        connection.execute(sa.insert(first).values(id=7))
        assert sa.inspect(connection).has_table("t0")

    @sa.event.listens_for(second, "before_create")
    def read(_: sa.Table, connection: sa.Connection, **__: Any) -> None:
        assert connection.scalars(sa.select(first.c.id)).all() == [7]

    with engine.begin() as connection:
        create_tables(connection, [first, second])
    with engine.connect() as connection:
        assert connection.scalar(sa.select(first.c.id)) == 7


def test_a_listener_that_takes_the_drivers_connection_sees_it_too(engine: sa.Engine) -> None:
    [table] = tables(1)

    @sa.event.listens_for(table, "after_create")
    def fill(_: sa.Table, connection: sa.Connection, **__: Any) -> None:
        cursor = connection.connection.cursor()
        cursor.execute("INSERT INTO t0 (id) VALUES (7)")
        cursor.close()

    with engine.begin() as connection:
        create_tables(connection, [table])
        assert connection.scalar(sa.select(table.c.id)) == 7


def test_a_listeners_own_ddl_keeps_its_place(engine: sa.Engine) -> None:
    [table] = tables(1)
    sa.event.listen(table, "before_create", sa.DDL("CREATE TABLE helper (x INTEGER); -- 100%%"))  # type: ignore[no-untyped-call]
    sa.event.listen(table, "after_create", sa.DDL("INSERT INTO helper (x) VALUES (1)"))  # type: ignore[no-untyped-call]
    with engine.begin() as connection:
        create_tables(connection, [table])
        assert connection.scalar(sa.text("SELECT x FROM helper")) == 1


def test_percent_signs_are_stored_as_they_are_written(engine: sa.Engine) -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("s", sa.Text, server_default="5 %, %s"))
    with engine.begin() as connection:
        create_tables(connection, [table])
        connection.execute(sa.insert(table).values(id=1))
        assert connection.scalar(sa.select(table.c.s)) == "5 %, %s"


def with_default(text: str) -> list[sa.Table]:
    """Three tables, of which a database refuses the second."""
    good, other = tables(2)
    bad = sa.Table("bad", good.metadata, sa.Column("x", sa.Integer, server_default=sa.text(text)))
    return [good, bad, other]


@pytest.mark.parametrize("default", ["(((", "no_such_function()", "'ten'::int"])
def test_the_statement_that_is_refused_is_named(postgres_engine: sa.Engine, default: str) -> None:
    with pytest.raises(DatabaseError) as caught, postgres_engine.begin() as connection:
        create(connection, with_default(default))
    [problem] = caught.value.problems
    assert "creating the tables of sub-app 'shop'; statement: CREATE TABLE bad (" in problem.where
    with postgres_engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []


def test_one_that_is_refused_without_a_place_is_found_by_sending_them_singly(postgres_engine: sa.Engine) -> None:
    first, second = tables(2)
    sa.Index("t0", second.c.id)
    with pytest.raises(DatabaseError) as caught, postgres_engine.begin() as connection:
        create(connection, [first, second])
    [problem] = caught.value.problems
    assert problem.what.startswith('something of that name is there already: relation "t0" already exists')
    assert problem.where.endswith("statement: CREATE INDEX t0 ON t1 (id)")


def test_sqlite_names_it_as_well(tmp_path: Path) -> None:
    engine = engine_of(f"sqlite:///{tmp_path / 'opal.db'}")
    with pytest.raises(DatabaseError) as caught, engine.begin() as connection:
        create(connection, with_default("((("))
    [problem] = caught.value.problems
    assert "creating the tables of sub-app 'shop'; statement: CREATE TABLE bad (" in problem.where
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []
    engine.dispose()


def create(connection: sa.Connection, found: Sequence[sa.Table]) -> None:
    send = send_together if connection.dialect.name == "postgresql" else send_singly
    with Batch(connection, Compiler(connection.dialect), send).open() as batch:
        batch.doing = "creating the tables of sub-app 'shop'"
        Creator(batch, set()).create(found)


def test_waiting_for_a_table_in_use_is_not_tried_again_one_by_one(postgres_engine: sa.Engine) -> None:
    (users,) = tables(1)
    users.create(postgres_engine)
    metadata = users.metadata
    child = sa.Table("child", metadata, sa.Column("user_id", sa.ForeignKey(users.c.id)))
    sent = sent_by(postgres_engine)
    with postgres_engine.begin() as blocker:
        blocker.exec_driver_sql("LOCK TABLE t0 IN ACCESS EXCLUSIVE MODE")
        with postgres_engine.connect() as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = 50")
            with pytest.raises(DatabaseError, match="lock timeout"):
                create_tables(connection, [child, *tables(3)[1:]])
    assert len([text for text in sent if "CREATE TABLE" in text]) == 1


def test_nothing_is_sent_when_making_fails(engine: sa.Engine) -> None:
    sent = sent_by(engine)
    (table,) = tables(1)

    @sa.event.listens_for(table, "after_create")
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        create_tables(connection, [table])
    assert [text for text in sent if "CREATE" in text] == []


def test_a_batch_sends_at_its_end_and_in_order(engine: sa.Engine) -> None:
    told: list[str] = []

    def send(_: sa.Connection, statements: Sequence[Statement]) -> None:
        told.extend(statement.text for statement in statements)

    with engine.begin() as connection, Batch(connection, Compiler(connection.dialect), send).open() as batch:
        batch.add(sa.text("SELECT 1"))
        batch.add(sa.text("SELECT 2"))
        assert told == []
        connection.execute(sa.text("SELECT 3"))
        assert told == ["SELECT 1", "SELECT 2"]
        batch.add(sa.text("SELECT 4"))
    assert told == ["SELECT 1", "SELECT 2", "SELECT 4"]


def test_a_name_with_percent_signs_is_made_and_found_as_it_is_written(engine: sa.Engine) -> None:
    table = sa.Table("50% off", sa.MetaData(), sa.Column("a%s", sa.Integer, primary_key=True))
    with engine.begin() as connection:
        assert not sa.inspect(connection).has_table("50% off")
        create_tables(connection, [table])
        connection.execute(sa.insert(table).values({"a%s": 1}))
        assert connection.scalar(sa.select(table.c["a%s"])) == 1
        assert sa.inspect(connection).get_table_names() == ["50% off"]
