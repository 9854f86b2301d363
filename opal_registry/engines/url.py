"""The URL of a database: built from the settings, checked before anything is connected."""

import difflib
import re
from pathlib import Path
from urllib.parse import unquote

import sqlalchemy as sa

from opal_registry.errors import ConfigError, Problem
from opal_registry.secrets import mask_url
from opal_registry.settings.database import DEFAULT_URL, CloudSqlSettings, DatabaseSettings
from opal_registry.settings.kinds import CONTROL, PLACEHOLDER

SCRATCH_PREFIX = "opal_scratch_"
"""How the names of databases begin that are dropped as soon as something was compared with them."""

SYNC_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
"""The driver of an ordinary engine, where the settings name none or one for asyncio only."""

ASYNC_DRIVERS = {"sqlite": "aiosqlite", "postgresql": "psycopg", "mysql": "asyncmy", "mariadb": "asyncmy"}
"""The driver of an asyncio engine, where the settings name none or one that cannot."""

CLOUD_SQL_DRIVERS = {"postgresql": "pg8000", "mysql": "pymysql"}
CLOUD_SQL_ASYNC_DRIVERS = {"postgresql": "asyncpg"}
"""The drivers that are used with the connector of Cloud SQL, where the settings name no other."""

ONLY_ASYNC = {"aiosqlite", "asyncpg", "asyncmy", "aiomysql"}
BOTH = {"psycopg"}
ALIASES = {"postgres": "postgresql"}
LAST_PORT = 65_535
WHO = {"database", "db", "dbname", "passwd", "password", "user", "username"}
"""What a URL has other places for: drivers would take it from here, and everybody else from there."""

HOST_PLACEHOLDER = re.compile(r"[^/?]*:port\b|host(name)?(?=[:/?]|\Z)", re.IGNORECASE)


def make_url(settings: DatabaseSettings, *, where: str = "", use_async: bool = False) -> sa.URL:
    """Build the URL that the settings describe, for an ordinary or an asyncio engine.

    Args:
        settings: One database of the configuration.
        where: Where its URL or parts stand, for error texts.
        use_async: Choose a driver for asyncio.

    Raises:
        ConfigError: If the URL cannot be meant, or names a database that is not supported.
    """
    if settings.cloud_sql is not None:
        url = _from_cloud_sql(settings.cloud_sql, where, use_async=use_async)
        _check_visible(url, where)
        return url
    url = _from_parts(settings, where) if settings.form == "parts" else _from_text(settings, where)
    _check_visible(url, where)
    return with_driver(url, use_async=use_async)


def parse_url(text: str, *, where: str = "") -> sa.URL:
    """Parse the text of a URL, and refuse what was surely not meant.

    Raises:
        ConfigError: With the URL's password masked.

    Example:
        >>> parse_url("postgres://ada@db.example/opal").drivername
        'postgresql'
        >>> parse_url("sqlite:///sqlite:///x.db")
        Traceback (most recent call last):
        ...
        opal_registry.errors.ConfigError: the URL 'sqlite:///sqlite:///x.db' holds a second URL
          mend:  write the prefix once
    """
    shown = mask_url(text)
    scheme, found, rest = text.partition("://")
    if not found:
        mend = "write it like postgresql://user@host:5432/database or sqlite:///file.db"
        raise ConfigError(Problem(f"{shown!r} is not a URL: there is no '://'", where, mend))
    if CONTROL.search(text):
        raise ConfigError(Problem(f"the URL {shown!r} holds a character that cannot be seen", where, "take it out"))
    if "://" in rest.partition("?")[0].rpartition("@")[2]:
        raise ConfigError(Problem(f"the URL {shown!r} holds a second URL", where, "write the prefix once"))
    if placeholder := _find_placeholder(text):
        what = f"the URL {shown!r} still holds the placeholder {placeholder!r}"
        raise ConfigError(Problem(what, where, "write the real value in its place"))
    dialect, plus, driver = scheme.partition("+")
    _check_dialect(dialect, where)
    url = _parse(f"{ALIASES.get(dialect, dialect)}{plus}{driver}://{rest}", shown, where)
    _check_parsed(url, shown, where)
    if url.get_backend_name() == "sqlite":
        _check_sqlite(url, shown, where)
    return url


def get_sqlite_path(url: sa.URL) -> Path | None:
    """The file of a SQLite URL; None for a memory database and for other databases."""
    database = url.database or ""
    if url.get_backend_name() != "sqlite" or database in {"", ":memory:"} or "mode=memory" in str(url):
        return None
    if database.startswith("file:"):
        return Path(unquote(database.removeprefix("file:").partition("?")[0]))
    return Path(database)


def is_memory(url: sa.URL) -> bool:
    """Whether a URL is that of a SQLite database in memory, which each engine has for itself."""
    return url.get_backend_name() == "sqlite" and get_sqlite_path(url) is None


def describe_url(url: sa.URL) -> str:
    """A URL for people: without its password, a SQLite file with its absolute path."""
    path = get_sqlite_path(url)
    return f"sqlite {path.absolute()}" if path else mask_url(url.render_as_string(hide_password=True))


def _check_visible(url: sa.URL, where: str) -> None:
    """Refuse control characters, in a password NUL: for libpq it ends all that it is told, the mode of encryption too."""
    for name in ("username", "password", "host", "database"):
        found = CONTROL.search(str(getattr(url, name) or ""))
        if found and (name != "password" or "\0" in str(url.password)):
            raise ConfigError(Problem(f"the {name} holds a character that cannot be seen", where, "take it out"))


def _find_placeholder(text: str) -> str:
    """What a template or an example left in the URL; a password that only looks a little like one is none."""
    scheme, _, rest = text.partition("://")
    if scheme.startswith("sqlite"):
        return ""
    user_info, _, address = rest.rpartition("@")
    wholes = [PLACEHOLDER.fullmatch(part) for part in user_info.split(":", 1)]
    found = next(filter(None, [*wholes, PLACEHOLDER.search(address), HOST_PLACEHOLDER.match(address)]), None)
    return found[0] if found else ""


def _check_dialect(dialect: str, where: str) -> None:
    known = [*SYNC_DRIVERS, *ALIASES]
    if dialect not in known:
        near = difflib.get_close_matches(dialect, known, 1)
        mend = f"write {near[0]!r}" if near else f"choose one of {', '.join(SYNC_DRIVERS)}"
        raise ConfigError(Problem(f"the database {dialect!r} is not known here", where, mend))


def _check_parsed(url: sa.URL, shown: str, where: str) -> None:
    if url.port is not None and url.port > LAST_PORT:
        raise ConfigError(Problem(f"the URL {shown!r} has port {url.port}", where, f"write one up to {LAST_PORT}"))
    if beside := sorted(WHO & url.query.keys()):
        mend = "write it before: postgresql://USER:PASSWORD@HOST/DATABASE"
        raise ConfigError(Problem(f"the URL {shown!r} says {', '.join(beside)} after the '?'", where, mend))
    if url.host and "@" in url.host:
        mend = "percent-encode it (@ is %40), or give the parts user, password and host instead of a URL"
        raise ConfigError(Problem(f"the URL {shown.partition('://')[0]}://... has more than one '@'", where, mend))


def _check_sqlite(url: sa.URL, shown: str, where: str) -> None:
    if url.host:
        mend = f"write three slashes before a relative path: sqlite:///{url.host}{url.database or ''}"
        raise ConfigError(Problem(f"the URL {shown!r} names a host, and SQLite has none", where, mend))
    if "uri" in url.query and not (url.database or "").startswith("file:"):
        mend = "write sqlite:///file:PATH?...&uri=true, or leave out what follows the '?'"
        raise ConfigError(
            Problem(f"the URL {shown!r} asks for a SQLite URI, but its path does not start with file:", where, mend)
        )


def _parse(text: str, shown: str, where: str) -> sa.URL:
    try:
        return sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        mend = "write it like postgresql://user@host:5432/database; the port must be a number"
        raise ConfigError(Problem(f"{shown!r} is not a URL that can be read", where, mend)) from None


def _from_text(settings: DatabaseSettings, where: str) -> sa.URL:
    url = parse_url(settings.url.get_secret_value() if settings.url else DEFAULT_URL, where=where)
    if settings.user and not url.username:
        if url.get_backend_name() == "sqlite":
            raise ConfigError(Problem(f"user is {settings.user!r}, and SQLite has no users", where, "take it out"))
        url = url.set(username=settings.user)
    if settings.password and url.password is None and url.get_backend_name() != "sqlite":
        url = url.set(password=settings.password.get_secret_value())
    return url


def _from_parts(settings: DatabaseSettings, where: str) -> sa.URL:
    dialect, plus, name = (settings.driver or "").partition("+")
    _check_dialect(dialect, where)
    return sa.URL.create(
        f"{ALIASES.get(dialect, dialect)}{plus}{name}",
        username=settings.user,
        password=settings.password.get_secret_value() if settings.password else None,
        host=settings.host,
        port=settings.port,
        database=settings.name,
    )


def _from_cloud_sql(settings: CloudSqlSettings, where: str, *, use_async: bool) -> sa.URL:
    """A URL whose host is the instance: nobody but Google's connector finds the way there."""
    usual = settings.driver if settings.driver not in ONLY_ASYNC else None
    driver = CLOUD_SQL_ASYNC_DRIVERS.get(settings.engine) if use_async else usual or CLOUD_SQL_DRIVERS[settings.engine]
    if driver is None:
        what = f"the connector of Cloud SQL has no asyncio driver for {settings.engine}"
        raise ConfigError(Problem(what, where, "let the Cloud SQL Auth Proxy stand between: see docs/cloud-sql.md"))
    return sa.URL.create(
        f"{settings.engine}+{driver}",
        username=settings.user,
        password=settings.password.get_secret_value() if settings.password else None,
        host=settings.instance,
        database=settings.database,
    )


def is_async(settings: DatabaseSettings) -> bool:
    """Whether the settings name a driver that is for asyncio only: an application uses that one, and commands its twin."""
    if settings.cloud_sql is not None:
        return settings.cloud_sql.driver in ONLY_ASYNC
    text = settings.url.get_secret_value() if settings.url else ""
    return (settings.driver or text.partition("://")[0]).partition("+")[2] in ONLY_ASYNC


def with_driver(url: sa.URL, *, use_async: bool = False) -> sa.URL:
    """The same URL with a driver that an ordinary or an asyncio engine can use."""
    dialect, _, driver = url.drivername.removesuffix("_async").partition("+")
    if driver == "asyncpg" and not use_async and "ssl" in url.query:  # libpq has another word for it
        url = url.difference_update_query(["ssl"]).update_query_dict({"sslmode": url.query["ssl"]})
    if url.drivername.endswith("_async"):
        url = url.set(drivername=f"{dialect}+{driver}")
    if use_async and driver not in BOTH | ONLY_ASYNC:
        return url.set(drivername=f"{dialect}+{ASYNC_DRIVERS[dialect]}")
    if not use_async and (not driver or driver in ONLY_ASYNC):
        return url.set(drivername=f"{dialect}+{SYNC_DRIVERS[dialect]}")
    return url
