"""Admission: some requests wait for a connection before they get a thread, and not in it.

An endpoint written with ``def`` runs in one of a few threads (40), and FastAPI needs another one afterwards, to check what it
returned. If all of them wait for connections, those who have one wait for a thread, until the pool gives up. So a few more
requests are let in than the pool has connections, but fewer than would take all threads: one is always left for who has to finish.
Of those that need several sessions at once, and would wait for each other's connections, so many are let in that one gets all of its.
The others wait on the event loop, in the order in which they came.
"""

import asyncio
from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from opal_registry.registry import Registry
from opal_registry.routes import Needs, find_needs
from opal_registry.settings.model import Settings

KEY = "opal_registry.place"
"""Where a request keeps its place, in its scope."""

_doors: "WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[Registry, _Doors | None]]" = WeakKeyDictionary()


class Place:
    """The place of one request, which its sessions share.

    Args:
        free: Lets somebody else in.
    """

    def __init__(self, free: Callable[[], None]) -> None:
        self._free, self._sessions = free, set[Hashable]()

    def enter(self, session: Hashable) -> None:
        """Take a session in."""
        self._sessions.add(session)

    def leave(self, session: Hashable) -> None:
        """Do without the place, once none of its sessions is left; one that has left may leave again."""
        if session in self._sessions:
            self._sessions.remove(session)
            if not self._sessions:
                self._free()


async def find_place(registry: Registry, scope: dict[str, Any]) -> Place:
    """The place of a request among those who use databases; others than HTTP's, which may last, need none.

    Args:
        registry: Whose pools they are.
        scope: Of the request, as ASGI has it.

    Raises:
        sqlalchemy.exc.TimeoutError: If none becomes free within ``pool.timeout``.
    """
    held: Place | None = scope.get(KEY)
    if held is not None:
        return held
    needs, doors = find_needs(scope), _find_doors(registry)
    if doors is None or scope["type"] != "http" or not (needs.threads or needs.sessions > 1):
        return Place(_do_nothing)
    passed = await doors.pass_through(needs)
    place = scope[KEY] = Place(lambda: _let_in(passed, scope))
    return place


class _Doors:
    """What stands before the pools of a registry, on one event loop.

    Args:
        connections: How many the smallest pool has.
        timeout: So many seconds somebody waits.
    """

    def __init__(self, connections: int, timeout: float) -> None:
        self._timeout, self._spare = timeout, max(connections - 1, 1)
        self._threads = asyncio.Semaphore(connections + _count_threads() - 1)
        self._more, self._turn = asyncio.Semaphore(self._spare), asyncio.Lock()

    async def pass_through(self, needs: Needs) -> list[asyncio.Semaphore]:
        """Wait until a request may begin; returns what it has to release."""
        if needs.sessions == 1 and not self._threads.locked():
            await self._threads.acquire()
            return [self._threads]
        passed: list[asyncio.Semaphore] = []
        try:
            async with asyncio.timeout(self._timeout):
                await self._pass(needs, passed)
        except BaseException as error:
            _release(passed)
            if not isinstance(error, TimeoutError):
                raise
            what = f"too many requests wait for connections (pool.size + pool.max_overflow), this one for {self._timeout:g} s (pool.timeout)"
            raise sa.exc.TimeoutError(what) from None
        return passed

    async def _pass(self, needs: Needs, passed: list[asyncio.Semaphore]) -> None:
        if needs.threads:
            await self._threads.acquire()
            passed.append(self._threads)
        if needs.sessions > 1:
            async with self._turn:  # whoever takes several takes all of them
                for _ in range(min(needs.sessions - 1, self._spare)):
                    await self._more.acquire()
                    passed.append(self._more)


def _find_doors(registry: Registry) -> _Doors | None:
    doors = _doors.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
    if registry not in doors:
        doors[registry] = _make_doors(registry.settings)
    return doors[registry]


def _make_doors(settings: Settings) -> _Doors | None:
    """None where no pool has a limit, or each hands out one connection to everybody."""
    pools = [database.pool for database in settings.databases.values()]
    sizes = [pool.size + pool.max_overflow for pool in pools if pool.kind in {None, "queue"}]
    return _Doors(min(sizes), settings.database.pool.timeout) if sizes else None


def _count_threads() -> int:
    import anyio

    return int(anyio.to_thread.current_default_thread_limiter().total_tokens)


def _let_in(passed: list[asyncio.Semaphore], scope: dict[str, Any]) -> None:
    scope.pop(KEY, None)
    _release(passed)


def _release(passed: list[asyncio.Semaphore]) -> None:
    for door in passed:
        door.release()


def _do_nothing() -> None:
    """Where a pool has no limit, or hands out one connection to everybody."""
