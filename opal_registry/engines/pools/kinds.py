"""Which connections a process keeps: the pools of SQLAlchemy, chosen by a setting and checked against the database."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import pool as sa_pool

from opal_registry.engines.pools.lingering import AsyncLingeringQueuePool, LingeringQueuePool
from opal_registry.engines.url import is_memory
from opal_registry.errors import ConfigError, Problem
from opal_registry.settings.database import PoolSettings

KINDS: dict[str, type[sa.Pool]] = {
    "queue": LingeringQueuePool,
    "none": sa_pool.NullPool,
    "static": sa_pool.StaticPool,
    "singleton": sa_pool.SingletonThreadPool,
    "assertion": sa_pool.AssertionPool,
}
ASYNC_KINDS = {**KINDS, "queue": AsyncLingeringQueuePool}
SEVERAL = {"queue", "none"}
"""Kinds that connect more than once, one after the other: a database in memory begins anew with each connection."""


def make_pool_options(
    url: sa.URL, settings: PoolSettings, *, use_async: bool = False, where: str = ""
) -> dict[str, Any]:
    """What :func:`sqlalchemy.create_engine` is told of the pool.

    Args:
        url: The database.
        settings: How connections to it are kept.
        use_async: Whether they are those of an asyncio engine.
        where: Where the database is configured, for error texts.

    Raises:
        ConfigError: If the kind of the pool cannot serve this database, or asyncio.

    Example:
        >>> make_pool_options(sa.make_url("sqlite://"), PoolSettings())["poolclass"].__name__
        'StaticPool'
        >>> make_pool_options(sa.make_url("sqlite://"), PoolSettings(kind="none"))
        Traceback (most recent call last):
        ...
        opal_registry.errors.ConfigError: pool.kind is none, but a database in memory lasts as long as its connection
          mend:  take pool.kind out, or keep the database in a file
    """
    kind = settings.kind or ("static" if is_memory(url) else "queue")
    _check_kind(kind, url, where, use_async=use_async)
    options: dict[str, Any] = {
        "poolclass": (ASYNC_KINDS if use_async else KINDS)[kind],
        "pool_recycle": settings.recycle,
    }
    if kind in {"queue", "singleton"}:
        options["pool_size"] = settings.size
    if kind == "queue":
        options |= {"max_overflow": settings.max_overflow, "pool_timeout": settings.timeout, "pool_use_lifo": True}
    return options


def has_room(pool: sa.Pool) -> bool:
    """Whether a pool keeps a connection that is given back, and does not close it."""
    if isinstance(pool, LingeringQueuePool):
        return pool.has_room()
    return not isinstance(pool, sa_pool.NullPool)


def _check_kind(kind: str, url: sa.URL, where: str, *, use_async: bool) -> None:
    if kind in SEVERAL and is_memory(url):
        what = f"pool.kind is {kind}, but a database in memory lasts as long as its connection"
        raise ConfigError(Problem(what, where, "take pool.kind out, or keep the database in a file"))
    if use_async and kind == "singleton":
        what = "pool.kind is singleton: one connection for each thread, and all of asyncio is in one"
        raise ConfigError(Problem(what, where, "take pool.kind out, or choose queue, none or static"))
