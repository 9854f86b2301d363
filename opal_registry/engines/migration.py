"""The engine that DDL goes through: where it leads, as whom it works, and how little it asks."""

from typing import Any

import sqlalchemy as sa

from opal_registry.engines.errors.failures import find_code
from opal_registry.engines.url import describe_url, get_sqlite_path, make_url, parse_url, with_driver
from opal_registry.errors import ConfigError, DatabaseError, Problem
from opal_registry.settings.database import DatabaseSettings

ONE_FAMILY = {"mariadb": "mysql"}
"""Dialects that talk to the same servers as another one."""

NO_ROLE = {"22023", "42501", "1959", "3530"}
"""How a server says that there is no such role, or that it may not be taken."""


def make_migration_url(settings: DatabaseSettings, *, where: str = "") -> sa.URL:
    """Build the URL that DDL goes through: ``migration_url`` where it is set, else the usual one.

    What it lacks of user, password and database is that of the usual URL; the password only if the user is the same.

    Args:
        settings: One database of the configuration.
        where: Where ``migration_url`` stands, or else the usual URL, for error texts.

    Raises:
        ConfigError: If it cannot be meant, or leads to another kind of database.

    Example:
        >>> settings = DatabaseSettings(url="postgresql://app:x@pooler:6432/suite", migration_url="postgresql://db")
        >>> make_migration_url(settings).render_as_string()
        'postgresql+psycopg://app:***@db/suite'
    """
    if settings.migration_url is None:
        return make_url(settings, where=where)
    usual = make_url(settings)
    url = with_driver(parse_url(settings.migration_url.get_secret_value(), where=where))
    _check_is_same(url, usual, where)
    url = url.set(username=url.username or usual.username, database=url.database or usual.database)
    is_same_user = url.username == usual.username
    return url.set(password=usual.password) if url.password is None and is_same_user else url


def _check_is_same(url: sa.URL, usual: sa.URL, where: str) -> None:
    kind, usual_kind = (ONE_FAMILY.get(name, name) for name in (url.get_backend_name(), usual.get_backend_name()))
    if kind != usual_kind:
        what = f"migration_url leads to {kind}, but the database is {usual_kind}"
        raise ConfigError(Problem(what, where, "give another way to the same database, or take it out"))
    if kind == "sqlite" and get_sqlite_path(url) != get_sqlite_path(usual):
        what = f"migration_url leads to {describe_url(url)}, but the database is {describe_url(usual)}"
        raise ConfigError(Problem(what, where, "take it out: there is one way only to a SQLite file"))


def take_role(engine: sa.Engine, role: str) -> None:
    """Let an engine work as a role: in each of its transactions (PostgreSQL), or on each of its connections (MySQL).

    A role that were set for a PostgreSQL connection would be left behind for others by a pooler such as PgBouncer.

    Args:
        engine: The engine; nothing is connected.
        role: The role's name, as it is; quoted where needed.

    Raises:
        ConfigError: If the database is SQLite.
    """
    if engine.dialect.name == "sqlite":
        what = f"migration_role is {role!r}, but SQLite has no roles"
        raise ConfigError(Problem(what, describe_url(engine.url), "take it out"))
    mark = engine.dialect.identifier_preparer.initial_quote  # its own quoting is for drivers that look for parameters
    quoted = f"{mark}{role.replace(mark, mark * 2)}{mark}"
    if engine.dialect.name == "postgresql":
        _take_role_in_transactions(engine, role, quoted)
    else:
        _take_role_on_connections(engine, role, quoted)


def _take_role_in_transactions(engine: sa.Engine, role: str, quoted: str) -> None:
    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        try:
            _begin_as(connection, role, quoted)
        except Exception:
            connection.close()  # or its next statement would do without the transaction, and without the role
            raise


def _begin_as(connection: sa.Connection, role: str, quoted: str) -> None:
    url = connection.engine.url
    if is_autocommit(connection):
        what = f"the role {role!r} of migration_role lasts for a transaction, and here none is begun"
        raise DatabaseError(Problem(what, describe_url(url), "do not use AUTOCOMMIT, or take migration_role out"))
    try:
        begin_with(connection, f"SET LOCAL ROLE {quoted}")
    except sa.exc.DBAPIError as error:
        raise _explain(error, error.orig, url, role) from error


def begin_with(connection: sa.Connection, statement: str) -> None:
    """Execute what holds for the transaction that begins; with psycopg it takes no round trip of its own.

    Args:
        connection: A connection that has just begun a transaction, as SQLAlchemy's event ``begin`` tells; in AUTOCOMMIT
            nothing has begun, and nothing is done.
        statement: A statement, or several with semicolons between them.
    """
    if is_autocommit(connection):
        return
    if connection.dialect.driver == "psycopg":
        statement = "; ".join(filter(None, (_begin_here(connection), statement)))
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def is_autocommit(connection: sa.Connection) -> bool:
    """Whether each statement of a connection is a transaction of its own."""
    return connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"


def _begin_here(connection: sa.Connection) -> str:
    """Keep psycopg from beginning the transaction, and return the statement that does; nothing if it has begun."""
    driver = _driver(connection)
    if driver.info.transaction_status:  # IDLE is 0
        return ""
    if not driver.closed:
        driver.set_autocommit(True)
    words = ["BEGIN"]
    if driver.isolation_level is not None:
        words += ["ISOLATION LEVEL", driver.isolation_level.name.replace("_", " ")]
    if driver.read_only is not None:
        words += ["READ ONLY" if driver.read_only else "READ WRITE"]
    if driver.deferrable is not None:
        words += ["DEFERRABLE" if driver.deferrable else "NOT DEFERRABLE"]
    return " ".join(words)


def _take_role_on_connections(engine: sa.Engine, role: str, quoted: str) -> None:
    @sa.event.listens_for(engine, "connect")
    def set_role(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        try:
            cursor.execute(f"SET ROLE {quoted}")
        except engine.dialect.loaded_dbapi.Error as error:
            raise _explain(error, error, engine.url, role) from error
        finally:
            cursor.close()


def _explain(error: BaseException, original: BaseException | None, url: sa.URL, role: str) -> BaseException:
    if find_code(original) not in NO_ROLE:
        return error
    what = f"the user {url.username!r} cannot take the role {role!r} of migration_role: {original}"
    return DatabaseError(Problem(what, describe_url(url), "grant the role to the user, or correct migration_role"))


def ask_little(dialect: Any) -> None:
    """Have SQLAlchemy ask a PostgreSQL server one question instead of four when psycopg first connects.

    The server says its version, and how it reads a backslash, without being asked.

    Args:
        dialect: The dialect of one engine; no other one is changed.
    """
    level: list[str] = []

    def get_version(connection: sa.Connection) -> tuple[int, int]:
        major, minor = divmod(_driver(connection).info.server_version, 10_000)
        return major, minor

    def get_schema(connection: sa.Connection) -> str | None:
        driver = _driver(connection)
        driver.set_autocommit(True)
        schema, usual = driver.execute("SELECT current_schema(), current_setting('transaction_isolation')").fetchone()
        driver.set_autocommit(False)
        level.append(usual.upper())
        return str(schema) if schema else None

    def set_escapes(connection: sa.Connection) -> None:
        dialect._backslash_escapes = _driver(connection).info.parameter_status("standard_conforming_strings") == "off"

    dialect._get_server_version_info = get_version
    dialect._get_default_schema_name = get_schema
    dialect._set_backslash_escapes = set_escapes
    dialect.get_default_isolation_level = lambda _: level[-1]


def _driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection
