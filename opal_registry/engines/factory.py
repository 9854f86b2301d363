"""Engines: made from settings without connecting, each with what its database needs to be safe."""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opal_registry.engines import mysql, sqlite
from opal_registry.engines.arguments import PROGRAM, make_arguments, name_processes
from opal_registry.engines.cloud_sql.engine import check_connector, connect_through_google
from opal_registry.engines.errors.failed import note_failures
from opal_registry.engines.errors.translation import make_neutral
from opal_registry.engines.frozen import is_frozen, open_frozen
from opal_registry.engines.in_transaction import roll_back_only_what_is_open
from opal_registry.engines.lazy_begin import begin_lazily
from opal_registry.engines.migration import ask_little, make_migration_url, take_role
from opal_registry.engines.options import check_options
from opal_registry.engines.pools.failover import leave_standbys
from opal_registry.engines.pools.forks import guard_forks
from opal_registry.engines.pools.kinds import make_pool_options
from opal_registry.engines.pools.limits import limit_waiting
from opal_registry.engines.pools.patience import ping_idle
from opal_registry.engines.pools.pooler import make_pooler_arguments
from opal_registry.engines.rotation import renew_password
from opal_registry.engines.schemas import leave_out_schemas
from opal_registry.engines.tls import without_tls
from opal_registry.engines.url import get_sqlite_path, is_memory, make_url
from opal_registry.errors import ConfigError, Problem
from opal_registry.extras import MissingExtraError, is_installed
from opal_registry.settings.database import DatabaseSettings

if TYPE_CHECKING:  # needs greenlet, which only the extra "async" brings
    from sqlalchemy.ext.asyncio import AsyncEngine

EXTRAS = {"pymysql": "mysql", "asyncmy": "mysql", "aiosqlite": "async", "asyncpg": "async"}
"""The extra of this distribution that brings a driver."""

PACKAGES = {"MySQLdb": "mysqlclient", "mysql": "mysql-connector-python"}
"""The distribution that brings a module, where it has another name."""

MEANT = "opal_meant"
"""Where an engine keeps what it is for other intents: a session asks at each statement, and takes one connection for each engine."""


def make_engine(settings: DatabaseSettings, *, where: str = "", program: str = PROGRAM) -> sa.Engine:
    """Make an engine for one configured database; nothing is connected.

    Args:
        settings: The database.
        where: Where its URL stands, for error texts.
        program: What connects, for the server's list of connections.

    Raises:
        ConfigError: If the URL cannot be meant, its driver is not installed, or its pool cannot be.
    """
    url = make_url(settings, where=where)
    options = make_pool_options(url, settings.pool, where=where)
    engine: sa.Engine = _create(sa.create_engine, url, settings, where, program=program, **options)
    renew_password(engine, settings, lambda: make_url(settings))
    _keep_well(engine, settings, program)
    return _make_safe(engine, settings)


def make_migration_engine(settings: DatabaseSettings, *, where: str = "") -> sa.Engine:
    """Make the engine that DDL goes through: to ``migration_url``, as ``migration_role``; nothing is connected.

    It keeps no connection, asks a new one as little as possible, and tells the server which process it belongs to.

    Args:
        settings: The database.
        where: Where ``migration_url`` stands, or else the URL, for error texts.

    Raises:
        ConfigError: As :func:`make_engine`, and if the URL leads elsewhere or the role cannot be.
    """
    url = make_migration_url(settings, where=where)
    engine = make_engine(settings, where=where) if is_memory(url) else _make_direct(url, settings, where)
    if settings.migration_role:
        take_role(engine, settings.migration_role)
    return engine


def make_server_engines(settings: DatabaseSettings) -> list[sa.Engine]:
    """Engines of the databases that every server has, through which another one can be made."""
    url = make_migration_url(settings)
    names = {"postgresql": ("postgres", "template1"), "mysql": ("",), "mariadb": ("",)}
    databases = names.get(url.get_backend_name(), ())
    engines = [_make_direct(url.set(database=name), settings, where="") for name in databases]
    if settings.migration_role and url.get_backend_name() in mysql.NAMES:
        for engine in engines:  # the right to make one may be the role's; PostgreSQL makes it the owner instead
            take_role(engine, settings.migration_role)
    return engines


def make_async_engine(settings: DatabaseSettings, *, where: str = "", program: str = PROGRAM) -> "AsyncEngine":
    """Make an asyncio engine for one configured database; nothing is connected.

    Args:
        settings: The database.
        where: Where its URL stands, for error texts.
        program: What connects, for the server's list of connections.

    Raises:
        ConfigError: As :func:`make_engine`, and if greenlet is not installed.
    """
    check_asyncio(where)
    from sqlalchemy.ext.asyncio import create_async_engine

    url = make_url(settings, where=where, use_async=True)
    options = make_pool_options(url, settings.pool, use_async=True, where=where)
    engine: AsyncEngine = _create(create_async_engine, url, settings, where, program=program, **options)
    renew_password(engine.sync_engine, settings, lambda: make_url(settings, use_async=True))
    _keep_well(engine.sync_engine, settings, program)
    _make_safe(engine.sync_engine, settings)
    return engine


def check_asyncio(where: str = "") -> None:
    """See to it that SQLAlchemy can be used with asyncio.

    Raises:
        ConfigError: If greenlet is not installed.
    """
    if not is_installed("greenlet"):
        raise MissingExtraError.of("SQLAlchemy needs greenlet for asyncio, which is not installed", "async", where)


def with_intent(engine: sa.Engine, intent: sqlite.Intent) -> sa.Engine:
    """The same engine and pool, for transactions of one intent; ``read_only`` ones are refused writes by the server."""
    if intent == "read_write":
        return engine
    meant: dict[str, sa.Engine] = engine.__dict__.setdefault(MEANT, {})
    if intent in meant:
        return meant[intent]
    options: dict[str, Any] = {sqlite.OPTION: intent}
    if intent == "read_only" and engine.dialect.name == "postgresql":
        options["postgresql_readonly"] = True
    return meant.setdefault(intent, engine.execution_options(**options))  # the first of several threads' is everybody's


def for_looking(engine: sa.Engine) -> sa.Engine:
    """The engine for transactions that only read; of a SQLite file that nothing can be made beside one that needs nothing."""
    path = get_sqlite_path(engine.url)
    if path is None or not is_frozen(path):
        return with_intent(engine, "read_only")
    frozen = sa.create_engine(engine.url, poolclass=sa.NullPool, creator=lambda: open_frozen(path))
    sqlite.make_safe(frozen, wait=0)
    leave_out_schemas(frozen.dialect)
    return with_intent(frozen, "read_only")


def _make_direct(url: sa.URL, settings: DatabaseSettings, where: str) -> sa.Engine:
    """An engine for a few transactions of one run, whose process the server is told."""
    options: dict[str, Any] = {"use_native_hstore": False} if url.get_driver_name() == "psycopg" else {}
    url = url.difference_update_query(["application_name", "program_name"])
    engine: sa.Engine = _create(sa.create_engine, url, settings, where, for_run=True, poolclass=sa.NullPool, **options)
    renew_password(engine, settings, lambda: make_migration_url(settings))
    if engine.dialect.driver == "psycopg":
        ask_little(engine.dialect)
    limit_waiting(engine, settings, for_run=True)
    return _make_safe(engine, settings)


def _create(
    create: Callable[..., Any],
    url: sa.URL,
    settings: DatabaseSettings,
    where: str,
    *,
    program: str = PROGRAM,
    for_run: bool = False,
    **options: Any,
) -> Any:
    check_connector(url, settings, where=where)
    pooled = {} if for_run else make_pooler_arguments(url, settings, where=where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", sa.exc.SAWarning)  # an option that is ignored is not what anybody wanted
            arguments = pooled | make_arguments(url, settings, program=program, for_run=for_run)
            rest = without_tls(url)
            engine = create(rest, connect_args=arguments, hide_parameters=True, **options)
            check_options(engine.dialect, rest)
            connect_through_google(getattr(engine, "sync_engine", engine), settings)
            if engine.dialect.name in mysql.NAMES:
                mysql.encode_passwords(engine.dialect)
            return engine
    except (ImportError, OSError, sa.exc.SAWarning, sa.exc.ArgumentError, ValueError, TypeError) as error:
        raise ConfigError(_find_mistake(error, url, where)) from None


def _find_mistake(error: Exception, url: sa.URL, where: str) -> Problem:
    """What in the settings SQLAlchemy or a driver stumbled over."""
    driver, plain = url.get_driver_name(), f"leave it out: {url.get_backend_name()}://..."
    if isinstance(error, ModuleNotFoundError):
        what = f"the driver {driver!r} needs the module {error.name!r}, which is not installed"
        if driver in EXTRAS:
            return Problem(what, where, f"pip install 'opal-registry[{EXTRAS[driver]}]'")
        return Problem(what, where, f"pip install {PACKAGES.get(str(error.name), error.name)}; or {plain}")
    if isinstance(error, ImportError):
        return Problem(
            f"the driver {driver!r} cannot be loaded: {' '.join(str(error).split())}", where, "install it anew"
        )
    if isinstance(error, sa.exc.NoSuchModuleError):
        return Problem(f"SQLAlchemy knows no driver {url.drivername!r}", where, plain)
    if isinstance(error, OSError):
        what = f"the file {error.filename} cannot be used to encrypt: {error.strerror or error}"
        return Problem(what, where, "correct what names it: ssl.root_cert, ssl.cert or ssl.key")
    what = f"the URL holds an option that {driver} cannot use: {str(error).partition('; ')[0]}"
    return Problem(what, where, "correct what follows the '?' in the URL")


def _keep_well(engine: sa.Engine, settings: DatabaseSettings, program: str) -> None:
    """Let connections that are kept survive what happens to servers, networks and processes meanwhile."""
    name_processes(engine, settings, program=program)
    limit_waiting(engine, settings)
    if engine.dialect.name != "sqlite":
        ping_idle(engine, after=settings.pool.ping_after)
        leave_standbys(engine)
    if settings.lazy_begin and not (engine.dialect.driver == "asyncpg" and settings.pool.pooler != "none"):
        begin_lazily(engine)  # asyncpg prepares each statement first, which a pooler may do elsewhere than it is run
    roll_back_only_what_is_open(engine.dialect)
    if not is_memory(engine.url):  # of that a forked process has a copy of its own
        guard_forks(engine)


def _make_safe(engine: sa.Engine, settings: DatabaseSettings) -> sa.Engine:
    make_neutral(engine)
    if engine.dialect.name == "sqlite":
        sqlite.make_safe(engine, wait=settings.pool.timeout)
        leave_out_schemas(engine.dialect)
    elif engine.dialect.name in mysql.NAMES:
        mysql.make_safe(engine)
    elif engine.dialect.name == "postgresql":
        note_failures(engine)
    return engine
