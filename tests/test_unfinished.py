"""A revision that died half way where each DDL statement commits by itself: the next run goes on, or says where to look."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import dying
from tests.databases import engine_of
from tests.deploys import columns, execute, rows, states
from tests.distributions import Finished, Site
from tests.mariadb import MariaDB
from tests.revisions import release, revision
from tests.snapshots import rows_of, snapshot
from tests.test_upgrade import N1, first
from tests.writing import model, models

pytestmark = pytest.mark.mariadb

Env = dict[str, str | None]
KILLED = -9
THREE = "; ".join(f"op.add_column('notes', sa.Column({name!r}, sa.Integer()))" for name in "abc")
THREE_BACK = "; ".join(f"op.drop_column('notes', {name!r})" for name in "cba")
DIE = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
SECOND = models(
    model("Note", "notes", "user_id: orm.Mapped[int | None] = orm.mapped_column(sa.ForeignKey('users.id'))")
)


@pytest.fixture
def url(mariadb: MariaDB) -> Iterator[str]:
    """An empty database."""
    name = mariadb.create_database()
    yield mariadb.url(name)
    mariadb.drop_database(name)


@pytest.fixture
def env(url: str) -> Env:
    """The variables that configure it."""
    return {"OPAL_DATABASE__URL": url}


@pytest.fixture
def site(quick_site: Site, env: Env) -> Site:
    """Where the first release of a sub-app is, which the database has."""
    first(quick_site)
    assert quick_site.run("init", env=env).code == 0
    return quick_site


def second(site: Site, upgrade: str, downgrade: str = "pass") -> None:
    """Install a release with a second revision."""
    release(site, "notes", "2.0", SECOND, N1, revision("n2", "n1", upgrade, downgrade))


def killed_at(site: Site, env: Env, step: int, *arguments: str) -> bool:
    """Whether a run came to a step at which it was killed."""
    done = site.python(Path(dying.__file__).read_text("utf-8"), str(step), *(arguments or ("upgrade",)), env=env)
    assert done.code in {0, 1, KILLED}, done
    return done.code == KILLED


def dies(site: Site, env: Env, *arguments: str) -> None:
    """A run that kills itself in its revision."""
    done = site.run(*(arguments or ("upgrade",)), env=env)
    assert done.code == KILLED, done


def completes(site: Site, env: Env) -> None:
    done = site.run("upgrade", env=env)
    assert (done.code, done.err) == (0, ""), done
    assert rows_of(str(env["OPAL_DATABASE__URL"]), "opal_steps") == []
    assert states(site, env)["notes"] == "current"


def fails(done: Finished) -> str:
    assert done.code == 4, done
    assert "Traceback" not in done.err
    return done.err


def conditional(body: str, condition: str) -> str:
    """The text of a revision's function that dies where a file is not there."""
    return body.replace("DIE", f"if not {condition}: {DIE}").replace("; if", "\nif")


class TestGoesOn:
    @pytest.mark.parametrize("downgrade", [False, True], ids=["upgrade", "downgrade"])
    def test_wherever_it_was_killed(self, site: Site, env: Env, url: str, *, downgrade: bool) -> None:
        second(site, THREE, THREE_BACK)
        arguments = ("downgrade", "notes@n1") if downgrade else ("upgrade",)
        if downgrade:
            completes(site, env)
        killed = 0
        for step in range(1, 100):
            if not killed_at(site, env, step, *arguments):
                break
            killed += 1
        assert killed > 5
        assert rows_of(url, "opal_steps") == []
        added = set() if downgrade else set("abc")
        assert columns(url, "notes") == {"id", "user_id"} | added

    def test_whether_the_last_statement_took_effect_or_not(self, site: Site, env: Env, url: str) -> None:
        body = "ADD\nDIE".replace("ADD", THREE)
        marker = site.cwd / "go"
        second(site, conditional(body, f"__import__('os').path.exists({str(marker)!r})"))
        dies(site, env)
        assert columns(url, "notes") == {"id", "user_id", "a", "b", "c"}
        execute(url, "ALTER TABLE notes DROP COLUMN c")
        marker.touch()
        completes(site, env)
        assert columns(url, "notes") == {"id", "user_id", "a", "b", "c"}

    @pytest.mark.parametrize(
        ("before", "statement"),
        [
            ("", "CREATE TABLE more (x INTEGER)"),
            ("CREATE TABLE more (x INTEGER)", "DROP TABLE more"),
            ("CREATE TABLE more (x INTEGER)", "RENAME TABLE more TO less"),
            ("CREATE TABLE more (x INTEGER)", "ALTER TABLE more RENAME TO less"),
            ("CREATE TABLE more (x INTEGER)", "CREATE INDEX by_x ON more (x)"),
            ("CREATE TABLE more (x INTEGER, INDEX by_x (x))", "DROP INDEX by_x ON more"),
            ("CREATE TABLE more (x INTEGER)", "ALTER TABLE more CHANGE x y INTEGER"),
            ("CREATE TABLE more (x INTEGER)", "ALTER TABLE more MODIFY x BIGINT"),
            ("CREATE TABLE more (x INTEGER)", "ALTER TABLE more ADD PRIMARY KEY (x)"),
            ("CREATE TABLE more (x INTEGER)", "ALTER TABLE more ADD CONSTRAINT odd CHECK (x = 1)"),
            (
                "CREATE TABLE more (x INTEGER)",
                "ALTER TABLE more ADD CONSTRAINT theirs FOREIGN KEY (x) REFERENCES users (id)",
            ),
            ("CREATE TABLE more (x INTEGER)", "CREATE VIEW few AS SELECT x FROM more"),
            ("CREATE VIEW few AS SELECT 1", "DROP VIEW few"),
            ("CREATE TABLE more (x INTEGER)", "CREATE TRIGGER t BEFORE INSERT ON more FOR EACH ROW SET @x = 1"),
            ("", "CREATE FUNCTION f() RETURNS INTEGER RETURN 1"),
            ("CREATE FUNCTION f() RETURNS INTEGER RETURN 1", "DROP FUNCTION f"),
            ("", "CREATE SEQUENCE s"),
            ("CREATE SEQUENCE s", "DROP SEQUENCE s"),
            ("", "CREATE TABLE more (x VARCHAR(9) COMMENT '100% :x') AS SELECT 1 AS y"),
        ],
        ids=lambda text: text[:30],
    )
    def test_after_a_statement_that_is_there_already(
        self, site: Site, env: Env, url: str, before: str, statement: str
    ) -> None:
        marker = site.cwd / "go"
        if before:
            execute(url, before)
        body = f"op.get_bind().exec_driver_sql({statement!r}, execution_options={{'no_parameters': True}})\nDIE"
        second(site, conditional(body, f"__import__('os').path.exists({str(marker)!r})"))
        dies(site, env)
        left = snapshot(url)
        assert [row["statement"] for row in rows_of(url, "opal_steps")] == [statement]
        marker.touch()
        completes(site, env)
        mine = ("columns", "indexes", "foreign_keys", "check_constraints", "others")
        there = snapshot(url)
        assert {name: there.get(name) for name in mine} == {name: left.get(name) for name in mine}

    def test_with_the_rows_that_were_committed_with_a_later_statement(self, site: Site, env: Env, url: str) -> None:
        marker = site.cwd / "go"
        execute(url, "CREATE TABLE names (name VARCHAR(9))")
        body = f"""
        op.get_bind().execute(sa.text("INSERT INTO names VALUES (:name)"), [{{"name": "a"}}, {{"name": "b"}}])
        op.add_column('notes', sa.Column('a', sa.Integer()))
        op.execute("INSERT INTO notes (id, a) VALUES (7, 1)")
        op.execute("UPDATE notes SET a = a + 1")
        op.add_column('notes', sa.Column('b', sa.Integer()))
        op.execute("UPDATE notes SET a = a + 10")
        if not __import__('os').path.exists({str(marker)!r}):
            {DIE}
        """
        second(site, body)
        dies(site, env)
        assert rows(url, "SELECT a FROM notes") == [(2,)]
        dies(site, env)
        marker.touch()
        completes(site, env)
        assert rows(url, "SELECT a FROM notes") == [(12,)]
        assert sorted(rows(url, "SELECT name FROM names")) == [("a",), ("b",)]

    def test_one_that_looks_what_is_there_already(self, site: Site, env: Env, url: str) -> None:
        marker = site.cwd / "go"
        add = "op.add_column('notes', sa.Column({0!r}, sa.Integer()))"
        there = "{0!r} not in [each['name'] for each in sa.inspect(op.get_bind()).get_columns('notes')]"
        lines = [f"if {there.format(name)}: {add.format(name)}" for name in "abc"]
        lines.insert(2, conditional("DIE", f"__import__('os').path.exists({str(marker)!r})"))
        second(site, "\n".join(lines))
        dies(site, env)
        assert columns(url, "notes") == {"id", "user_id", "a", "b"}
        marker.touch()
        completes(site, env)
        assert columns(url, "notes") == {"id", "user_id", "a", "b", "c"}

    def test_when_the_file_was_mended_behind_what_is_done(self, site: Site, env: Env, url: str) -> None:
        second(site, THREE + "\nop.execute('SELECT * FROM nowhere')")
        said = fails(site.run("upgrade", env=env))
        assert "its first 3 statements have taken effect already: the next run goes on after that" in said
        second(site, THREE + "\nop.add_column('notes', sa.Column('d', sa.Integer()))")
        completes(site, env)
        assert columns(url, "notes") == {"id", "user_id", "a", "b", "c", "d"}

    @pytest.mark.parametrize("before", ["", "sa.inspect(op.get_bind()).get_columns('notes')", THREE])
    def test_a_statement_that_was_refused_is_not_taken_for_done(self, site: Site, env: Env, before: str) -> None:
        second(site, f"{before}\nop.create_table('users', sa.Column('id', sa.Integer()))")
        for _ in range(3):
            assert "something of that name is there already" in fails(site.run("upgrade", env=env))

    def test_after_a_wait_for_a_table_that_was_too_long(self, site: Site, env: Env, url: str) -> None:
        second(site, f"{THREE}\nop.add_column('users', sa.Column('d', sa.Integer()))")
        engine = engine_of(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("SELECT * FROM users")
            options = {"OPAL_LOCKS__RETRIES": "1", "OPAL_LOCKS__DDL_LOCK_TIMEOUT": "1s"}
            done = site.run("upgrade", env=env | options)
            assert done.code == 5, done
            assert "its first 3 statements have taken effect already" in done.err
        engine.dispose()
        completes(site, env)


class TestTells:
    def test_that_it_was_begun(self, site: Site, env: Env) -> None:
        second(site, f"{THREE}\n{DIE}")
        dies(site, env)
        said = "running the revision n2 ended in the middle, at its statement 3: ALTER TABLE notes ADD COLUMN c INTEGER"
        for command, code in (("status", 1), ("current", 1), ("init", 1)):
            done = site.run(command, env=env)
            assert (done.code, f"{said} (opal-db upgrade goes on with it" in done.out) == (code, True), done
        assert site.run("current", "--json", env=env).json["current"][1]["unfinished"] == ["n2"]

    @pytest.mark.parametrize(
        "statement",
        [
            "ALTER TABLE notes ADD FOREIGN KEY (user_id) REFERENCES users (id)",
            "ALTER TABLE notes ADD INDEX (user_id)",
            "RENAME TABLE notes TO x, spare TO notes, x TO spare",
        ],
    )
    def test_which_statement_to_look_at_where_it_cannot_be_told(
        self, site: Site, env: Env, url: str, statement: str
    ) -> None:
        execute(url, "CREATE TABLE spare (id INTEGER)")
        second(site, f"op.execute({statement!r})\n{DIE}")
        dies(site, env)
        said = fails(site.run("upgrade", env=env)).replace(f"{site.folder}/", "")
        assert said.startswith(
            "error: notes@n2 ended in the middle, and its statement 1 may have taken effect or not, which cannot be told "
            f"from here: {statement}\n  where: "
        )
        assert "; notes/migrations/0002.py\n" in said
        assert said.endswith(
            "  mend:  look whether it took effect; then complete the revision by hand and write that down "
            "(opal-db stamp notes@n2), or undo it by hand and write that down (opal-db stamp notes@n1)\n"
        )
        assert site.run("stamp", "notes@n2", env=env).code == 0
        assert rows_of(url, "opal_steps") == []

    def test_where_rows_were_written_outside_of_a_transaction(self, site: Site, env: Env) -> None:
        insert = "INSERT INTO notes (id) VALUES (7)"
        second(site, f"with op.get_context().autocommit_block():\n    op.execute({insert!r})\n    {DIE}")
        dies(site, env)
        assert "its statement 1 may have taken effect or not" in fails(site.run("upgrade", env=env))

    def test_where_it_wants_something_else_this_time(self, site: Site, env: Env) -> None:
        body = "import uuid; op.execute(sa.text('UPDATE users SET email = :x').bindparams(x=str(uuid.uuid4())))"
        second(site, f"{body}\n{THREE}\n{DIE}")
        dies(site, env)
        said = fails(site.run("upgrade", env=env))
        assert "its statement 1 is not what it sends at this point this time, with other values: UPDATE users" in said

    def test_where_its_file_was_changed_before_that(self, site: Site, env: Env) -> None:
        second(site, f"{THREE}\n{DIE}")
        dies(site, env)
        second(site, "op.add_column('notes', sa.Column('b', sa.Integer()))")
        said = fails(site.run("upgrade", env=env))
        assert (
            "its statement 1 is not what it sends at this point this time, now ALTER TABLE notes ADD COLUMN b" in said
        )

    def test_where_a_temporary_table_is_gone(self, site: Site, env: Env) -> None:
        second(site, f"op.execute('CREATE TEMPORARY TABLE x (y INTEGER)')\n{THREE}\n{DIE}")
        dies(site, env)
        assert "its statement 1 made something that is gone by now" in fails(site.run("upgrade", env=env))

    def test_what_lies_on_one_that_was_not_taken_back_altogether(self, site: Site, env: Env) -> None:
        second(site, THREE, f"{THREE_BACK}\n{DIE}")
        completes(site, env)
        dies(site, env, "downgrade", "notes@n1")
        assert "taking back the revision n2 ended in the middle" in site.run("status", env=env).out
        n2 = revision("n2", "n1", THREE, f"{THREE_BACK}\n{DIE}")
        release(site, "notes", "3.0", SECOND, N1, n2, revision("n3", "n2"))
        said = fails(site.run("upgrade", env=env))
        assert said.startswith("error: notes: taking back the revision n2 ended in the middle, at its statement 3: ")
        mend = "opal-db downgrade notes@n1 goes on with it, its file mended if need be; "
        assert said.endswith(f"  mend:  {mend}opal-db stamp notes@n1 where it was finished by hand\n")

    def test_a_downgrade_that_the_database_refuses_is_named_everywhere_with_both_ways(
        self, site: Site, env: Env, url: str
    ) -> None:
        key = "FOREIGN KEY theirs (a) REFERENCES users (id)"
        up = f"{THREE}\nop.create_index('by_a', 'notes', ['a'])\nop.execute('ALTER TABLE notes ADD CONSTRAINT k {key}')"
        second(site, up, "op.drop_column('notes', 'c')\nop.drop_index('by_a', 'notes')")
        completes(site, env)
        said = fails(site.run("downgrade", "notes@n1", env=env))
        assert "DROP INDEX" in said
        assert "its first statement has taken effect already: the next run goes on after that" in said
        assert "; or finish it by hand, and write that down: opal-db stamp notes@n1" in said
        for command, code in (("plan", 1), ("ready", 1), ("status", 1), ("current", 1)):
            done = site.run(command, env=env)
            told = " ".join(done.out.split())
            assert done.code == code, done
            assert "taking back the revision n2 ended in the middle, at its statement 1: ALTER TABLE notes DROP" in told
            assert "opal-db stamp notes@REV where it was finished by hand" in told
        assert site.run("plan", "--json", env=env).json["unfinished"][0]["command"] == "downgrade"
        execute(url, "ALTER TABLE notes DROP FOREIGN KEY k", "ALTER TABLE notes DROP INDEX by_a")
        stamped = site.run("stamp", "notes@n1", env=env)
        assert stamped.code == 0
        assert "the journal of 1 statement is cleared" in stamped.err
        assert rows_of(url, "opal_steps") == []
