"""The histories of core and of the sample sub-apps: what they make, that they go back, and that they keep rows."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opal_registry.authoring.differences import draw_differences
from opal_registry.contents import Contents, read_contents
from opal_registry.errors import OpalError
from opal_registry.migrations.downgrade import downgrade
from opal_registry.migrations.history import load_histories
from opal_registry.migrations.look import Target
from opal_registry.registry import Registry
from opal_registry.scratch import make_scratch
from opal_registry.testing import check_migrations
from opal_registry.upgrade import upgrade
from tests.databases import settings_of
from tests.distributions import Site
from tests.made_histories import make_package, with_other_histories

SAMPLES = ("buildpilot", "regressioninsight", "calmind", "monitoriq", "opal_auth", "standupbot", "xrayqc")
FROM_THE_TOP = ("xrayqc", "monitoriq", "regressioninsight", "buildpilot", "calmind", "standupbot", "opal_auth")
FIRST = {
    "standupbot": "standup0001",
    "regressioninsight": "regress0001",
    "buildpilot": "build0001",
    "calmind": "calmind0001",
    "monitoriq": "monitor0001",
    "xrayqc": "xray0001",
    "opal_auth": "auth0001",
}
NOW = "'2026-01-02 03:04:05'"

OLD_ROWS = f"""
INSERT INTO users (id, username) VALUES (1, 'ada'), (2, 'bob');
INSERT INTO standup_teams (id, name) VALUES (1, 'crew');
INSERT INTO standup_memberships (team_id, user_id, is_facilitator, joined_at)
  VALUES (1, 1, true, {NOW}), (1, 2, false, {NOW});
INSERT INTO standup_meetings (id, team_id, held_on, opened_at) VALUES (1, 1, '2026-01-02', {NOW});
INSERT INTO standup_updates (id, meeting_id, author_id, finished, planned, blocked)
  VALUES (1, 1, 1, 'the login page', 'the logout page', 'no VPN'), (2, 1, 2, 'nothing', NULL, NULL);
INSERT INTO build_projects (id, slug, name, repository_url) VALUES (1, 'opal', 'Opal', 'https://git.example/opal');
INSERT INTO build_pipelines (id, project_id, name, config_path) VALUES (1, 1, 'main', '.ci/run');
INSERT INTO build_builds (id, pipeline_id, number, status, trigger_kind, branch, sha)
  VALUES (1, 1, 1, 'passed', 'push', 'main', 'e9a2474');
INSERT INTO build_steps (id, build_id, position, name, command, status) VALUES (1, 1, 1, 'init', 'make', 'passed');
INSERT INTO regress_suites (id, name, owner_id) VALUES (1, 'smoke', 1);
INSERT INTO regress_cases (id, suite_id, identifier) VALUES (1, 1, 't.py::test_a');
INSERT INTO regress_runs (id, suite_id, status) VALUES (1, 1, 'passed');
INSERT INTO regress_results (id, run_id, case_id, outcome, duration_ms) VALUES (1, 1, 1, 'passed', 12);
INSERT INTO calmind_check_ins (id, user_id, recorded_at, mood)
  VALUES ('11111111111141118111111111111111', 1, {NOW}, 10), ('22222222222242228222222222222222', 2, {NOW}, 3);
INSERT INTO calmind_exercises (slug, title, kind, duration_seconds, instructions)
  VALUES ('box-breathing', 'Box breathing', 'breathing', 240, 'In, hold, out.');
INSERT INTO monitor_services (id, slug, name, priority) VALUES (1, 'opal', 'Opal', 9);
INSERT INTO monitor_checks (id, service_id, name, kind, target) VALUES (1, 1, 'front page', 'http', 'https://opal.example/');
INSERT INTO monitor_measurements (id, check_id, measured_at, is_up) VALUES (1, 1, {NOW}, true);
INSERT INTO xray_stations (id, name, machine_model, max_voltage_kv) VALUES (1, 'X1', 'Cheetah', 160);
INSERT INTO xray_boards (id, serial_number, part_number) VALUES (1, 'SN-1', 'PCB-7');
INSERT INTO xray_inspections (id, board_id, station_id, inspected_at) VALUES (1, 1, 1, {NOW});
INSERT INTO xray_defect_kinds (code, title) VALUES ('void', 'Void');
INSERT INTO xray_findings (id, inspection_id, defect_code, is_confirmed) VALUES (1, 1, 'void', true), (2, 1, 'void', NULL);
INSERT INTO auth_refresh_tokens (id, user_id, token_hash, issued_at, expires_at, revoked_at)
  VALUES ('33333333333343338333333333333333', 1, '{"a" * 64}', {NOW}, '2026-02-02 00:00:00', {NOW});
INSERT INTO auth_one_time_codes (id, user_id, purpose, code_hash, sent_to, attempts, created_at, expires_at)
  VALUES ('44444444444444448444444444444444', 1, 'sign_in', 'x', 'ada@example.org', 2, {NOW}, '2026-02-02 00:00:00')
"""
"""What somebody has who installed 1.0 of everything."""

KEPT = {
    "SELECT text FROM standup_answers ORDER BY update_id, question_id": [
        *("the login page", "the logout page", "no VPN", "nothing")
    ],
    "SELECT description FROM standup_blockers": ["no VPN"],
    "SELECT role FROM standup_memberships ORDER BY user_id": ["facilitator", "member"],
    "SELECT commit_sha FROM build_builds": ["e9a2474"],
    "SELECT status FROM build_steps": ["passed"],
    "SELECT environment FROM regress_runs": ["unknown"],
    "SELECT commit_sha FROM regress_runs": ["e9a2474"],
    "SELECT attempt FROM regress_results": [1],
    "SELECT user_id FROM regress_suite_watchers": [1],
    "SELECT mood FROM calmind_check_ins ORDER BY user_id": [5, 2],
    "SELECT tier FROM monitor_services": [4],
    "SELECT name FROM monitor_rules": ["down"],
    "SELECT count(*) FROM monitor_measurements": [1],
    "SELECT decision FROM xray_reviews": ["confirmed"],
    "SELECT count(*) FROM xray_findings": [2],
    "SELECT revocation_reason FROM auth_refresh_tokens WHERE family_id = id": ["signed_out"],
    "SELECT max_attempts FROM auth_one_time_codes": [5],
    "SELECT username FROM users ORDER BY id": ["ada", "bob"],
}
"""Where it is after the upgrade."""


@pytest.fixture
def registry(any_database_url: str) -> Iterator[Registry]:
    """The whole suite, and each kind of database in turn."""
    with Registry(settings_of(any_database_url)) as registry:
        yield registry


def contents(registry: Registry) -> Contents:
    with registry.migration_engine().connect() as connection:
        return read_contents(connection)


def column(registry: Registry, query: str) -> list[Any]:
    with registry.migration_engine().connect() as connection:
        return list(connection.exec_driver_sql(query).scalars())


def execute(registry: Registry, statements: str) -> None:
    with registry.migration_engine().begin() as connection:
        for statement in statements.split(";"):
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize("app", SAMPLES)
def test_a_history_has_releases_and_begins_on_core(app: str) -> None:
    with Registry(settings_of("sqlite://")) as registry:
        history = load_histories(registry.suite.sub_apps)[app]
    first, *later = history.revisions.values()
    assert (first.id, first.parents, list(first.pins)) == (FIRST[app], (), ["core"])
    assert len(later) >= 2
    assert all(revision.title and revision.path.name.startswith(revision.id[-4:]) for revision in (first, *later))


def test_models_and_migrations_make_the_same_database(registry: Registry) -> None:
    check_migrations(registry)


def test_nothing_is_left_to_write(registry: Registry) -> None:
    histories = load_histories(registry.suite.sub_apps)
    with make_scratch(registry, "default") as scratch:
        assert {revision.revision.app for _, revision in upgrade(scratch).ran} == {"core", *SAMPLES}
        with scratch.migration_engine().connect() as connection:
            for app in scratch.suite.sub_apps:
                drawn = draw_differences(connection, app, histories[app.name], ()) if app.name in histories else None
                assert drawn is None, (app.name, drawn)


def test_all_go_back_to_nothing_and_come_again(registry: Registry) -> None:
    with make_scratch(registry, "default") as scratch:
        upgrade(scratch)
        before = contents(scratch)
        for app in FROM_THE_TOP:
            downgrade(scratch, Target(app, "base"))
        left = contents(scratch)
        assert set(left) == {"", "users"}
        assert not [thing for thing in left[""] if "sequence" not in thing]
        upgrade(scratch)
        assert contents(scratch) == before


def test_an_upgrade_from_the_first_releases_keeps_every_row(registry: Registry) -> None:
    with make_scratch(registry, "default") as scratch:
        for app, revision in {"core": "core0001", **FIRST}.items():
            upgrade(scratch, Target(app, revision))
        execute(scratch, OLD_ROWS)
        upgrade(scratch, Target("regressioninsight", "regress0002"))
        execute(scratch, "UPDATE regress_runs SET build_id = 1")
        report = upgrade(scratch)
        assert report.exit_code == 0
        assert {query: column(scratch, query) for query in KEPT} == KEPT


@pytest.mark.parametrize(
    ("app", "file", "missing"),
    [
        pytest.param("regressioninsight", "0002_runs_of_builds.py", "build_builds", id="a foreign key"),
        pytest.param("regressioninsight", "0003_commits_and_failures.py", "commit_sha", id="a column that was renamed"),
        pytest.param("standupbot", "0004_roles.py", "is_active", id="a column of core"),
    ],
)
def test_a_pin_matters(app: str, file: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry(settings_of("sqlite://")) as registry:
        folder = make_package(monkeypatch, tmp_path, "unpinned")
        shutil.copytree(load_histories(registry.suite.sub_apps)[app].location.folder, folder, dirs_exist_ok=True)
        text = (folder / file).read_text("utf-8")
        (folder / file).write_text(text.replace("opal_depends_on", "no_longer"), "utf-8")
        with (
            make_scratch(with_other_histories(registry, {app: "unpinned"}), "default") as scratch,
            pytest.raises(OpalError, match=missing),
        ):
            upgrade(scratch)


def test_init_of_the_whole_suite_leaves_every_history_at_its_head(site: Site, any_database_url: str) -> None:
    env: dict[str, str | None] = {"OPAL_DATABASE__URL": any_database_url}
    assert site.run("init", env=env, suite=True).code == 0
    done = site.run("current", "--json", env=env, suite=True)
    assert done.code == 0
    assert {each["name"]: each["state"] for each in done.json["current"]} == dict.fromkeys(
        ["core", *SAMPLES], "current"
    )
