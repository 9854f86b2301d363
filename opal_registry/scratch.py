"""A database of the same kind for a short while, with the sub-apps in it that somebody wants to compare with."""

import secrets
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from opal_registry.engines.errors.failures import explained
from opal_registry.engines.factory import make_server_engines
from opal_registry.engines.migration import make_migration_url
from opal_registry.engines.url import SCRATCH_PREFIX, describe_url
from opal_registry.errors import ConfigError, DatabaseError, Problem
from opal_registry.migrations.history import load_histories
from opal_registry.registry import Registry
from opal_registry.secrets import Secret
from opal_registry.settings.database import DatabaseSettings
from opal_registry.suite import LoadedSubApp, Suite


@contextmanager
def make_scratch(registry: Registry, bind: str, *, migrated: Collection[str] | None = None) -> Iterator[Registry]:
    """Make an empty database on the same server, or a SQLite file, and a registry of the same suite that leads to it.

    Args:
        registry: The registry of the suite.
        bind: Which of its databases is to be like it; only the sub-apps that live there come along.
        migrated: The sub-apps that are brought up by their revisions in it, where they have any, and not from their
            models; all of them unless given.

    Raises:
        ConfigError: If models declare schemas on MySQL: these would be the real ones.
        DatabaseError: If it cannot be made.
    """
    _refuse_shared_schemas(registry, bind)
    with _make_database(registry.settings.databases[bind]) as database:
        settings = registry.settings.model_copy(update={"database": database, "binds": {}})
        scratch = registry.elsewhere(settings, _make_suite(registry.suite, bind, registry.get_dialect, migrated))
        try:
            yield scratch
        finally:
            scratch.close()


def _refuse_shared_schemas(registry: Registry, bind: str) -> None:
    """On MySQL a schema is a database: the tables of a scratch database would be made in the real one."""
    url = registry.migration_engine(bind).url
    here = [app for app in registry.suite.sub_apps if app.sub_app.bind == bind]
    schemas = sorted({table.schema for app in here for table in app.tables if table.schema})
    if schemas and url.get_backend_name() in {"mysql", "mariadb"}:
        what = f"models are in a database of their own, which a scratch database cannot have: {', '.join(schemas)}"
        raise ConfigError(Problem(what, describe_url(url), "do this on another kind of database; revision has --live"))


def _make_suite(suite: Suite, bind: str, get_dialect: Callable[[str], str], migrated: Collection[str] | None) -> Suite:
    apps = [app for app in suite.sub_apps if app.sub_app.bind == bind]
    with_revisions = {name for name, history in load_histories(apps, get_dialect).items() if history.revisions}
    chosen = with_revisions if migrated is None else with_revisions & set(migrated)
    return replace(suite, sub_apps=tuple(_at_home(app, is_migrated=app.name in chosen) for app in apps), quarantined=())


def _at_home(app: LoadedSubApp, *, is_migrated: bool) -> LoadedSubApp:
    create = "migrations" if is_migrated else app.sub_app.create
    return replace(app, sub_app=replace(app.sub_app, bind="default", create=create))


@contextmanager
def _make_database(settings: DatabaseSettings) -> Iterator[DatabaseSettings]:
    url = make_migration_url(settings)
    if url.get_backend_name() == "sqlite":
        with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX) as folder:
            yield _at(settings, url.set(database=str(Path(folder) / "scratch.db"), query={}))
        return
    name = SCRATCH_PREFIX + secrets.token_hex(6)
    server = _connect(settings, url)
    quoted = server.dialect.identifier_preparer.quote_identifier(name)
    try:
        with _live_instead(), explained(url, doing="creating a scratch database"):
            server.exec_driver_sql(f"CREATE DATABASE {quoted}{_options(server.dialect.name)}")
        try:
            yield _at(settings, url.set(database=name))
        finally:
            server.exec_driver_sql(f"DROP DATABASE {quoted}{' WITH (FORCE)' if _is_postgresql(server) else ''}")
    finally:
        server.close()
        server.engine.dispose()


@contextmanager
def _live_instead() -> Iterator[None]:
    """Whoever may not create databases can compare with one that is there."""
    try:
        yield
    except DatabaseError as error:
        problems = (
            replace(each, mend=f"{each.mend}; revision has --live, which needs none") for each in error.problems
        )
        raise type(error)(*problems) from error.__cause__


def _connect(settings: DatabaseSettings, url: sa.URL) -> sa.Connection:
    failed: Exception | None = None
    for engine in make_server_engines(settings):
        try:
            return engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        except sa.exc.DBAPIError as error:
            failed = error
    mend = "let this user connect to the database postgres, or compare with the live database (--live)"
    raise DatabaseError(Problem("no scratch database can be made on this server", describe_url(url), mend)) from failed


def _options(dialect: str) -> str:
    return " TEMPLATE template0" if dialect == "postgresql" else " CHARACTER SET utf8mb4"


def _is_postgresql(connection: sa.Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _at(settings: DatabaseSettings, url: sa.URL) -> DatabaseSettings:
    """The same settings for another database."""
    parts = dict.fromkeys(("driver", "host", "port", "name", "user", "password", "migration_url"))
    return settings.model_copy(update=parts | {"url": Secret(url.render_as_string(hide_password=False))})
