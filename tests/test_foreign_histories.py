"""Histories adopted as they are: with an ``env.py`` of their own, several heads, nested folders, one for each dialect, or none."""

from pathlib import Path
from typing import Any

import alembic
import pytest

from tests.deploys import columns, execute, ran, rows, states
from tests.distributions import Site
from tests.revisions import revision
from tests.writing import model, models

Env = dict[str, str | None]
QUEUE = models(model("Job", "queue_jobs"))
FIRST = revision(
    "q1",
    None,
    "op.create_table('queue_jobs', sa.Column('id', sa.Integer(), primary_key=True))",
    "op.drop_table('queue_jobs')",
)
SECOND = revision(
    "q2",
    "q1",
    "op.create_table('queue_more', sa.Column('id', sa.Integer(), primary_key=True))",
    "op.drop_table('queue_more')",
)
COMMAND = """
import sqlalchemy as sa


def upgrade(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        if not sa.inspect(connection).has_table("queue_jobs"):
            connection.exec_driver_sql("CREATE TABLE queue_jobs (id INTEGER NOT NULL PRIMARY KEY)")
"""


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


def env_of(template: str) -> str:
    """The ``env.py`` that ``alembic init`` writes."""
    return (Path(alembic.__file__).parent / "templates" / template / "env.py").read_text()


def install(site: Site, options: str, files: dict[str, str], *, version: str = "1.0", **record: Any) -> None:
    """Install a package that says more about its migrations than a folder."""
    hook = f"""
    from opal_registry import Migrations, SubApp, hookimpl

    @hookimpl
    def opal_sub_apps():
        yield SubApp(name="queue_", models=("queue_.models",), create="migrations", migrations={options})
    """
    site.sub_app("queue_", QUEUE, version=version, files={"queue_/opal.py": hook, **files}, **record)


class TestWithAnEnvironmentOfItsOwn:
    @pytest.mark.parametrize(
        ("template", "options"),
        [("generic", "env=True"), ("async", "env=True, is_async=True")],
        ids=["an ordinary engine", "an asyncio engine"],
    )
    def test_its_env_py_runs_what_the_plan_says(
        self, quick_site: Site, env: Env, any_database_url: str, template: str, options: str
    ) -> None:
        files = {"queue_/alembic/env.py": env_of(template), "queue_/alembic/versions/1.py": FIRST}
        install(quick_site, f'Migrations("queue_:alembic", {options})', files)
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["queue_@q1"]
        assert columns(any_database_url, "queue_jobs") == {"id"}
        assert rows(any_database_url, "SELECT version_num FROM opal_revision_queue_") == [("q1",)]
        assert states(quick_site, env)["queue_"] == "current"
        install(
            quick_site, f'Migrations("queue_:alembic", {options})', {**files, "queue_/alembic/versions/2.py": SECOND}
        )
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["queue_@q2"]
        assert quick_site.run("downgrade", "queue_@q1", env=env).code == 0
        assert rows(any_database_url, "SELECT revision FROM opal_revisions WHERE sub_app = 'queue_'") == [("q1",)]

    def test_one_that_fails_is_named(self, quick_site: Site, env: Env) -> None:
        files = {"queue_/alembic/env.py": "raise ValueError('no')", "queue_/alembic/versions/1.py": FIRST}
        install(quick_site, 'Migrations("queue_:alembic", env=True)', files)
        done = quick_site.run("upgrade", env=env)
        assert done.code == 3
        assert "running the revisions of 'queue_' by its env.py failed: ValueError: no" in done.err

    def test_one_that_is_not_there_is_told(self, quick_site: Site, env: Env) -> None:
        install(quick_site, 'Migrations("queue_:alembic", env=True)', {"queue_/alembic/versions/1.py": FIRST})
        done = quick_site.run("upgrade", env=env)
        assert done.code == 3
        assert "the history of 'queue_' has no env.py" in done.err


class TestOtherShapes:
    def test_several_heads_and_nested_folders(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        other = revision("z1", None, "op.create_table('queue_z', sa.Column('id', sa.Integer(), primary_key=True))")
        files = {"queue_/m/2023/1.py": FIRST, "queue_/m/2024/late/2.py": SECOND, "queue_/m/other/1.py": other}
        install(quick_site, 'Migrations("queue_:m", recursive=True)', files)
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["queue_@q1", "queue_@q2", "queue_@z1"]
        found = rows(any_database_url, "SELECT version_num FROM opal_revision_queue_ ORDER BY 1")
        assert found == [("q2",), ("z1",)]

    def test_a_history_for_each_dialect(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        names = {"sqlite": "lite", "postgresql": "pg", "mysql": "my"}
        files = {f"queue_/{folder}/1.py": FIRST.replace("q1", f"{folder}1") for folder in names.values()}
        locations = {dialect: f"queue_:{folder}" for dialect, folder in names.items()}
        install(quick_site, f"Migrations({locations!r})", files)
        expected = next(folder for dialect, folder in names.items() if any_database_url.startswith(dialect))
        assert ran(quick_site.run("upgrade", "--json", env=env)) == [f"queue_@{expected}1"]

    def test_none_for_this_one(self, quick_site: Site, tmp_path: Path) -> None:
        install(quick_site, "Migrations({'postgresql': 'queue_:pg'})", {"queue_/pg/1.py": FIRST})
        done = quick_site.run("upgrade", env={"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'x.db'}"})
        assert done.code == 3
        assert "there are no migrations for sqlite, only for postgresql" in done.err

    def test_the_version_table_of_another_tool_is_left_alone(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        execute(any_database_url, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        execute(any_database_url, "INSERT INTO alembic_version VALUES ('theirs')")
        install(quick_site, "'queue_:m'", {"queue_/m/1.py": FIRST})
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["queue_@q1"]
        assert rows(any_database_url, "SELECT version_num FROM alembic_version") == [("theirs",)]


class TestWithACommandOfItsOwn:
    def test_it_is_called_once_for_each_release(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        files = {"queue_/own.py": COMMAND}
        install(quick_site, "'queue_.own:upgrade'", files)
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["queue_@1.0"]
        assert columns(any_database_url, "queue_jobs") == {"id"}
        assert quick_site.run("upgrade", "--json", env=env).json["recorded"]
        install(quick_site, "'queue_.own:upgrade'", files, version="1.1")
        assert states(quick_site, env)["queue_"] == "behind"
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["queue_@1.1"]
        assert rows(any_database_url, "SELECT version_num FROM opal_revision_queue_") == [("1.1",)]
        install(quick_site, "'queue_.own:upgrade'", files)
        assert states(quick_site, env)["queue_"] == "ahead"
        assert ran(quick_site.run("upgrade", "--json", env=env)) == []

    def test_what_it_raises_is_its_own(self, quick_site: Site, env: Env) -> None:
        install(quick_site, "'queue_.own:upgrade'", {"queue_/own.py": "def upgrade(engine): raise ValueError('no')"})
        done = quick_site.run("upgrade", env=env)
        assert done.code == 3
        assert "calling queue_.own:upgrade of sub-app 'queue_' failed: ValueError: no" in done.err
