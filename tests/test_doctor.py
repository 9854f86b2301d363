"""``doctor``: what may go wrong is said before it does, with what to do about it."""

from pathlib import Path

import pytest

from opal_registry.budget import Budget
from opal_registry.doctor import examine
from opal_registry.settings.database import PoolSettings
from opal_registry.settings.model import DeploymentSettings
from tests.databases import registry_of
from tests.distributions import Site
from tests.mariadb import MariaDB
from tests.pgbouncer import PgBouncer
from tests.postgres import Cluster


def findings(url: str, **others: object) -> dict[str, str]:
    """What there is to do, by check."""
    with registry_of(url, **others) as registry:
        return {found.check: f"{found.what}; {found.mend}" for found in examine(registry).findings if found.mend}


def test_a_database_that_is_well_has_no_findings(any_database_url: str) -> None:
    with registry_of(any_database_url) as registry:
        with registry.engine().connect() as connection:
            connection.exec_driver_sql("CREATE TABLE made (x int)")
        diagnosis = examine(registry)
    assert {found.state for found in diagnosis.findings} == {"fine"}
    assert diagnosis.exit_code == 0


def test_connections_that_the_server_has_not_are_a_finding(quick_site: Site, postgres: Cluster) -> None:
    env = {"OPAL_DATABASE__URL": postgres.url(), "OPAL_DEPLOYMENT__INSTANCES": "4", "OPAL_DEPLOYMENT__WORKERS": "2"}
    done = quick_site.run("doctor", env=env)
    assert done.code == 1
    assert "the application may open 4 x 2 x (5 + 10) = 120 connections, but the server has 92 for it" in done.out
    assert (
        "default, budget: lower pool.size + pool.max_overflow to 11 at most (such as size: 5, max_overflow: 6)"
        in done.out
    )

    document = quick_site.run("doctor", "--json", env=env).json
    assert {(found["check"], found["state"]) for found in document["findings"]} >= {
        ("budget", "finding"),
        ("age", "fine"),
    }
    assert document["exit_code"] == 1


def test_a_limit_of_the_role_counts(postgres: Cluster) -> None:
    postgres.execute("CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 10")
    try:
        assert "but the server has 5 for it" in findings(postgres.url(user="few", password="few"))["budget"]
    finally:
        postgres.execute("DROP ROLE few")


def test_pools_of_one_server_are_added_up(postgres_url: str, postgres: Cluster) -> None:
    binds = {"other": {"url": postgres.url(), "pool": {"size": 80, "max_overflow": 0}}}
    assert "1 x 1 x ((5 + 10) + (80 + 0)) = 95 connections" in findings(postgres_url, binds=binds)["budget"]


def test_more_processes_than_connections_are_too_many() -> None:
    mend = Budget(DeploymentSettings(instances=100), (PoolSettings(),), limit=97).mend
    assert mend.startswith("run fewer than 100 processes (deployment), or let the server take 1505 (max_connections)")


def test_a_server_that_closes_connections_sooner_is_a_finding(mariadb: MariaDB) -> None:
    mariadb.execute("SET GLOBAL wait_timeout = 60")
    try:
        assert findings(mariadb.url("mysql")) == {
            "age": "the server closes a connection that was idle for 60 s (wait_timeout), and pool.recycle is 1800 s; "
            "set pool.recycle to less than 60 s"
        }
    finally:
        mariadb.execute("SET GLOBAL wait_timeout = DEFAULT")


def test_so_is_postgresql_that_does(postgres: Cluster) -> None:
    postgres.execute("ALTER ROLE postgres SET idle_session_timeout = '5min'")
    try:
        for driver in ("psycopg", "pg8000"):
            found = findings(postgres.url().replace("psycopg", driver))
            assert found["age"].startswith(
                "the server closes a connection that was idle for 300 s (idle_session_timeout)"
            )
    finally:
        postgres.execute("ALTER ROLE postgres RESET idle_session_timeout")


def test_a_pooler_that_nobody_mentioned_is_a_finding(pgbouncer: PgBouncer, pgbouncer_url: str) -> None:
    told = {"url": pgbouncer_url, "pool": {"pooler": "pgbouncer"}}
    assert list(findings(pgbouncer_url)) == ["pooler"]
    assert findings(pgbouncer_url, database=told) == {}


def test_one_that_does_not_answer_keeps_nobody_from_looking_at_the_next(quick_site: Site, tmp_path: Path) -> None:
    (tmp_path / "there.db").touch()
    urls = {
        "OPAL_DATABASE__URL": f"sqlite:///{tmp_path}/x.db",
        "OPAL_BINDS__THERE__URL": f"sqlite:///{tmp_path}/there.db",
    }
    done = quick_site.run("doctor", env=urls)
    assert done.code == 4
    assert "there  answer  fine" in done.out
    assert f"the SQLite file does not exist: {tmp_path}/x.db" in done.err
    assert not (tmp_path / "x.db").exists()


@pytest.mark.parametrize("kind", ["static", "assertion"])
def test_a_pool_that_is_none_for_applications_is_a_finding(kind: str, postgres_url: str) -> None:
    assert "pool" in findings(postgres_url, database={"url": postgres_url, "pool": {"kind": kind}})
