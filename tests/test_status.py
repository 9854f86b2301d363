"""``status``: how every sub-app stands, without a trace of having looked."""

import os
import re
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from opal_registry.errors import DatabaseError
from opal_registry.init import init
from opal_registry.ping import ping
from opal_registry.status import get_events, get_status
from tests.databases import engine_of, registry_of
from tests.distributions import Site

NOBODY = 65_534
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


def test_a_run_that_is_still_going_is_named(site: Site, mariadb_url: str) -> None:
    os.mkfifo(gate := site.cwd / "gate")
    waits = f"@hookimpl\ndef opal_tables_created(tables):\n    open({str(gate)!r}).read()\n"
    site.sub_app("notes", NOTES, hooks=waits)
    env: Env = {"OPAL_DATABASE__URL": mariadb_url}
    run = site.start(*site.command("init"), env=env)
    with gate.open("w"):
        state, detail = states(site, env, 1)["notes"]
    assert state == "pending"
    host = re.escape(socket.gethostname())
    assert re.fullmatch(rf"a run is going on: host {host}, process \d+, since \d\d:\d\d:\d\d UTC", detail), detail
    assert run.communicate(timeout=60)[1] == ""
    assert states(site, env, 0)["notes"] == ("ready", "")


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder that this process may read, and in which it can make nothing once a test has closed it."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        Path(folder).chmod(0o755)
        stack.callback(Path(folder).chmod, 0o755)
        if os.geteuid() == 0:  # whom no rights concern
            stack.callback(os.seteuid, 0)
        yield Path(folder)


def close(folder: Path) -> None:
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)


def test_a_file_in_wal_mode_can_be_looked_at_where_nothing_can_be_made_beside_it(closed_folder: Path) -> None:
    with registry_of(f"sqlite:///{closed_folder / 'x.db'}") as registry:
        init(registry)
        get_status(registry)  # imports what cannot be read later on
    before = sorted(closed_folder.iterdir())
    close(closed_folder)
    with registry_of(f"sqlite:///{closed_folder / 'x.db'}") as registry:
        assert get_status(registry).exit_code == 0
        assert [event.outcome for _, event in get_events(registry, limit=5)] == ["done"]
        assert init(registry).exit_code == 0
        assert len(ping(registry)) == 1
    assert sorted(closed_folder.iterdir()) == before


def test_unless_something_is_in_the_file_beside_it_which_is_said(closed_folder: Path) -> None:
    with registry_of(f"sqlite:///{closed_folder / 'x.db'}") as registry:
        init(registry)
    (closed_folder / "x.db-wal").write_bytes(b"something")
    close(closed_folder)
    with registry_of(f"sqlite:///{closed_folder / 'x.db'}") as registry, pytest.raises(DatabaseError) as caught:
        get_status(registry)
    [problem] = caught.value.problems
    assert problem.what.startswith(
        "the directory of the file may not be written to, and what was written last is in x.db-wal, which cannot be "
        "looked at then: "
    )
    assert problem.mend == "let this user write to the directory"


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
