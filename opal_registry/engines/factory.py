"""Engines: made from settings without connecting, each with what its database needs to be safe."""

import importlib.util
import ssl
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opal_registry.engines import sqlite
from opal_registry.engines.url import get_sqlite_path, make_url
from opal_registry.errors import ConfigError, Problem
from opal_registry.settings.model import DatabaseSettings

if TYPE_CHECKING:  # needs greenlet, which only the extra "async" brings
    from sqlalchemy.ext.asyncio import AsyncEngine

APPLICATION_NAME = "opal_registry"
EXTRAS = {"pymysql": "mysql", "asyncmy": "mysql", "aiosqlite": "async", "asyncpg": "async", "psycopg": ""}
"""The extra of this distribution that brings a driver."""


def make_engine(settings: DatabaseSettings, *, where: str = "", database: str | None = None) -> sa.Engine:
    """Make an engine for one configured database; nothing is connected.

    Args:
        settings: The database.
        where: Where its URL stands, for error texts.
        database: Another database of the same server, to be reached in the same way.

    Raises:
        ConfigError: If the URL cannot be meant, or its driver is not installed.
    """
    url = make_url(settings, where=where)
    if database is not None:
        url = url.set(database=database)
    engine = _create(sa.create_engine, url, settings, where)
    return _make_safe(engine, settings)


def make_server_engines(settings: DatabaseSettings) -> list[sa.Engine]:
    """Engines of the databases that every server has, through which another one can be made."""
    names = {"postgresql": ("postgres", "template1"), "mysql": ("",), "mariadb": ("",)}
    return [make_engine(settings, database=name) for name in names.get(make_url(settings).get_backend_name(), ())]


def make_async_engine(settings: DatabaseSettings, *, where: str = "") -> "AsyncEngine":
    """Make an asyncio engine for one configured database; nothing is connected.

    Raises:
        ConfigError: As :func:`make_engine`, and if greenlet is not installed.
    """
    if importlib.util.find_spec("greenlet") is None:
        what = "an asyncio engine needs greenlet, which is not installed"
        raise ConfigError(Problem(what, where, "pip install 'opal-registry[async]'"))
    from sqlalchemy.ext.asyncio import create_async_engine

    url = make_url(settings, where=where, use_async=True)
    engine: AsyncEngine = _create(create_async_engine, url, settings, where)
    _make_safe(engine.sync_engine, settings)
    return engine


def with_intent(engine: sa.Engine, intent: sqlite.Intent) -> sa.Engine:
    """The same engine and pool, for transactions of one intent; ``read_only`` ones are refused writes by the server."""
    if intent == "read_write":
        return engine
    options: dict[str, Any] = {sqlite.OPTION: intent}
    if intent == "read_only" and engine.dialect.name == "postgresql":
        options["postgresql_readonly"] = True
    return engine.execution_options(**options)


def _create(create: Callable[..., Any], url: sa.URL, settings: DatabaseSettings, where: str) -> Any:
    options = {"hide_parameters": True, **_pool_options(url, settings)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", sa.exc.SAWarning)  # an option that is ignored is not what anybody wanted
            engine = create(url, connect_args=_connect_args(url, settings), **options)
            engine.dialect.create_connect_args(url)
            return engine
    except ModuleNotFoundError as error:
        driver = url.get_driver_name()
        extra = EXTRAS.get(driver)
        install = f"pip install 'opal-registry[{extra}]'" if extra else f"pip install {error.name}"
        problem = Problem(
            f"the driver {driver!r} needs the module {error.name!r}, which is not installed", where, install
        )
        raise ConfigError(problem) from None
    except sa.exc.NoSuchModuleError:
        problem = Problem(
            f"SQLAlchemy knows no driver {url.drivername!r}", where, f"leave it out: {url.get_backend_name()}://..."
        )
        raise ConfigError(problem) from None
    except OSError as error:
        what = f"the certificates under ssl cannot be used: {error.strerror or error}"
        raise ConfigError(Problem(what, where, "correct ssl.root_cert, ssl.cert and ssl.key")) from None
    except (sa.exc.SAWarning, sa.exc.ArgumentError, ValueError, TypeError) as error:
        what = f"the URL holds an option that {url.get_driver_name()} cannot use: {str(error).partition('; ')[0]}"
        raise ConfigError(Problem(what, where, "correct what follows the '?' in the URL")) from None


def _pool_options(url: sa.URL, settings: DatabaseSettings) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite" and get_sqlite_path(url) is None:
        return {"poolclass": sa.StaticPool}
    pool = settings.pool
    return {
        "pool_size": pool.size,
        "max_overflow": pool.max_overflow,
        "pool_timeout": pool.timeout,
        "pool_recycle": pool.recycle,
        "pool_use_lifo": True,
        "pool_pre_ping": url.get_backend_name() != "sqlite",
    }


def _connect_args(url: sa.URL, settings: DatabaseSettings) -> dict[str, Any]:
    wait = max(1, round(settings.connect_timeout))
    driver = url.get_driver_name()
    args: dict[str, dict[str, Any]] = {
        "pysqlite": {"check_same_thread": False},
        "psycopg": {"connect_timeout": wait, "application_name": APPLICATION_NAME},
        "asyncpg": {"timeout": wait, "server_settings": {"application_name": APPLICATION_NAME}},
        "pg8000": {"timeout": wait, "application_name": APPLICATION_NAME},
        "pymysql": {"connect_timeout": wait, "charset": "utf8mb4"},
        "asyncmy": {"connect_timeout": wait, "charset": "utf8mb4"},
    }
    return args.get(driver, {}) | _tls_args(driver, settings)


def _tls_args(driver: str, settings: DatabaseSettings) -> dict[str, Any]:
    tls = settings.ssl
    if tls is None:
        return {}
    if driver == "psycopg":
        given = {"sslmode": tls.mode, "sslrootcert": tls.root_cert, "sslcert": tls.cert, "sslkey": tls.key}
        return {name: str(value) for name, value in given.items() if value is not None}
    if tls.mode == "disable":
        return {"ssl_disabled": True} if driver == "pymysql" else {}
    context = ssl.create_default_context(cafile=str(tls.root_cert) if tls.root_cert else None)
    context.check_hostname = tls.mode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if tls.mode in {"verify-ca", "verify-full"} else ssl.CERT_NONE
    if tls.cert:
        context.load_cert_chain(str(tls.cert), str(tls.key) if tls.key else None)
    return {"ssl_context" if driver == "pg8000" else "ssl": context}


def _make_safe(engine: sa.Engine, settings: DatabaseSettings) -> sa.Engine:
    if engine.dialect.name == "sqlite":
        sqlite.make_safe(engine, wait=settings.pool.timeout)
    elif engine.dialect.name in {"mysql", "mariadb"}:
        sa.event.listen(engine, "begin", _begin_mysql)
    return engine


def _begin_mysql(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(sqlite.OPTION) == "read_only":
        connection.exec_driver_sql("START TRANSACTION READ ONLY")
