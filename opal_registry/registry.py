"""The registry: the long-lived object that holds settings, sub-apps, engines and session factories.

It is made once in a process and closed once. Nothing is read before it is needed, and nothing connects before the first
statement.
"""

import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.base import Base
from opal_registry.discovery import Choice, Discovery, Fault, discover
from opal_registry.engines.arguments import PROGRAM
from opal_registry.engines.keeping import Engines
from opal_registry.engines.pools.leases import Lease
from opal_registry.engines.sqlite import Intent
from opal_registry.engines.url import make_url
from opal_registry.errors import ConfigError, PluginError, Problem
from opal_registry.guard import Step, guarded, quiet_step
from opal_registry.requirements import check_requirements
from opal_registry.sessions import OpalSession, make_async_session_factory, make_session_factory
from opal_registry.settings.model import Settings
from opal_registry.settings.sources import load_settings
from opal_registry.suite import Suite, load_suite

if TYPE_CHECKING:  # needs greenlet, which only the extra "async" brings
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

logger = logging.getLogger("opal_registry")


class Registry:
    """Settings, sub-apps, engines and sessions of one process.

    Args:
        settings: What is configured; read from its sources on first use unless given.
        sub_apps: Load these sub-apps and what they require, instead of those that the configuration enables. One
            application's process so imports no models of the others.
        base: The declarative base whose tables count.
        step: Told of each import of a plugin's code before it happens.

    Example:
        >>> from opal_registry.settings.model import Settings
        >>> with Registry(Settings(database={"url": "sqlite://"}), sub_apps=["core"]) as registry:
        ...     with registry.session_scope() as session:
        ...         session.scalar(sa.text("SELECT 41 + 1"))
        42
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        sub_apps: Sequence[str] | None = None,
        base: type[sa_orm.DeclarativeBase] = Base,
        step: Step = quiet_step,
    ) -> None:
        self._given, self._wanted, self.base, self.step = settings, sub_apps, base, step
        self._kept: Engines | None = None
        self._watchers: list[Callable[[sa.Engine, str], None]] = []
        self._lock = threading.RLock()

    @classmethod
    def from_config(
        cls,
        config: str | Path | None = None,
        *,
        sub_apps: Sequence[str] | None = None,
        step: Step = quiet_step,
        **arguments: Any,
    ) -> Self:
        """Make a registry from the configuration, read now.

        Args:
            config: The YAML file; found as the documentation of the configuration says if it is not given.
            sub_apps: As for the class.
            step: As for the class.
            **arguments: Settings that outrank all other sources, such as ``database={"url": ...}``.

        Raises:
            ConfigError: If anything in the configuration is wrong.
        """
        return cls(load_settings(config, **arguments), sub_apps=sub_apps, step=step)

    @cached_property
    def settings(self) -> Settings:
        """The settings, read from their sources on first use unless they were given."""
        return self._given if self._given is not None else load_settings()

    @property
    def choice(self) -> Choice:
        """Which of the installed sub-apps are asked for."""
        sub_apps = self.settings.sub_apps
        enabled = sub_apps.enabled if self._wanted is None else list(self._wanted)
        return Choice(enabled, sub_apps.disabled, sub_apps.modules)

    @cached_property
    def discovery(self) -> Discovery:
        """The plugins and the sub-apps that they contribute; imports no models.

        Raises:
            ConfigError: If the choice names a sub-app that is not there.
        """
        if "suite" in self.__dict__:
            return self.suite.discovery
        found = discover(self.choice, step=self.step)
        check_requirements(found, self.choice)
        return found

    @cached_property
    def suite(self) -> Suite:
        """Every sub-app with its tables, in order; the models are imported on first use.

        Raises:
            PluginError: If a sub-app cannot be loaded, unless ``sub_apps.on_error`` is ``quarantine``.
        """
        with self._lock:
            suite = load_suite(self.choice, self.base, on_error=self.settings.sub_apps.on_error, step=self.step)
            self._check_binds(suite)
            return suite

    @cached_property
    def session_factory(self) -> sa_orm.sessionmaker[OpalSession]:
        """The factory of sessions; calling it opens nothing."""
        engines = {bind: partial(self.engine, bind) for bind in self.settings.databases}
        return make_session_factory(engines, self._bind_of, debug=self._debug)

    @cached_property
    def async_session_factory(self) -> "async_sessionmaker[AsyncSession]":
        """The factory of asyncio sessions; calling it opens nothing."""
        engines = {bind: partial(self._sync_engine, bind) for bind in self.settings.databases}
        return make_async_session_factory(engines, self._bind_of, debug=self._debug)

    def engine(self, bind: str = "default") -> sa.Engine:
        """The engine of a configured database, made on first use; nothing is connected.

        Raises:
            ConfigError: If the database is not configured, or its URL or driver cannot be used.
        """
        return self._engines.get(bind)

    def migration_engine(self, bind: str = "default") -> sa.Engine:
        """The engine that DDL of a configured database goes through, made on first use; nothing is connected.

        It leads to ``migration_url``, works as ``migration_role`` and keeps no connection. For a SQLite database in memory
        it is that of :meth:`engine`: another one would have a database of its own.

        Raises:
            ConfigError: As :meth:`engine`, and if ``migration_url`` or ``migration_role`` cannot be used.
        """
        return self._engines.get_for_ddl(bind)

    def get_dialect(self, bind: str = "default") -> str:
        """Of which kind a configured database is: ``sqlite``, ``postgresql``, ``mysql`` or ``mariadb``.

        Raises:
            ConfigError: As :meth:`engine`.
        """
        return self.engine(bind).dialect.name

    def async_engine(self, bind: str = "default") -> "AsyncEngine":
        """The asyncio engine of a configured database, made on first use; nothing is connected.

        Raises:
            ConfigError: As :meth:`engine`, and if what asyncio needs is not installed.
        """
        return self._engines.get_async(bind)

    def watch(self, watcher: Callable[[sa.Engine, str], None]) -> None:
        """Tell something of each engine and its bind key: of those that there are, and of those that will be made.

        Args:
            watcher: Is called with the engine; for asyncio with its ``sync_engine``.
        """
        self._watchers.append(watcher)
        for engine, bind in self._engines.iter_all():
            watcher(engine, bind)

    @property
    def leases(self) -> dict[str, list[Lease]]:
        """The connections that are out, the longest first, by bind key: who has them, and since when."""
        return self._engines.find_leases()

    @contextlib.contextmanager
    def session_scope(self, *, read_only: bool = False) -> Iterator[OpalSession]:
        """A session for the length of a block: committed at its end, rolled back on any error, always closed.

        Args:
            read_only: Refuse to write, in this process and by the server.
        """
        with self.session_factory(intent=_intent(read_only=read_only)) as session:
            yield session
            session.commit()

    @contextlib.asynccontextmanager
    async def async_session_scope(self, *, read_only: bool = False) -> "AsyncIterator[AsyncSession]":
        """The same for asyncio."""
        async with self.async_session_factory(intent=_intent(read_only=read_only)) as session:
            yield session
            await session.commit()

    @property
    def is_prepared(self) -> bool:
        """Whether :meth:`prepare` has been called, or all that it does has happened."""
        return "session_factory" in self.__dict__ and self._kept is not None

    def prepare(self) -> None:
        """Read what has to be read before the first statement, passwords too; nothing is connected, no models are imported.

        Raises:
            ConfigError: If anything in the configuration is wrong.
        """
        self._engines, self.session_factory  # noqa: B018 -- both are made on first use
        for bind, database in self.settings.databases.items():
            make_url(database, where=self.settings.place_of(bind))

    def elsewhere(self, settings: Settings, suite: Suite) -> "Registry":
        """A registry of the same sub-apps for other databases; nothing is imported again.

        Args:
            settings: What leads to those.
            suite: The sub-apps, as they shall be taken there.
        """
        other = Registry(settings, sub_apps=self._wanted, base=self.base, step=self.step)
        other.__dict__["suite"] = suite
        return other

    def leave_out(self, faults: Sequence[Fault]) -> None:
        """Quarantine sub-apps that turned out to be at fault after their models were imported, and all that need them."""
        self.__dict__ |= {"_binds": self._binds, "suite": self.suite.without(faults)}  # their tables stay in their bind

    def as_default(self) -> Self:
        """Make this the registry that ``opal_registry.database`` follows: ``engine``, ``SessionLocal``, ``get_db``."""
        global _default
        _default = self
        return self

    def close(self) -> None:
        """Close every connection that is not in use; may be called again, and the registry can be used afterwards.

        Where asyncio engines were used, prefer :meth:`aclose` in their event loop: some drivers (asyncpg) cannot say
        goodbye from elsewhere.
        """
        if self._kept is not None:
            self._kept.close()

    async def aclose(self) -> None:
        """The same from within an event loop."""
        if self._kept is not None:
            await self._kept.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        engines = len(self._kept) if self._kept is not None else 0
        return f"<Registry with {engines} engine{'' if engines == 1 else 's'}>"

    @property
    def _engines(self) -> Engines:
        if self._kept is None:
            with self._lock:
                if self._kept is None:
                    self._kept = Engines(self.settings, self._announce, program=self._program)
        return self._kept

    def _announce(self, engine: sa.Engine, bind: str) -> None:
        """Tell the plugins of a new engine; one that fails must not take the application down."""
        for plugin in self.discovery.plugins:
            try:
                with guarded("calling opal_engine_created", where=str(plugin)):
                    self.discovery.hook("opal_engine_created", plugin)(engine=engine, bind=bind)
            except PluginError as error:
                logger.warning("%s", error)
        for watcher in self._watchers:
            watcher(engine, bind)

    @property
    def _program(self) -> str:
        """The sub-app that this process is about: the one that no other one here requires."""
        apps = self.discovery.sub_apps
        required = {name for app in apps for name in app.needs}
        heads = [app.name for app in apps if app.name not in required]
        return heads[0] if len(heads) == 1 else PROGRAM

    @property
    def _debug(self) -> bool:
        return not self.settings.is_production

    def _sync_engine(self, bind: str) -> sa.Engine:
        return self.async_engine(bind).sync_engine

    def _bind_of(self, table: sa.Table) -> str:
        return self._binds.get(table, "default")

    @cached_property
    def _binds(self) -> dict[sa.Table, str]:
        return {table: app.sub_app.bind for app in self.suite.sub_apps for table in (*app.tables, *app.twins)}

    def _check_binds(self, suite: Suite) -> None:
        for app in suite.sub_apps:
            if app.sub_app.bind not in self.settings.databases:
                what = f"sub-app {app.name!r} lives in the bind {app.sub_app.bind!r}, which is not configured"
                mend = (
                    f"add binds.{app.sub_app.bind} to the configuration; there is: {', '.join(self.settings.databases)}"
                )
                raise ConfigError(Problem(what, str(app.plugin), mend))


_default: Registry | None = None


def get_default_registry() -> Registry:
    """The registry that the process shares: the one that was set by ``as_default()``, else one made now."""
    return _default if _default is not None else Registry().as_default()


def _intent(*, read_only: bool) -> Intent:
    return "read_only" if read_only else "read_write"
