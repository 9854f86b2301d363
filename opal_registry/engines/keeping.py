"""The engines of one registry: made on first use, one for each way to each database, closed together."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opal_registry.engines.arguments import PROGRAM
from opal_registry.engines.factory import make_async_engine, make_engine, make_migration_engine
from opal_registry.engines.pools.leases import Lease
from opal_registry.engines.pools.lingering import LingeringQueuePool
from opal_registry.engines.pools.loops import Loop, LoopEngines, aclose, close, find_loop
from opal_registry.engines.url import is_memory
from opal_registry.engines.watching.observing import observe
from opal_registry.errors import ConfigError, Problem
from opal_registry.settings.database import DatabaseSettings
from opal_registry.settings.model import Settings

if TYPE_CHECKING:  # needs greenlet, which only the extra "async" brings
    from sqlalchemy.ext.asyncio import AsyncEngine

logger = logging.getLogger("opal_registry")


class Engines:
    """Makes the engines of the configured databases, and keeps them until they are closed.

    Args:
        settings: What is configured.
        announce: Told of each new engine and of its bind key; if that fails, there is no engine.
        program: What connects, for the servers' lists of connections.
    """

    def __init__(
        self, settings: Settings, announce: Callable[[sa.Engine, str], None], *, program: str = PROGRAM
    ) -> None:
        self._settings, self._announce, self._program = settings, announce, program
        self._usual: dict[str, sa.Engine] = {}
        self._for_ddl: dict[str, sa.Engine] = {}
        self._async: dict[str, LoopEngines] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._usual) + len(self._for_ddl) + sum(map(len, self._async.values()))

    def get(self, bind: str) -> sa.Engine:
        """The engine of a database.

        Raises:
            ConfigError: If the database is not configured, or its URL or driver cannot be used.
        """
        return self._usual.get(bind) or self._keep(self._usual, bind, lambda: self._make(bind))

    def get_for_ddl(self, bind: str) -> sa.Engine:
        """The engine that DDL goes through; for a SQLite database in memory that of :meth:`get`.

        Raises:
            ConfigError: As :meth:`get`, and if ``migration_url`` or ``migration_role`` cannot be used.
        """
        with self._lock:
            if bind in self._for_ddl:
                return self._for_ddl[bind]
            settings = self._database(bind)
            engine = make_migration_engine(settings, where=self._settings.place_of(bind, "migration_url"))
            if is_memory(engine.url):
                return self.get(bind)
            self._keep(self._for_ddl, bind, lambda: engine)
            return engine

    def get_async(self, bind: str) -> "AsyncEngine":
        """The asyncio engine of a database, for the event loop that runs.

        Raises:
            ConfigError: As :meth:`get`, and if what asyncio needs is not installed.
        """
        loop = find_loop()
        with self._lock:
            kept = self._async.setdefault(bind, LoopEngines())
            if (found := kept.find(loop)) is not None:
                return found
            engine = kept.keep(make_async_engine(**self._wanted(bind)), loop)
            observe(engine.sync_engine, self._settings, bind)
            try:
                self._announce(engine.sync_engine, bind)
            except BaseException:
                kept.forget(engine)
                raise
            return engine

    def iter_all(self) -> Iterator[tuple[sa.Engine, str]]:
        """All engines that there are, with their bind keys; for asyncio their ``sync_engine``."""
        with self._lock:
            pairs = [(engine, bind) for kept in (self._usual, self._for_ddl) for bind, engine in kept.items()]
            pairs += [(engine.sync_engine, bind) for bind, loops in self._async.items() for engine in loops]
        yield from pairs

    def find_leases(self) -> dict[str, list[Lease]]:
        """The connections that are out, the longest first, by bind key."""
        found: dict[str, list[Lease]] = {bind: [] for bind in self._settings.databases}
        for engine, bind in self.iter_all():
            if isinstance(engine.pool, LingeringQueuePool):
                found[bind] += engine.pool.leases
        return {bind: sorted(leases, key=lambda lease: lease.since) for bind, leases in found.items()}

    def close(self) -> None:
        """Close every connection that is not in use, from outside of an event loop; new engines are made when asked for."""
        engines, async_engines = self._forget()
        for engine, loop in async_engines:
            with _logged(engine):
                close(engine, loop)
        _dispose(engines)

    async def aclose(self) -> None:
        """The same from within an event loop."""
        engines, async_engines = self._forget()
        for engine, loop in async_engines:
            with _logged(engine):
                await aclose(engine, loop)
        _dispose(engines)

    def _make(self, bind: str) -> sa.Engine:
        engine = make_engine(**self._wanted(bind))
        observe(engine, self._settings, bind)
        return engine

    def _keep(self, kept: dict[str, sa.Engine], bind: str, make: Callable[[], sa.Engine]) -> sa.Engine:
        """The engine of a bind, made and announced if there is none yet; whoever is told of it may ask for it."""
        with self._lock:
            if bind not in kept:
                kept[bind] = engine = make()
                try:
                    self._announce(engine, bind)
                except BaseException:
                    del kept[bind]
                    raise
            return kept[bind]

    def _forget(self) -> "tuple[list[sa.Engine], list[tuple[AsyncEngine, Loop | None]]]":
        """All engines, the newest first; they are not kept any more."""
        with self._lock:
            engines = [*self._usual.values(), *self._for_ddl.values()][::-1]
            async_engines = [pair for kept in reversed(self._async.values()) for pair in kept.pop_all()]
            for usual in (self._usual, self._for_ddl):
                usual.clear()
        return engines, async_engines

    def _wanted(self, bind: str) -> dict[str, Any]:
        settings = self._database(bind)
        return {"settings": settings, "where": self._settings.place_of(bind), "program": self._program}

    def _database(self, bind: str) -> DatabaseSettings:
        databases = self._settings.databases
        if bind not in databases:
            mend = f"configure it under binds, or use one of: {', '.join(databases)}"
            raise ConfigError(Problem(f"no database is configured for the bind {bind!r}", mend=mend))
        return databases[bind]


def _dispose(engines: list[sa.Engine]) -> None:
    for engine in engines:
        with _logged(engine):
            engine.dispose()


@contextlib.contextmanager
def _logged(engine: object) -> Iterator[None]:
    """Closing goes on with the next engine, whatever happens to one."""
    try:
        yield
    except Exception:
        logger.exception("closing the connections of %r failed", engine)
