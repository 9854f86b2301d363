"""How drivers are told to encrypt: by the section ``ssl``, or by the URL in the words of libpq, in each driver's own way."""

import ssl
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from opal_registry.settings.database import SslSettings

DISABLED: dict[str, dict[str, Any]] = {
    "pymysql": {"ssl_disabled": True},
    "asyncpg": {"ssl": False},
    "pg8000": {"ssl_context": False},
}
"""How drivers are told to do without encryption which they would try otherwise."""

FALLS_BACK = {driver: {None, "allow", "prefer"} for driver in ("asyncpg", "pymysql")}
"""Drivers that can try encryption and do without; to the others ``prefer`` is the same as ``require``."""

LIBPQ = {"sslmode": "mode", "sslrootcert": "root_cert", "sslcert": "cert", "sslkey": "key", "ssl": "mode"}
"""What URLs of PostgreSQL say of encryption, libpq's words and asyncpg's one, and the keys of the section ``ssl``."""

OBJECTS = {"ssl", "ssl_context", "ssl_disabled"}
"""Options of drivers that no text can be the value of."""


def find_tls(url: sa.URL, section: SslSettings | None) -> SslSettings | None:
    """What is to be demanded of the server: by the section ``ssl``, or else by the URL.

    Args:
        url: The database.
        section: The settings.

    Raises:
        sqlalchemy.exc.ArgumentError: If both say something, or the URL something that cannot be.

    Example:
        >>> find_tls(sa.make_url("postgresql+pg8000://db/x?sslmode=require"), None).mode
        'require'
    """
    options = sorted(name for name in url.query if name.startswith("ssl"))
    if section is not None and options:
        raise sa.exc.ArgumentError(f"{', '.join(options)}, because the section ssl says how to encrypt")
    words = LIBPQ if url.get_backend_name() == "postgresql" else {}
    if unusable := [name for name in options if name in OBJECTS - words.keys()]:
        raise sa.exc.ArgumentError(f"{', '.join(unusable)}, which the section ssl is for")
    told = {words[name]: str(url.query[name]) for name in options if name in words}
    try:
        return SslSettings.model_validate(told) if told else section
    except ValidationError as error:
        raise sa.exc.ArgumentError(f"{', '.join(options)}, because ssl {error.errors()[0]['msg']}") from None


def without_tls(url: sa.URL) -> sa.URL:
    """The same URL without what :func:`find_tls` understands; libpq understands it as well."""
    if url.get_backend_name() != "postgresql" or url.get_driver_name() == "psycopg":
        return url
    return url.difference_update_query(LIBPQ)


def make_tls_arguments(url: sa.URL, section: SslSettings | None) -> dict[str, Any]:
    """What a driver is told of encryption.

    Args:
        url: The database.
        section: The settings.

    Raises:
        sqlalchemy.exc.ArgumentError: As :func:`find_tls`.
        OSError: If a file cannot be used; ``filename`` is which.
    """
    tls, driver = find_tls(url, section), url.get_driver_name()
    if tls is None or (driver == "psycopg" and section is None):
        return {}
    if tls.mode == "disable":
        return tls.libpq if driver == "psycopg" else DISABLED.get(driver, {})
    context = _make_context(tls)
    if driver == "psycopg":  # which takes a file that is not there for none
        return tls.libpq
    if tls.mode in FALLS_BACK.get(driver, {None, "allow"}) and not tls.cert:
        return {"ssl": tls.mode} if driver == "asyncpg" and tls.mode else {}
    return {"ssl_context" if driver == "pg8000" else "ssl": context}


def _make_context(tls: SslSettings) -> ssl.SSLContext:
    for file in filter(None, (tls.root_cert, tls.cert)):
        _check_certificate(file)
    context = ssl.create_default_context(cafile=tls.root_cert)
    context.check_hostname = tls.mode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if tls.verifies else ssl.CERT_NONE
    if tls.cert and tls.key:
        _load_key(context, tls.cert, tls.key)
    return context


def _check_certificate(file: str) -> None:
    Path(file).read_bytes()
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        raise OSError(0, "it holds no certificate (PEM)", file) from None


def _load_key(context: ssl.SSLContext, cert: str, key: str) -> None:
    Path(key).read_bytes()
    try:
        context.load_cert_chain(cert, key, password="")  # or OpenSSL asks for one at the terminal
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise OSError(0, f"it is not the key of {cert}", key) from None
        raise OSError(0, "it holds no private key (PEM), or one that needs a pass phrase", key) from None
