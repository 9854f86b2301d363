"""A server behind a socket in the file system, as the Cloud SQL Auth Proxy and Cloud Run make it: the name holds colons."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.engines.factory import make_async_engine, make_engine
from opal_registry.settings.database import DatabaseSettings
from tests.databases import database_of
from tests.mariadb import MariaDB
from tests.postgres import Cluster

INSTANCE = "tests:europe-west1:suite"


@pytest.fixture
def path() -> Iterator[Path]:
    """Where the sockets of an instance are; a socket's path must be short."""
    with TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder, INSTANCE)


def ask(settings: DatabaseSettings, *, use_async: bool) -> Any:
    if use_async:
        return asyncio.run(_ask(settings))
    engine = make_engine(settings)
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT 41 + 1")).scalar()
    engine.dispose()
    return found


async def _ask(settings: DatabaseSettings) -> Any:
    engine = make_async_engine(settings)
    async with engine.connect() as connection:
        found = await connection.scalar(sa.text("SELECT 41 + 1"))
    await engine.dispose()
    return found


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "pg8000", "asyncpg"])
def test_postgresql_is_behind_a_directory(driver: str, path: Path, postgres18: Cluster) -> None:
    path.mkdir()
    (path / ".s.PGSQL.5432").symlink_to(postgres18.folder / f".s.PGSQL.{postgres18.port}")
    parts = {"host": str(path), "name": "postgres", "user": "postgres"}
    settings = DatabaseSettings.model_validate({"driver": f"postgresql+{driver.removesuffix('_async')}", **parts})
    assert ask(settings, use_async="async" in driver) == 42
    assert ask(database_of(f"postgresql://postgres@/postgres?host={path}"), use_async=False) == 42


@pytest.mark.mariadb
@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
def test_mysql_is_behind_a_socket(driver: str, path: Path, mariadb: MariaDB) -> None:
    path.symlink_to(mariadb.socket_path)
    parts = {"host": str(path), "name": "mysql", "user": "root"}
    settings = DatabaseSettings.model_validate({"driver": f"mysql+{driver}", **parts})
    assert ask(settings, use_async=driver == "asyncmy") == 42
