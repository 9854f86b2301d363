"""Making the database itself, where it is missing."""

import contextlib
from collections.abc import Sequence

import sqlalchemy as sa

EXISTS_ALREADY = {"42P04", "23505"}
"""What PostgreSQL says if another process made the database in the same moment."""


def create_database(
    engine: sa.Engine, servers: Sequence[sa.Engine], *, owner: str | None = None, dry_run: bool = False
) -> bool:
    """Make an engine's database where it is missing; SQLite makes its own.

    Args:
        engine: The database; its user must be allowed to make one.
        servers: Other databases of the same server, to be tried in this order.
        owner: The role that shall own it, and so may create in it (PostgreSQL).
        dry_run: Only find out.

    Returns:
        Whether it was missing until now.
    """
    if engine.dialect.name == "sqlite" or not engine.url.database:
        return False
    try:
        with engine.connect():
            return False
    except sa.exc.DBAPIError:
        connection = _connect_to_any(servers)
        if connection is None:
            raise
    try:
        with connection:
            return _create_database(connection, engine.url.database, owner, dry_run=dry_run)
    finally:
        connection.engine.dispose()


def _connect_to_any(servers: Sequence[sa.Engine]) -> sa.Connection | None:
    for server in servers:
        with contextlib.suppress(sa.exc.DBAPIError):
            return server.connect().execution_options(isolation_level="AUTOCOMMIT")
    return None


def _create_database(connection: sa.Connection, name: str, owner: str | None, *, dry_run: bool) -> bool:
    postgresql = connection.dialect.name == "postgresql"
    catalog = "SELECT datname FROM pg_database" if postgresql else "SHOW DATABASES"
    if name in connection.exec_driver_sql(catalog).scalars():
        return False
    quoted = connection.dialect.identifier_preparer.quote_identifier(name)
    encoding = "ENCODING 'UTF8' TEMPLATE template0" if postgresql else "CHARACTER SET utf8mb4"
    if owner and postgresql:
        encoding += f" OWNER {connection.dialect.identifier_preparer.quote_identifier(owner)}"
    try:
        if not dry_run:
            connection.exec_driver_sql(f"CREATE DATABASE {quoted} {encoding}")
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in EXISTS_ALREADY:
            raise
    return True
