"""What follows the ``?`` in a URL: whether the driver knows it, looked at before anything is connected."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

CONNECT = {
    "pg8000": ("pg8000.dbapi", "connect"),
    "pymysql": ("pymysql", "Connection"),
    "asyncpg": ("asyncpg", "connect"),
    "asyncmy": ("asyncmy", "connect"),
}
"""What makes a connection, for drivers whose functions say what they take; psycopg hands everything to libpq."""

ADAPTED = {"async_fallback", "async_creator_fn", "prepared_statement_cache_size", "prepared_statement_name_func"}
"""What SQLAlchemy's adapters of drivers for asyncio take for themselves."""


def check_options(dialect: sa.Dialect, url: sa.URL) -> None:
    """See to it that a driver knows the options of a URL.

    Args:
        dialect: The engine's, whose driver is imported.
        url: The database.

    Raises:
        TypeError: If it does not know one.
    """
    _, told = dialect.create_connect_args(url)
    unknown = sorted(set(told) - ADAPTED - _find_known(dialect, told))
    if unknown:
        raise TypeError(", ".join(unknown))


def _find_known(dialect: sa.Dialect, told: Mapping[str, Any]) -> set[str]:
    if dialect.driver == "psycopg":
        return {name for name in told if _is_known_to_libpq(name)}
    if dialect.driver not in CONNECT:
        return set(told)
    module, name = CONNECT[dialect.driver]
    return set(inspect.signature(getattr(importlib.import_module(module), name)).parameters)


def _is_known_to_libpq(name: str) -> bool:
    from psycopg import Connection, ProgrammingError
    from psycopg.conninfo import make_conninfo

    try:
        make_conninfo(**{name: ""})
    except ProgrammingError:
        return name in inspect.signature(Connection.connect).parameters
    return True
