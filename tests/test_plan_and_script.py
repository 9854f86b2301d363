"""``plan`` and ``upgrade --sql``: the same as ``upgrade`` does, said beforehand or written down for somebody else."""

import itertools
from typing import Any

import pytest

from tests.databases import engine_of
from tests.deploys import Env, heads, ran, states, tables
from tests.distributions import Site
from tests.revisions import release, revision
from tests.writing import model, models

CREATE = "op.create_table('{0}', sa.Column('id', sa.Integer(), nullable=False), sa.PrimaryKeyConstraint('id'))"


def creating(id_: str, parents: str | None = None, **names: Any) -> str:
    """A revision that creates a table of its name."""
    return revision(id_, parents, CREATE.format(id_), f"op.drop_table('{id_}')", **names)


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


@pytest.fixture
def site(quick_site: Site) -> Site:
    """Where notes comes from its models, and tags from its revisions, one of which pins the second one of notes."""
    first = creating("n1", opal_depends_on={"core": ["core0003"]})
    rest = [creating(b, a) for a, b in itertools.pairwise(["n1", "n2", "n3", "n4"])]
    source = models(*(model(each.title(), each) for each in ("n1", "n2", "n3", "n4")))
    release(quick_site, "notes", "1.0", source, first, *rest, requires=("core",))
    pinning = creating("t1", opal_depends_on={"notes": ["n2"]})
    release(quick_site, "tags", "1.0", models(model("T1", "t1")), pinning, create="migrations", requires=("notes",))
    return quick_site


def script(site: Site, env: Env) -> list[str]:
    done = site.run("upgrade", "--sql", "--json", env=env)
    assert done.code == 0, done
    statements: list[str] = done.json["statements"]
    return statements


class TestPlan:
    def test_is_what_upgrade_does(self, site: Site, env: Env, any_database_url: str) -> None:
        """The database is an old one of core alone, so that nothing can come from models before core is up to date."""
        assert site.run("upgrade", "core@core0001", env=env).code == 0
        planned = site.run("plan", "--json", env=env).json
        steps = [f"{each['name']}@{each['revision']}" for each in planned["steps"]]
        assert steps[-1] == "notes@n4"
        assert planned["new"] == []
        assert ran(site.run("upgrade", "--json", env=env)) == steps
        assert site.run("plan", env=env).code == 0
        assert states(site, env) == {"core": "current", "notes": "current", "tags": "current"}

    def test_of_one_revision_is_just_what_that_needs(self, site: Site, env: Env) -> None:
        assert site.run("upgrade", "core@core0001", env=env).code == 0
        steps = site.run("plan", "tags@t1", "--json", env=env).json["steps"]
        assert [each["revision"] for each in steps if each["name"] == "notes"] == ["n1", "n2"]


class TestScript:
    def test_brings_an_empty_database_to_the_heads_of_all(self, site: Site, postgres_url: str) -> None:
        brings_to_the_heads(site, postgres_url)

    def test_so_it_does_on_mariadb(self, site: Site, mariadb_url: str) -> None:
        brings_to_the_heads(site, mariadb_url)

    def test_there_is_none_for_sqlite(self, site: Site, sqlite_env: Env) -> None:
        done = site.run("upgrade", "--sql", env=sqlite_env)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("error: default: for SQLite there is no script: a table is rebuilt (batch mode)")
        assert done.err.endswith("  mend:  run opal-db upgrade itself\n")


@pytest.fixture
def sqlite_env(quick_site: Site) -> Env:
    """The variables that configure a SQLite database."""
    return {"OPAL_DATABASE__URL": f"sqlite:///{quick_site.cwd}/script.db"}


def brings_to_the_heads(site: Site, url: str) -> None:
    env: Env = {"OPAL_DATABASE__URL": url}
    run_script(url, script(site, env))
    assert tables(url) == {"users", "n1", "n2", "n3", "n4", "t1"}
    assert [heads(url, app) for app in ("core", "notes", "tags")] == [["core0003"], ["n4"], ["t1"]]
    assert states(site, env) == {"core": "current", "notes": "current", "tags": "current"}
    assert ran(site.run("upgrade", "--json", env=env)) == []
    assert script(site, env) == []


def run_script(url: str, texts: list[str]) -> None:
    """Run a script as a person would, one statement after the other."""
    engine = engine_of(url).execution_options(isolation_level="AUTOCOMMIT")
    lines = "\n".join(line for text in texts for line in text.splitlines() if not line.startswith("--"))
    with engine.connect() as connection:
        for statement in filter(None, map(str.strip, lines.split(";\n"))):
            connection.exec_driver_sql(statement.rstrip(";"), execution_options={"no_parameters": True})
    engine.dispose()
