"""Several databases at once, each with its own ledger; and another way, or another role, for what changes them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.databases import engine_of
from tests.distributions import Site
from tests.mariadb import MariaDB
from tests.pgbouncer import PgBouncer
from tests.postgres import Cluster
from tests.writing import model, models, refers

Env = dict[str, str | None]
OWN = ["opal_events", "opal_revisions", "opal_steps", "opal_sub_apps"]
"""The registry's own tables."""

CORE = ["opal_events", "opal_revision_core", "opal_revisions", "opal_steps", "opal_sub_apps"]
"""Those of a database in which ``core`` is, which has a history."""

NOTES = models(model("Note", "notes"))
SALES = models(model("Sale", "sales"), model("Item", "items", refers("sale", "'sales.id'")))
LOGS = models(model("Line", "log_lines", "text: orm.Mapped[str] = orm.mapped_column(sa.String(80))"))
RAISES = """
    @hookimpl
    def opal_tables_created(connection, sub_app, tables):
        raise ValueError("not today")
"""


def names(url: str) -> list[str]:
    engine = engine_of(url)
    found = sorted(sa.inspect(engine).get_table_names())
    engine.dispose()
    return found


def recorded(url: str) -> list[str]:
    """The sub-apps in the ledger of one database."""
    engine = engine_of(url)
    with engine.connect() as connection:
        found = sorted(connection.exec_driver_sql("SELECT name FROM opal_sub_apps").scalars())
    engine.dispose()
    return found


def created(document: dict[str, Any]) -> dict[str, list[str]]:
    return {app["name"]: app["created"] for app in document["sub_apps"]}


def file_url(tmp_path: Path, name: str = "opal.db") -> str:
    return f"sqlite:///{tmp_path / name}"


class TestThreeKinds:
    """SQLite, PostgreSQL and MariaDB together."""

    @pytest.fixture
    def urls(self, tmp_path: Path, postgres18: Cluster, mariadb: MariaDB) -> Iterator[dict[str, str]]:
        """The databases, by bind."""
        sales, logs = postgres18.create_database(), mariadb.create_database()
        yield {"default": file_url(tmp_path), "sales": postgres18.url(sales), "logs": mariadb.url(logs)}
        postgres18.drop_database(sales)
        mariadb.drop_database(logs)

    @pytest.fixture
    def env(self, quick_site: Site, urls: dict[str, str]) -> Env:
        """The variables that configure them; each has a sub-app."""
        quick_site.sub_app("notes", NOTES)
        quick_site.sub_app("sales", SALES, bind="sales")
        quick_site.sub_app("logs", LOGS, bind="logs")
        return {
            "OPAL_DATABASE__URL": urls["default"],
            "OPAL_BINDS__SALES__URL": urls["sales"],
            "OPAL_BINDS__LOGS__URL": urls["logs"],
        }

    def test_each_has_its_tables_its_ledger_and_its_events(
        self, quick_site: Site, env: Env, urls: dict[str, str]
    ) -> None:
        done = quick_site.run("init", "--json", env=env)
        assert (done.code, done.err) == (0, "")
        assert set(done.json["databases"]) == set(urls)
        assert names(urls["default"]) == ["notes", *CORE, "users"]
        assert names(urls["sales"]) == ["items", *OWN, "sales"]
        assert names(urls["logs"]) == ["log_lines", *OWN]
        assert [recorded(url) for url in urls.values()] == [["core", "notes"], ["sales"], ["logs"]]
        events = quick_site.run("events", "--json", env=env).json["events"]
        assert {event["bind"]: event["detail"]["created"] for event in events} == {
            "default": {"core": ["users"], "notes": ["notes"]},
            "sales": {"sales": ["sales", "items"]},
            "logs": {"logs": ["log_lines"]},
        }

    def test_a_second_run_needs_the_ledgers_only(self, quick_site: Site, env: Env) -> None:
        first = quick_site.run("init", "--json", env=env).json
        second = quick_site.run("init", "--json", env=env).json
        assert (second["recorded"], set(second["databases"])) == (True, set(first["databases"]))
        assert [(app["name"], app["bind"]) for app in second["sub_apps"]] == [
            ("core", "default"),
            ("logs", "logs"),
            ("notes", "default"),
            ("sales", "sales"),
        ]
        verified = quick_site.run("init", "--verify", "--json", env=env)
        assert (verified.code, verified.json["recorded"]) == (0, False)
        assert [app["differences"] for app in verified.json["sub_apps"]] == [[], [], [], []]
        states = quick_site.run("status", "--json", env=env)
        assert (states.code, [app["state"] for app in states.json["sub_apps"]]) == (0, ["ready"] * 4)

    @pytest.mark.parametrize("name", ["sales", "logs"])
    def test_a_failure_in_one_leaves_those_before_it_complete_and_the_next_run_goes_on(
        self, quick_site: Site, env: Env, urls: dict[str, str], name: str
    ) -> None:
        source = {"sales": SALES, "logs": LOGS}[name]
        quick_site.sub_app(name, source, bind=name, hooks=RAISES)
        failed = quick_site.run("init", env=env)
        assert (failed.code, failed.out) == (3, "")
        assert f"calling opal_tables_created failed: ValueError: not today\n  where: plugin '{name}'" in failed.err
        assert recorded(urls["default"]) == ["core", "notes"]
        states = quick_site.run("status", "--json", env=env).json["sub_apps"]
        assert {app["state"] for app in states if app["bind"] == "default"} == {"ready"}
        assert {app["state"] for app in states if app["bind"] == name} == {"pending"}

        quick_site.sub_app(name, source, bind=name)
        done = quick_site.run("init", "--json", env=env)
        found = created(done.json)
        assert (done.code, found["core"], found["notes"]) == (0, [], [])
        assert found[name] == {"sales": ["sales", "items"], "logs": ["log_lines"]}[name]
        assert quick_site.run("init", "--json", env=env).json["recorded"] is True
        assert quick_site.run("status", env=env).code == 0

    def test_one_that_does_not_answer_is_known_before_anything_is_created(
        self, quick_site: Site, env: Env, urls: dict[str, str], tmp_path: Path
    ) -> None:
        env |= {"OPAL_BINDS__SALES__URL": "postgresql://app:hunter2@127.0.0.1:1/sales"}
        done = quick_site.run("init", env=env)
        assert (done.code, done.out) == (4, "")
        assert done.err.startswith("error: no server answers there")
        assert "where: bind 'sales', postgresql+psycopg://app:********@127.0.0.1:1/sales" in done.err
        assert done.err.endswith("  mend:  start it, or correct binds.sales.host and binds.sales.port\n")
        assert not (tmp_path / "opal.db").exists()
        assert names(urls["logs"]) == []


@pytest.mark.parametrize("command", ["status", "events"])
def test_those_that_answer_are_shown_and_the_one_that_does_not_is_an_error_at_the_end(
    quick_site: Site, tmp_path: Path, command: str
) -> None:
    env: Env = {"OPAL_DATABASE__URL": file_url(tmp_path)}
    assert quick_site.run("init", env=env).code == 0
    env["OPAL_BINDS__SALES__URL"] = "postgresql://app:hunter2@127.0.0.1:1/sales"
    done = quick_site.run(command, env=env)
    assert (done.code, "default" in done.out or "core" in done.out) == (4, True), done
    assert done.err.startswith("error: no server answers there")
    assert done.err.endswith("  mend:  start it, or correct binds.sales.host and binds.sales.port\n")
    document = quick_site.run(command, "--json", env=env).json
    [error] = document["errors"]
    assert (error["kind"], error["problems"][0]["where"][:13]) == ("DatabaseError", "bind 'sales',")
    assert len(document["sub_apps" if command == "status" else "events"]) == 1
    env["OPAL_DATABASE__URL"] = "postgresql://app:hunter2@127.0.0.1:1/suite"
    both = quick_site.run(command, env=env)
    assert (both.code, both.out, both.err.count("error: no server answers there")) == (4, "", 2)


def test_a_bind_that_is_not_configured_names_those_that_are(quick_site: Site, tmp_path: Path) -> None:
    quick_site.sub_app("notes", NOTES, bind="analytics")
    done = quick_site.run("init", env={"OPAL_DATABASE__URL": file_url(tmp_path)})
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: sub-app 'notes' lives in the bind 'analytics', which is not configured\n"
        "  where: plugin 'notes' (notes 1.0, notes.opal)\n"
        "  mend:  add binds.analytics to the configuration; there is: default\n"
    )
    assert not (tmp_path / "opal.db").exists()


def test_two_that_lead_to_one_database_share_its_ledger(quick_site: Site, any_database_url: str) -> None:
    quick_site.sub_app("notes", NOTES, bind="analytics")
    env: Env = {"OPAL_DATABASE__URL": any_database_url, "OPAL_BINDS__ANALYTICS__URL": any_database_url}
    assert quick_site.run("init", env=env).code == 0
    assert names(any_database_url) == ["notes", *CORE, "users"]
    assert recorded(any_database_url) == ["core", "notes"]
    assert quick_site.run("init", "--json", env=env).json["recorded"] is True
    states = quick_site.run("status", "--json", env=env).json["sub_apps"]
    assert [(app["name"], app["bind"], app["state"]) for app in states] == [
        ("core", "default", "ready"),
        ("notes", "analytics", "ready"),
    ]


def owners(cluster: Cluster, name: str) -> set[tuple[str, str]]:
    found = cluster.execute("SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'public'", database=name)
    return {(str(table), str(owner)) for table, owner in found}


class TestAnotherWay:
    @pytest.fixture
    def name(self, postgres: Cluster) -> Iterator[str]:
        """A database where `owner` may create tables, and `app` only use them."""
        name = postgres.create_database()
        for role in ("app", "owner"):
            postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'hunter-{role}'")
        postgres.execute("GRANT CREATE ON SCHEMA public TO owner", database=name)
        postgres.execute("ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT SELECT, INSERT ON TABLES TO app", database=name)
        yield name
        postgres.drop_database(name)
        postgres.execute("DROP ROLE app")
        postgres.execute("DROP ROLE owner")

    @pytest.fixture
    def env(self, quick_site: Site, postgres: Cluster, name: str) -> Env:
        """The variables that configure it, for `app`; there is a sub-app."""
        quick_site.sub_app("notes", NOTES)
        return {"OPAL_DATABASE__URL": postgres.url(name, user="app", password="hunter-app")}

    def test_migration_url_is_for_what_the_application_may_not_do(
        self, quick_site: Site, env: Env, postgres: Cluster, name: str
    ) -> None:
        refused = quick_site.run("init", env=env)
        assert (refused.code, "permission denied for schema public" in refused.err) == (4, True)

        env |= {"OPAL_DATABASE__MIGRATION_URL": postgres.url(name, user="owner", password="hunter-owner")}
        done = quick_site.run("init", env=env)
        assert (done.code, done.err) == (0, "")
        assert "hunter" not in done.out
        assert owners(postgres, name) == {(table, "owner") for table in ("notes", *CORE, "users")}
        assert quick_site.run("init", "--json", env=env).json["recorded"] is True
        for command in ("status", "events"):
            assert quick_site.run(command, env=env).code == 0
        del env["OPAL_DATABASE__MIGRATION_URL"]
        assert quick_site.run("status", env=env).code == 0

    def test_the_application_need_not_see_the_ledger(
        self, quick_site: Site, env: Env, postgres: Cluster, name: str
    ) -> None:
        env |= {"OPAL_DATABASE__MIGRATION_URL": postgres.url(name, user="owner", password="hunter-owner")}
        quick_site.run("init", env=env)
        postgres.execute("REVOKE ALL ON opal_sub_apps FROM app", database=name)
        again = quick_site.run("init", "--json", env=env)
        assert (again.code, again.json["recorded"], created(again.json)) == (0, False, {"core": [], "notes": []})

    def test_migration_role_owns_what_is_created(
        self, quick_site: Site, env: Env, postgres: Cluster, name: str
    ) -> None:
        postgres.execute("GRANT owner TO app")
        env |= {"OPAL_DATABASE__MIGRATION_ROLE": "owner"}
        done = quick_site.run("init", env=env)
        assert (done.code, done.err) == (0, "")
        assert owners(postgres, name) == {(table, "owner") for table in ("notes", *CORE, "users")}
        assert quick_site.run("init", "--json", env=env).json["recorded"] is True
        quick_site.sub_app("sales", SALES)
        assert created(quick_site.run("init", "--json", env=env).json)["sales"] == ["sales", "items"]
        assert {owner for _, owner in owners(postgres, name)} == {"owner"}

    @pytest.mark.parametrize(
        ("role", "why"),
        [("no_such", 'role "no_such" does not exist'), ("owner", 'permission denied to set role "owner"')],
    )
    def test_a_role_that_cannot_be_taken_is_named(
        self, quick_site: Site, env: Env, postgres: Cluster, name: str, role: str, why: str
    ) -> None:
        done = quick_site.run("init", env={**env, "OPAL_DATABASE__MIGRATION_ROLE": role})
        assert (done.code, done.out) == (4, "")
        assert done.err == (
            f"error: the user 'app' cannot take the role {role!r} of migration_role: {why}\n"
            f"  where: postgresql+psycopg://app:********@127.0.0.1:{postgres.port}/{name}\n"
            "  mend:  grant the role to the user, or correct migration_role\n"
        )
        assert owners(postgres, name) == set()

    def test_what_the_user_made_before_it_has_to_be_handed_over_to_the_role(
        self, quick_site: Site, env: Env, postgres: Cluster, name: str
    ) -> None:
        postgres.execute("GRANT owner TO app")
        postgres.execute("GRANT CREATE ON SCHEMA public TO app", database=name)
        assert quick_site.run("init", env=env).code == 0
        quick_site.sub_app("sales", SALES)
        done = quick_site.run("init", env={**env, "OPAL_DATABASE__MIGRATION_ROLE": "owner"})
        assert (done.code, done.out) == (4, "")
        assert done.err.startswith("error: the user may not do this: permission denied for table ")
        table = re.search(r"for table (\w+)", done.err)[1]  # type: ignore[index]
        assert done.err.endswith(
            f"  mend:  {table!r} is there already, and belongs to somebody else: let its owner GRANT this user what is "
            f"denied, or hand it over: ALTER TABLE {table} OWNER TO ... (that is whom migration_role names)\n"
        )

    def test_a_wrong_password_there_is_said_of_that_way(
        self, quick_site: Site, env: Env, postgres: Cluster, name: str
    ) -> None:
        env |= {"OPAL_DATABASE__MIGRATION_URL": postgres.url(name, user="owner", password="guess")}
        done = quick_site.run("init", env=env)
        assert done.code == 4
        assert done.err.startswith("error: the user or the password is wrong")
        assert f"where: postgresql+psycopg://owner:********@127.0.0.1:{postgres.port}/{name}" in done.err
        assert "guess" not in done.err


def test_a_migration_url_to_another_kind_of_database_is_refused(quick_site: Site, tmp_path: Path) -> None:
    env: Env = {
        "OPAL_DATABASE__URL": file_url(tmp_path),
        "OPAL_DATABASE__MIGRATION_URL": "postgresql://app:hunter2@db/suite",
    }
    done = quick_site.run("init", env=env)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: migration_url leads to postgresql, but the database is sqlite\n"
        "  where: environment variable OPAL_DATABASE__MIGRATION_URL\n"
        "  mend:  give another way to the same database, or take it out\n"
    )


def test_migration_role_on_mariadb_has_the_rights_that_the_user_lacks(quick_site: Site, mariadb: MariaDB) -> None:
    name = mariadb.create_database()
    mariadb.execute("CREATE ROLE owner")
    mariadb.execute(f"GRANT ALL ON {name}.* TO owner")
    mariadb.execute("CREATE USER app IDENTIFIED BY 'hunter2'")
    mariadb.execute(f"GRANT SELECT ON {name}.* TO app")
    mariadb.execute("GRANT owner TO app")
    env: Env = {"OPAL_DATABASE__URL": mariadb.url(name, user="app", password="hunter2")}
    quick_site.sub_app("notes", NOTES)
    try:
        refused = quick_site.run("init", env=env)
        assert (refused.code, "hunter2" in refused.err) == (4, False)
        env |= {"OPAL_DATABASE__MIGRATION_ROLE": "owner"}
        assert quick_site.run("init", env=env).code == 0
        assert names(mariadb.url(name)) == ["notes", *CORE, "users"]
        assert quick_site.run("init", "--json", env=env).json["recorded"] is True
    finally:
        mariadb.execute("DROP USER app")
        mariadb.execute("DROP ROLE owner")
        mariadb.drop_database(name)


@pytest.mark.pgbouncer
@pytest.mark.parametrize("direct", [False, True], ids=["through it", "beside it"])
def test_a_pooler_in_transaction_mode_does_no_harm(
    quick_site: Site, pgbouncer: PgBouncer, pgbouncer_url: str, direct: bool
) -> None:
    quick_site.sub_app("notes", NOTES)
    name = str(sa.make_url(pgbouncer_url).database)
    env: Env = {"OPAL_DATABASE__URL": pgbouncer_url, "OPAL_DATABASE__POOL__POOLER": "pgbouncer"}
    env |= {"OPAL_DATABASE__MIGRATION_URL": pgbouncer.cluster.url(name)} if direct else {}
    done = quick_site.run("init", env=env)
    assert (done.code, done.err) == (0, "")
    assert names(pgbouncer.cluster.url(name)) == ["notes", *CORE, "users"]
    assert quick_site.run("init", "--json", env=env).json["recorded"] is True
    assert quick_site.run("init", "--verify", env=env).code == 0
    assert quick_site.run("status", env=env).code == 0
