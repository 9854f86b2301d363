"""How a connection is really encrypted, whatever the settings ask for."""

import ipaddress
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa

from opal_registry.engines.mysql import NAMES as MYSQL
from opal_registry.settings.database import DatabaseSettings, SslSettings

if TYPE_CHECKING:  # needs greenlet, which only the extra "async" brings
    from sqlalchemy.ext.asyncio import AsyncEngine

POSTGRES = sa.text("SELECT version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl")
MYSQL_STATUS = sa.text("SHOW SESSION STATUS WHERE Variable_name IN ('Ssl_version', 'Ssl_cipher')")
STREAMS: dict[str, Callable[[Any], Any]] = {
    "pg8000": lambda driver: driver._usock,
    "pymysql": lambda driver: driver._sock,
    **dict.fromkeys(("asyncpg", "asyncmy"), lambda driver: driver._transport.get_extra_info("ssl_object")),
}
"""What drivers write to, or what encrypts that; psycopg does not show it, but says that there is something."""

VERIFIED = {
    "verify-full": "the server's certificate and its name are verified",
    "verify-ca": "the server's certificate is verified, but not its name",
}
MEND = "set ssl.mode to verify-full, and ssl.root_cert to the certificate of the server's authority"


def find_encryption(connection: sa.Connection) -> str | None:
    """What a connection was agreed to be encrypted with, such as ``TLSv1.3, TLS_AES_256_GCM_SHA384``; None if it is not.

    The driver knows; the server, which is asked where a driver does not say, knows how it talks to what is next to it: a pooler, perhaps.

    Args:
        connection: An open one, to PostgreSQL, MySQL or MariaDB.
    """
    name, driver = connection.dialect.driver, cast("Any", connection.connection.driver_connection)
    if name in STREAMS:
        stream = STREAMS[name](driver)
        return f"{stream.version()}, {stream.cipher()[0]}" if hasattr(stream, "cipher") else None
    if name == "psycopg" and not driver.pgconn.ssl_in_use:
        return None
    unknown = "up to what stands before the server" if name == "psycopg" else None
    return _ask_server(connection) or unknown


def _ask_server(connection: sa.Connection) -> str | None:
    if connection.dialect.name in MYSQL:
        said = {name: value for name, value in connection.execute(MYSQL_STATUS) if value}
        return f"{said['Ssl_version']}, {said['Ssl_cipher']}" if said.get("Ssl_cipher") else None
    row = connection.execute(POSTGRES).first()
    return f"{row.version}, {row.cipher}" if row else None


async def find_encryption_async(engine: "AsyncEngine") -> str | None:
    """The same of a new connection of an engine for asyncio, which is disposed of then."""
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(find_encryption)
    finally:
        await engine.dispose()


def judge_encryption(found: str | None, settings: DatabaseSettings, url: sa.URL) -> tuple[str, str]:
    """What to say of a connection, and what to do about it; that is empty where all is well.

    Args:
        found: What :func:`find_encryption` says.
        settings: How the database is reached.
        url: Where it is, with all that was said after the ``?``.

    Example:
        >>> from opal_registry.settings.database import SslSettings
        >>> settings = DatabaseSettings(url="postgresql://db.example/opal", ssl=SslSettings(mode="require"))
        >>> what, mend = judge_encryption("TLSv1.3, TLS_AES_256_GCM_SHA384", settings, sa.make_url("postgresql://db.example"))
        >>> what
        'encrypted (TLSv1.3, TLS_AES_256_GCM_SHA384), but nobody looks whose certificate that is (ssl.mode: require)'
        >>> mend == MEND
        True
    """
    if settings.cloud_sql is not None and url.host == settings.cloud_sql.instance:
        return "encrypted by Google's connector, which verifies the instance", ""
    mode = _find_mode(url, settings.ssl)
    if found is not None and mode in VERIFIED:
        return f"encrypted ({found}); {VERIFIED[mode]}", ""
    hosts = _find_hosts(url)
    if all(map(_is_here, hosts)):
        return f"{f'encrypted ({found})' if found else 'not encrypted'}, and the connection stays on this machine", ""
    if found is None:
        return f"what goes to {', '.join(hosts)} and comes back is not encrypted", MEND
    return f"encrypted ({found}), but nobody looks whose certificate that is (ssl.mode: {mode})", MEND


def _find_mode(url: sa.URL, tls: SslSettings | None) -> str:
    """What is demanded of the server, by the URL, or else by the settings.

    Example:
        >>> _find_mode(sa.make_url("postgresql://db.example"), SslSettings(mode="require", root_cert="ca.pem"))
        'verify-ca'
    """
    said = url.query.get("sslmode") or url.query.get("ssl")
    if said or tls is None:
        return str(said or "not set")
    return "verify-ca" if tls.verifies and tls.mode == "require" else tls.mode or "not set"


def _find_hosts(url: sa.URL) -> list[str]:
    """All servers that a URL names, without their ports.

    Example:
        >>> _find_hosts(sa.make_url("postgresql:///suite?host=a:5432&host=b:5433")), _find_hosts(sa.make_url("postgresql:///suite"))
        (['a', 'b'], ['localhost'])
    """
    named = url.host or url.query.get("host") or "localhost"
    hosts = [host for each in ([named] if isinstance(named, str) else named) for host in each.split(",")]
    return [host if host.count(":") > 1 else host.partition(":")[0] for host in hosts]


def _is_here(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.startswith("/")
