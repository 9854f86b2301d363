"""Pools: the kinds of SQLAlchemy by a setting, and what they are told."""

import threading
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import pool as sa_pool

from opal_registry.engines.factory import make_async_engine, make_engine
from opal_registry.errors import ConfigError
from opal_registry.registry import Registry
from opal_registry.settings.database import PoolSettings
from tests.databases import database_of, engine_of, settings_of


@pytest.mark.parametrize(
    ("kind", "usual", "of_asyncio"),
    [
        ("queue", sa_pool.QueuePool, sa_pool.AsyncAdaptedQueuePool),
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
