"""``events``: who ran what, when, from where, and how it ended."""

import datetime as dt
import getpass
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.databases import engine_of
from tests.distributions import Site
from tests.mariadb import MariaDB
from tests.postgres import Cluster
from tests.writing import model, models

Env = dict[str, str | None]
NOTES = models(model("Note", "notes"))
RAISES = """
    @hookimpl
    def opal_tables_created(connection, sub_app, tables):
        raise ValueError("not today")
"""
DIES = """
    import os, signal

    @hookimpl
    def opal_tables_created(connection, sub_app, tables):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


@pytest.fixture
def file_env(tmp_path: Path) -> Env:
    """The same for a SQLite file, where every database does the same."""
    return {"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'opal.db'}"}


def events(site: Site, env: Env, *arguments: str) -> list[dict[str, Any]]:
    done = site.run("events", "--json", *arguments, env=env)
    assert (done.code, done.err) == (0, "")
    found: list[dict[str, Any]] = done.json["events"]
    return found


def outcomes(site: Site, env: Env) -> list[tuple[str, dict[str, Any]]]:
    return [(event["outcome"], event["detail"]) for event in events(site, env)]


def test_a_run_says_who_did_what_when_and_how_long_it_took(quick_site: Site, env: Env) -> None:
    quick_site.sub_app("notes", NOTES)
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    quick_site.run("init", env=env)
    [event] = events(quick_site, env)

    assert list(event) == [
        *("bind", "command", "started_at", "seconds", "outcome"),
        *("host", "pid", "os_user", "written_by", "detail"),
    ]
    assert before <= dt.datetime.fromisoformat(event.pop("started_at")) <= dt.datetime.now(dt.UTC)
    assert 0 < event.pop("seconds") < 60
    assert event.pop("pid") != os.getpid()
    assert event == {
        "bind": "default",
        "command": "init",
        "outcome": "done",
        "host": socket.gethostname(),
        "os_user": getpass.getuser(),
        "written_by": "opal-registry 1.0.0",
        "detail": {"created": {"core": ["users"], "notes": ["notes"]}},
    }


def test_people_get_a_line_for_each_the_latest_first(quick_site: Site, file_env: Env) -> None:
    quick_site.run("init", env=file_env)
    quick_site.sub_app("notes", NOTES)
    quick_site.run("init", env=file_env)
    heading, last, first = quick_site.run("events", env=file_env).out.splitlines()

    who = re.escape(f"{getpass.getuser()}@{socket.gethostname()}, process ") + r"\d+"
    line = rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d  default  init     done +\d\.\d s  {who}  opal-registry 1\.0\.0  "
    assert heading.split() == ["when", "(UTC)", "bind", "command", "outcome", "took", "who", "with", "what"]
    assert re.fullmatch(f"{line}1 table of notes", last)
    assert re.fullmatch(f"{line}1 table of core", first)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (2, "1 table of a, 2 tables of b, 1 table of core"),
        (3, "7 tables of 4 sub-apps"),
    ],
)
def test_what_a_run_created_stays_readable_however_much_it_is(
    quick_site: Site, file_env: Env, count: int, said: str
) -> None:
    for number, name in enumerate("abc"[:count], 1):
        quick_site.sub_app(name, models(*(model(f"T{i}", f"{name}{i}") for i in range(number))))
    quick_site.run("init", env=file_env)
    assert quick_site.run("events", env=file_env).out.splitlines()[1].endswith(f" opal-registry 1.0.0  {said}")


def test_a_run_that_had_nothing_to_create_says_what_it_recorded(quick_site: Site, file_env: Env) -> None:
    quick_site.sub_app("notes", NOTES, version="1.0")
    quick_site.run("init", env=file_env)
    quick_site.sub_app("notes", NOTES, version="1.1")
    quick_site.run("init", env=file_env)
    assert outcomes(quick_site, file_env)[0] == ("done", {"created": {}})
    assert quick_site.run("events", env=file_env).out.splitlines()[1].endswith(" no table")


def test_nothing_is_recorded_where_nothing_was_to_do(quick_site: Site, env: Env) -> None:
    quick_site.run("init", env=env)
    for arguments in ((), ("--verify",), ("--dry-run",), ("--create-database",)):
        assert quick_site.run("init", *arguments, env=env).code == 0
    for command in (("status",), ("apps", "list"), ("events",)):
        assert quick_site.run(*command, env=env).code == 0
    assert len(events(quick_site, env)) == 1


def test_a_run_that_failed_says_why(quick_site: Site, env: Env) -> None:
    quick_site.run("init", env=env)
    quick_site.sub_app("notes", NOTES, hooks=RAISES)
    assert quick_site.run("init", env=env).code == 3
    error = "calling opal_tables_created failed: ValueError: not today"
    assert outcomes(quick_site, env)[0] == ("failed", {"error": [error]})
    assert quick_site.run("events", env=env).out.splitlines()[1].endswith(f" opal-registry 1.0.0  {error}")


def test_a_failure_tells_no_secret(quick_site: Site, postgres18: Cluster) -> None:
    name = postgres18.create_database()
    postgres18.execute("CREATE ROLE app LOGIN PASSWORD 'hunter2'")
    postgres18.execute("GRANT CREATE ON SCHEMA public TO app", database=name)
    env: Env = {"OPAL_DATABASE__URL": postgres18.url(name, user="app", password="hunter2")}
    quick_site.run("init", env=env)
    postgres18.execute("REVOKE CREATE ON SCHEMA public FROM app", database=name)
    quick_site.sub_app("notes", NOTES)
    assert quick_site.run("init", env=env).code == 4
    [failed, _] = events(quick_site, env)
    postgres18.drop_database(name)
    postgres18.execute("DROP ROLE app")
    [error] = failed["detail"]["error"]
    assert error.startswith("the user may not do this: permission denied for schema public")
    assert "hunter2" not in str(failed)


def test_a_run_that_was_killed_is_interrupted_where_each_statement_commits(
    quick_site: Site, mariadb: MariaDB, mariadb_url: str
) -> None:
    env: Env = {"OPAL_DATABASE__URL": mariadb_url}
    quick_site.sub_app("notes", NOTES, hooks=DIES)
    quick_site.run("init", env=env)
    [running] = events(quick_site, env)
    assert (running["outcome"], running["seconds"], running["detail"]) == ("running", None, {})
    quick_site.sub_app("notes", NOTES)
    assert quick_site.run("init", env=env).code == 0
    assert outcomes(quick_site, env) == [("done", {"created": {"notes": ["notes"]}}), ("interrupted", {})]
    assert re.search(r" init +interrupted +-  ", quick_site.run("events", env=env).out)


def test_a_run_that_was_killed_never_was_where_a_transaction_is_taken_back(quick_site: Site, database_url: str) -> None:
    env: Env = {"OPAL_DATABASE__URL": database_url}
    quick_site.sub_app("notes", NOTES, hooks=DIES)
    quick_site.run("init", env=env)
    assert events(quick_site, env) == []
    quick_site.sub_app("notes", NOTES)
    quick_site.run("init", env=env)
    assert outcomes(quick_site, env) == [("done", {"created": {"core": ["users"], "notes": ["notes"]}})]


def test_only_so_many_are_shown_over_all_binds(quick_site: Site, env: Env, tmp_path: Path) -> None:
    env |= {"OPAL_BINDS__ANALYTICS__URL": f"sqlite:///{tmp_path / 'analytics.db'}"}
    for number, bind in enumerate(["default", "analytics", "analytics", "default"]):
        quick_site.sub_app(f"a{number}", models(model("T", f"a{number}")), bind=bind)
        quick_site.run("init", env=env)
    created = [(event["bind"], *event["detail"]["created"]) for event in events(quick_site, env)]
    assert created == [
        ("default", "a3"),
        ("analytics", "a2"),
        ("analytics", "a1"),
        ("default", "a0", "core"),
    ]
    shown = [(event["bind"], *event["detail"]["created"]) for event in events(quick_site, env, "--limit", "3")]
    assert shown == created[:3]
    assert quick_site.run("events", "--limit", "0", env=env).code == 2


def test_asking_makes_no_file(quick_site: Site, tmp_path: Path) -> None:
    env: Env = {
        "OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'a.db'}",
        "OPAL_BINDS__ANALYTICS__URL": f"sqlite:///{tmp_path / 'b.db'}",
    }
    done = quick_site.run("events", env=env)
    assert (done.code, done.out, done.err) == (0, "no run is recorded: opal-db init records what it does\n", "")
    assert events(quick_site, env) == []
    assert list(tmp_path.glob("*.db*")) == []


def test_an_empty_database_has_none(quick_site: Site, env: Env) -> None:
    assert events(quick_site, env) == []


def test_one_that_an_older_release_recorded_is_shown(quick_site: Site, env: Env, any_database_url: str) -> None:
    quick_site.run("init", env=env)
    engine = engine_of(any_database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE opal_events SET detail = NULL")
    engine.dispose()
    assert outcomes(quick_site, env) == [("done", {})]
    assert quick_site.run("events", env=env).code == 0
