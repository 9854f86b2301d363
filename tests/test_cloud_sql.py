"""Cloud SQL through Google's own connector: to real servers, behind a Google of our own."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.engines.factory import make_engine
from opal_registry.settings.database import DatabaseSettings
from tests.cloud_sql import CloudSql, Instance
from tests.postgres import Cluster


@pytest.fixture(scope="module")
def google(postgres18: Cluster) -> Iterator[CloudSql]:
    with CloudSql() as google:
        google.add("suite", Instance(postgres18.port))
        yield google


def settings_of(google: CloudSql, name: str = "suite", *, wait: str = "10s", **others: Any) -> DatabaseSettings:
    return DatabaseSettings.model_validate({"cloud_sql": google.settings(name, **others), "connect_timeout": wait})


def ask(engine: sa.Engine, question: str = "SELECT current_database()") -> Any:
    with engine.connect() as connection:
        return connection.execute(sa.text(question)).scalar()


@pytest.mark.parametrize("driver", ["pg8000", "psycopg"])
def test_an_engine_connects(google: CloudSql, driver: str) -> None:
    engine = make_engine(settings_of(google, driver=driver))
    assert ask(engine) == "postgres"
    engine.dispose()
