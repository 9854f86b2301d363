"""Admission: some requests wait for a connection before they get a thread, and not in it.

An endpoint written with ``def`` runs in one of a few threads (40), and FastAPI needs another one afterwards, to check what it
returned. If all of them wait for connections, those who have one wait for a thread, until the pool gives up. So a few more
requests are let in than the pool has connections, but fewer than would take all threads: one is always left for who has to finish.
The others wait on the event loop, in the order in which they came.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.registry import Registry

KEY = "opal_registry.place"
"""Where a request keeps its place, in its scope."""

_doors: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[Registry, asyncio.Semaphore]]
_doors = WeakKeyDictionary()


class Place:
    """The place of one request, which its sessions share.

    Args:
        free: Lets somebody else in.
    """

    def __init__(self, free: Callable[[], None]) -> None:
        self._free, self._sessions = free, set[sa_orm.Session]()

    def enter(self, session: sa_orm.Session) -> None:
        """Take a session in."""
        self._sessions.add(session)

    def leave(self, session: sa_orm.Session) -> None:
        """Do without the place, once none of its sessions is left; one that has left may leave again."""
        if session in self._sessions:
            self._sessions.remove(session)
            if not self._sessions:
                self._free()


async def find_place(registry: Registry, scope: dict[str, Any]) -> Place:
    """The place of a request among those who use the default database; others than HTTP's, which may last, need none.

    Args:
        registry: Whose pool it is.
        scope: Of the request, as ASGI has it.

    Raises:
        sqlalchemy.exc.TimeoutError: If none becomes free within ``pool.timeout``.
    """
    pool = registry.settings.databases["default"].pool
    if pool.kind not in {None, "queue"} or scope["type"] != "http":
        return Place(_do_nothing)
    held: Place | None = scope.get(KEY)
    if held is None:
        door = _find_door(registry, pool.size + pool.max_overflow)
        await _pass(door, pool.timeout)
        held = scope[KEY] = Place(lambda: _let_in(door, scope))
    return held


def _find_door(registry: Registry, connections: int) -> asyncio.Semaphore:
    doors = _doors.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
    door = doors.get(registry)
    if door is None:
        doors[registry] = door = asyncio.Semaphore(connections + _count_threads() - 1)
    return door


def _count_threads() -> int:
    import anyio

    return int(anyio.to_thread.current_default_thread_limiter().total_tokens)


async def _pass(door: asyncio.Semaphore, timeout: float) -> None:
    if not door.locked():
        await door.acquire()
        return
    try:
        async with asyncio.timeout(timeout):
            await door.acquire()
    except TimeoutError:
        what = f"no connection of the pool became free within {timeout:g} s (pool.timeout): pool.size + pool.max_overflow are all in use"
        raise sa.exc.TimeoutError(what) from None


def _let_in(door: asyncio.Semaphore, scope: dict[str, Any]) -> None:
    scope.pop(KEY, None)
    door.release()


def _do_nothing() -> None:
    """Where a pool has no limit, or hands out one connection to everybody."""
