"""Settings, registries and engines of one database, in a word."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from opal_registry.engines.factory import make_engine
from opal_registry.registry import Registry
from opal_registry.schema.batch import Batch, send_singly, send_together
from opal_registry.schema.compiled import Compiler
from opal_registry.schema.ddl import Creator
from opal_registry.settings.database import DatabaseSettings
from opal_registry.settings.model import Settings


def settings_of(url: str, **others: Any) -> Settings:
    """Settings with a database at a URL, and what else is set."""
    return Settings.model_validate({"database": {"url": url}, **others})


def registry_of(url: str, **others: Any) -> Registry:
    """A registry of a database at a URL, with the sub-app ``core`` only."""
    return Registry(settings_of(url, **others), sub_apps=["core"])


def database_of(url: str, **others: Any) -> DatabaseSettings:
    """The settings of one database."""
    return DatabaseSettings.model_validate({"url": url, **others})


def engine_of(url: str, **others: Any) -> sa.Engine:
    """An engine as the registry makes it."""
    return make_engine(database_of(url, **others))


def create_tables(connection: sa.Connection, tables: Sequence[sa.Table], *, known: set[str] | None = None) -> None:
    """Create tables as a run does."""
    send = send_together if connection.dialect.name == "postgresql" else send_singly
    with Batch(connection, Compiler(connection.dialect), send).open() as batch:
        Creator(batch, set() if known is None else known).create(tables)


__all__ = ["create_tables", "database_of", "engine_of", "registry_of", "settings_of"]


def checked_out(registry: Registry) -> int:
    """How many connections of the default database are in use, with and without asyncio."""
    pools: list[Any] = [registry.engine().pool, registry.async_engine().pool]
    return sum(pool.checkedout() for pool in pools)
