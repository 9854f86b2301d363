"""How a connection is really encrypted, whatever the settings ask for."""

import ipaddress
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from opal_registry.engines.mysql import NAMES as MYSQL
from opal_registry.settings.database import DatabaseSettings, SslSettings

POSTGRES = sa.text("SELECT version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl")
MYSQL_STATUS = sa.text("SHOW SESSION STATUS WHERE Variable_name IN ('Ssl_version', 'Ssl_cipher')")
VERIFIED = {
    "verify-full": "the server's certificate and its name are verified",
    "verify-ca": "the server's certificate is verified, but not its name",
}
MEND = "set ssl.mode to verify-full, and ssl.root_cert to the certificate of the server's authority"


def find_encryption(connection: sa.Connection) -> str | None:
    """What a connection was agreed to be encrypted with, such as ``TLSv1.3, TLS_AES_256_GCM_SHA384``; None if it is not.

    Args:
        connection: An open one, to PostgreSQL, MySQL or MariaDB.
    """
    if connection.dialect.name in MYSQL:
        said = {name: value for name, value in connection.execute(MYSQL_STATUS) if value}
        return f"{said['Ssl_version']}, {said['Ssl_cipher']}" if said.get("Ssl_cipher") else None
    row = connection.execute(POSTGRES).first()
    if row is not None:
        return f"{row.version}, {row.cipher}"
    driver: Any = connection.connection.driver_connection
    in_use = connection.dialect.driver == "psycopg" and driver.pgconn.ssl_in_use
    return "up to what stands before the server" if in_use else None


def judge_encryption(found: str | None, settings: DatabaseSettings, url: sa.URL) -> tuple[str, str]:
    """What to say of a connection, and what to do about it; that is empty where all is well.

    Args:
        found: What :func:`find_encryption` says.
        settings: How the database is reached.
        url: Where it is.

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
    if _is_here(url):
        return f"{f'encrypted ({found})' if found else 'not encrypted'}, and the connection stays on this machine", ""
    if found is None:
        return f"what goes to {url.host} and comes back is not encrypted", MEND
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


def _is_here(url: sa.URL) -> bool:
    host = str(url.host or url.query.get("host") or "localhost")
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.startswith("/")
