"""Tables that are there by nobody's history are compared with what each revision makes, and never just taken for new."""

from pathlib import Path

import pytest

from tests.deploys import execute, heads, ran, recorded, rows, states
from tests.distributions import Site
from tests.revisions import release, revision
from tests.test_upgrade import ADD, DROP, FIRST, N1, N2, SECOND
from tests.writing import model, models

Env = dict[str, str | None]
ORIGINAL = """CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, username VARCHAR(80) NOT NULL UNIQUE,
    hashed_password VARCHAR(256), first_name VARCHAR(80), last_name VARCHAR(80))"""


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


def forget(url: str) -> None:
    """Take away all that is known about the history of ``notes``."""
    execute(url, "DROP TABLE opal_revision_notes", "DELETE FROM opal_revisions WHERE sub_app = 'notes'")


@pytest.fixture
def forgotten(quick_site: Site, env: Env, any_database_url: str) -> Site:
    """A site whose database has the tables of the first release, and does not know so; the second one is installed."""
    release(quick_site, "notes", "1.0", FIRST, N1)
    quick_site.run("upgrade", env=env)
    execute(any_database_url, "INSERT INTO notes (id) VALUES (1)")
    forget(any_database_url)
    release(quick_site, "notes", "2.0", SECOND, N1, N2)
    return quick_site


def test_what_fits_is_written_down_and_the_rest_is_run(forgotten: Site, env: Env, any_database_url: str) -> None:
    done = forgotten.run("adopt", "notes", "--json", env=env)
    assert (done.code, done.json["heads"]) == (0, ["n1"]), done.err
    assert heads(any_database_url, "notes") == recorded(any_database_url, "notes") == ["n1"]
    assert ran(forgotten.run("upgrade", "--json", env=env)) == ["notes@n2"]
    assert rows(any_database_url, "SELECT id, text FROM notes") == [(1, None)]


def test_the_database_of_the_original_suite(quick_site: Site, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'original.db'}"
    execute(url, ORIGINAL, "INSERT INTO users (id, username) VALUES (1, 'ada')")
    env: Env = {"OPAL_DATABASE__URL": url}
    assert quick_site.run("upgrade", env=env).code == 1
    done = quick_site.run("adopt", "core", env=env)
    assert done.code == 0, done.err
    assert done.out.endswith("core is at core0001, and known to be\n")
    assert ran(quick_site.run("upgrade", "--json", env=env)) == ["core@core0002", "core@core0003"]
    assert rows(url, "SELECT username, roles FROM users") == [("ada", "[]")]
    assert quick_site.run("status", env=env).code == 0


def test_what_rests_on_unknown_revisions_waits_and_says_how_to_mend_that(
    quick_site: Site, env: Env, any_database_url: str
) -> None:
    execute(any_database_url, ORIGINAL, "INSERT INTO users (id, username) VALUES (1, 'ada')")
    pinning = revision(
        "a1", None, "op.create_table('above', sa.Column('id', sa.Integer()))", opal_depends_on={"core": ["core0002"]}
    )
    release(quick_site, "above", "1.0", "", pinning, create="migrations")
    for command in ("upgrade", "plan", "init"):
        done = quick_site.run(command, env=env)
        assert (done.code, done.err) == (1, ""), (command, done.out)
        assert "opal-db adopt core" in done.out
    alone = quick_site.run("upgrade", "above@a1", env=env)
    assert (alone.code, alone.err) == (
        3,
        "error: the tables of 'core' are there, but nobody knows which of its revisions the database has\n"
        "  where: needed by above@a1\n  mend:  let it be found out: opal-db adopt core\n",
    )
    assert quick_site.run("adopt", "core", env=env).code == 0
    assert ran(quick_site.run("upgrade", "--json", env=env)) == ["core@core0002", "above@a1", "core@core0003"]
    assert rows(any_database_url, "SELECT username FROM users") == [("ada",)]


@pytest.mark.parametrize("declared", ["INTEGER PRIMARY KEY", "INTEGER NOT NULL PRIMARY KEY"])
def test_a_primary_key_is_one_however_it_is_declared(
    quick_site: Site, env: Env, any_database_url: str, declared: str
) -> None:
    make = "op.create_table('notes', sa.Column('id', sa.Integer(), nullable=False), sa.PrimaryKeyConstraint('id'))"
    release(quick_site, "notes", "1.0", models(model("Note", "notes")), revision("n1", None, make))
    execute(any_database_url, f"CREATE TABLE notes (id {declared})")
    done = quick_site.run("adopt", "notes", "--json", env=env)
    assert (done.code, done.json["heads"]) == (0, ["n1"]), done.err
    assert not any("nullability" in each for each in done.json["notes"])


def test_what_fits_nowhere_is_told(forgotten: Site, env: Env, any_database_url: str) -> None:
    execute(any_database_url, "ALTER TABLE notes ADD COLUMN colour INTEGER")
    done = forgotten.run("adopt", "notes", env=env)
    assert done.code == 3
    assert "error: the tables of 'notes' are at none of its revisions; n1 is the nearest" in done.err
    assert "error: notes: the column colour is there\n  where: compared with notes@n1" in done.err
    assert states(forgotten, env)["notes"] == "unknown"


def test_what_fits_more_than_one_has_to_be_named(forgotten: Site, env: Env, any_database_url: str) -> None:
    data = revision("n15", "n1", "op.execute('UPDATE notes SET id = id')")
    release(forgotten, "notes", "2.0", SECOND, N1, data, revision("n2", "n15", ADD, DROP))
    done = forgotten.run("adopt", "notes", env=env)
    assert done.code == 3
    assert "the tables of 'notes' may be at any of: n1, n15" in done.err
    assert forgotten.run("adopt", "notes@n15", env=env).code == 0
    assert heads(any_database_url, "notes") == ["n15"]


def test_what_is_known_already_is_left_alone(quick_site: Site, env: Env) -> None:
    release(quick_site, "notes", "1.0", FIRST, N1)
    quick_site.run("upgrade", env=env)
    done = quick_site.run("adopt", "notes", env=env)
    assert done.code == 2
    assert "the database knows already that 'notes' is at n1" in done.err


def test_there_may_be_nothing_to_adopt(quick_site: Site, env: Env) -> None:
    release(quick_site, "notes", "1.0", FIRST, N1)
    done = quick_site.run("adopt", "notes", env=env)
    assert done.code == 2
    assert "no table of 'notes' is there: there is nothing to adopt" in done.err


class TestTheVersionTableOfAnotherTool:
    def install(self, site: Site, *revisions: str) -> None:
        hook = """
        from opal_registry import Migrations, SubApp, hookimpl

        @hookimpl
        def opal_sub_apps():
            history = Migrations("notes:migrations", takes_over="alembic_version")
            yield SubApp(name="notes", models=("notes.models",), migrations=history)
        """
        files = {f"notes/migrations/{n}.py": text for n, text in enumerate(revisions)}
        site.sub_app("notes", SECOND, version="2.0", files={"notes/opal.py": hook, **files})

    def test_is_taken_over_on_request(self, forgotten: Site, env: Env, any_database_url: str) -> None:
        execute(any_database_url, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        execute(any_database_url, "INSERT INTO alembic_version VALUES ('n1')")
        self.install(forgotten, N1, N2)
        assert states(forgotten, env)["notes"] == "unknown"
        assert forgotten.run("adopt", "notes", "--json", env=env).json["heads"] == ["n1"]
        assert ran(forgotten.run("upgrade", "--json", env=env)) == ["notes@n2"]
        assert rows(any_database_url, "SELECT version_num FROM alembic_version") == [("n1",)]

    def test_is_not_understood(self, forgotten: Site, env: Env, any_database_url: str) -> None:
        execute(any_database_url, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        execute(any_database_url, "INSERT INTO alembic_version VALUES ('later')")
        self.install(forgotten, N1, N2)
        done = forgotten.run("adopt", "notes", env=env)
        assert done.code == 3
        assert "alembic_version says later, which the installed notes 2.0 does not have" in done.err
