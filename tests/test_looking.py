"""A look at a database: it waits for nobody for long, costs no more for it, and leaves nothing behind."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.errors import LockTimeoutError
from opal_registry.init import init
from opal_registry.registry import Registry
from opal_registry.schema.looking import look_at
from opal_registry.status import find_absent, get_events, get_status
from tests.contenders import limits_of
from tests.databases import engine_of, registry_of
from tests.distributions import Site
from tests.pgbouncer import PgBouncer
from tests.postgres import Cluster
from tests.test_migration_engine import counted
from tests.writing import model, models

SOON = 20.0
"""Seconds within which whatever waits for one of them has ended, also on a busy machine."""

LOOKS: dict[str, Callable[[Registry], Any]] = {
    "init": init,
    "status": get_status,
    "apps list": find_absent,
    "events": get_events,
}
LOCKED = {"events": "opal_events"}
"""What each of them reads, if that is not the ledger."""

LOCKS = {"postgresql": "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", "mysql": "LOCK TABLES {} WRITE"}


@contextmanager
def locked(url: str, table: str) -> Iterator[None]:
    """Somebody else keeps a table to himself."""
    engine = engine_of(url)
    with engine.connect() as connection:
        connection.exec_driver_sql(LOCKS[engine.dialect.name].format(table))
        yield
        connection.invalidate()
    engine.dispose()


@pytest.fixture(params=["postgres16", "postgres18", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database of its own with the tables of ``core``, on each server."""
    server = request.getfixturevalue(request.param)
    server.start()
    name = server.create_database()
    with registry_of(server.url(name)) as registry:
        init(registry)
    yield server.url(name)
    server.drop_database(name)


@pytest.mark.parametrize("look", LOOKS)
def test_a_table_that_somebody_has_locked_is_waited_for_no_longer_than_locks_wait(url: str, look: str) -> None:
    table = LOCKED.get(look, "opal_sub_apps")
    with locked(url, table), registry_of(url, locks={"wait": "200ms"}) as registry:
        started = time.monotonic()
        with pytest.raises(LockTimeoutError) as caught:
            LOOKS[look](registry)
        assert time.monotonic() - started < SOON
    [problem] = caught.value.problems
    assert problem.what.startswith("something else holds a lock for too long: ")
    assert f"/{sa.make_url(url).database}; " in problem.where
    assert problem.mend == "look for long transactions, then run the command again"
    with registry_of(url) as registry:
        LOOKS[look](registry)


def test_a_table_of_a_sub_app_is_not_waited_for_any_longer(quick_site: Site, url: str) -> None:
    """The server is asked about it, because its type is not called what the model calls it."""
    quick_site.sub_app(
        "shop", models(model("Price", "prices", "euros: orm.Mapped[float] = orm.mapped_column(sa.Float(24))"))
    )
    env: dict[str, str | None] = {"OPAL_DATABASE__URL": url}
    assert quick_site.run("init", env=env).code == 0
    with locked(url, "prices"):
        started = time.monotonic()
        done = quick_site.run("init", "--verify", env=env | {"OPAL_LOCKS__WAIT": "200ms"})
        assert time.monotonic() - started < SOON
    if url.startswith("postgresql"):
        assert (done.code, done.err.partition(":")[0]) == (5, "error")
        assert "something else holds a lock for too long: canceling statement due to lock timeout" in done.err
    else:  # what a column is called, MariaDB says without the table
        assert done.code == 0, done


def test_one_that_is_let_go_of_in_time_is_looked_at(postgres_url: str) -> None:
    with registry_of(postgres_url) as registry:
        init(registry)
    ask = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = to_regclass('opal_sub_apps')")
    engine = engine_of(postgres_url)
    with ThreadPoolExecutor(1) as thread, registry_of(postgres_url) as registry:
        with locked(postgres_url, "opal_sub_apps"), engine.connect() as connection:
            looking = thread.submit(get_status, registry)
            end = time.monotonic() + SOON
            while not connection.scalar(ask):
                assert time.monotonic() < end
        assert looking.result(SOON).exit_code == 0
    engine.dispose()


@pytest.mark.parametrize("role", [None, "postgres"])
def test_whoever_looks_cannot_write(postgres_url: str, role: str | None) -> None:
    engine = engine_of(postgres_url)
    with (
        look_at(engine, wait=1, role=role) as connection,
        pytest.raises(sa.exc.InternalError, match="read-only transaction"),
    ):
        connection.exec_driver_sql("CREATE TABLE mine (x int)")
    engine.dispose()


def test_texts_and_values_reach_the_server_as_they_are(postgres_url: str) -> None:
    engine = engine_of(postgres_url)
    awkward = "50 % of O'Neill's \\ \"names\"; SELECT 1 -- %(x)s"
    with look_at(engine, wait=1) as connection:
        for _ in range(8):  # psycopg would prepare a statement that comes so often
            assert connection.scalar(sa.select(sa.literal(awkward))) == awkward
            assert connection.scalar(sa.text("SELECT '100%' || :x").bindparams(x="%")) == "100%%"
            assert connection.exec_driver_sql("SELECT %s::int - 1", (-4,)).scalar() == -5
            assert connection.exec_driver_sql("SELECT '%'", execution_options={"no_parameters": True}).scalar() == "%"
    engine.dispose()


def test_a_role_has_its_look_bounded_too(postgres: Cluster, postgres_url: str) -> None:
    with registry_of(postgres_url) as registry:
        init(registry)
    with locked(postgres_url, "opal_sub_apps"):
        database = {"url": postgres_url, "migration_role": "postgres"}
        with registry_of(postgres_url, database=database, locks={"wait": 0}) as registry:
            with pytest.raises(LockTimeoutError):
                init(registry)


def test_a_pool_gets_its_connections_back_as_they_were(url: str) -> None:
    engine = engine_of(url)
    is_mysql = engine.dialect.name == "mysql"
    ask = "SELECT @@lock_wait_timeout" if is_mysql else "SELECT current_setting('lock_timeout')"
    with engine.connect() as connection:
        usual = connection.exec_driver_sql(ask).scalar()
    with look_at(engine, wait=7) as connection:
        assert connection.exec_driver_sql(ask).scalar() == (7 if is_mysql else "7s")
    with engine.begin() as connection:
        assert connection.exec_driver_sql(ask).scalar() == usual
        connection.exec_driver_sql("CREATE TABLE mine (x int)")
    engine.dispose()


def test_nothing_stays_behind_in_pgbouncer(pgbouncer: PgBouncer, pgbouncer_url: str) -> None:
    pgbouncer.execute("SET default_pool_size = 1")
    engine = engine_of(pgbouncer_url)
    with registry_of(pgbouncer_url) as registry:
        init(registry)
        with locked(pgbouncer.cluster.url(str(engine.url.database)), "opal_sub_apps"):
            with registry_of(pgbouncer_url, locks={"wait": 0}) as impatient, pytest.raises(LockTimeoutError):
                init(impatient)
        with engine.begin() as connection:
            assert limits_of(connection) == ("0", "0")
            assert connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "off"
        assert get_status(registry).exit_code == 0
    engine.dispose()


def test_each_question_is_a_round_trip_and_nothing_else_is(postgres: Cluster) -> None:
    name = postgres.create_database()
    with counted(postgres.port) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}?sslmode=disable"
        trips = []
        for _ in range(2):
            with registry_of(url) as registry:
                init(registry)
            trips.append([" ".join(text.split()[:2]) for text in proxy.take()])
    look = ["connect", "SELECT current_schema(),", "SET TRANSACTION"]
    cold = [*look, "connect", "BEGIN", "SELECT pg_try_advisory_xact_lock(-106524855477641512);", "SELECT n.nspname,"]
    history = ["SET TRANSACTION"] * 2  # the heads of core, and what is recorded of its revisions
    assert trips == [[*cold, "SAVEPOINT opal_batch", "COMMIT"], [*look, *["SET TRANSACTION"] * 6, *history]]
    postgres.drop_database(name)
