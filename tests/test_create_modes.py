"""Sub-apps whose tables come to be in another way: ``init`` creates none of them, and says what it waits for."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.databases import engine_of
from tests.distributions import Finished, Site
from tests.writing import model, models, refers

Env = dict[str, str | None]
QUEUE = models(model("Job", "queue_jobs"), model("Result", "queue_results", refers("job", "'queue_jobs.id'")))
PLANS = models(
    model("Plan", "plans", refers("job", "'queue_jobs.id'")), model("Step", "plan_steps", refers("plan", "'plans.id'"))
)
NOTES = models(model("Note", "notes", refers("plan", "'plans.id'")))
SHOP = models(model("Order", "orders"))
HISTORY = {"worker/migrations/__init__.py": ""}

BY_HAND = (
    "CREATE TABLE queue_jobs (id INTEGER NOT NULL PRIMARY KEY)",
    "CREATE TABLE queue_results (id INTEGER NOT NULL PRIMARY KEY, job INTEGER REFERENCES queue_jobs (id))",
)
WITHHELD = {
    "external": (
        "2 tables are not there yet, and it is brought up its own way: do that, then run opal-db init again "
        "(queue_jobs, queue_results)"
    ),
    "migrations": (
        "2 tables are in the models, but in no revision: opal-db revision worker -m TEXT (queue_jobs, queue_results)"
    ),
}
MODES = pytest.mark.parametrize("mode", ["external", "migrations"])


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


def install(site: Site, mode: str, **more: Any) -> None:
    """Install a queue that is brought up in another way, a sub-app that refers to it, and one that does not."""
    migrations = {"migrations": "worker:migrations"} if mode == "migrations" else {}
    site.sub_app("worker", QUEUE, create=mode, files=HISTORY, **migrations, **more)
    site.sub_app("plans", PLANS, requires=("worker",))
    site.sub_app("shop", SHOP)


def execute(url: str, *statements: str) -> None:
    engine = engine_of(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def names(url: str) -> set[str]:
    engine = engine_of(url)
    found = set(sa.inspect(engine).get_table_names())
    engine.dispose()
    return {name for name in found if not name.startswith("opal_")}


def ledger(url: str) -> list[str]:
    engine = engine_of(url)
    with engine.connect() as connection:
        found = list(connection.exec_driver_sql("SELECT name FROM opal_sub_apps ORDER BY name").scalars())
    engine.dispose()
    return found


def report(done: Finished, key: str, *, code: int) -> dict[str, Any]:
    assert (done.code, done.err) == (code, "")
    assert done.json["exit_code"] == code
    return {app["name"]: app[key] for app in done.json["sub_apps"]}


class TestWhileTheyAreMissing:
    @MODES
    def test_everything_else_is_created_and_what_is_not_is_named(
        self, quick_site: Site, env: Env, any_database_url: str, mode: str
    ) -> None:
        install(quick_site, mode)
        done = quick_site.run("init", "--json", env=env)
        assert report(done, "withheld", code=1) == {
            "core": "",
            "worker": WITHHELD[mode],
            "plans": "2 tables are not created: plans refers to tables of worker that are not there yet",
            "shop": "",
        }
        assert report(done, "created", code=1) == {"core": ["users"], "worker": [], "plans": [], "shop": ["orders"]}
        assert names(any_database_url) == {"users", "orders"}
        assert ledger(any_database_url) == ["core", "shop"]

    def test_people_are_told_in_sentences_every_time(self, quick_site: Site, env: Env) -> None:
        install(quick_site, "external")
        for created in ("2 tables created, 0 present", "nothing to create: 0 tables created, 2 present"):
            done = quick_site.run("init", env=env)
            assert (done.code, done.err) == (1, "")
            *_, first, second, summary = done.out.splitlines()
            assert {first, second} == {
                f"withheld: sub-app 'worker': {WITHHELD['external']}",
                "withheld: sub-app 'plans': 2 tables are not created: plans refers to tables of worker that are not there yet",
            }
            assert summary.startswith(f"{created}, 4 sub-apps, ")

    def test_status_says_what_is_missing_and_why(self, quick_site: Site, env: Env) -> None:
        install(quick_site, "external")
        quick_site.run("init", env=env)
        done = quick_site.run("status", "--json", env=env)
        assert report(done, "state", code=1) == {
            "core": "ready",
            "worker": "pending",
            "plans": "pending",
            "shop": "ready",
        }
        assert report(done, "detail", code=1)["worker"] == WITHHELD["external"]
        assert report(done, "missing", code=1)["plans"] == ["plans", "plan_steps"]

    def test_who_needs_them_over_others_is_withheld_too(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        install(quick_site, "external")
        quick_site.sub_app("notes", NOTES, requires=("plans",))
        withheld = report(quick_site.run("init", "--json", env=env), "withheld", code=1)
        assert withheld["notes"].startswith("1 table is not created: ")
        assert withheld["notes"].endswith(" to tables of plans that are not there yet")
        assert names(any_database_url) == {"users", "orders"}

    def test_a_dry_run_says_so_in_comments(self, quick_site: Site, env: Env) -> None:
        install(quick_site, "external")
        done = quick_site.run("init", "--dry-run", env=env)
        assert done.code == 1
        assert f"-- withheld: sub-app 'worker': {WITHHELD['external']}" in done.out.splitlines()
        assert "CREATE TABLE orders" in done.out
        assert "CREATE TABLE queue_jobs" not in done.out
        assert "CREATE TABLE plans" not in done.out

    def test_one_of_two_is_not_enough(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        install(quick_site, "external")
        execute(any_database_url, BY_HAND[0])
        done = quick_site.run("init", "--json", env=env)
        assert report(done, "withheld", code=1)["worker"] == (
            "1 table is not there yet, and it is brought up its own way: do that, then run opal-db init again (queue_results)"
        )
        assert report(done, "created", code=1)["plans"] == ["plans", "plan_steps"]
        assert ledger(any_database_url) == ["core", "plans", "shop"]


class TestOnceTheyAreThere:
    @MODES
    def test_everything_is_completed_recorded_and_warm(
        self, quick_site: Site, env: Env, any_database_url: str, mode: str
    ) -> None:
        install(quick_site, mode)
        quick_site.run("init", env=env)
        execute(any_database_url, *BY_HAND)
        done = quick_site.run("init", "--json", env=env)
        assert report(done, "withheld", code=0) == {"core": "", "worker": "", "plans": "", "shop": ""}
        assert report(done, "created", code=0)["plans"] == ["plans", "plan_steps"]
        assert report(done, "present", code=0)["worker"] == ["queue_jobs", "queue_results"]
        assert ledger(any_database_url) == ["core", "plans", "shop", "worker"]
        assert quick_site.run("init", "--json", env=env).json["recorded"] is True
        assert quick_site.run("init", "--verify", env=env).code == 0
        assert set(report(quick_site.run("status", "--json", env=env), "state", code=0).values()) == {"ready"}

    def test_first_rows_wait_for_them(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        hooks = """
            import sqlalchemy as sa

            @hookimpl
            def opal_seed(session, sub_app):
                session.execute(sa.text("INSERT INTO queue_jobs (id) VALUES (1)"))
        """
        install(quick_site, "external", hooks=hooks)
        assert report(quick_site.run("init", "--json", env=env), "seeded", code=1)["worker"] is False
        execute(any_database_url, *BY_HAND)
        assert report(quick_site.run("init", "--json", env=env), "seeded", code=0)["worker"] is True

    def test_one_of_another_shape_differs(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        install(quick_site, "external")
        execute(any_database_url, BY_HAND[0], "CREATE TABLE queue_results (id INTEGER NOT NULL PRIMARY KEY)")
        done = quick_site.run("init", "--json", env=env)
        [difference] = report(done, "differences", code=1)["worker"]
        assert (difference["table"], difference["column"]) == ("queue_results", "job")
        assert report(quick_site.run("status", "--json", env=env), "state", code=1)["worker"] == "differs"

    def test_one_that_is_dropped_again_is_missed_by_verifying(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        install(quick_site, "external")
        execute(any_database_url, *BY_HAND)
        assert quick_site.run("init", env=env).code == 0
        execute(any_database_url, "DROP TABLE queue_results")
        assert quick_site.run("init", env=env).code == 0
        withheld = report(quick_site.run("init", "--verify", "--json", env=env), "withheld", code=1)
        assert withheld["worker"].startswith("1 table is not there yet, ")
        assert report(quick_site.run("status", "--json", env=env), "state", code=1)["worker"] == "pending"
        assert quick_site.run("init", env=env).code == 1  # what was found is not forgotten


def test_what_cannot_be_created_here_is_not_held_against_it(quick_site: Site, tmp_path: Path) -> None:
    """A package that makes its own tables may know how, where SQLAlchemy's words do not suffice."""
    source = models("sa.Table('odd', Base.metadata, sa.Column('x', sa.ARRAY(sa.Integer)))")
    quick_site.sub_app("odd", source, create="external")
    env: Env = {"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'x.db'}"}
    done = quick_site.run("init", "--json", env=env)
    assert report(done, "withheld", code=1)["odd"].startswith("1 table is not there yet, ")
    assert report(done, "created", code=1)["core"] == ["users"]
