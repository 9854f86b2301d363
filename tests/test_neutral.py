"""Errors that are called by what they mean, whichever database and driver says it."""

import asyncio
import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.engines.errors.neutral import (
    CheckError,
    ConnectError,
    ConnectionLostError,
    ConstraintError,
    DeadlockError,
    ForeignKeyError,
    InDoubtError,
    LockWaitError,
    NotNullError,
    Rule,
    SerializationError,
    UniqueError,
)
from opal_registry.engines.factory import make_async_engine, make_engine
from opal_registry.engines.url import describe_url
from opal_registry.settings.database import DatabaseSettings
from tests.databases import database_of
from tests.proxy import Moment, Proxy

metadata = sa.MetaData()
teams = sa.Table("teams", metadata, sa.Column("id", sa.Integer, primary_key=True))
members = sa.Table(
    "members",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("team", sa.ForeignKey("teams.id", name="members_team"), nullable=False),
    sa.Column("name", sa.String(20)),
    sa.CheckConstraint("id < 100", name="members_few"),
    sa.UniqueConstraint("team", "name", name="members_name"),
)
DRIVERS = {
    "sqlite": ("pysqlite", "aiosqlite"),
    "postgresql": ("psycopg", "pg8000", "asyncpg"),
    "mysql": ("pymysql", "asyncmy"),
}
SNAPSHOT = {
    "postgresql": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "mysql": "SET SESSION innodb_snapshot_isolation = ON",
}
"""How a transaction comes to see one state of the database, and may not write over what came later."""
Work = Callable[[sa.Connection], object]
ASYNC = {"aiosqlite", "asyncpg", "asyncmy"}

ADA = "ada' for key 'x'"
"""Whose name looks like a part of an error."""

LOSES_SOCKETS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""pg8000 leaves the socket of a connection that was cut to the garbage collector, which tells from Python 3.13 on."""

BROKEN: dict[type[ConstraintError], tuple[dict[str, Any], dict[str, Rule]]] = {
    UniqueError: (
        {"id": 2, "team": 1, "name": ADA},
        {
            "sqlite": Rule("", "members", ("team", "name")),
            "postgresql": Rule("members_name", "members", ("team", "name")),
            "mysql": Rule("members_name"),
        },
    ),
    ForeignKeyError: (
        {"id": 2, "team": 7},
        {
            "sqlite": Rule(),
            "postgresql": Rule("members_team", "members", ("team",)),
            "mysql": Rule("members_team", "members", ("team",)),
        },
    ),
    NotNullError: (
        {"id": 2, "team": None},
        {
            "sqlite": Rule("", "members", ("team",)),
            "postgresql": Rule("", "members", ("team",)),
            "mysql": Rule("", "", ("team",)),
        },
    ),
    CheckError: (
        {"id": 200, "team": 1},
        {
            "sqlite": Rule("members_few"),
            "postgresql": Rule("members_few", "members"),
            "mysql": Rule("members_few", "members"),
        },
    ),
}
"""What breaks a rule, and what each database says of it."""


def run(url: sa.URL, work: Work, **others: Any) -> None:
    """Do something in a transaction, with whichever driver."""
    settings = database_of(url.render_as_string(hide_password=False), **others)
    if url.get_driver_name() in ASYNC:
        asyncio.run(run_async(settings, work))
        return
    engine = make_engine(settings)
    try:
        with engine.begin() as connection:
            work(connection)
    finally:
        engine.dispose()


async def run_async(settings: DatabaseSettings, work: Work) -> None:
    engine = make_async_engine(settings)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(work)
    finally:
        await engine.dispose()


def insert(**values: Any) -> Work:
    return lambda connection: connection.execute(sa.insert(members).values(**values))


def test_a_broken_rule_is_called_alike_by_every_driver(any_database_url: str) -> None:
    url = sa.make_url(any_database_url)
    kind = url.get_backend_name()
    run(url, metadata.create_all)
    run(url, lambda connection: connection.execute(sa.insert(teams).values(id=1)))
    run(url, insert(id=1, team=1, name=ADA))
    for driver in DRIVERS[kind]:
        there = url.set(drivername=f"{kind}+{driver}")
        for error, (values, rules) in BROKEN.items():
            with pytest.raises(sa.exc.IntegrityError) as caught:
                run(there, insert(**values))
            assert type(caught.value) is error, driver
            assert caught.value.rule == rules[kind], driver


def add_teams(url: sa.URL) -> None:
    """Two rows, so that transactions can get into each other's way."""
    run(url, metadata.create_all)
    run(url, lambda connection: connection.execute(sa.insert(teams), [{"id": 1}, {"id": 2}]))


def touch(number: int) -> sa.Update:
    return sa.update(teams).where(teams.c.id == number).values(id=number)


@pytest.mark.parametrize("server", ["postgres", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def test_a_deadlock_is_called_one_by_every_driver(server: str, request: pytest.FixtureRequest) -> None:
    url = sa.make_url(request.getfixturevalue(f"{server}_url"))
    add_teams(url)
    for driver in DRIVERS[url.get_backend_name()]:
        there = url.set(drivername=f"{url.get_backend_name()}+{driver}")
        both = threading.Barrier(2)

        def work(connection: sa.Connection, first: int, both: threading.Barrier = both) -> None:
            connection.execute(touch(first))
            both.wait(20)
            with connection.begin_nested():
                connection.execute(touch(3 - first))

        with ThreadPoolExecutor(2) as threads:
            done = [threads.submit(run, there, partial(work, first=first)) for first in (1, 2)]
        [error] = [error for each in done if (error := each.exception())]
        assert type(error) is DeadlockError, driver
        assert "in_transaction" in str(error)


def test_what_follows_a_deadlock_on_mariadb_is_no_transaction_of_its_own(mariadb_url: str) -> None:
    url = sa.make_url(mariadb_url)
    add_teams(url)
    both = threading.Barrier(2)

    def work(connection: sa.Connection, first: int) -> None:
        connection.execute(touch(first))
        both.wait(20)
        with suppress(DeadlockError):
            connection.execute(touch(3 - first))
        connection.execute(sa.insert(teams).values(id=10 + first))

    with ThreadPoolExecutor(2) as threads:
        done = [threads.submit(run, url, partial(work, first=first)) for first in (1, 2)]
    [error] = [error for each in done if (error := each.exception())]
    assert type(error) is DeadlockError
    rows: list[Any] = []
    run(url, lambda connection: rows.extend(connection.scalars(sa.select(teams.c.id).where(teams.c.id > 10))))
    assert len(rows) == 1


@pytest.mark.parametrize("server", ["postgres", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def test_a_lost_race_is_called_one_by_every_driver(server: str, request: pytest.FixtureRequest) -> None:
    url = sa.make_url(request.getfixturevalue(f"{server}_url"))
    add_teams(url)
    for driver in DRIVERS[url.get_backend_name()]:

        def work(connection: sa.Connection) -> None:
            connection.exec_driver_sql(SNAPSHOT[url.get_backend_name()])
            connection.execute(sa.select(teams)).all()
            run(url, lambda other: other.execute(sa.update(teams).where(teams.c.id < 50).values(id=teams.c.id + 10)))
            connection.execute(sa.update(teams).values(id=teams.c.id + 100))

        with pytest.raises(SerializationError, match="run the whole of it again"):
            run(url.set(drivername=f"{url.get_backend_name()}+{driver}"), work)
        run(url, lambda connection: connection.execute(sa.update(teams).values(id=teams.c.id - 10)))


@LOSES_SOCKETS
@pytest.mark.parametrize("server", ["postgres", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def test_a_commit_that_is_cut_leaves_in_doubt_with_every_driver(server: str, request: pytest.FixtureRequest) -> None:
    url = sa.make_url(request.getfixturevalue(f"{server}_url"))
    assert url.port
    run(url, metadata.create_all)
    insert_team = sa.insert(teams).values(id=1)
    for driver in DRIVERS[url.get_backend_name()]:
        commit = {"pg8000": b"commit", "pymysql": b"\x03COMMIT", "asyncmy": b"\x03COMMIT"}.get(driver, b"COMMIT")
        moment: Moment = "after" if driver in ASYNC else "before"
        for words in (commit, b"INSERT"):
            with Proxy(url.port, words, moment) as proxy:
                there = url.set(drivername=f"{url.get_backend_name()}+{driver}", host="127.0.0.1", port=proxy.port)
                with pytest.raises(ConnectionLostError) as caught:
                    run(there, lambda connection: connection.execute(insert_team))
                assert proxy.cuts == 1
            assert isinstance(caught.value, InDoubtError) is (words == commit), (driver, caught.value)
            assert words in (caught.value.statement or "").encode() or words == commit, driver
            assert caught.value.connection_invalidated, driver
            del caught
        run(url, lambda connection: connection.execute(sa.delete(teams)))
    gc.collect()


def test_a_writer_who_waits_in_vain_says_so(any_database_url: str) -> None:
    url = sa.make_url(any_database_url)
    add_teams(url)
    soon = {
        "sqlite": "SELECT 1",
        "postgresql": "SET LOCAL lock_timeout = '10ms'",
        "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
    }

    def wait(connection: sa.Connection) -> None:
        connection.exec_driver_sql(soon[url.get_backend_name()])
        connection.execute(touch(1))

    def hold(connection: sa.Connection) -> None:
        connection.execute(touch(1))
        with pytest.raises(LockWaitError, match="stays open for long"):
            run(url, wait, pool={"timeout": 0})

    run(url, hold)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        *[
            (f"{kind}+{driver}://app@127.0.0.1:1/x", "no server answers there; start it, or correct host and port")
            for kind in ("postgresql", "mysql")
            for driver in DRIVERS[kind]
        ],
        ("postgresql+asyncpg://app@no.such.host.invalid/x", "the host name is not known; correct host"),
        ("sqlite+pysqlite:////proc/x.db", "the file cannot be opened; check the path"),
    ],
)
def test_a_server_that_is_not_there_is_called_so_by_every_driver(url: str, what: str) -> None:
    with pytest.raises(ConnectError) as caught:
        run(sa.make_url(url), lambda connection: connection.exec_driver_sql("SELECT 1"))
    assert f"{describe_url(sa.make_url(url))}: {what}" in str(caught.value)
    assert isinstance(caught.value.driver_exception, Exception)


SLOW_COMMIT = """
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON teams DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait();
"""


@LOSES_SOCKETS
@pytest.mark.parametrize("driver", DRIVERS["postgresql"])
def test_a_commit_that_is_never_answered_leaves_in_doubt(driver: str, postgres_url: str) -> None:
    url = sa.make_url(postgres_url)
    run(url, metadata.create_all)
    run(url, lambda connection: connection.exec_driver_sql(SLOW_COMMIT))

    def work(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # the client gives up first
        connection.execute(sa.insert(teams).values(id=1))

    with pytest.raises(InDoubtError, match="nobody knows whether it took effect"):
        run(url.set(drivername=f"postgresql+{driver}"), work, statement_timeout="300ms", network_timeout="300ms")
    gc.collect()
