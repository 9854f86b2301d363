"""Engines of Google Cloud SQL instances, whose connections Google's connector makes.

An engine keeps its URL, its events and what its driver is told; only the last step, in which a driver would open a socket,
is the connector's: it asks Google for the instance's address and for a certificate, and signs in with that.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.util import await_only

from opal_registry.engines.cloud_sql.connectors import Connectors, find_connectors
from opal_registry.engines.cloud_sql.refusals import NO_IAM_USER, NOT_UNDERSTOOD, find_refusal
from opal_registry.engines.errors.failures import MEANING, find_meaning
from opal_registry.engines.errors.translation import STUMBLES, make_driver_error
from opal_registry.extras import MissingExtraError, is_installed
from opal_registry.settings.database import CloudSqlSettings, DatabaseSettings

OWN_SETTINGS = re.compile(r"\bdatabase\.(?=(user|password)\b)")
"""Settings that have another place here than with a URL or parts."""

NOT_LET_IN = {"28P01", "28", "1045", "1698"}
"""Codes of databases that do not let somebody in."""


def check_connector(url: sa.URL, settings: DatabaseSettings, *, where: str = "") -> None:
    """See to it that Google's connector can be used, if a URL leads to a Cloud SQL instance; it is not imported yet.

    Args:
        url: Of the database.
        settings: How it is reached.
        where: Where that is configured, for error texts.

    Raises:
        ConfigError: If the connector is not installed.
    """
    if _is_instance(url, settings) and not is_installed("google.cloud.sql.connector"):
        raise MissingExtraError.of("cloud_sql needs Google's connector, which is not installed", "cloudsql", where)


def connect_through_google(engine: sa.Engine, settings: DatabaseSettings) -> None:
    """Let Google's connector make an engine's connections, if its URL leads to a Cloud SQL instance; nothing is connected.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
        settings: How the database is reached.
    """
    if settings.cloud_sql is None or not _is_instance(engine.url, settings):
        return
    dialect: Any = engine.dialect
    connect = (_through_loop if dialect.is_async else _through_thread)(engine, find_connectors(settings.cloud_sql))
    own = {"enable_iam_auth": settings.cloud_sql.iam_auth, "ip_type": settings.cloud_sql.ip_type}
    through = partial(connect, driver=dialect.driver, **own)
    dialect.connect = _translating(dialect, settings.cloud_sql, lambda **told: through(**_tell(told)))


def _is_instance(url: sa.URL, settings: DatabaseSettings) -> bool:
    """Whether it does not lead elsewhere, as ``migration_url`` may."""
    return settings.cloud_sql is not None and url.host == settings.cloud_sql.instance


def _through_thread(engine: sa.Engine, connectors: Connectors) -> Callable[..., Any]:
    sa.event.listen(engine, "engine_disposed", connectors.leave)
    return partial(connectors.connect, engine)


def _through_loop(engine: sa.Engine, connectors: Connectors) -> Callable[..., Any]:
    @sa.event.listens_for(engine, "engine_disposed")
    def leave(_: sa.Engine) -> None:
        with suppress(sa.exc.MissingGreenlet, RuntimeError):  # the loop has ended, and the connector with it
            await_only(connectors.leave_async(engine))

    usual: Any = engine.dialect.connect
    return partial(usual, async_creator_fn=partial(connectors.connect_async, engine))


def _tell(told: dict[str, Any]) -> dict[str, Any]:
    """What a driver is told, by the names that the connector has for it."""
    names = {"host": "instance", "dbname": "db", "database": "db", "connect_timeout": "timeout"}
    return {names.get(name, name): value for name, value in told.items()}


def _translating(dialect: sa.Dialect, settings: CloudSqlSettings, connect: Callable[..., Any]) -> Callable[..., Any]:
    """The same, whose errors are those of the driver, and know what they mean here."""

    def connect_or_say_why(*_: Any, **told: Any) -> Any:
        try:
            return connect(**told)
        except Exception as error:
            refusal = find_refusal(error) or (NOT_UNDERSTOOD if isinstance(error, STUMBLES) else None)
            if refusal is None:
                _explain(error, settings)
                raise
            translated = make_driver_error(dialect, error)
            setattr(translated, MEANING, refusal)
            raise translated from error

    return connect_or_say_why


def _explain(error: Exception, settings: CloudSqlSettings) -> None:
    """Let what the database itself says lead to the settings that there are here."""
    meaning = find_meaning(error)
    if settings.iam_auth and NOT_LET_IN & set(meaning.codes.split()):
        meaning = NO_IAM_USER
    setattr(error, MEANING, replace(meaning, mend=OWN_SETTINGS.sub("database.cloud_sql.", meaning.mend)))
