"""Two event loops: each has connections of its own, which end with it."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.registry import Registry
from opal_registry.usage import AsyncSessionError
from tests.databases import registry_of

ONE = sa.text("SELECT 1")


async def ask(registry: Registry) -> object:
    async with registry.async_session_scope(read_only=True) as session:
        return await session.scalar(ONE)


async def who(registry: Registry) -> object:
    async with registry.async_session_scope(read_only=True) as session:
        return await session.scalar(sa.text("SELECT pg_backend_pid()"))


DRIVERS = [
    "sqlite+aiosqlite",
    "postgresql+psycopg",
    "postgresql+asyncpg",
    pytest.param("mysql+asyncmy", marks=pytest.mark.mariadb),
]


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    driver: str = request.param
    if driver.startswith("sqlite"):
        return f"{driver}:///{tmp_path / 'x.db'}"
    found: str = request.getfixturevalue("mariadb_url" if driver.startswith("mysql") else "postgres_url")
    return sa.make_url(found).set(drivername=driver).render_as_string(hide_password=False)


def test_one_loop_after_the_other(url: str) -> None:
    with registry_of(url) as registry:
        assert [asyncio.run(ask(registry)) for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_session_stays_in_the_loop_in_which_it_has_begun(driver: str, postgres_url: str) -> None:
    make_table = sa.text("CREATE TABLE things (name text)")
    with registry_of(postgres_url.replace("psycopg", driver)) as registry:

        async def begin() -> Any:
            session = registry.async_session_factory()
            await session.execute(make_table)
            return session

        async def go_on(session: Any) -> None:
            with pytest.raises(AsyncSessionError, match="is used in another event loop than before"):
                await session.scalar(ONE)

        with asyncio.Runner() as one, asyncio.Runner() as other:
            session = one.run(begin())
            other.run(go_on(session))
            one.run(session.commit())
            one.run(session.close())
            one.run(registry.aclose())


def test_a_loop_says_goodbye_to_the_server_when_it_ends(postgres_url: str) -> None:
    count = sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    with registry_of(postgres_url.replace("psycopg", "asyncpg")) as registry:
        asyncio.run(ask(registry))
        with registry.session_scope() as session:
            assert session.scalar(count) == 1


def test_two_loops_at_the_same_time(postgres_url: str) -> None:
    registry = registry_of(postgres_url.replace("psycopg", "asyncpg"))
    both, found, errors = threading.Barrier(2, timeout=60), list[object](), list[BaseException]()

    async def work() -> None:
        found.append(await who(registry))
        await asyncio.to_thread(both.wait)
        found.append(await who(registry))
        await asyncio.to_thread(both.wait)

    def run(work: Coroutine[Any, Any, None]) -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001 -- told to the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    registry.close()
    assert errors == []
    assert len(found) == 4
    assert len(set(found)) == 2


def test_an_engine_made_outside_belongs_to_the_first_loop(postgres_url: str) -> None:
    async def engine() -> object:
        return registry.async_engine()

    with registry_of(postgres_url) as registry:
        made = registry.async_engine()
        with asyncio.Runner() as one, asyncio.Runner() as other:
            assert one.run(engine()) is made
            assert other.run(engine()) is not made
            assert one.run(engine()) is made


def test_connections_of_a_loop_that_runs_elsewhere_are_closed_in_it(postgres_url: str) -> None:
    registry = registry_of(postgres_url.replace("psycopg", "asyncpg"))
    with asyncio.Runner() as runner:
        asked, closed = threading.Event(), threading.Event()

        async def work() -> None:
            await ask(registry)
            asked.set()
            await asyncio.to_thread(closed.wait, 60)

        thread = threading.Thread(target=lambda: runner.run(work()))
        thread.start()
        asked.wait(60)
        pool: Any = registry.async_engine().pool
        assert pool.checkedin() == 1
        registry.close()
        closed.set()
        thread.join()
    assert pool.checkedin() == 0


def test_a_database_in_memory_outlives_its_loop() -> None:
    async def write() -> None:
        async with registry.async_session_scope() as session:
            await session.execute(sa.text("CREATE TABLE kept (x int)"))

    async def read() -> object:
        async with registry.async_session_scope(read_only=True) as session:
            return await session.scalar(sa.text("SELECT count(*) FROM kept"))

    with registry_of("sqlite://") as registry:
        asyncio.run(write())
        assert asyncio.run(read()) == 0
