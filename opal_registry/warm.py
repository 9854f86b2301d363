"""Is there anything to do? Answered by the ledger alone, through the driver, with one query per database.

Models, SQLAlchemy and reflection are what a run costs that has nothing to do; none of them is needed here. What is not
certain gets no answer: the full path looks at it, and says what is wrong.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote

from opal_registry.secrets import mask_url
from opal_registry.settings.database import DatabaseSettings, SslSettings
from opal_registry.settings.kinds import CONTROL
from opal_registry.settings.model import Settings

READS = 1
"""The highest ``min_reader`` that this release understands."""

QUERY = "SELECT name, distribution, version, bind, tables, sources, min_reader FROM opal_sub_apps"
PATIENCE = 1.0
"""For so many seconds at most somebody is waited for who holds the table, or the SQLite file."""

IMPATIENT = f"SET LOCAL lock_timeout = '1s'; {QUERY}"
"""For PostgreSQL, in one round trip: nobody is waited for who holds the table, and the setting stays behind no pooler."""

NAME = "opal_registry"
"""What a server is told about who is calling."""

LONGEST_WAIT = 3.0
"""How many seconds a database may take to answer; the full path has more patience."""

DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
ASYNC_TWINS = {"aiosqlite": "pysqlite", "asyncpg": "psycopg", "asyncmy": "pymysql", "aiomysql": "pymysql"}
"""Where the settings name a driver for asyncio, the commands use this one."""

OPTIONS = {
    "pysqlite": set[str](),
    "psycopg": {"application_name", "connect_timeout", "host", "options", "port", "target_session_attrs"}
    | {"sslmode", "sslrootcert", "sslcert", "sslkey"},
    "pymysql": {"charset", "program_name", "unix_socket"},
}
"""What may follow the ``?`` in a URL and is handed to the driver as it is."""

_URL = re.compile(
    r"(?P<dialect>\w+?)(?:\+(?P<driver>\w+))?://"
    r"(?:(?P<user>[^:/@?]+)(?::(?P<password>[^@]*))?@)?"
    r"(?:\[(?P<ipv6>[^/?@\]]+)\]|(?P<host>[^:/?@\[\]]+))?(?::(?P<port>\d+))?"
    r"/(?P<database>[^?]+)(?:\?(?P<query>.+))?"
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A sub-app as the ledger knows it.

    Args:
        name: The sub-app.
        distribution: The distribution that brought it.
        version: Of that distribution, in this image.
        bind: Which configured database it lives in.
        tables: The full names of its tables; None where another release wrote them down.
    """

    name: str
    distribution: str
    version: str
    bind: str
    tables: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Complete:
    """That every sub-app of this image is in its database already.

    Args:
        databases: For each bind that has sub-apps, where its database is.
        sub_apps: The sub-apps, in order.
    """

    databases: dict[str, str]
    sub_apps: tuple[Recorded, ...]


def find_complete(settings: Settings, fingerprint: str) -> Complete | None:
    """Ask the ledgers whether every sub-app was brought up for this fingerprint.

    Databases are asked one after the other until all sub-apps are found. Nothing is created, written or locked.

    Args:
        settings: Which databases there are.
        fingerprint: What :func:`~opal_registry.fingerprint.make_image_fingerprint` returns for this image.

    Returns:
        What is recorded; None if anything is missing, or not certain, or went wrong.

    Example:
        >>> find_complete(Settings(database={"url": "sqlite:////no/such/file.db"}), "5e1f") is None
        True
    """
    try:
        return _find_complete(settings, fingerprint)
    except Exception:  # noqa: BLE001 -- the full path will meet it again, and has the words for it
        return None


@dataclass(frozen=True, slots=True)
class Address:
    """How a database is reached; its text is for people, without the password.

    Example:
        >>> database = DatabaseSettings(driver="postgresql", host="db", name="suite", user="app", password="a@b:c/d")
        >>> print(make_address(database))
        postgresql+psycopg://app:********@db/suite
    """

    dialect: str
    driver: str
    user: str | None
    password: str | None = field(repr=False)
    host: str | None
    port: int | None
    database: str
    query: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.dialect == "sqlite":
            return f"sqlite {Path(self.database).absolute()}"
        password = "" if self.password is None else ":***"
        user = "" if self.user is None else f"{quote(self.user, safe=' +')}{password}@"
        host = f"[{self.host}]" if ":" in (self.host or "") else self.host or ""
        port = "" if self.port is None else f":{self.port}"
        options = "&".join(f"{quote_plus(key)}={quote_plus(self.query[key])}" for key in sorted(self.query))
        name = f"{quote(self.database, safe=' +/')}{'?' if options else ''}{options}"
        return mask_url(f"{self.dialect}+{self.driver}://{user}{host}{port}/{name}")


class UncertainError(Exception):
    """Something that only the full path can judge."""


def _find_complete(settings: Settings, fingerprint: str) -> Complete | None:
    databases: dict[str, str] = {}
    found: list[tuple[int, int, Recorded]] = []
    for bind, database in settings.databases.items():
        address = make_address(database)
        for position, count, app in _iter_recorded(_ask(address, database), fingerprint):
            if app.bind == bind:
                databases[bind] = str(address)
                found.append((position, count, app))
        found.sort(key=itemgetter(0))
        if found and [item[:2] for item in found] == [(position, len(found)) for position in range(len(found))]:
            return Complete(databases, tuple(app for _, _, app in found))
    return None


def _iter_recorded(rows: Sequence[Sequence[Any]], fingerprint: str) -> Iterator[tuple[int, int, Recorded]]:
    for name, distribution, version, bind, tables, sources, min_reader in rows:
        if min_reader > READS:
            raise UncertainError
        known, names = _check(_plain(sources) or {}, dict), _check(_plain(tables), list)
        places = [_check(place, list) for place in known.values()]
        if not all(isinstance(each, str) for each in (*names, *(text for place in places for text in place[2:]))):
            raise UncertainError
        if fingerprint in known:
            position, count, *rest = known[fingerprint]
            is_ours = rest in ([], [version])  # or another image's release has written the row
            tables = tuple(names) if is_ours else None
            yield position, count, Recorded(name, distribution, (rest or [version])[0], bind, tables)


def _check(value: Any, kind: type) -> Any:
    """What is of its kind; nothing that only looks like it can be trusted."""
    if not isinstance(value, kind):
        raise UncertainError
    return value


def _plain(value: Any) -> Any:
    """JSON, which some drivers have parsed already."""
    return json.loads(value) if isinstance(value, (str, bytes)) else value


def make_address(database: DatabaseSettings) -> Address:
    """Take apart what the settings say about a database, as SQLAlchemy would.

    Raises:
        UncertainError: If it is anything but plain.
        ConfigError: If its password is a reference that leads nowhere.
    """
    address = _address_of_parts(database) if database.form == "parts" else _address_of_url(database)
    if not address.query.keys() <= OPTIONS[address.driver] or address.database.startswith((":memory:", "file:")):
        raise UncertainError
    hosts = address.query.get("host", "")
    if ":" in hosts and not hosts.startswith("/"):
        raise UncertainError
    if CONTROL.search(f"{address.user}{address.password}{address.database}"):
        raise UncertainError
    if address.dialect == "sqlite" and (address.host or "mode=memory" in address.database):
        raise UncertainError
    return address


def _address_of_parts(database: DatabaseSettings) -> Address:
    dialect, driver = _known(*(database.driver or "").partition("+")[::2])
    password = database.password.get_secret_value() if database.password else None
    return Address(dialect, driver, database.user, password, database.host, database.port, database.name or "")


def _address_of_url(database: DatabaseSettings) -> Address:
    match = _URL.fullmatch(database.url.get_secret_value() if database.url else "")
    if match is None:
        raise UncertainError
    dialect, driver = _known(match["dialect"], match["driver"] or "")
    pairs = parse_qsl(match["query"] or "")
    if len(pairs) != len(dict(pairs)):
        raise UncertainError
    user = unquote(match["user"]) if match["user"] else None
    password = None if match["password"] is None else unquote(match["password"])
    if dialect != "sqlite" and password is None and database.password:
        password = database.password.get_secret_value()
    host, port = match["ipv6"] or match["host"], int(match["port"]) if match["port"] else None
    named = unquote(match["database"])
    return Address(dialect, driver, user or database.user, password, host, port, named, dict(pairs))


def _known(dialect: str, driver: str) -> tuple[str, str]:
    dialect = "postgresql" if dialect == "postgres" else dialect
    driver = ASYNC_TWINS.get(driver, driver or DRIVERS[dialect])
    if driver != DRIVERS[dialect]:
        raise UncertainError
    return dialect, driver


def make_arguments(address: Address, database: DatabaseSettings) -> dict[str, Any]:
    """What a driver for a server is called with: the same as by an engine, but with less patience.

    Raises:
        UncertainError: If the connection shall be encrypted by a driver that needs more for it than names of files.
    """
    is_psycopg = address.driver == "psycopg"
    named = {"database": "dbname"} if is_psycopg else {}
    given = {named.get(key, key): getattr(address, key) for key in ("host", "port", "user", "password", "database")}
    name = database.application_name or NAME
    ours = {"application_name": name} if is_psycopg else {"program_name": name, "charset": "utf8mb4"}
    ours |= _make_tls_arguments(address, database.ssl) if database.ssl else {}
    if not is_psycopg and address.host and address.host.startswith("/"):
        ours["unix_socket"] = address.host
    wait = max(1, round(min(database.connect_timeout, LONGEST_WAIT)))
    return {key: value for key, value in given.items() if value} | ours | address.query | {"connect_timeout": wait}


def _make_tls_arguments(address: Address, tls: SslSettings) -> dict[str, Any]:
    if tls.key or any(name.startswith("ssl") for name in address.query):  # a key may need a pass phrase
        raise UncertainError
    if address.driver == "psycopg":
        return tls.libpq
    if tls.mode == "disable":
        return {"ssl_disabled": True}
    if tls.mode in {None, "allow", "prefer"}:
        return {}
    raise UncertainError


def _ask(address: Address, database: DatabaseSettings) -> Sequence[Sequence[Any]]:
    match address.driver:
        case "pysqlite":
            return _ask_sqlite(Path(address.database).absolute())
        case "psycopg":
            return _ask_postgresql(make_arguments(address, database))
        case _:
            return _ask_mysql(make_arguments(address, database))


def _ask_sqlite(path: Path) -> Sequence[Sequence[Any]]:
    import sqlite3

    if not path.exists():
        return []
    # Not mode=ro: who only reads a file in WAL mode leaves its -wal and -shm behind. rw makes no file either.
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=PATIENCE)) as connection:
        try:
            return connection.execute(QUERY).fetchall()
        except sqlite3.OperationalError as error:
            if str(error) == "no such table: opal_sub_apps":
                return []
            raise


def _ask_postgresql(arguments: dict[str, Any]) -> Sequence[Sequence[Any]]:
    import psycopg

    with closing(psycopg.connect(autocommit=True, **arguments)) as connection:
        try:
            cursor = connection.execute(IMPATIENT)
        except psycopg.errors.UndefinedTable:
            return []
        cursor.nextset()
        return cursor.fetchall()


def _ask_mysql(arguments: dict[str, Any]) -> Sequence[Sequence[Any]]:
    import pymysql  # type: ignore[import-untyped]

    limits = {"read_timeout": arguments["connect_timeout"], "init_command": "SET SESSION lock_wait_timeout = 1"}
    with closing(pymysql.connect(autocommit=True, **limits, **arguments)) as connection:
        cursor = connection.cursor()
        try:
            cursor.execute(QUERY)
        except pymysql.err.ProgrammingError as error:
            if error.args[0] == pymysql.constants.ER.NO_SUCH_TABLE:
                return []
            raise
        rows: Sequence[Sequence[Any]] = cursor.fetchall()
        return rows
