"""Idle connections are tested before they are used again, busy ones are not."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.engines.factory import make_async_engine
from opal_registry.engines.pools.patience import LAST_USE
from tests.databases import database_of, engine_of
from tests.postgres import Cluster

ONE = sa.text("SELECT 1")


@contextmanager
def counting_pings(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    pings: list[object] = []
    ping = engine.dialect.do_ping

    def count(connection: Any) -> bool:
        pings.append(connection)
        return ping(connection)

    monkeypatch.setattr(engine.dialect, "do_ping", count)
    yield pings
    engine.dispose()


def use(engine: sa.Engine, *, idle_for: float = 0) -> None:
    with engine.connect() as connection:
        connection.execute(ONE)
        info = connection.connection.info
    info[LAST_USE] -= idle_for


@pytest.mark.parametrize(("after", "expected"), [("1m", 1), (0, 3)])
def test_what_was_idle_for_long_is_tested(
    after: str, expected: int, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(postgres.url(), pool={"ping_after": after})
    with counting_pings(engine, monkeypatch) as pings:
        use(engine)
        use(engine)
        use(engine, idle_for=61)
        use(engine)
        assert len(pings) == expected


def test_the_first_dead_connection_makes_all_as_old_be_replaced(
    postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(postgres.url(), pool={"ping_after": 0})
    with counting_pings(engine, monkeypatch) as pings:
        with engine.connect() as one, engine.connect() as other:
            one.execute(ONE)
            other.execute(ONE)
        postgres.stop("fast")
        postgres.start()
        with engine.connect() as one, engine.connect() as other:
            one.execute(ONE)
            other.execute(ONE)
        assert len(pings) == 1


DRIVERS = ["postgresql+psycopg", "postgresql+asyncpg", pytest.param("mysql+asyncmy", marks=pytest.mark.mariadb)]


@pytest.mark.parametrize("driver", DRIVERS)
def test_asyncio_survives_it_too(driver: str, request: pytest.FixtureRequest) -> None:
    server: Any = request.getfixturevalue("mariadb" if driver.startswith("mysql") else "postgres")
    url = sa.make_url(server.url(server.create_database())).set(drivername=driver)

    async def survive() -> object:
        engine = make_async_engine(database_of(url.render_as_string(hide_password=False), pool={"ping_after": 0}))
        async with engine.connect() as connection:
            await connection.execute(ONE)
        server.stop()
        server.start()
        async with engine.connect() as connection:
            found = await connection.scalar(ONE)
        await engine.dispose()
        return found

    assert asyncio.run(survive()) == 1
    server.drop_database(url.database)
