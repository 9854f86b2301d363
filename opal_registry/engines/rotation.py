"""Passwords that are replaced while an application runs: a server that refuses the one that is known is asked with a new one."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.util import await_only

from opal_registry.engines.errors.failures import find_meaning
from opal_registry.errors import ConfigError
from opal_registry.secrets import Secret
from opal_registry.settings.database import DatabaseSettings

PAUSE = 5.0
"""So many seconds a place that holds a secret is left alone after it was asked, should a password be simply wrong."""

WRONG_PASSWORD = "28P01"  # noqa: S105 -- PostgreSQL's code, which stands for those of other databases too

logger = logging.getLogger("opal_registry")


def renew_password(engine: sa.Engine, settings: DatabaseSettings, remake: Callable[[], sa.URL]) -> None:
    """Read what a reference leads to anew when a server refuses the password, and try once more if it is another one.

    Connections that are open stay open: databases look at a password when somebody signs in.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
        settings: The database.
        remake: Makes the engine's URL of the settings, with what is known of its secrets.
    """
    references = [secret for secret in _iter_secrets(settings) if secret.is_reference]
    if not references or engine.dialect.name == "sqlite":
        return
    dialect, known = engine.dialect, _Known(remake, references)
    connect: Any = dialect.connect

    def connect_or_renew(*arguments: Any, **told: Any) -> Any:
        credentials = known.credentials
        try:
            return connect(*arguments, **told | credentials)
        except Exception as error:
            if WRONG_PASSWORD not in find_meaning(error).codes:
                raise
            newer = _wait_for(dialect, known.renew, credentials)
            if newer is None:
                raise
            return connect(*arguments, **told | newer)

    if "password" in known.credentials:
        dialect.connect = connect_or_renew  # type: ignore[method-assign]


Credentials = dict[str, str]
"""User and password, by the names that drivers have for them."""


class _Known:
    """The credentials as they were read last; those of a whole URL may be of another user."""

    def __init__(self, remake: Callable[[], sa.URL], references: list[Secret]) -> None:
        self._remake, self._references = remake, references
        self._lock, self._asked_at = threading.Lock(), float("-inf")
        self.credentials = self._read()

    def renew(self, refused: Credentials) -> Credentials | None:
        """Others than those that were refused; None if there are none."""
        with self._lock:
            if self.credentials == refused and time.monotonic() - self._asked_at >= PAUSE:
                self._ask()
            return self.credentials if self.credentials != refused else None

    def _ask(self) -> None:
        """What cannot be read, or is not whole, is left as it was: the next one who is refused asks again."""
        self._asked_at = time.monotonic()
        for step in (*(secret.renew for secret in self._references), self._take):
            try:
                step()
            except ConfigError as error:
                logger.warning("a password was refused, and cannot be read anew: %s", error)

    def _take(self) -> None:
        self.credentials = self._read()

    def _read(self) -> Credentials:
        url = self._remake()
        told = {"user": url.username, "password": url.password}
        return {name: str(value) for name, value in told.items() if value is not None}


def _iter_secrets(settings: DatabaseSettings) -> list[Secret]:
    cloud = settings.cloud_sql.password if settings.cloud_sql else None
    return [each for each in (settings.url, settings.migration_url, settings.password, cloud) if each is not None]


def _wait_for(
    dialect: sa.Dialect, work: Callable[[Credentials], Credentials | None], refused: Credentials
) -> Credentials | None:
    """On an event loop in a thread, because it may ask a network."""
    if dialect.is_async:
        found: Credentials | None = await_only(asyncio.to_thread(work, refused))
        return found
    return work(refused)
