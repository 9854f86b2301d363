"""``opal-db config check``: everything that is wrong with all databases at once, before anything is connected."""

from pathlib import Path

import pytest

from opal_registry.engines.check import check_databases
from opal_registry.errors import ConfigError
from opal_registry.settings.sources import load_settings

TEXT = """
database:
  url: {file: nope}
binds:
  a: {driver: oracle, name: x}
  b: {url: "postgresql://x/y", replicas: [{url: {env: NOWHERE}}]}
  c: {cloud_sql: {instance: "p-r:europe-west1:a", database: x, user: u, password: x, credentials: "{}x"}}
  d: {url: "mysql://h/x", pool: {pooler: pgbouncer}, ssl: {mode: require, cert: a, key: b}}
  e: {url: "postgresql+asyncpg://h/x?foo=1"}
  f: {url: "postgresql://h/x", replicas: [{url: "postgres"}]}
"""


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "opal.yaml"
    file.write_text(TEXT)
    with pytest.raises(ConfigError) as caught:
        check_databases(load_settings(file, environ={}))
    said = [(problem.what, problem.where.rpartition(":")[2]) for problem in caught.value.problems]
    assert said == [
        (f"database.url: the file {tmp_path}/nope does not exist", "3"),
        ("binds.b.replicas[0].url: the environment variable NOWHERE is not set", "6"),
        ("the database 'oracle' is not known here", "5"),
        ("binds.c.cloud_sql.credentials is not the JSON of Google's credentials", "7"),
        ("pool.pooler is pgbouncer, which the driver 'pymysql' of mysql cannot be behind", "8"),
        (f"the file {tmp_path}/a cannot be used to encrypt: No such file or directory", "8"),
        ("the URL holds an option that asyncpg cannot use: foo", "9"),
        ("the URL holds an option that psycopg cannot use: foo", "9"),
        ("'********' is not a URL: there is no '://'", "10"),
    ]


def test_what_is_fine_is_described(tmp_path: Path) -> None:
    file = tmp_path / "opal.yaml"
    file.write_text('binds:\n  sales: {url: "postgresql://app:hunter2@db/x"}\ndatabase: {url: "sqlite:////x.db"}\n')
    assert check_databases(load_settings(file, environ={})) == {
        "default": "sqlite /x.db",
        "sales": "postgresql+psycopg://app:********@db/x",
    }
