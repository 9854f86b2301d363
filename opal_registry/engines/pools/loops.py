"""Asyncio engines, one for each event loop: a connection belongs to the loop that it was made in, and ends with it.

Drivers fail in another loop, each in its own way, and nobody can say goodbye to a server once the loop is closed.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from opal_registry.engines.url import is_memory

if TYPE_CHECKING:  # needs greenlet, which only the extra "async" brings
    from sqlalchemy.ext.asyncio import AsyncEngine

Loop = asyncio.AbstractEventLoop
PATIENCE = 10.0
"""So many seconds another thread's loop has to close the connections that belong to it."""


def find_loop() -> Loop | None:
    """The event loop that runs in this thread, if any does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class LoopEngines:
    """The asyncio engines of one database.

    One that is made while no loop runs belongs to the first loop that asks for it. A SQLite database in memory has one
    engine only: another one would have a database of its own.
    """

    def __init__(self) -> None:
        self._engines: dict[Loop | None, AsyncEngine] = {}
        self._ends: dict[Loop, AsyncGenerator[None]] = {}

    def __len__(self) -> int:
        return len(self._engines)

    def __iter__(self) -> "Iterator[AsyncEngine]":
        return iter(list(self._engines.values()))

    def find(self, loop: Loop | None) -> "AsyncEngine | None":
        """The engine of a loop; outside of loops the one that was made last."""
        if (found := self._engines.get(loop)) is not None:
            return found
        self._forget_closed()
        if loop is None:
            return next(reversed(self._engines.values()), None)
        homeless = self._engines.get(None)
        if homeless is None or is_memory(homeless.url):
            return homeless
        return self.keep(self._engines.pop(None), loop)

    def keep(self, engine: "AsyncEngine", loop: Loop | None) -> "AsyncEngine":
        """Keep a new engine, for the loop that runs; its connections are closed when the loop ends."""
        if loop is None or is_memory(engine.url):
            self._engines[None] = engine
            return engine
        self._engines[loop] = engine
        self._ends[loop] = end = _close_at_end(engine)
        with suppress(StopIteration):  # up to its yield: from then on the loop knows it
            end.__anext__().send(None)
        return engine

    def forget(self, engine: "AsyncEngine") -> None:
        """Do without an engine that was to be kept."""
        self._engines = {loop: kept for loop, kept in self._engines.items() if kept is not engine}

    def pop_all(self) -> "Iterator[tuple[AsyncEngine, Loop | None]]":
        """All engines, the newest first, with their loops; they are not kept any more."""
        while self._engines:
            loop, engine = self._engines.popitem()
            yield engine, loop

    def _forget_closed(self) -> None:
        for loop in [loop for loop in self._engines if loop is not None and loop.is_closed()]:
            self._engines.pop(loop).sync_engine.dispose(close=False)
            self._ends.pop(loop, None)


async def _close_at_end(engine: "AsyncEngine") -> AsyncGenerator[None]:
    """Waits, until the loop that it was begun in ends: loops close the generators that are left (``shutdown_asyncgens``)."""
    try:
        yield
    finally:
        await engine.dispose()


def close(engine: "AsyncEngine", loop: Loop | None) -> None:
    """Close the connections of an engine from outside of its loop, in it, as long as it can still run."""
    if loop is not None and loop.is_closed():
        engine.sync_engine.dispose(close=False)
    elif loop is not None and loop.is_running() and loop is not find_loop():
        asyncio.run_coroutine_threadsafe(engine.dispose(), loop).result(PATIENCE)
    elif loop is not None and find_loop() is None:
        loop.run_until_complete(engine.dispose())
    else:
        _close_elsewhere(engine)


async def aclose(engine: "AsyncEngine", loop: Loop | None) -> None:
    """The same from within a loop."""
    if loop in {None, find_loop()}:
        await engine.dispose()
    else:
        await asyncio.to_thread(close, engine, loop)


def _close_elsewhere(engine: "AsyncEngine") -> None:
    """In an event loop of its own, since that of the engine waits for this, or there is none."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(engine.dispose())).result()
