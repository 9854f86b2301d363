"""Who has a connection: told where it is out too long, and where nobody gets one; seen by whoever asks."""

import asyncio
import logging
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.engines.caller import Caller, caller
from opal_registry.engines.pools.leases import Leases
from opal_registry.registry import Registry
from tests.databases import registry_of

ASK = sa.text("SELECT 1")


def test_what_is_out_can_be_seen(database_url: str) -> None:
    with registry_of(database_url) as registry:
        assert registry.leases == {"default": []}
        token = caller.set(Caller("standupbot", "GET /updates"))
        with registry.session_scope() as session:
            session.execute(ASK)
            caller.reset(token)
            (lease,) = registry.leases["default"]
            assert lease.caller == Caller("standupbot", "GET /updates")
            assert f"s: GET /updates of standupbot, {__file__}:" in str(lease)
            assert lease.place.count(" < ") == 4
        assert registry.leases == {"default": []}


def test_also_of_asyncio_whose_greenlets_have_no_lines_of_their_own(postgres_url: str) -> None:
    async def main() -> None:
        async with registry_of(postgres_url) as registry:
            async with registry.async_session_scope() as session:
                await session.execute(ASK)
                (lease,) = registry.leases["default"]
                assert lease.place.startswith(f"{__file__}:")
            assert registry.leases == {"default": []}

    asyncio.run(main())


def test_in_production_nobody_looks_for_lines(database_url: str) -> None:
    with registry_of(database_url, environment="production") as registry, registry.engine().connect():
        (lease,) = registry.leases["default"]
        assert (lease.place, lease.caller) == ("", Caller())
        assert str(lease).endswith(" s: nobody said for what")


class TestTooLong:
    @pytest.fixture(autouse=True)
    def _look_always(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("opal_registry.engines.pools.leases.LOOK_EVERY", 0)

    def test_is_told_once_for_each(self, database_url: str, caplog: pytest.LogCaptureFixture) -> None:
        pool = {"leak_after": "1ms"}
        with registry_of(database_url, database={"url": database_url, "pool": pool}) as registry:
            engine = registry.engine()
            with caplog.at_level(logging.WARNING), engine.connect():
                while not caplog.records:
                    engine.connect().close()
                engine.connect().close()
        (record,) = [each for each in caplog.records if "a connection is out for" in each.message]
        assert f"{__file__}:" in record.message
        assert "mend:  close the session, or let session_scope() do it" in record.message

    def test_may_be_looked_for_while_others_take_and_give_back(self) -> None:
        leases = Leases()
        leases.look_for_leaks(after=60, with_places=False)

        def work(_: int) -> None:
            for _ in range(300):
                records: list[Any] = [object() for _ in range(3)]
                for record in records:
                    leases.take(record, time.monotonic())
                for record in records:
                    leases.give_back(record)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            with ThreadPoolExecutor(16) as threads:
                list(threads.map(work, range(16)))
        finally:
            sys.setswitchinterval(interval)
        assert not list(leases)

    def test_is_never_told_if_nobody_wants_to_know(self, database_url: str, caplog: pytest.LogCaptureFixture) -> None:
        pool = {"leak_after": 0}
        with (
            registry_of(database_url, database={"url": database_url, "pool": pool}) as registry,
            caplog.at_level(logging.WARNING),
            registry.engine().connect(),
        ):
            registry.engine().connect().close()
        assert not caplog.records


HOLDERS = r"out for \d.*s: GET /export of standupbot, .*\.py:\d"


@pytest.fixture
def narrow(postgres_url: str) -> Iterator[Registry]:
    token = caller.set(Caller("standupbot", "GET /export"))
    pool = {"size": 1, "max_overflow": 0, "timeout": "20ms"}
    yield registry_of(postgres_url, database={"url": postgres_url, "pool": pool})
    caller.reset(token)


def test_a_pool_that_is_exhausted_says_who_has_its_connections(narrow: Registry) -> None:
    with narrow, narrow.engine().connect(), pytest.raises(sa.exc.TimeoutError, match=HOLDERS):
        narrow.engine().connect()


def test_also_by_asyncio(narrow: Registry) -> None:
    async def main() -> None:
        async with narrow, narrow.async_engine().connect():
            with pytest.raises(sa.exc.TimeoutError, match=HOLDERS):
                await narrow.async_engine().connect()

    asyncio.run(main())
