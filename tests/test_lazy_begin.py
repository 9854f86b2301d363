"""On PostgreSQL a plain SELECT runs alone; what may do more than read begins a transaction, and nothing is lost or kept."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import sqlalchemy as sa

from benchmarks.proxy import DelayProxy
from opal_registry.engines.factory import make_async_engine
from opal_registry.engines.lazy_begin import is_plain
from opal_registry.models import User
from opal_registry.registry import Registry
from tests.databases import database_of, engine_of, registry_of
from tests.postgres import Cluster

USERS: Any = User.__table__
IDS = sa.select(USERS.c.id)
DELETED = sa.delete(USERS).returning(USERS.c.id).cte("deleted")
INSERTED = sa.insert(USERS).values(username="cyd", roles=[]).returning(USERS.c.id).cte("inserted")


@pytest.fixture
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    """An engine of the registry's, of a database with a table ``users`` in which there is Ada."""
    engine = engine_of(postgres_url)
    User.metadata.create_all(engine, [USERS])
    with engine.begin() as connection:
        connection.execute(sa.insert(USERS).values(username="ada", roles=[]))
    yield engine
    engine.dispose()


def is_open(connection: sa.Connection) -> bool:
    driver: Any = connection.connection.driver_connection
    return bool(driver.pgconn.transaction_status)


PLAIN: dict[str, sa.Executable] = {
    "by key": sa.select(User).filter_by(id=1),
    "in a list": IDS.where(USERS.c.id.in_([1, 2])).order_by(USERS.c.username.desc()).limit(3).offset(1),
    "joined": IDS.join(aliased := USERS.alias(), aliased.c.id == USERS.c.id).where(aliased.c.username.ilike("a%")),
    "aggregates": sa.select(sa.func.count(), sa.func.max(USERS.c.id), sa.func.coalesce(sa.func.sum(USERS.c.id), 0)),
    "exists": sa.select(sa.exists(IDS.where(USERS.c.id == 1))),
    "union": sa.union(IDS, IDS.where(USERS.c.id > 1)),
    "cte": sa.select(IDS.cte("some").c.id),
    "case": sa.select(sa.case((USERS.c.id == 1, sa.literal("one")), else_=sa.cast(USERS.c.id, sa.String))),
}
OTHERS: dict[str, sa.Executable] = {
    "a CTE that deletes": sa.select(DELETED.c.id),
    "a CTE that inserts": sa.select(INSERTED.c.id),
    "an advisory lock": sa.select(sa.func.pg_advisory_xact_lock(1)),
    "the same in a condition": IDS.where(sa.func.pg_try_advisory_xact_lock(1)),
    "a function of a schema": sa.select(sa.func.pg_catalog.count(USERS.c.id)),
    "for update": IDS.with_for_update(),
    "for share": IDS.with_for_update(read=True),
    "a sequence": sa.select(sa.Sequence("users_id_seq").next_value()),
    "text": sa.text("SELECT id FROM users"),
    "a function in text": sa.select(sa.literal_column("pg_advisory_xact_lock(1)")),
    "a function in a comment's shadow": sa.select(sa.literal_column("1 -- '\n, pg_advisory_xact_lock(1) -- '")),
    "a function by the name of a keyword": sa.select(sa.literal_column("materialized(1)")),
    "another one": sa.select(sa.literal_column("join (1)")),
    "a quoted function": sa.select(sa.literal_column('"pg_advisory_xact_lock" (1)')),
    "an operator that may be anything": sa.select(USERS.c.username.op("@@@")(sa.literal("a"))).where(sa.false()),
    "the clock of the transaction": sa.select(sa.func.current_timestamp()),
    "a server-side cursor": IDS.execution_options(stream_results=True),
    "select into": IDS.prefix_with("id INTO TEMPORARY thing", dialect="postgresql").with_only_columns(USERS.c.id),
}


@pytest.mark.parametrize("statement", PLAIN.values(), ids=PLAIN)
def test_a_plain_select_runs_alone(statement: sa.Executable, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.execute(statement).all()
        assert not is_open(connection)


@pytest.mark.parametrize("statement", OTHERS.values(), ids=OTHERS)
def test_what_may_do_more_begins_a_transaction(statement: sa.Executable, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        try:
            connection.execute(statement).close()
        except sa.exc.ProgrammingError:
            assert is_open(connection)  # there is no such operator
        assert is_open(connection)


def test_text_hides_nothing() -> None:
    for text in (
        "SELECT f (1)",
        'SELECT "f"\n(1)',
        "SELECT a.f(1)",
        "SELECT 1; SELECT 2",
        "SELECT $$a$$",
        "VALUES (1)",
    ):
        assert not is_plain(text)


def test_what_a_cte_wrote_is_committed_or_rolled_back(engine: sa.Engine) -> None:
    names = sa.select(USERS.c.username).order_by(USERS.c.id)
    with engine.connect() as connection:
        connection.execute(sa.select(INSERTED.c.id))
        connection.rollback()
        assert connection.scalars(names).all() == ["ada"]
        connection.execute(sa.select(INSERTED.c.id))
        connection.commit()
    with engine.connect() as connection:
        assert connection.scalars(names).all() == ["ada", "cyd"]


def test_a_lock_is_kept_until_the_end_of_the_transaction(engine: sa.Engine) -> None:
    mine = sa.select(sa.func.pg_try_advisory_xact_lock(1))
    with engine.connect() as connection, engine.connect() as other:
        connection.execute(IDS)
        assert connection.scalar(mine)
        connection.execute(IDS)
        assert not other.scalar(mine)
        connection.rollback()
        assert other.scalar(mine)


def test_from_the_first_other_statement_on_all_is_as_usual(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.execute(IDS)
        connection.execute(sa.update(USERS).values(username="bob"))
        connection.execute(IDS)
        with connection.begin_nested() as savepoint:
            connection.execute(sa.delete(USERS))
            savepoint.rollback()
        assert connection.scalar(sa.select(USERS.c.username)) == "bob"
        connection.rollback()
        assert connection.scalar(sa.select(USERS.c.username)) == "ada"
        assert not is_open(connection)


def test_a_savepoint_begins_a_transaction(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.execute(IDS)
        with connection.begin_nested():
            assert is_open(connection)


@pytest.mark.parametrize(
    "statement", [IDS, sa.select(USERS.c.id / 0)], ids=["after a read", "after a read that failed"]
)
def test_who_uses_the_driver_itself_has_a_transaction(statement: Any, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        with suppress(sa.exc.DataError):
            connection.execute(statement)
        connection.connection.cursor().execute("DELETE FROM users")
        connection.rollback()
        assert connection.scalar(sa.select(sa.func.count()).select_from(USERS)) == 1
    raw = engine.raw_connection()
    raw.cursor().execute("DELETE FROM users")
    raw.close()
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(USERS)) == 1


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_other_isolation_levels_begin_with_the_first_statement(level: Any, engine: sa.Engine) -> None:
    with engine.connect().execution_options(isolation_level=level) as connection:
        connection.execute(IDS)
        assert is_open(connection)
    with engine.connect() as connection:
        connection.execute(IDS)
        assert not is_open(connection)


def test_so_does_a_server_whose_own_level_is_another(postgres_url: str) -> None:
    engine = engine_of(f"{postgres_url}?options=-c%20default_transaction_isolation=serializable")
    with engine.connect() as connection:
        connection.execute(sa.select(1))
        assert is_open(connection)
    engine.dispose()


def test_autocommit_stays_what_it_is(engine: sa.Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(IDS)
        connection.execute(sa.update(USERS).values(username="bob"))
        assert not is_open(connection)
    with engine.connect() as connection:
        assert connection.scalar(sa.select(USERS.c.username)) == "bob"


def test_it_can_be_switched_off(postgres_url: str) -> None:
    engine = engine_of(postgres_url, lazy_begin=False)
    with engine.connect() as connection:
        connection.execute(sa.select(1))
        assert is_open(connection)
    engine.dispose()


def test_read_only_sessions_are_read_only(postgres_url: str) -> None:
    with registry_of(postgres_url) as registry:
        User.metadata.create_all(registry.engine(), [USERS])
        with registry.session_scope(read_only=True) as session:
            session.execute(IDS)
            assert not is_open(session.connection())
            with pytest.raises(sa.exc.InternalError, match="read-only transaction"):
                session.execute(sa.text("DELETE FROM users"))
            session.rollback()
            with pytest.raises(sa.exc.InternalError, match="read-only transaction"):
                session.execute(sa.select(DELETED.c.id))
            session.rollback()


def test_a_read_that_failed_alone_stops_no_commit(postgres_url: str) -> None:
    with registry_of(postgres_url) as registry:
        User.metadata.create_all(registry.engine(), [USERS])
        with registry.session_scope() as session:
            with suppress(sa.exc.DataError):
                session.execute(sa.select(sa.literal(1) / sa.bindparam("zero", 0)))
            session.add(User(username="ada"))
        with registry.session_scope() as session:
            assert session.scalars(sa.select(User.username)).all() == ["ada"]


@contextmanager
def counting(cluster: Cluster, name: str) -> Iterator[tuple[Registry, Callable[[], int]]]:
    with DelayProxy(cluster.port, seconds=0) as proxy:
        url = sa.make_url(cluster.url(name)).set(host="127.0.0.1", port=proxy.port, query={"sslmode": "disable"})
        with registry_of(url.render_as_string(hide_password=False)) as registry:
            User.metadata.create_all(registry.engine(), [USERS])
            yield registry, lambda: proxy.trips.total


def test_a_read_is_one_round_trip_and_a_write_as_many_as_ever(postgres: Cluster) -> None:
    def trips(work: Callable[[Any], object]) -> int:
        before = count()
        with registry.session_scope() as session:
            work(session)
        return count() - before

    def write(session: Any) -> None:
        session.get(User, 1)
        session.execute(sa.update(USERS).values(username="bob"))

    with counting(postgres, postgres.create_database()) as (registry, count):
        assert trips(lambda session: session.get(User, 1)) == 1
        assert trips(lambda session: (session.get(User, 1), session.get(User, 2))) == 2
        assert trips(lambda session: session.commit()) == 0
        assert trips(write) == 4  # the read, BEGIN, UPDATE, COMMIT


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_asyncio_does_the_same(driver: str, postgres_url: str) -> None:
    async def main() -> None:
        url = sa.make_url(postgres_url).set(drivername=f"postgresql+{driver}")
        engine = make_async_engine(database_of(url.render_as_string(hide_password=False)))
        states = sa.text("SELECT state FROM pg_stat_activity WHERE pid = :pid")
        async with engine.connect() as connection, engine.connect() as other:
            pid = await connection.scalar(sa.text("SELECT pg_backend_pid()"))
            await connection.run_sync(User.metadata.create_all, [USERS])
            await connection.commit()

            async def state() -> Any:
                try:
                    return await other.scalar(states, {"pid": pid})
                finally:
                    await other.rollback()  # within a transaction, what it saw stays as it was

            await connection.execute(IDS.where(USERS.c.id == 1))
            assert await state() == "idle"
            await connection.execute(sa.insert(USERS).values(username="bob", roles=[]))
            await connection.execute(IDS)
            assert await state() == "idle in transaction"
            await connection.rollback()
            assert (await connection.scalars(sa.select(USERS.c.username))).all() == []
            assert await state() == "idle"
        await engine.dispose()

    asyncio.run(main())
