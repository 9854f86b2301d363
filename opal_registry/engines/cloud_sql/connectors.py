"""Google's connectors: one in a process for all ordinary engines, and one for each event loop, as Google advises.

A connector belongs to an event loop. Some of what it does there blocks (it opens sockets, and fetches tokens), so that the
one of ordinary engines has a loop in a thread of its own, for which nobody waits longer than he wants to.
"""

import asyncio
import atexit
import importlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import sqlalchemy as sa

from opal_registry.engines.cloud_sql.credentials import load_credentials, refresh
from opal_registry.settings.database import CloudSqlSettings

if TYPE_CHECKING:  # heavy, and of the extra "cloudsql"
    from google.auth.credentials import Credentials
    from google.cloud.sql.connector import Connector

THREAD = "opal-cloud-sql"
PATIENCE = 5.0
"""So many seconds a connector has to close; a closed one may hang for ever."""

GRACE = 0.5
"""So many seconds after its time is up, a loop that has not noticed is stuck."""


class Users:
    """The engines that use a connector; one that connects at the moment keeps it, even if it is disposed of meanwhile."""

    def __init__(self) -> None:
        self._engines: WeakSet[sa.Engine] = WeakSet()
        self._connecting = 0

    def begin(self, engine: sa.Engine) -> None:
        """An engine begins to connect."""
        self._engines.add(engine)
        self._connecting += 1

    def end(self, engine: sa.Engine) -> None:
        """It has connected, or failed to."""
        self._connecting -= 1
        self._engines.add(engine)

    def leave(self, engine: sa.Engine) -> bool:
        """An engine was disposed of; whether that was the last one."""
        self._engines.discard(engine)
        return not (self._engines or self._connecting)


class LoopConnector:
    """The connector of one event loop, made there when it is first needed.

    Args:
        settings: Whose credentials it has, and when it renews certificates.
    """

    def __init__(self, settings: CloudSqlSettings) -> None:
        self.users = Users()
        self._settings = settings
        self._making = asyncio.Lock()
        self._made: tuple[Connector, Credentials] | None = None

    async def connect(self, instance: str, driver: str, *, timeout: float, **arguments: Any) -> Any:
        """Connect a driver to an instance, within so many seconds.

        Raises:
            TimeoutError: If it takes longer.
        """
        async with asyncio.timeout(timeout):
            async with self._making:
                connector, credentials = self._made = self._made or await self._make()
                await asyncio.to_thread(refresh, credentials)  # the connector would let the loop stand still for that
            return await connector.connect_async(instance, driver, timeout=timeout, **arguments)

    async def close(self) -> None:
        """Close it, within :data:`PATIENCE`; it is made anew when it is needed again."""
        made, self._made = self._made, None
        if made is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(made[0].close_async(), PATIENCE)

    async def _make(self) -> "tuple[Connector, Credentials]":
        credentials = await asyncio.to_thread(load_credentials, self._settings)
        await asyncio.to_thread(importlib.import_module, "google.cloud.sql.connector")  # takes a while
        from google.cloud.sql.connector import Connector

        connector = Connector(
            loop=asyncio.get_running_loop(),
            credentials=credentials,
            refresh_strategy=self._settings.refresh,
            sqladmin_api_endpoint=self._settings.api_endpoint,
        )
        return connector, credentials


class ThreadedConnector:
    """A connector with an event loop in a thread of its own.

    Args:
        settings: As of :class:`LoopConnector`.

    Attributes:
        is_stuck: Whether its loop stood still when somebody's time was up.
    """

    def __init__(self, settings: CloudSqlSettings) -> None:
        self.is_stuck = False
        self._connector = LoopConnector(settings)
        self._over = asyncio.Event()
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name=THREAD, daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def connect(self, instance: str, driver: str, *, timeout: float, **arguments: Any) -> Any:
        """Connect a driver to an instance, within so many seconds.

        Raises:
            TimeoutError: If it takes longer.
        """
        work = self._connector.connect(instance, driver, timeout=timeout, **arguments)
        future = asyncio.run_coroutine_threadsafe(work, self._loop.result())
        try:
            return future.result(timeout + GRACE)
        finally:
            self.is_stuck |= future.cancel()

    def end(self) -> None:
        """Close the connector and end its thread, without waiting for it."""
        atexit.unregister(self.close)
        with suppress(RuntimeError):  # the loop is closed
            self._loop.result().call_soon_threadsafe(self._over.set)

    def close(self) -> None:
        """The same, waiting for it, within :data:`PATIENCE`."""
        self.end()
        self._thread.join(PATIENCE)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(_Daemons())
        self._loop.set_result(loop)
        await self._over.wait()
        await self._connector.close()


class Connectors:
    """The connectors of engines with the same credentials; each is closed when the last of its engines is disposed of.

    Args:
        settings: As of :class:`LoopConnector`.
    """

    _threaded: ThreadedConnector | None

    def __init__(self, settings: CloudSqlSettings) -> None:
        self._settings = settings
        self._begin()

    def connect(self, engine: sa.Engine, instance: str, driver: str, **arguments: Any) -> Any:
        """Connect a driver to an instance, for an ordinary engine.

        Raises:
            TimeoutError: If it takes longer than ``timeout``; whoever comes next gets a connector that is not stuck.
        """
        if self._process != os.getpid():
            self._leave_to_parent()
        with self._lock:
            self._users.begin(engine)
            connector = self._threaded = self._threaded or ThreadedConnector(self._settings)
        try:
            return connector.connect(instance, driver, **arguments)
        finally:
            with self._lock:
                self._users.end(engine)
            if connector.is_stuck:
                self._give_up(connector)

    def leave(self, engine: sa.Engine) -> None:
        """An ordinary engine was disposed of."""
        if self._process != os.getpid():
            self._leave_to_parent()
            return
        with self._lock:
            if not self._users.leave(engine):
                return
            connector, self._threaded = self._threaded, None
        if connector is not None:
            connector.close()

    async def connect_async(self, engine: sa.Engine, instance: str, driver: str, **arguments: Any) -> Any:
        """Connect a driver to an instance, for an engine of the event loop that runs.

        Raises:
            TimeoutError: If it takes longer than ``timeout``.
        """
        connector = self._of_loops.setdefault(asyncio.get_running_loop(), LoopConnector(self._settings))
        connector.users.begin(engine)
        try:
            return await connector.connect(instance, driver, **arguments)
        finally:
            connector.users.end(engine)

    async def leave_async(self, engine: sa.Engine) -> None:
        """An engine of the event loop that runs was disposed of."""
        connector = self._of_loops.get(asyncio.get_running_loop())
        if connector is not None and connector.users.leave(engine):
            await connector.close()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._users = Users()
        self._threaded = None
        self._of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopConnector] = WeakKeyDictionary()

    def _leave_to_parent(self) -> None:
        """Begin anew in a process that was forked: there is no thread in it that would close anything."""
        if self._threaded is not None:
            atexit.unregister(self._threaded.close)
        _inherited.append((self._threaded, self._of_loops))
        self._begin()

    def _give_up(self, connector: ThreadedConnector) -> None:
        with self._lock:
            if self._threaded is connector:
                self._threaded = None
        connector.end()


_shared: "WeakValueDictionary[tuple[object, ...], Connectors]" = WeakValueDictionary()
"""The connectors of this process, by what makes them differ; they live as long as their engines."""


_inherited: list[object] = []
"""Connectors of the parent process; to let go of one would have it complain that nobody has closed it."""


def find_connectors(settings: CloudSqlSettings) -> Connectors:
    """The connectors for engines with these credentials.

    Args:
        settings: How an instance is reached.
    """
    key = (settings.credentials, settings.impersonate, settings.api_endpoint, settings.refresh)
    return _shared.setdefault(key, Connectors(settings))


class _Daemons(ThreadPoolExecutor):
    """Runs each piece of work in a thread that keeps no process from ending: a server may leave it waiting for ever."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        arguments = future, lambda: work(*args, **named)
        threading.Thread(target=_work, args=arguments, name=THREAD, daemon=True).start()
        return future


def _work(future: Future[Any], work: Callable[[], Any]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 -- whoever waits for the work gets it
            future.set_exception(error)
