"""What a driver must do without where a pooler gives each transaction another connection to the server."""

from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from opal_registry.errors import ConfigError, Problem
from opal_registry.settings.database import DatabaseSettings

TOLD: dict[str, dict[str, Any]] = {
    "psycopg": {"prepare_threshold": None},
    "asyncpg": {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: f"__opal_{uuid4()}__",
    },
    "pg8000": {},  # closes what it prepared within the transaction
}
"""What each driver is told, so that no prepared statement outlives its transaction: another client may have the session."""


def make_pooler_arguments(url: sa.URL, settings: DatabaseSettings, *, where: str = "") -> dict[str, Any]:
    """What a driver is told where PgBouncer stands before the server, in transaction mode.

    Args:
        url: The database.
        settings: How it is reached.
        where: Where it is configured, for error texts.

    Raises:
        ConfigError: If the pooler is none for this database or driver, or a limit cannot be set through it.

    Example:
        >>> behind = DatabaseSettings(url="postgresql://pooler/suite", pool={"pooler": "pgbouncer"})
        >>> make_pooler_arguments(sa.make_url("postgresql+psycopg://pooler/suite"), behind)
        {'prepare_threshold': None}
    """
    if settings.pool.pooler == "none":
        return {}
    driver = url.get_driver_name()
    if driver not in TOLD:
        what = f"pool.pooler is pgbouncer, which the driver {driver!r} of {url.get_backend_name()} cannot be behind"
        raise ConfigError(Problem(what, where, f"take pool.pooler out, or use one of {', '.join(TOLD)}"))
    if settings.statement_timeout is not None:
        what = "statement_timeout cannot be set through PgBouncer: it would stay behind for other clients"
        mend = f"take it out, and ALTER ROLE {url.username or '...'} SET statement_timeout = '{settings.statement_timeout:g}s'"
        raise ConfigError(Problem(what, where, mend))
    return dict(TOLD[driver])
