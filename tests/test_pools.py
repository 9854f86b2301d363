"""Pools: the kinds of SQLAlchemy by a setting, and what they are told."""

import asyncio
import contextlib
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy import pool as sa_pool

from opal_registry.engines.arguments import make_process_name
from opal_registry.engines.errors.failures import explained
from opal_registry.engines.factory import make_async_engine, make_engine
from opal_registry.engines.pools.lingering import AsyncLingeringQueuePool, LingeringQueuePool
from opal_registry.errors import ConfigError, DatabaseError
from opal_registry.registry import Registry
from opal_registry.settings.database import PoolSettings
from tests.databases import database_of, engine_of, registry_of, settings_of


@pytest.mark.parametrize(
    ("kind", "usual", "of_asyncio"),
    [
        ("queue", LingeringQueuePool, AsyncLingeringQueuePool),
        ("none", sa_pool.NullPool, sa_pool.NullPool),
        ("static", sa_pool.StaticPool, sa_pool.StaticPool),
        ("assertion", sa_pool.AssertionPool, sa_pool.AssertionPool),
    ],
)
def test_a_setting_chooses_the_pool(kind: str, usual: type, of_asyncio: type) -> None:
    settings = database_of("postgresql://db/x", pool={"kind": kind, "timeout": "2s", "recycle": "1m"})

    assert type(make_engine(settings).pool) is usual
    assert type(make_async_engine(settings).sync_engine.pool) is of_asyncio


def test_a_pool_for_each_thread_is_none_for_asyncio() -> None:
    settings = database_of("sqlite://", pool={"kind": "singleton", "size": 2})

    assert type(make_engine(settings).pool) is sa_pool.SingletonThreadPool
    with pytest.raises(ConfigError, match=r"^pool\.kind is singleton: .*\n  where: opal.yaml:3\n  mend:  take"):
        make_async_engine(settings, where="opal.yaml:3")


@pytest.mark.parametrize(
    ("pool", "what"),
    [
        ({"kind": "none", "size": 5}, "has kind: none, which knows no size"),
        ({"kind": "static", "size": 1, "max_overflow": 0}, "has kind: static, which knows no max_overflow and no size"),
        ({"kind": "singleton", "max_overflow": 2}, "has kind: singleton, which knows no max_overflow"),
    ],
)
def test_what_the_kind_knows_nothing_of_is_refused(pool: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        PoolSettings.model_validate(pool)


@pytest.mark.parametrize("kind", ["queue", "none"])
def test_a_database_in_memory_is_refused_a_pool_that_would_lose_it(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"pool.kind is {kind}, but a database in memory lasts as long"):
        engine_of("sqlite://", pool={"kind": kind})


def test_threads_that_start_at_once_share_one_engine() -> None:
    for _ in range(5):
        registry = Registry(settings_of("sqlite://"), sub_apps=["core"])
        ready = threading.Barrier(8)
        found: list[Any] = []

        def ask(registry: Registry = registry, ready: threading.Barrier = ready, found: list[Any] = found) -> None:
            ready.wait()
            found.append(registry.engine())

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 1
        registry.close()


def change_servers(url: str, driver: str, **pool: Any) -> int:
    """What a statement finds that is executed again after the pooler has given its connection to somebody else."""
    settings = database_of(url.replace("psycopg", driver), pool=pool)
    if driver == "asyncpg":
        return asyncio.run(_change_servers_async(make_async_engine(settings)))
    engine = make_engine(settings)
    try:
        with engine.connect() as one, engine.connect() as other:
            return _change_servers(one, other)
    finally:
        engine.dispose()


async def _change_servers_async(engine: Any) -> int:
    try:
        async with engine.connect() as one, engine.connect() as other:
            return int(await one.run_sync(_change_servers, other.sync_connection))
    finally:
        await engine.dispose()


def _change_servers(one: sa.Connection, other: sa.Connection) -> int:
    again = sa.text("SELECT :number + 1")
    for number in range(8):  # psycopg prepares a statement when it comes for the sixth time
        one.execute(again, {"number": number})
        one.commit()
    other.execute(sa.text("SELECT 0"))
    return int(one.execute(again, {"number": 41}).scalar_one())


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg", "pg8000"])
def test_drivers_work_behind_pgbouncer_when_it_is_said(driver: str, pgbouncer_url: str) -> None:
    if driver != "pg8000":
        with pytest.raises(sa.exc.DBAPIError, match=r"prepared statement .* does not exist"):
            change_servers(pgbouncer_url, driver)
    assert change_servers(pgbouncer_url, driver, pooler="pgbouncer") == 42


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_many_clients_of_asyncio_share_a_pgbouncer(driver: str, pgbouncer_url: str) -> None:
    url = pgbouncer_url.replace("psycopg", driver)
    plain = sa.select(sa.func.count()).select_from(sa.table("pg_class", schema="pg_catalog"))

    async def main() -> None:
        async with registry_of(url, database={"url": url, "pool": {"pooler": "pgbouncer"}}) as registry:

            async def ask() -> None:
                for _ in range(20):
                    async with registry.async_session_factory() as session:
                        assert await session.scalar(plain)

            await asyncio.gather(*(ask() for _ in range(10)))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "others", "what"),
    [
        ("mysql://db/x", {}, "pool.pooler is pgbouncer, which the driver 'pymysql' of mysql cannot be behind"),
        ("sqlite:///x.db", {}, "which the driver 'pysqlite' of sqlite cannot be behind"),
        ("postgresql://db/x", {"statement_timeout": "5s"}, "statement_timeout cannot be set through PgBouncer"),
    ],
)
def test_what_cannot_be_behind_pgbouncer_is_refused(url: str, others: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        engine_of(url, pool={"pooler": "pgbouncer"}, **others)


def test_the_server_sees_the_sub_app_and_the_process(postgres_url: str) -> None:
    with registry_of(postgres_url) as registry, registry.session_scope() as session:
        assert session.scalar(sa.text("SHOW application_name")) == make_process_name("core")
    with Registry(settings_of(postgres_url, database={"url": postgres_url, "application_name": "suite"})) as registry:
        with registry.session_scope() as session:
            assert session.scalar(sa.text("SHOW application_name")) == "suite"


def test_what_a_rush_opened_is_closed_when_it_is_over(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(postgres_url, pool={"size": 1, "max_overflow": 2})
    connected: list[object] = []
    sa.event.listen(engine, "connect", lambda connection, _: connected.append(connection))

    def rush(clients: int) -> int:
        pool: Any = engine.pool
        with contextlib.ExitStack() as stack:
            for _ in range(clients):
                stack.enter_context(engine.connect()).execute(sa.text("SELECT 1"))
        return int(pool.checkedin())

    assert [rush(3), rush(1), rush(2), rush(3)] == [3, 3, 3, 3]
    assert len(connected) == 3
    monkeypatch.setattr("opal_registry.engines.pools.lingering.LINGER", 0)
    assert [rush(1), rush(1), rush(1)] == [2, 1, 1]
    engine.dispose()
    assert [rush(1), rush(1)] == [1, 1]
    engine.dispose()


def test_a_pool_that_is_exhausted_says_so_and_recovers(postgres_url: str) -> None:
    engine = engine_of(postgres_url, pool={"size": 1, "max_overflow": 0, "timeout": "50ms"})
    with engine.connect():
        with pytest.raises(DatabaseError) as caught, explained(engine.url):
            engine.connect()
        assert caught.value.problems[0].what.startswith(
            "all connections of the pool are in use: QueuePool limit of size 1"
        )
        assert "raise database.pool.size" in caught.value.problems[0].mend
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    engine.dispose()
