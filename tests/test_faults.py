"""Whatever breaks in the middle of a run: it says what and where and how to mend it, and the next run completes."""

import os
import signal
import sqlite3
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from opal_registry.mixins import utc_now
from opal_registry.store import events
from tests import wicked
from tests.contenders import LONG, Contender
from tests.databases import engine_of
from tests.distributions import Site
from tests.mariadb import MariaDB
from tests.postgres import Cluster
from tests.proxy import Moment, Proxy
from tests.snapshots import rows_of, snapshot

Env = dict[str, str | None]

SOON = 15.0
"""Seconds within which what waits for one of them has ended, also on a busy machine."""

HOOK = """
    import os
    import sqlalchemy as sa

    @hookimpl
    def opal_tables_created(connection, sub_app, tables):
        connection.exec_driver_sql("INSERT INTO foxes (id, mood) VALUES (1, 'sly')")
        if os.environ.get("FAULT"):
            {fault}
"""
"""A hook of the last sub-app, in which something happens where ``FAULT`` is set."""


SEED = """
    import sqlalchemy as sa

    @hookimpl
    def opal_seed(session, sub_app):
        session.execute(sa.text("INSERT INTO foxes (id, mood) VALUES (1, 'sly')"))
        session.connection().connection.cursor().execute("COMMIT")
        """
"""A hook that ends the transaction past SQLAlchemy, with room for what it does then."""

DEN = """
    import os
    import sqlalchemy as sa
    from opal_registry import Base

    den1, *_ = [sa.Table(f"den{n}", Base.metadata, sa.Column("id", sa.Integer, primary_key=True)) for n in (1, 2, 3)]

    @sa.event.listens_for(den1, "after_create")
    def lose_the_lock(table, connection, **_):
        if os.environ.get("FAULT"):
            holder = "SELECT IS_USED_LOCK(CONCAT('opal_registry.', DATABASE()))"
            connection.exec_driver_sql(f"KILL {connection.exec_driver_sql(holder).scalar()}")
"""
"""Three tables on MariaDB; where ``FAULT`` is set, the connection that holds the lock is ended after the first one."""


def install(site: Site, fault: str = "pass") -> None:
    """Install the suite, with something that happens in its last sub-app."""
    wicked.install(site)
    site.sub_app("woods", wicked.FOXES, requires=("henhouse",), hooks=HOOK.format(fault=fault))


def execute(url: str, *statements: str) -> None:
    """Execute statements in a transaction."""
    engine = engine_of(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def is_transactional(url: str) -> bool:
    """Whether the database takes DDL back."""
    return not url.startswith("mysql")


def fails(site: Site, url: str, code: int, *arguments: str, **env: str) -> str:
    """What a run says that fails with an exit code, without a traceback; paths are relative to the site."""
    done = site.run(*(arguments or ("init",)), env={"OPAL_DATABASE__URL": url, **env})
    assert (done.code, done.out) == (code, ""), done
    assert "Traceback" not in done.err
    assert [line.split(":")[0] for line in done.err.splitlines()] == ["error", "  where", "  mend"], done.err
    return done.err.replace(f"{site.folder}/", "")


def completes(site: Site, url: str, *arguments: str) -> None:
    """See that the next run makes everything that should be there."""
    done = site.run("init", *arguments, env={"OPAL_DATABASE__URL": url})
    assert (done.code, done.err) == (0, ""), done
    status = site.run("status", env={"OPAL_DATABASE__URL": url})
    assert status.code == 0, status
    assert rows_of(url, "opal_steps") == []
    assert [row["mood"] for row in rows_of(url, "foxes")] == ["sly"]
    assert [row["ring"].rstrip("!") for row in rows_of(url, "hens")] == ["first", "second"]


def undoes_everything(url: str) -> None:
    """See that nothing is left; where the database keeps each table, that no half of a sub-app is recorded."""
    if is_transactional(url):
        assert snapshot(url) == {}
    else:
        assert [row["name"] for row in rows_of(url, "opal_sub_apps")] == ["core", "henhouse"]
        assert rows_of(url, "foxes") == []
        assert [row["outcome"] for row in rows_of(url, "opal_events")] == ["failed"]


class TestHooksThatEndTheTransaction:
    @pytest.mark.parametrize(
        ("fault", "what"),
        [
            ("connection.commit()", "the connection must not be committed here: that is done when everything is"),
            (
                "connection.rollback()",
                "the connection must not be rolled back here: undo your own in connection.begin_nested()",
            ),
            (
                "connection.close()",
                "the connection must not be rolled back here: undo your own in connection.begin_nested()",
            ),
            (
                "connection.execute(sa.text('-- all is well\\nCommit'))",
                "COMMIT must not be executed here: the transaction ends when everything is done",
            ),
            (
                "connection.exec_driver_sql('ROLLBACK')",
                "ROLLBACK must not be executed here: the transaction ends when everything is done",
            ),
        ],
    )
    def test_are_refused(self, quick_site: Site, any_database_url: str, fault: str, what: str) -> None:
        install(quick_site, fault)
        said = fails(quick_site, any_database_url, 3, FAULT="1")
        assert said.startswith(f"error: calling opal_tables_created failed: RuntimeError: {what}\n")
        assert "'woods' (woods 1.0, woods.opal), woods/opal.py:" in said
        undoes_everything(any_database_url)
        completes(quick_site, any_database_url)

    @pytest.mark.parametrize("word", ["COMMIT", "ROLLBACK"])
    def test_are_found_out_where_the_driver_knows(self, quick_site: Site, any_database_url: str, word: str) -> None:
        install(quick_site, f"connection.connection.cursor().execute('{word}')")
        said = fails(quick_site, any_database_url, 3, FAULT="1")
        what = "RuntimeError: the transaction was ended here: that is done when everything is"
        assert said.startswith(f"error: calling opal_tables_created failed: {what}\n")
        if word == "ROLLBACK":
            undoes_everything(any_database_url)
            completes(quick_site, any_database_url)

    @pytest.mark.parametrize("after", ["pass", "session.execute(sa.text('SELECT mood FROM foxes')).all()"])
    def test_are_found_out_in_a_session_too(self, quick_site: Site, any_database_url: str, after: str) -> None:
        quick_site.sub_app("woods", wicked.FOXES.replace('sa.ForeignKey("hens.id")', "sa.Integer"), hooks=SEED + after)
        said = fails(quick_site, any_database_url, 3)
        what = "RuntimeError: the transaction was ended here: that is done when everything is"
        assert said.startswith(f"error: calling opal_seed failed: {what}\n"), said

    @pytest.mark.mariadb
    def test_are_none_where_mariadb_ends_it_for_a_statement_that_creates_something(
        self, quick_site: Site, mariadb_url: str
    ) -> None:
        install(quick_site, "connection.exec_driver_sql('CREATE TABLE dens (id INTEGER)')")
        assert quick_site.run("init", env={"OPAL_DATABASE__URL": mariadb_url, "FAULT": "1"}).code == 0
        completes(quick_site, mariadb_url)

    def test_may_undo_their_own(self, quick_site: Site, any_database_url: str) -> None:
        undo = "nested = connection.begin_nested(); connection.execute(sa.text('DELETE FROM foxes')); nested.rollback()"
        install(quick_site, undo)
        assert quick_site.run("init", env={"OPAL_DATABASE__URL": any_database_url, "FAULT": "1"}).code == 0
        completes(quick_site, any_database_url)


class TestSqlite:
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        """A file that is not there yet."""
        return f"sqlite:///{tmp_path / 'x.db'}"

    @pytest.mark.parametrize(
        ("pragma", "what", "mend"),
        [
            (
                "max_page_count=1",
                "the disk is full: database or disk is full",
                "make room on the disk, then run the command again",
            ),
            (
                "query_only=1",
                "the database is read-only here: attempt to write a readonly database",
                "check the permissions of the file and its directory, and what else is written in the URL",
            ),
        ],
    )
    def test_a_file_that_can_be_written_no_further(
        self, quick_site: Site, url: str, pragma: str, what: str, mend: str
    ) -> None:
        rows = "WITH RECURSIVE n (x) AS (SELECT 10 UNION ALL SELECT x + 1 FROM n WHERE x < 9999)"
        full = f"connection.exec_driver_sql('PRAGMA {pragma}'); "
        full += f"connection.exec_driver_sql(\"{rows} INSERT INTO foxes (id, mood) SELECT x, 'sly' FROM n\")"
        install(quick_site, full)
        said = fails(quick_site, url, 4, FAULT="1")
        assert said.startswith(f"error: {what}\n  where: {url.replace('sqlite:///', 'sqlite ')}; ")
        assert "; calling opal_tables_created of sub-app 'woods'; statement: WITH RECURSIVE" in said
        assert said.endswith(f"  mend:  {mend}\n")
        undoes_everything(url)
        completes(quick_site, url)

    @pytest.mark.parametrize("command", ["init", "status", "events"])
    def test_a_file_that_somebody_keeps_for_himself_is_waited_for_no_longer_than_locks_wait(
        self, quick_site: Site, tmp_path: Path, command: str
    ) -> None:
        blocker = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        blocker.execute("CREATE TABLE mine (x)")
        blocker.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        env: Env = {"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'x.db'}", "OPAL_LOCKS__WAIT": "1s"}
        done = quick_site.run(command, env=env)
        assert time.monotonic() - started < SOON
        assert (done.code, done.err.splitlines()[0][:40]) == (5, "error: another process writes to the dat"), done
        blocker.execute("COMMIT")
        blocker.close()
        assert quick_site.run("init", env=env).code == 0

    def test_a_lock_that_is_not_had_is_not_waited_for_a_second_time(
        self, quick_site: Site, url: str, tmp_path: Path
    ) -> None:
        install(quick_site)
        blocker = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        done = quick_site.run("init", env={"OPAL_DATABASE__URL": url, "OPAL_LOCKS__WAIT": "0s"}, timeout=20)
        assert done.code == 5
        assert done.err.startswith("error: another process writes to this database for longer than 0 s\n")
        blocker.close()
        completes(quick_site, url)


class TestServers:
    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    @pytest.mark.parametrize("kind", ["postgres18", pytest.param("mariadb", marks=pytest.mark.mariadb)])
    def test_one_that_stops_in_the_middle(
        self, site: Site, kind: str, mode: Any, request: pytest.FixtureRequest
    ) -> None:
        server: Cluster | MariaDB = request.getfixturevalue(kind)
        url = server.url(name := server.create_database())
        os.mkfifo(gate := site.cwd / "gate")
        install(site, f"open({str(gate)!r}).read()")
        run = site.start(*site.command("init"), env={"OPAL_DATABASE__URL": url, "FAULT": "1"})
        try:
            with gate.open("w"):
                server.stop(mode)
            out, err = run.communicate(timeout=LONG)
        finally:
            server.start()
        assert (run.returncode, out) == (4, ""), err
        assert err.startswith("error: the connection was cut: ")
        assert "; recording sub-app 'woods'" in err
        assert "  mend:  run the command again; nothing half done is left where DDL is transactional" in err
        if is_transactional(url):
            assert snapshot(url) == {}
        completes(site, url)
        server.drop_database(name)

    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize("words", ["CREATE TABLE foxes", "COMMIT"])
    @pytest.mark.parametrize("kind", ["postgres18", pytest.param("mariadb", marks=pytest.mark.mariadb)])
    def test_a_connection_that_is_cut(
        self, quick_site: Site, kind: str, words: str, moment: Moment, request: pytest.FixtureRequest
    ) -> None:
        server: Cluster | MariaDB = request.getfixturevalue(kind)
        url = server.url(name := server.create_database())
        install(quick_site)
        with Proxy(server.port, words.encode(), moment) as proxy:
            said = fails(quick_site, url.replace(f":{server.port}/", f":{proxy.port}/"), 4)
        assert proxy.cuts == 1
        assert said.startswith("error: the connection was cut: "), said
        if is_transactional(url) and (words, moment) != ("COMMIT", "after"):  # then it may be that all is done
            assert snapshot(url) == {}
        completes(quick_site, url)
        server.drop_database(name)


class TestLockLost:
    """The connection that holds the lock is ended while another one works."""

    def test_a_chunk_is_not_committed(self, quick_site: Site, postgres18: Cluster) -> None:
        url = postgres18.url(name := postgres18.create_database())
        locks = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        install(quick_site, f'connection.exec_driver_sql("SELECT pg_terminate_backend(pid) FROM ({locks}) l")')
        code = "import opal_registry.work, sys; opal_registry.work.MOST_TABLES = 2\n"
        code += "from opal_registry.cli.main import main; sys.exit(main(['init']))"
        done = quick_site.python(code, env={"OPAL_DATABASE__URL": url, "FAULT": "1"})
        assert done.code == 4, done
        assert "error: the connection was cut: terminating connection" in done.err, done
        assert "Traceback" not in done.err
        assert [row["name"] for row in rows_of(url, "opal_sub_apps")] == ["core", "henhouse"]
        assert "foxes" not in str(snapshot(url)["columns"])
        completes(quick_site, url)
        postgres18.drop_database(name)

    @pytest.mark.mariadb
    def test_a_sub_app_is_not_recorded(self, quick_site: Site, mariadb_url: str) -> None:
        kill = (
            "who = connection.exec_driver_sql(\"SELECT IS_USED_LOCK(CONCAT('opal_registry.', DATABASE()))\").scalar(); "
        )
        install(quick_site, kill + "connection.exec_driver_sql(f'KILL {who}')")
        said = fails(quick_site, mariadb_url, 4, FAULT="1")
        assert said.startswith("error: the connection was cut: "), said
        undoes_everything(mariadb_url)
        completes(quick_site, mariadb_url)

    @pytest.mark.mariadb
    def test_not_one_more_table_is_made(self, quick_site: Site, mariadb_url: str) -> None:
        """It is lost when the first of three tables has been made: another run may have it at the second one."""
        quick_site.sub_app("den", DEN)
        said = fails(quick_site, mariadb_url, 4, FAULT="1")
        assert said.startswith("error: the connection was cut: "), said
        columns = str(snapshot(mariadb_url)["columns"].keys())
        assert [number for number in (1, 2, 3) if f"'den{number}'" in columns] == [1]
        done = quick_site.run("init", env={"OPAL_DATABASE__URL": mariadb_url})
        assert (done.code, done.err) == (0, ""), done
        assert quick_site.run("status", env={"OPAL_DATABASE__URL": mariadb_url}).code == 0

    def test_one_who_holds_it_and_is_paused_is_named_with_the_remedy(
        self, quick_site: Site, any_database_url: str, tmp_path: Path
    ) -> None:
        install(quick_site)
        recorded = any_database_url.startswith("mysql")
        with Contender(any_database_url, tmp_path / "section", recorded=recorded) as holder:
            holder.hear_in()
            holder.send(signal.SIGSTOP)
            done = quick_site.run("init", env={"OPAL_DATABASE__URL": any_database_url, "OPAL_LOCKS__WAIT": "0s"})
            assert done.code == 5, done
            assert done.err.startswith(f"error: another run of opal-db ({holder.name}, since "), done
            assert f"kill -CONT {holder.pid} lets it go on, kill -KILL {holder.pid} ends it" in done.err
        completes(quick_site, any_database_url)


class TestDamagedLedger:
    @pytest.fixture
    def url(self, quick_site: Site, any_database_url: str) -> str:
        """A database that is complete."""
        install(quick_site)
        completes(quick_site, any_database_url)
        return any_database_url

    @pytest.mark.parametrize("table", ["opal_events", "opal_revisions", "opal_steps", "opal_sub_apps"])
    def test_a_table_that_is_gone_is_made_again(self, quick_site: Site, url: str, table: str) -> None:
        execute(url, f"DROP TABLE {table}")
        completes(quick_site, url, "--verify")
        assert rows_of(url, "opal_events")[-1]["outcome"] == "done"
        assert len(rows_of(url, "opal_sub_apps")) == len(wicked.SUITE)

    @pytest.mark.parametrize("table", ["opal_events", "opal_steps"])
    def test_a_column_that_is_gone_is_told(self, quick_site: Site, url: str, table: str) -> None:
        column = {"opal_events": "host", "opal_steps": "statement"}[table]
        execute(url, f"ALTER TABLE {table} DROP COLUMN {column}")
        said = fails(quick_site, url, 4, "init", "--verify")
        assert said == (
            f"error: there is a table {table!r} which is not the registry's: it has no column {column}\n"
            f"  where: {table}\n"
            "  mend:  rename it: names that start with opal_ are kept for the registry\n"
        )
        execute(url, f"ALTER TABLE {table} RENAME TO theirs")
        completes(quick_site, url, "--verify")

    @pytest.mark.parametrize("table", ["opal_events", "opal_sub_apps"])
    def test_a_column_that_may_be_null_comes_back(self, quick_site: Site, url: str, table: str) -> None:
        column = {"opal_events": "detail", "opal_sub_apps": "seeded"}[table]
        execute(url, f"ALTER TABLE {table} DROP COLUMN {column}")
        completes(quick_site, url, "--verify")
        assert column in rows_of(url, table)[0]

    @pytest.mark.parametrize("value", ["'{'", "'7'", "'\"users\"'"])
    def test_a_list_that_is_none_is_told(self, quick_site: Site, url: str, value: str) -> None:
        if value == "'{'" and not url.startswith("sqlite"):
            return  # the others keep only JSON
        execute(url, f"UPDATE opal_sub_apps SET tables = {value}, sources = NULL WHERE name = 'core'")
        for command in ("init", "status"):
            said = fails(quick_site, url, 4, command)
            assert said.startswith("error: the ledger is damaged: "), said
            assert "  where: opal_sub_apps" in said
            assert "  mend:  restore opal_sub_apps, or drop it: opal-db init makes it anew" in said
        execute(url, "DROP TABLE opal_sub_apps")
        completes(quick_site, url)

    @pytest.mark.parametrize("column", ["version", "tables", "min_reader", "updated_at"])
    def test_a_null_where_none_may_be_is_told(self, quick_site: Site, url: str, column: str) -> None:
        allow_null(url, column)
        execute(url, f"UPDATE opal_sub_apps SET {column} = NULL, sources = NULL")
        said = fails(quick_site, url, 4)
        assert said.startswith("error: the ledger is damaged: "), said
        execute(url, "DROP TABLE opal_sub_apps")
        completes(quick_site, url)


def allow_null(url: str, column: str) -> None:
    """Let a column of the ledger be NULL."""
    if url.startswith("postgresql"):
        execute(url, f"ALTER TABLE opal_sub_apps ALTER {column} DROP NOT NULL")
        return
    kind = {"version": "VARCHAR(100)", "min_reader": "INTEGER", "tables": "JSON", "updated_at": "DATETIME"}[column]
    execute(
        url, f"ALTER TABLE opal_sub_apps DROP COLUMN {column}", f"ALTER TABLE opal_sub_apps ADD COLUMN {column} {kind}"
    )


def test_a_clock_that_was_set_back_makes_no_run_take_less_than_no_time() -> None:
    event = events.make_event("init", utc_now() + timedelta(hours=1), outcome=events.DONE)
    assert event.seconds == 0.0
