"""One run at a time, whatever happens to the one that has its turn."""

import functools
import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.errors import DatabaseError
from opal_registry.schema.looking import look_at
from opal_registry.store.locks import AnotherRunError, check_lock, find_run, make_limit_of_waiting, try_lock
from tests.contenders import LONG, Contender, connected, holding, limits_of, lock_is_free, make_engine, race, take_turn
from tests.mariadb import MariaDB
from tests.postgres import Cluster

SINCE = r"since \d\d:\d\d:\d\d UTC"
MEND = "run the command again when it has ended, or raise locks.wait"


@pytest.fixture
def section(tmp_path: Path) -> Path:
    """A file that is there while somebody is in the critical section."""
    return tmp_path / "section"


@contextmanager
def no_lock(engine: sa.Engine, **_: Any) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        yield connection


def refusal(url: str, wait: float = 0) -> str:
    """What is said of a lock that is taken."""
    with pytest.raises(AnotherRunError) as caught, holding(url, wait=wait, where="here"):
        pass
    assert caught.value.exit_code == 5
    return str(caught.value)


class TestTurns:
    def test_processes_that_start_at_once_come_one_by_one(self, any_database_url: str, section: Path) -> None:
        assert race(6, 3, functools.partial(take_turn, any_database_url), section) == [""] * 6

    def test_the_checker_notices_one_that_does_not_wait(self, any_database_url: str, section: Path) -> None:
        with Contender(any_database_url, section) as first:
            first.hear_in()
            with Contender(any_database_url, section, lock=no_lock) as second:
                assert second.hear() == ("overlap", "")

    def test_who_waits_is_told_for_whom_and_then_comes(self, any_database_url: str, section: Path) -> None:
        recorded = any_database_url.startswith("mysql")
        with Contender(any_database_url, section, recorded=recorded) as first:
            first.hear_in()
            with Contender(any_database_url, section) as second:
                kind, text = second.hear()
                assert kind == "waiting"
                said = rf"waiting for another run of opal-db: {re.escape(first.name)}, {SINCE} \(\d+ s\)"
                assert re.fullmatch(said, text), text
                first.leave()
                second.hear_in()
                second.leave()

    def test_one_that_is_killed_makes_way(self, any_database_url: str, section: Path) -> None:
        with Contender(any_database_url, section) as first:
            first.hear_in()
            with Contender(any_database_url, section) as second:
                assert second.hear()[0] == "waiting"
                section.unlink()
                first.send(signal.SIGKILL)
                second.hear_in()
                second.leave()

    def test_one_that_is_paused_is_named_with_how_to_end_it(self, any_database_url: str, section: Path) -> None:
        recorded = any_database_url.startswith("mysql")
        with Contender(any_database_url, section, recorded=recorded) as first:
            first.hear_in()
            first.send(signal.SIGSTOP)
            with Contender(any_database_url, section, wait=0.2) as second:
                text = second.hear_error()
            assert re.fullmatch(
                rf"another run of opal-db \({re.escape(first.name)}, {SINCE}\) holds this database for longer than 0\.2 s\n"
                r"  where: here\n"
                rf"  mend:  {re.escape(MEND)}; it is stopped: kill -CONT {first.pid} lets it go on, "
                rf"kill -KILL {first.pid} ends it",
                text,
            ), text
            first.send(signal.SIGCONT)
            first.leave()
        assert lock_is_free(any_database_url)

    def test_ctrl_c_ends_the_waiting(self, any_database_url: str, section: Path) -> None:
        with Contender(any_database_url, section) as first:
            first.hear_in()
            with Contender(any_database_url, section) as second:
                assert second.hear()[0] == "waiting"
                second.send(signal.SIGINT)
                assert second.hear() == ("interrupted", "")
            assert not lock_is_free(any_database_url)
            first.leave()
        assert lock_is_free(any_database_url)

    def test_whoever_holds_it_can_be_asked_for_without_taking_it(self, any_database_url: str, section: Path) -> None:
        with Contender(any_database_url, section, recorded="mysql" in any_database_url) as first:
            first.hear_in()
            engine = make_engine(any_database_url)
            with look_at(engine, wait=1) as connection:
                found = find_run(connection)
                assert (found is None) if "sqlite" in any_database_url else str(found).startswith(first.name)
                first.leave()
                assert find_run(connection) is None
            engine.dispose()

    def test_a_failure_lets_go(self, any_database_url: str) -> None:
        with pytest.raises(ZeroDivisionError), holding(any_database_url):
            raise ZeroDivisionError
        assert lock_is_free(any_database_url)

    def test_without_any_waiting_the_lock_is_taken_or_not(self, any_database_url: str, section: Path) -> None:
        with Contender(any_database_url, section) as first:
            first.hear_in()
            assert not lock_is_free(any_database_url)
            first.leave()
        engine = make_engine(any_database_url)
        with try_lock(engine) as connection:
            assert connection is not None
            assert refusal(any_database_url).startswith("another ")
        engine.dispose()

    def test_a_server_that_stops_ends_the_waiting(self, postgres: Cluster, postgres_url: str, section: Path) -> None:
        with Contender(postgres_url, section) as first:
            first.hear_in()
            with Contender(postgres_url, section) as second:
                assert second.hear()[0] == "waiting"
                postgres.stop()
                kind, text = second.hear()
                assert (kind, "OperationalError" in text) == ("error", True), text
        postgres.start()
        assert lock_is_free(postgres_url)


class TestPostgreSQL:
    def test_a_holder_that_may_not_be_looked_at_is_named_all_the_same(
        self, postgres: Cluster, postgres_url: str, section: Path
    ) -> None:
        postgres.execute("DROP ROLE IF EXISTS ada; CREATE ROLE ada LOGIN PASSWORD 'secret'")
        database = sa.make_url(postgres_url).database
        with Contender(postgres_url, section) as first:
            first.hear_in()
            with Contender(postgres.url(database or "", user="ada", password="secret"), section) as second:
                assert second.hear() == ("waiting", f"waiting for another run of opal-db: {first.name}")

    def test_where_nobody_may_be_looked_at_somebody_is_waited_for_all_the_same(
        self, postgres: Cluster, postgres_url: str, section: Path
    ) -> None:
        postgres.execute("DROP ROLE IF EXISTS ada; CREATE ROLE ada LOGIN PASSWORD 'secret'")
        database = sa.make_url(postgres_url).database or ""
        postgres.execute("REVOKE SELECT ON pg_locks FROM PUBLIC", database=database)
        with Contender(postgres_url, section) as first:
            first.hear_in()
            with Contender(postgres.url(database, user="ada", password="secret"), section) as second:
                assert second.hear() == ("waiting", "waiting for another run of opal-db")
                first.leave()
                second.hear_in()

    def test_a_holder_that_is_no_run_is_known_by_its_address_and_its_session(self, postgres_url: str) -> None:
        with holding(postgres_url, application_name="psql") as connection:
            session = connection.scalar(sa.text("SELECT pg_backend_pid()"))
            first, *others = refusal(postgres_url).splitlines()
        holds = rf"another run of opal-db \(host 127\.0\.0\.1, {SINCE}\) holds this database for longer than 0 s"
        assert re.fullmatch(holds, first)
        mend = f"{MEND}; if it hangs, end its session: SELECT pg_terminate_backend({session})"
        assert others == ["  where: here", f"  mend:  {mend}"]

    def test_a_limit_on_statements_does_not_end_the_waiting_and_holds_again_after_it(
        self, postgres_url: str, section: Path
    ) -> None:
        limits = "-c statement_timeout=50ms -c lock_timeout=60ms"
        with Contender(postgres_url, section) as first:
            first.hear_in()
            with pytest.raises(AnotherRunError), holding(postgres_url, wait=0.3, options=limits):
                pass
            left: list[str] = []

            def leave(text: str) -> None:
                left.append(text)
                first.leave()

            with holding(postgres_url, wait=LONG, announce=leave, options=limits) as connection:
                assert limits_of(connection) == ("50ms", "60ms")
            assert len(left) == 1

    def test_later_statements_wait_for_a_table_no_longer_than_they_are_told(self, postgres_url: str) -> None:
        with holding(postgres_url, statement_wait=2) as connection:
            assert limits_of(connection) == ("0", "2s")
            connection.exec_driver_sql(make_limit_of_waiting("postgresql", 0.25))
            assert limits_of(connection) == ("0", "250ms")

    def test_other_databases_of_the_server_have_locks_of_their_own(self, postgres: Cluster, postgres_url: str) -> None:
        with holding(postgres_url):
            assert lock_is_free(postgres.url("postgres"))


class TestMariaDB:
    def test_a_run_that_is_not_recorded_is_known_by_its_address_and_its_session(self, mariadb_url: str) -> None:
        with holding(mariadb_url) as connection:
            session = connection.scalar(sa.text("SELECT CONNECTION_ID()"))
            assert refusal(mariadb_url) == (
                "another run of opal-db (host 127.0.0.1) holds this database for longer than 0 s\n"
                f"  where: here\n  mend:  {MEND}; if it hangs, end its session: KILL {session}"
            )

    def test_a_record_of_a_run_that_has_died_names_nobody(self, mariadb_url: str, section: Path) -> None:
        with Contender(mariadb_url, section, recorded=True) as first:
            first.hear_in()
            section.unlink()
        with holding(mariadb_url, wait=LONG):
            assert refusal(mariadb_url).startswith("another run of opal-db (host 127.0.0.1) holds")

    def test_other_databases_of_the_server_have_locks_of_their_own(self, mariadb: MariaDB, mariadb_url: str) -> None:
        names = ["opal_" + "x" * 59, "opal_" + "x" * 58 + "y"]
        for name in names:
            mariadb.execute(f"CREATE DATABASE {name}")
        try:
            with holding(mariadb.url(names[0])):
                assert lock_is_free(mariadb.url(names[1]))
                assert not lock_is_free(mariadb.url(names[0]))
        finally:
            for name in names:
                mariadb.drop_database(name)

    def test_the_lock_outlives_a_silence_that_costs_others_their_connection(
        self, mariadb: MariaDB, mariadb_url: str
    ) -> None:
        patience = "SELECT @@SESSION.wait_timeout"
        usual = mariadb.execute("SELECT @@GLOBAL.wait_timeout")[0][0]
        try:
            for seconds, at_least in ((1, 28_800), (40_000, 40_000)):
                mariadb.execute(f"SET GLOBAL wait_timeout = {seconds}")
                with holding(mariadb_url) as connection:
                    assert connection.exec_driver_sql(patience).scalar() == at_least
        finally:
            mariadb.execute(f"SET GLOBAL wait_timeout = {usual}")

    def test_a_run_that_lost_it_is_told(self, mariadb_url: str) -> None:
        with holding(mariadb_url) as connection:
            check_lock(connection, where="here")
            connection.exec_driver_sql("DO RELEASE_ALL_LOCKS()")
            with pytest.raises(DatabaseError, match=r"^the lock of this run was lost\n  where: here\n"):
                check_lock(connection, where="here")

    def test_a_connection_that_was_cut_is_no_second_error(self, mariadb: MariaDB, mariadb_url: str) -> None:
        with holding(mariadb_url) as connection:
            mariadb.execute(f"KILL {connection.scalar(sa.text('SELECT CONNECTION_ID()'))}")
        assert lock_is_free(mariadb_url)

    def test_later_statements_wait_for_a_table_no_longer_than_they_are_told(self, mariadb_url: str) -> None:
        with connected(mariadb_url) as connection:
            connection.exec_driver_sql(make_limit_of_waiting("mysql", 0.25))
            assert connection.scalar(sa.text("SELECT @@lock_wait_timeout")) == 1


class TestSQLite:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "opal.db"

    @pytest.fixture
    def url(self, file: Path) -> str:
        return f"sqlite:///{file}"

    def test_a_writer_that_is_no_run_is_waited_for_as_well(self, url: str, file: Path) -> None:
        with sqlite3.connect(file, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            assert refusal(url, wait=0.1) == (
                f"another process writes to this database for longer than 0.1 s\n  where: here\n  mend:  {MEND}"
            )
            told: list[str] = []

            def leave(text: str) -> None:
                told.append(text)
                other.rollback()

            with holding(url, wait=LONG, where="", announce=leave):
                assert told == ["waiting for another process that writes to this database"]
        other.close()

    def test_ctrl_c_ends_the_waiting_for_a_writer(self, url: str, file: Path, section: Path) -> None:
        with sqlite3.connect(file, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            with Contender(url, section) as waiting:
                assert waiting.hear() == ("waiting", "waiting for another process that writes to this database")
                waiting.send(signal.SIGINT)
                assert waiting.hear() == ("interrupted", "")
            other.rollback()
        other.close()
        assert lock_is_free(url)

    def test_the_wait_of_other_statements_is_as_before(self, url: str) -> None:
        with connected(url) as connection:
            usual = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
        with holding(url, wait=5) as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == usual

    def test_readers_are_not_kept_out(self, url: str, file: Path) -> None:
        with holding(url) as connection:
            connection.exec_driver_sql("CREATE TABLE things (id INTEGER)")
            with sqlite3.connect(file, timeout=0) as reader:
                assert reader.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
            reader.close()

    def test_a_database_in_memory_is_nobody_elses(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with holding("sqlite://"):
            assert list(tmp_path.iterdir()) == []
