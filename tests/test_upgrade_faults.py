"""Whatever breaks in the middle of a revision: it says which one and where, is recorded, and the next upgrade completes."""

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.contenders import LONG
from tests.databases import registry_of
from tests.deploys import columns, execute, ran, rows
from tests.distributions import Site
from tests.mariadb import MariaDB
from tests.postgres import Cluster
from tests.proxy import Moment, Proxy
from tests.revisions import release, revision
from tests.snapshots import rows_of
from tests.test_faults import fails
from tests.test_upgrade import ADD, N1, SECOND, first

Env = dict[str, str | None]
SERVERS = ["postgres18", pytest.param("mariadb", marks=pytest.mark.mariadb)]


def install(site: Site, url: str, body: str) -> None:
    """Bring a database to the first release, and install one whose second revision does something after its own."""
    first(site)
    assert site.run("init", env={"OPAL_DATABASE__URL": url}).code == 0
    second(site, body)


def second(site: Site, body: str = "pass") -> None:
    release(site, "notes", "2.0", SECOND, N1, revision("n2", "n1", f"{ADD}\n{body}"))


def completes(site: Site, url: str) -> None:
    """See that the next upgrade comes to the end."""
    second(site)
    assert ran(site.run("upgrade", "--json", env={"OPAL_DATABASE__URL": url})) == ["notes@n2"]
    assert site.run("status", env={"OPAL_DATABASE__URL": url}).code == 0
    assert columns(url, "notes") == {"id", "user_id", "text"}
    assert rows_of(url, "opal_steps") == []


def is_recorded(url: str, outcome: str = "failed") -> None:
    last = rows_of(url, "opal_events")[-1]
    assert (last["command"], last["outcome"]) == ("upgrade", outcome)


def is_taken_back(url: str) -> None:
    """See that nothing of it is there, where DDL is taken back."""
    assert rows(url, "SELECT version_num FROM opal_revision_notes") == [("n1",)]
    if "mysql" not in url:
        assert columns(url, "notes") == {"id", "user_id"}


class TestARevisionThat:
    @pytest.mark.parametrize(
        ("body", "code", "what"),
        [
            ("op.get_bind().close()", 3, "RuntimeError: the connection must not be rolled back here"),
            ("op.get_bind().connection.driver_connection.close()", 4, ""),
            ("op.get_bind().invalidate()", 3, "PendingRollbackError"),
            ("raise SystemExit(0)", 3, "it tried to end the program: sys.exit(0)"),
            ("raise GeneratorExit", 3, "GeneratorExit"),
        ],
    )
    def test_breaks_what_it_works_on(
        self, quick_site: Site, any_database_url: str, body: str, code: int, what: str
    ) -> None:
        install(quick_site, any_database_url, body)
        done = quick_site.run("upgrade", env={"OPAL_DATABASE__URL": any_database_url})
        assert (done.code, done.out) in {(code, ""), (3, "")}, done
        assert "Traceback" not in done.err
        assert done.err.startswith("error: "), done
        assert "the revision notes@n2" in done.err
        assert what in done.err, done.err
        assert "notes/migrations/0002.py" in done.err
        is_recorded(any_database_url)
        is_taken_back(any_database_url)
        completes(quick_site, any_database_url)

    def test_is_interrupted(self, quick_site: Site, any_database_url: str) -> None:
        install(quick_site, any_database_url, "raise KeyboardInterrupt")
        done = quick_site.run("upgrade", env={"OPAL_DATABASE__URL": any_database_url})
        assert (done.code, done.out, done.err) == (130, "", "error: interrupted\n")
        is_recorded(any_database_url, "interrupted")
        is_taken_back(any_database_url)
        completes(quick_site, any_database_url)

    def test_passes_over_a_failed_statement(self, quick_site: Site, postgres_url: str) -> None:
        body = "try:\n    op.execute('SELECT * FROM nowhere')\nexcept Exception:\n    pass"
        install(quick_site, postgres_url, body)
        said = fails(quick_site, postgres_url, 3, "upgrade")
        what = "a statement failed, and its error was passed over: use connection.begin_nested() for that"
        assert said.startswith(f"error: running the revision notes@n2 failed: RuntimeError: {what}\n")
        is_recorded(postgres_url)
        is_taken_back(postgres_url)
        completes(quick_site, postgres_url)

    def test_commits_past_sqlalchemy(self, quick_site: Site, any_database_url: str) -> None:
        install(
            quick_site, any_database_url, "op.execute('UPDATE notes SET id = 1'); op.get_bind().connection.commit()"
        )
        said = fails(quick_site, any_database_url, 3, "upgrade")
        what = "RuntimeError: the transaction was ended here: that is done when everything is"
        assert said.startswith(f"error: running the revision notes@n2 failed: {what}\n"), said
        is_recorded(any_database_url)
        assert rows(any_database_url, "SELECT version_num FROM opal_revision_notes") == [("n1",)]

    def test_changes_the_version_table(self, quick_site: Site, any_database_url: str) -> None:
        install(quick_site, any_database_url, "op.execute(\"UPDATE opal_revision_notes SET version_num = 'n0'\")")
        said = fails(quick_site, any_database_url, 4, "upgrade")
        assert said.startswith("error: the version table of 'notes' is not what it was: "), said
        is_recorded(any_database_url)
        completes(quick_site, any_database_url)

    @pytest.mark.parametrize(
        ("kind", "kill"),
        [
            ("postgres18", "SELECT pg_terminate_backend(pg_backend_pid())"),
            pytest.param("mariadb", "KILL CONNECTION_ID()", marks=pytest.mark.mariadb),
        ],
    )
    def test_ends_its_own_session(self, quick_site: Site, kind: str, kill: str, request: pytest.FixtureRequest) -> None:
        server: Cluster | MariaDB = request.getfixturevalue(kind)
        url = server.url(name := server.create_database())
        install(quick_site, url, f"op.execute({kill!r})")
        said = fails(quick_site, url, 4, "upgrade")
        assert "running the revision notes@n2 (notes/migrations/0002.py:10)" in said
        is_recorded(url)
        is_taken_back(url)
        completes(quick_site, url)
        server.drop_database(name)


class TestServers:
    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    @pytest.mark.parametrize("kind", SERVERS)
    def test_one_that_is_restarted(self, site: Site, kind: str, mode: Any, request: pytest.FixtureRequest) -> None:
        server: Cluster | MariaDB = request.getfixturevalue(kind)
        url = server.url(name := server.create_database())
        os.mkfifo(gate := site.cwd / "gate")
        install(site, url, f"open({str(gate)!r}).read()\nop.execute('UPDATE notes SET id = id')")
        run = site.start(*site.command("upgrade"), env={"OPAL_DATABASE__URL": url})
        try:
            with gate.open("w"):
                server.stop(mode)
        finally:
            server.start()
        out, err = run.communicate(timeout=LONG)
        assert (run.returncode, out) == (4, ""), err
        assert err.startswith("error: the connection was cut: "), err
        assert "running the revision notes@n2 (" in err
        assert "Traceback" not in err
        is_taken_back(url)
        completes(site, url)
        server.drop_database(name)

    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize("words", ["ALTER TABLE notes", "COMMIT"])
    @pytest.mark.parametrize("kind", SERVERS)
    def test_a_connection_that_is_cut(
        self, quick_site: Site, kind: str, words: str, moment: Moment, request: pytest.FixtureRequest
    ) -> None:
        server: Cluster | MariaDB = request.getfixturevalue(kind)
        url = server.url(name := server.create_database())
        install(quick_site, url, "pass")
        with Proxy(server.port, words.encode(), moment) as proxy:
            said = fails(quick_site, url.replace(f":{server.port}/", f":{proxy.port}/"), 4, "upgrade")
        assert proxy.cuts == 1
        assert said.startswith("error: the connection was cut: "), said
        env: Env = {"OPAL_DATABASE__URL": url}
        assert quick_site.run("upgrade", env=env).code == 0
        assert quick_site.run("status", env=env).code == 0
        assert rows_of(url, "opal_steps") == []
        server.drop_database(name)


class TestSqlite:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "x.db"

    @pytest.fixture
    def url(self, file: Path) -> str:
        return f"sqlite:///{file}"

    @pytest.mark.parametrize(
        ("pragma", "what"),
        [
            ("max_page_count=1", "the disk is full: database or disk is full"),
            ("query_only=1", "the database is read-only here: attempt to write a readonly database"),
        ],
    )
    def test_a_file_that_can_be_written_no_further(self, quick_site: Site, url: str, pragma: str, what: str) -> None:
        many = "WITH RECURSIVE n (x) AS (SELECT 10 UNION ALL SELECT x + 1 FROM n WHERE x < 9999)"
        body = f"op.execute('PRAGMA {pragma}'); op.execute('{many} INSERT INTO notes (id) SELECT x FROM n')"
        install(quick_site, url, body)
        said = fails(quick_site, url, 4, "upgrade")
        assert said.startswith(f"error: {what}\n"), said
        assert "; running the revision notes@n2 (notes/migrations/0002.py:10); statement: WITH RECURSIVE" in said
        is_taken_back(url)
        completes(quick_site, url)

    def test_a_file_that_nobody_may_write(self, quick_site: Site, url: str) -> None:
        install(quick_site, url, "pass")
        said = fails(quick_site, f"{url.replace('sqlite:///', 'sqlite:///file:')}?mode=ro&uri=true", 4, "upgrade")
        assert said.startswith("error: the database is read-only here: "), said
        completes(quick_site, url)


USERS = """
with op.batch_alter_table('parents', recreate='always') as parents:
    parents.add_column(sa.Column('more', sa.Integer()))
"""


class TestForeignKeysOnSqlite:
    """Where a table is rebuilt, its children stay, and what was broken before is nobody's fault."""

    @pytest.fixture
    def url(self, quick_site: Site, tmp_path: Path) -> str:
        """A database with two parents and three children, which go where their parent goes."""
        url = f"sqlite:///{tmp_path / 'x.db'}"
        first(quick_site)
        assert quick_site.run("init", env={"OPAL_DATABASE__URL": url}).code == 0
        execute(
            url,
            "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
            "CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parents (id) ON DELETE CASCADE)",
            "INSERT INTO parents VALUES (1), (2)",
            "INSERT INTO children VALUES (1, 1), (2, 1), (3, 2)",
        )
        return url

    def upgrade(self, site: Site, body: str) -> None:
        release(site, "notes", "2.0", SECOND, N1, revision("n2", "n1", f"{ADD}\n{body}"))

    def test_a_parent_that_is_rebuilt_loses_no_child(self, quick_site: Site, url: str) -> None:
        self.upgrade(quick_site, USERS)
        assert ran(quick_site.run("upgrade", "--json", env={"OPAL_DATABASE__URL": url})) == ["notes@n2"]
        assert rows(url, "SELECT id, more FROM parents") == [(1, None), (2, None)]
        assert rows(url, "SELECT id, parent FROM children") == [(1, 1), (2, 1), (3, 2)]

    def test_users_that_are_rebuilt_lose_no_child(self, quick_site: Site, url: str) -> None:
        body = "with op.batch_alter_table('users', recreate='always') as users:\n    users.add_column(sa.Column('x', sa.Integer()))"
        self.upgrade(quick_site, body)
        named = [row[1] for row in rows(url, "PRAGMA table_info(users)") if row[3] and not row[5]]
        values = {"roles": "'[]'"}
        listed = ", ".join(["id", *named])
        execute(
            url,
            f"INSERT INTO users ({listed}) VALUES ({', '.join(['1', *(values.get(name, '1') for name in named)])})",
            "CREATE TABLE wards (id INTEGER PRIMARY KEY, guardian INTEGER REFERENCES users (id) ON DELETE CASCADE)",
            "INSERT INTO wards VALUES (1, 1)",
        )
        assert ran(quick_site.run("upgrade", "--json", env={"OPAL_DATABASE__URL": url})) == ["notes@n2"]
        assert rows(url, "SELECT guardian FROM wards") == [(1,)]

    def test_a_revision_that_breaks_one_is_taken_back(self, quick_site: Site, url: str) -> None:
        self.upgrade(quick_site, "op.execute('DELETE FROM parents WHERE id = 1')")
        said = fails(quick_site, url, 4, "upgrade")
        assert said.startswith("error: 2 rows of children refer to rows of parents that are not there any more\n"), said
        assert "notes@n2" in said
        assert "notes/migrations/0002.py" in said
        is_recorded(url)
        is_taken_back(url)
        assert rows(url, "SELECT count(*) FROM parents") == [(2,)]
        completes(quick_site, url)

    def test_rows_that_were_broken_before_are_not_its_fault(self, quick_site: Site, url: str, tmp_path: Path) -> None:
        with sqlite3.connect(tmp_path / "x.db") as other:
            other.execute("DELETE FROM parents WHERE id = 2")
        other.close()
        self.upgrade(quick_site, USERS)
        assert ran(quick_site.run("upgrade", "--json", env={"OPAL_DATABASE__URL": url})) == ["notes@n2"]
        assert rows(url, "SELECT count(*) FROM children") == [(3,)]


class TestInsideAnEventLoop:
    def test_it_is_called_directly_or_in_a_thread(self, any_database_url: str) -> None:
        from opal_registry.upgrade import upgrade

        with registry_of(any_database_url) as registry:

            async def both() -> list[int]:
                return [upgrade(registry).exit_code, (await asyncio.to_thread(upgrade, registry)).exit_code]

            assert asyncio.run(both()) == [0, 0]
        assert rows(any_database_url, "SELECT version_num FROM opal_revision_core") == [("core0003",)]
