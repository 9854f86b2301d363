"""Schemas that sub-apps declare: created where they are missing, used where they are there, left out on SQLite."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.databases import engine_of
from tests.distributions import Site
from tests.mariadb import MariaDB
from tests.postgres import Cluster
from tests.writing import model, models, refers

Env = dict[str, str | None]
CALM = "opal_test_calm"
"""A schema; on MariaDB a database of the server, which all tests share."""

IN_SCHEMA = f"__table_args__ = {{'schema': {CALM!r}}}"
TASKS = models(
    model("Task", "tasks", IN_SCHEMA, "title: orm.Mapped[str] = orm.mapped_column(sa.String(80), index=True)"),
    model("Step", "steps", IN_SCHEMA, refers("task", f"'{CALM}.tasks.id'"), refers("user", "'users.id'")),
)
SEED = """
    @hookimpl
    def opal_seed(session, sub_app):
        from calmind.models import Step, Task
        session.add(Task(id=1, title="one"))
        session.flush()
        session.add(Step(id=1, task=1))
"""
ROUND = """
    import opal_registry.models
    from opal_registry.database import session_scope
    from calmind.models import Step, Task

    with session_scope() as session:
        session.add(Task(id=7, title="seven"))
        session.flush()
        session.add(Step(id=7, task=7))
    with session_scope(read_only=True) as session:
        print(session.query(Task.title, Step.id).join(Step, Step.task == Task.id).order_by(Step.id).all())
"""


@pytest.fixture
def schema_url(any_database_url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database, and no database of the schema's name beside it."""
    yield any_database_url
    if any_database_url.startswith("mysql"):
        request.getfixturevalue("mariadb").drop_database(CALM)


@pytest.fixture
def env(schema_url: str) -> Env:
    """The variables that configure it."""
    return {"OPAL_DATABASE__URL": schema_url}


@pytest.fixture
def calmind(quick_site: Site) -> Site:
    """A site with a sub-app whose tables are in a schema."""
    quick_site.sub_app("calmind", TASKS, schema=CALM, requires=("core",), hooks=SEED)
    return quick_site


def places(url: str) -> dict[str, str | None]:
    """The schema of each of the sub-app's tables, as the database says."""
    engine = engine_of(url)
    inspector = sa.inspect(engine)
    schemas = [None] if engine.dialect.name == "sqlite" else [None, CALM]
    found = {
        name: schema
        for schema in schemas
        if schema is None or schema in inspector.get_schema_names()
        for name in inspector.get_table_names(schema)
    }
    engine.dispose()
    return {name: schema for name, schema in found.items() if name in {"tasks", "steps"}}


def run_script(url: str, script: str) -> None:
    """Execute what a dry run printed, as a person would with the database's own program."""
    engine = engine_of(url)
    raw = engine.raw_connection()
    if engine.dialect.name == "sqlite":
        raw.driver_connection.executescript(script)  # type: ignore[union-attr]
    elif engine.dialect.name == "postgresql":
        raw.cursor().execute(script)
    else:
        lines = [line for line in script.splitlines() if not line.startswith("--")]
        for statement in "\n".join(lines).split(";\n"):
            raw.cursor().execute(statement.removesuffix(";"))
    raw.commit()
    raw.close()
    engine.dispose()


class TestInit:
    def test_makes_the_schema_and_finds_everything_again(self, calmind: Site, env: Env, schema_url: str) -> None:
        done = calmind.run("init", "--json", env=env)
        assert (done.code, done.err) == (0, "")
        report = {app["name"]: app for app in done.json["sub_apps"]}["calmind"]
        assert (report["created"], report["seeded"]) == ([f"{CALM}.tasks", f"{CALM}.steps"], True)
        expected = None if schema_url.startswith("sqlite") else CALM
        assert places(schema_url) == {"tasks": expected, "steps": expected}

        assert calmind.run("init", "--json", env=env).json["recorded"] is True
        verified = calmind.run("init", "--verify", "--json", env=env)
        assert verified.code == 0
        assert [(app["created"], app["differences"]) for app in verified.json["sub_apps"]] == [([], []), ([], [])]
        states = calmind.run("status", "--json", env=env)
        assert (states.code, [app["state"] for app in states.json["sub_apps"]]) == (0, ["ready", "ready"])

    def test_records_the_schema(self, calmind: Site, env: Env, schema_url: str) -> None:
        calmind.run("init", env=env)
        engine = engine_of(schema_url)
        with engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT name, tables FROM opal_sub_apps WHERE name = 'calmind'")).all()
            column = engine.dialect.identifier_preparer.quote("schema")
            assert connection.execute(sa.text(f"SELECT {column} FROM opal_sub_apps ORDER BY name")).scalars().all() == [
                CALM,
                None,
            ]
        engine.dispose()
        assert f"{CALM}.steps" in str(rows[0].tables)

    def test_sessions_read_and_write_there(self, calmind: Site, env: Env) -> None:
        calmind.run("init", env=env)
        done = calmind.python(ROUND, env=env)
        assert (done.code, done.out) == (0, "[('one', 1), ('seven', 7)]\n"), done.err

    def test_a_schema_that_is_there_is_used(self, calmind: Site, env: Env, schema_url: str) -> None:
        if not schema_url.startswith("sqlite"):
            engine = engine_of(schema_url)
            with engine.begin() as connection:
                connection.exec_driver_sql(f"CREATE SCHEMA {CALM}")
            engine.dispose()
        assert "CREATE SCHEMA" not in calmind.run("init", "--dry-run", env=env).out
        assert calmind.run("init", env=env).code == 0
        assert set(places(schema_url)) == {"tasks", "steps"}

    def test_a_dry_run_prints_a_script_that_makes_the_same(self, calmind: Site, env: Env, schema_url: str) -> None:
        calmind.sub_app("calmind", TASKS, schema=CALM, requires=("core",))
        done = calmind.run("init", "--dry-run", env=env)
        assert (done.code, done.err) == (0, "")
        assert done.out.count(f"CREATE SCHEMA {CALM};") == (0 if schema_url.startswith("sqlite") else 1)
        run_script(schema_url, done.out)
        expected = None if schema_url.startswith("sqlite") else CALM
        assert places(schema_url) == {"tasks": expected, "steps": expected}
        report = calmind.run("init", "--json", env=env)
        assert report.code == 0
        assert [(app["created"], app["differences"]) for app in report.json["sub_apps"]] == [([], []), ([], [])]
        assert calmind.run("status", env=env).code == 0

    def test_a_table_dropped_there_is_missed(self, calmind: Site, env: Env, schema_url: str) -> None:
        calmind.run("init", env=env)
        engine = engine_of(schema_url)
        with engine.begin() as connection:
            prefix = "" if engine.dialect.name == "sqlite" else f"{CALM}."
            connection.exec_driver_sql(f"DROP TABLE {prefix}steps")
        engine.dispose()
        [_, state] = calmind.run("status", "--json", env=env).json["sub_apps"]
        assert (state["state"], state["detail"]) == ("pending", f"1 to create: {CALM}.steps (opal-db init)")

    def test_a_table_elsewhere_than_declared_is_refused(self, quick_site: Site, tmp_path: Path) -> None:
        quick_site.sub_app("calmind", models(model("Task", "tasks")), schema=CALM)
        done = quick_site.run("init", env={"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'x.db'}"})
        assert (done.code, done.out) == (3, "")
        assert done.err == (
            f"error: sub-app 'calmind' (calmind 1.0): table 'tasks' is not in the declared schema {CALM!r}\n"
            f"  where: {quick_site.folder}/calmind/models.py:4\n"
            f'  mend:  write __table_args__ = {{"schema": {CALM!r}}}, or leave SubApp(schema=...) out\n'
        )


class TestRights:
    def test_who_may_not_make_schemas_is_told_on_postgresql(self, calmind: Site, postgres: Cluster) -> None:
        name = postgres.create_database()
        postgres.execute("CREATE ROLE app LOGIN PASSWORD 'hunter2'")
        postgres.execute("GRANT CREATE ON SCHEMA public TO app", database=name)
        done = calmind.run("init", env={"OPAL_DATABASE__URL": postgres.url(name, user="app", password="hunter2")})
        tables = postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database=name)
        postgres.drop_database(name)
        postgres.execute("DROP ROLE app")
        assert (done.code, done.out, tables) == (4, "", [])
        assert done.err.startswith(f"error: the user may not do this: permission denied for database {name}")
        assert f"creating the tables of sub-app 'calmind'; statement: CREATE SCHEMA {CALM}" in done.err
        assert "hunter2" not in done.err

    def test_who_may_not_make_schemas_is_told_on_mariadb(self, calmind: Site, mariadb: MariaDB) -> None:
        name = mariadb.create_database()
        mariadb.execute("CREATE USER app IDENTIFIED BY 'hunter2'")
        mariadb.execute(f"GRANT ALL ON {name}.* TO app")
        env: Env = {"OPAL_DATABASE__URL": mariadb.url(name, user="app", password="hunter2")}
        try:
            done = calmind.run("init", env=env)
            assert (done.code, done.out) == (4, "")
            assert f"Access denied for user 'app'@'%' to database '{CALM}'" in done.err
            assert f"creating the tables of sub-app 'calmind'; statement: CREATE SCHEMA {CALM}" in done.err
            mariadb.execute(f"GRANT ALL ON {CALM}.* TO app")
            again = calmind.run("init", "--json", env=env)
            assert (again.code, [len(app["created"]) for app in again.json["sub_apps"]]) == (0, [0, 2])
        finally:
            mariadb.execute("DROP USER app")
            mariadb.drop_database(CALM)
            mariadb.drop_database(name)


class TestEqualNames:
    def install(self, site: Site) -> None:
        for name in ("alpha", "beta"):
            schema = f"opal_test_{name}"
            site.sub_app(
                name, models(model("Job", "jobs", f"__table_args__ = {{'schema': {schema!r}}}")), schema=schema
            )

    def test_on_sqlite_they_are_a_conflict(self, quick_site: Site, tmp_path: Path) -> None:
        self.install(quick_site)
        done = quick_site.run("init", env={"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'x.db'}"})
        assert (done.code, done.out) == (3, "")
        assert done.err == (
            "error: the table 'opal_test_alpha.jobs' of sub-app 'alpha' (alpha 1.0) and the table 'opal_test_beta.jobs' of "
            "sub-app 'beta' (beta 1.0) have one name on SQLite, which has no schemas\n"
            f"  where: {quick_site.folder}/alpha/models.py:4 and {quick_site.folder}/beta/models.py:4\n"
            "  mend:  rename one of them, or use a database that has schemas\n"
        )
        assert not (tmp_path / "x.db").exists()

    def test_elsewhere_they_live_side_by_side(self, quick_site: Site, postgres_url: str) -> None:
        self.install(quick_site)
        env: Env = {"OPAL_DATABASE__URL": postgres_url}
        done = quick_site.run("init", "--json", env=env)
        assert (done.code, [app["created"] for app in done.json["sub_apps"]]) == (
            0,
            [["opal_test_alpha.jobs"], ["opal_test_beta.jobs"], ["users"]],
        )
        assert quick_site.run("init", "--verify", env=env).code == 0


def test_the_sample_sub_apps_come_to_be_everywhere(site: Site, any_database_url: str) -> None:
    env: Env = {"OPAL_DATABASE__URL": any_database_url}
    done = site.run("init", "--json", env=env, suite=True)
    assert (done.code, done.err) == (0, "")
    apps = done.json["sub_apps"]
    assert len(apps) > 7
    assert all(app["created"] for app in apps)
    assert site.run("init", "--json", env=env, suite=True).json["recorded"] is True
    verified = site.run("init", "--verify", "--json", env=env, suite=True)
    assert [app["differences"] for app in verified.json["sub_apps"]] == [[] for _ in apps]
    states = site.run("status", "--json", env=env, suite=True)
    assert {app["state"] for app in states.json["sub_apps"]} == {"ready"}
