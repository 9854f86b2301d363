"""``status``: how every sub-app stands, without a trace of having looked."""

import sqlite3
from pathlib import Path

import pytest

from opal_registry.init import init
from opal_registry.status import get_status
from tests.databases import engine_of, registry_of
from tests.distributions import Site

Env = dict[str, str | None]
NOTES = """
    import sqlalchemy as sa
    from opal_registry import Base
    notes = sa.Table("notes", Base.metadata, sa.Column("id", sa.Integer, primary_key=True))
"""


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


@pytest.fixture
def file_env(tmp_path: Path) -> Env:
    """The same for a SQLite file, where every database does the same."""
    return {"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'opal.db'}"}


def states(site: Site, env: Env, code: int) -> dict[str, tuple[str, str]]:
    done = site.run("status", "--json", env=env)
    assert done.code == code, done
    assert done.json["exit_code"] == code
    return {found["name"]: (found["state"], found["detail"]) for found in done.json["sub_apps"]}


def test_everything_is_ready_after_init(quick_site: Site, env: Env) -> None:
    quick_site.sub_app("notes", NOTES)
    quick_site.run("init", env=env)
    assert states(quick_site, env, 0) == {"core": ("ready", ""), "notes": ("ready", "")}


def test_an_empty_database_is_pending(quick_site: Site, env: Env) -> None:
    assert states(quick_site, env, 1) == {"core": ("pending", "1 to create: users (opal-db init)")}


def test_a_file_that_is_not_there_is_pending_and_stays_away(quick_site: Site, tmp_path: Path) -> None:
    env: Env = {"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'x.db'}"}
    assert states(quick_site, env, 1)["core"][0] == "pending"
    assert not (tmp_path / "x.db").exists()


def test_tables_without_a_ledger_are_pending(quick_site: Site, env: Env, any_database_url: str) -> None:
    quick_site.run("init", env=env)
    engine = engine_of(any_database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE opal_sub_apps")
    engine.dispose()
    assert states(quick_site, env, 1) == {"core": ("pending", "not recorded in the ledger (opal-db init)")}


def test_a_table_of_another_shape_differs(quick_site: Site, env: Env, any_database_url: str) -> None:
    quick_site.sub_app("notes", NOTES)
    engine = engine_of(any_database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE notes (id CHAR(9) PRIMARY KEY NOT NULL)")
    engine.dispose()
    quick_site.run("init", env=env)
    found = states(quick_site, env, 1)
    assert found["core"] == ("ready", "")
    assert found["notes"] == ("differs", "notes.id: the type is CHAR(9), the model says INTEGER")


def test_a_harmless_difference_is_no_finding(quick_site: Site, env: Env, any_database_url: str) -> None:
    quick_site.run("init", env=env)
    engine = engine_of(any_database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE users ADD COLUMN shoe_size INTEGER")
    engine.dispose()
    assert states(quick_site, env, 0) == {"core": ("ready", "")}


def test_what_is_quarantined_is_listed_with_its_reason(quick_site: Site, file_env: Env) -> None:
    quick_site.sub_app("broken", "raise RuntimeError('no luck')")
    quick_site.sub_app("needy", "x = 1", requires=("broken",))
    env = {**file_env, "OPAL_SUB_APPS__ON_ERROR": "quarantine"}
    assert quick_site.run("init", env=env).code == 0
    found = states(quick_site, env, 1)
    assert found["core"][0] == "ready"
    assert found["broken"][0] == found["needy"][0] == "quarantined"
    assert "RuntimeError: no luck" in found["broken"][1]
    assert "requires 'broken', which is left out" in found["needy"][1]


def test_each_bind_is_looked_at(quick_site: Site, file_env: Env, tmp_path: Path) -> None:
    quick_site.sub_app("notes", NOTES, bind="analytics")
    env = {**file_env, "OPAL_BINDS__ANALYTICS__URL": f"sqlite:///{tmp_path / 'analytics.db'}"}
    quick_site.run("init", env=env)
    done = quick_site.run("status", "--json", env=env)
    assert list(done.json["databases"]) == ["default", "analytics"]
    assert [(found["name"], found["bind"]) for found in done.json["sub_apps"]] == [
        ("core", "default"),
        ("notes", "analytics"),
    ]


def test_a_file_that_only_root_may_write_can_be_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with registry_of(f"sqlite:///{path}") as registry:
        init(registry)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    with registry_of(f"sqlite:///file:{path}?mode=ro&uri=true") as registry:
        assert get_status(registry).exit_code == 0
        assert init(registry).exit_code == 0
