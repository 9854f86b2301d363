"""What a database's error becomes: which database, what it means, what to try; and never the password."""

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pymysql  # type: ignore[import-untyped]
import pytest
import sqlalchemy as sa

from opal_registry.engines.errors.failed import FailedTransactionError
from opal_registry.engines.errors.failures import check_sqlite_file, explain, explained, is_outage
from opal_registry.errors import DatabaseError, LockTimeoutError
from tests.databases import engine_of
from tests.postgres import Cluster

URL = sa.make_url("postgresql://app:hunter2@db/opal")


def failure(url: str, statement: str = "SELECT 1", *, doing: str = "", **others: Any) -> DatabaseError:
    """What comes of running a statement."""
    engine = engine_of(url, **others)
    try:
        with (
            pytest.raises(DatabaseError) as caught,
            explained(engine.url, doing=doing),
            engine.begin() as connection,
        ):
            connection.exec_driver_sql(statement)
        return caught.value
    finally:
        engine.dispose()


class TestPostgres:
    @pytest.fixture
    def app(self, postgres: Cluster) -> Iterator[Cluster]:
        """A server with a role that may sign in and nothing else."""
        postgres.execute("CREATE ROLE app LOGIN PASSWORD 'hunter2'")
        yield postgres
        postgres.start()
        postgres.execute("DROP ROLE app")

    @pytest.mark.parametrize(
        ("user", "password", "database", "what", "mend"),
        [
            ("app", "wrong-one", "postgres", "the user or the password is wrong", "database.password"),
            ("app", None, "postgres", "the user or the password is wrong", "database.password"),
            ("nobody_here", "x", "postgres", "the user or the password is wrong", "database.user"),
            ("app", "hunter2", "no_such", "there is no database of that name", "opal-db init --create-database"),
        ],
        ids=["wrong password", "no password", "unknown user", "unknown database"],
    )
    def test_who_is_not_let_in_learns_why(
        self, app: Cluster, user: str, password: str | None, database: str, what: str, mend: str
    ) -> None:
        said = str(failure(app.url(database, user=user, password=password)))

        assert said.startswith(f"{what}: ")
        assert mend in said
        assert (
            f"where: postgresql+psycopg://{user}{':********' if password else ''}@127.0.0.1:{app.port}/{database}"
            in said
        )
        assert "hunter2" not in said
        assert "wrong-one" not in said

    @pytest.mark.parametrize(
        ("statement", "what", "mend"),
        [
            ("CREATE TABLE public.x (y int)", "the user may not do this", "GRANT CREATE ON SCHEMA"),
            ("SELECT * FROM pg_authid", "the user may not do this", "grant it"),
            ("SELECT 1 FROM no_such_table -- timeout", "the database refused", "read its words"),
            ("SET statement_timeout = '10ms'; SELECT pg_sleep(5)", "it took too long", "statement_timeout"),
            ("CREATE TEMP TABLE x (y citext)", "lacks a type or a function", "CREATE EXTENSION"),
            ("SET TRANSACTION READ ONLY; CREATE TABLE x (y int)", "the database is read-only here", "the primary"),
            ("SELECT 'connection refused, no space left' FROM no_such_table", "the database refused", "read its words"),
        ],
    )
    def test_the_code_counts_and_not_the_words(self, app: Cluster, statement: str, what: str, mend: str) -> None:
        said = str(failure(app.url(user="app", password="hunter2"), statement))

        assert what in said
        assert mend in said
        assert "no server answers" not in said
        assert "hunter2" not in said

    def test_the_statement_and_what_was_being_done_are_named(self, app: Cluster) -> None:
        error = failure(
            app.url(user="app", password="hunter2"), "SELECT *\n  FROM x", doing="creating the tables of 'core'"
        )

        assert error.problems[0].where.endswith("/postgres; creating the tables of 'core'; statement: SELECT * FROM x")
        assert error.exit_code == 4

    def test_a_lock_that_is_not_to_be_had_has_an_exit_code_of_its_own(self, postgres_url: str) -> None:
        holder = engine_of(postgres_url)
        with holder.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE x (y int)")
        with holder.begin() as connection:
            connection.exec_driver_sql("LOCK TABLE x")
            error = failure(postgres_url, "SET LOCAL lock_timeout = '1ms'; SELECT * FROM x")
        holder.dispose()
        assert isinstance(error, LockTimeoutError)
        assert error.exit_code == 5

    def test_a_server_that_is_down(self, app: Cluster) -> None:
        app.stop()
        said = str(failure(app.url(user="app", password="hunter2")))

        assert said.startswith("no server answers there: ")
        assert "start it, or correct database.host and database.port" in said

    def test_a_connection_that_is_cut(self, postgres_url: str) -> None:
        error = failure(postgres_url, "SELECT pg_terminate_backend(pg_backend_pid())")

        assert str(error).startswith("the connection was cut: ")

    def test_a_server_with_no_connection_left(self, app: Cluster) -> None:
        app.execute("ALTER ROLE app CONNECTION LIMIT 0")
        assert "the server has no connection left" in str(failure(app.url(user="app", password="hunter2")))

    def test_a_database_that_may_not_be_entered(self, app: Cluster) -> None:
        name = app.create_database()
        app.execute(f"REVOKE CONNECT ON DATABASE {name} FROM public")
        assert "the user may not do this" in str(failure(app.url(name, user="app", password="hunter2")))
        app.drop_database(name)

    def test_encryption_that_the_server_does_not_offer(self, app: Cluster) -> None:
        said = str(failure(app.url(user="app", password="hunter2"), ssl={"mode": "require"}))
        assert said.startswith("the server does not encrypt: ")

    def test_the_words_of_pg8000_are_a_sentence(self, app: Cluster) -> None:
        said = str(failure(app.url(user="app", password="wrong").replace("psycopg", "pg8000")))
        assert 'the password is wrong: password authentication failed for user "app"\n' in said

    @pytest.mark.parametrize("driver", ["psycopg", "pg8000"])
    def test_a_commit_that_would_be_a_rollback_is_refused(self, driver: str, app: Cluster) -> None:
        engine = engine_of(app.url().replace("psycopg", driver))
        with engine.connect() as connection:
            with suppress(sa.exc.DBAPIError):
                connection.exec_driver_sql("SELECT 1 / 0")
            with pytest.raises(FailedTransactionError):
                connection.commit()
            connection.rollback()
            assert connection.scalar(sa.text("SELECT 1")) == 1
            connection.commit()
        with pytest.raises(FailedTransactionError), engine.begin() as connection, suppress(sa.exc.DBAPIError):
            connection.exec_driver_sql("SELECT 1 / 0")
        engine.dispose()


@pytest.mark.parametrize(
    "url", ["postgresql://127.0.0.1:1/x?connect_timeout=soon", "mysql://127.0.0.1:1/x?charset=soon"]
)
def test_an_option_whose_value_the_driver_cannot_use(url: str) -> None:
    assert "correct what follows the '?' in database.url" in str(failure(url))


def test_a_host_that_does_not_exist() -> None:
    assert str(failure("postgresql://app@no.such.host.invalid/x")).startswith("the host name is not known: ")
    assert str(failure(f"postgresql://app@{'a' * 80}/x")).startswith("the host name is not known: ")


def test_a_server_that_never_says_a_word_is_waited_for_no_longer_than_configured() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        error = failure(f"postgresql://app@127.0.0.1:{silent.getsockname()[1]}/x", connect_timeout="1s")
    assert time.monotonic() - began < 30
    assert str(error).startswith("the server did not answer in time: ")
    assert "raise database.connect_timeout" in str(error)


class TestSqlite:
    def test_a_file_that_is_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "x.db").write_text("this is not a database, but it is long enough to be looked at as one\n" * 20)
        error = failure(f"sqlite:///{tmp_path / 'x.db'}", "SELECT * FROM sqlite_master")

        assert str(error).startswith("the file is not a SQLite database: ")
        assert f"where: sqlite {tmp_path / 'x.db'}" in str(error)

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        path = tmp_path / "x.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE t (x)")
            connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 100)
        connection.close()
        data = bytearray(path.read_bytes())
        data[4096:8192] = b"\xff" * 4096
        path.write_bytes(data)
        assert "the database file is damaged" in str(failure(f"sqlite:///{path}", "SELECT count(*) FROM t"))

    def test_a_full_disk(self, tmp_path: Path) -> None:
        engine = engine_of(f"sqlite:///{tmp_path / 'x.db'}")
        sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count=1"))
        with (
            pytest.raises(DatabaseError, match="the disk is full: ") as caught,
            explained(engine.url),
            engine.begin() as connection,
        ):
            connection.exec_driver_sql("CREATE TABLE t (x)")
        engine.dispose()
        assert "make room on the disk" in str(caught.value)

    def test_a_file_that_is_opened_read_only(self, tmp_path: Path) -> None:
        sqlite3.connect(tmp_path / "x.db").close()
        said = str(failure(f"sqlite:///file:{tmp_path / 'x.db'}?mode=ro&uri=true", "CREATE TABLE t (x)"))
        assert said.startswith("the database is read-only here: ")

    def test_a_file_that_may_not_be_made(self) -> None:
        assert "the file cannot be opened" in str(failure("sqlite:////proc/x.db"))

    def test_a_writer_who_does_not_end(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'x.db'}"
        holder = engine_of(url)
        with holder.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t (x)")
            error = failure(url, "CREATE TABLE u (x)", pool={"timeout": 0})
        holder.dispose()
        assert isinstance(error, LockTimeoutError)
        assert "another process writes to the database and does not finish" in str(error)

    @pytest.mark.parametrize(
        ("path", "must_exist", "what", "mend"),
        [
            (
                "no/such/x.db",
                False,
                "the directory of the SQLite file does not exist: {0}/no/such",
                "mkdir -p {0}/no/such",
            ),
            (".", False, "{0} is not a file", "correct database.url"),
            ("x.db", True, "the SQLite file does not exist: {0}/x.db", "opal-db init"),
            ("file/x.db", False, "the directory of the SQLite file does not exist: {0}/file", "correct database.url"),
        ],
    )
    def test_what_cannot_be_a_file_is_said_before_connecting(
        self, tmp_path: Path, path: str, must_exist: bool, what: str, mend: str
    ) -> None:
        (tmp_path / "file").touch()
        url = sa.make_url(f"sqlite:///{tmp_path / path}")
        check_sqlite_file(url.set(database=str(tmp_path / "file")), must_exist=True)
        with pytest.raises(DatabaseError) as caught:
            check_sqlite_file(url, must_exist=must_exist)
        assert what.format(tmp_path) in str(caught.value)
        assert mend.format(tmp_path) in str(caught.value)


def test_the_password_is_taken_out_even_where_a_driver_quotes_it() -> None:
    said = str(explain(psycopg.OperationalError("cannot use hunter2 here, but hunter22 stays"), URL))
    assert "cannot use ******** here, but hunter22 stays" in said


def test_a_password_that_is_a_word_of_everyday_leaves_the_text_readable() -> None:
    url = sa.make_url("postgresql://app:a@db/opal")
    assert "a table of a database" not in str(explain(psycopg.OperationalError("x"), url))
    assert "database" in str(explain(psycopg.OperationalError("in a database"), url))
    assert "opal" in str(explain(psycopg.OperationalError("no opal"), sa.make_url("postgresql://opal:opal@db/opal")))


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (psycopg.errors.OutOfMemory("x"), "the server has no memory or no room for locks left: x"),
        (psycopg.errors.DiskFull("x"), "the disk is full: x"),
        (pymysql.OperationalError(1021, "x"), "the disk is full: (1021, 'x')"),
        (psycopg.errors.CannotConnectNow("x"), "the server is starting or stopping: x"),
        (pymysql.OperationalError(1836, "x"), "the database is read-only here: (1836, 'x')"),
        (pymysql.OperationalError(1698, "x", sqlstate="28000"), "the server does not let this user in: (1698, 'x')"),
        (pymysql.OperationalError(1045, "x", sqlstate="28000"), "the user or the password is wrong: (1045, 'x')"),
        (
            pymysql.OperationalError(2003, "Can't connect to MySQL server on 'db' (timed out)"),
            "the server did not answer in time: (2003, \"Can't connect to MySQL server on 'db' (timed out)\")",
        ),
        (
            RuntimeError(
                "'cryptography' package is required for sha256_password or caching_sha2_password auth methods"
            ),
            "signing in without encryption needs the module cryptography: 'cryptography' package is required for "
            "sha256_password or caching_sha2_password auth methods",
        ),
        (
            psycopg.ProgrammingError("cannot adapt <x.Y object at 0x7f83ce3d8990>"),
            "the database refused: cannot adapt <x.Y object>",
        ),
    ],
)
def test_what_cannot_be_brought_about_here_is_understood_too(error: Exception, what: str) -> None:
    with pytest.raises(DatabaseError) as caught, explained(URL):
        raise error
    assert caught.value.problems[0].what == what


def test_errors_of_others_pass() -> None:
    with pytest.raises(ZeroDivisionError), explained(URL):
        raise ZeroDivisionError
    assert not is_outage(ZeroDivisionError())


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (psycopg.errors.AdminShutdown("x"), True),
        (psycopg.errors.UniqueViolation("x"), False),
        (OSError(28, "x"), False),
    ],
)
def test_some_errors_are_nobodys_fault(error: Exception, outage: bool) -> None:
    assert is_outage(error) is outage


def test_a_directory_that_is_closed(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    url = sa.make_url(f"sqlite:///{closed / 'x.db'}")
    assert (
        _as_somebody_else(closed, lambda: check_sqlite_file(url))
        == "the SQLite file cannot be reached: Permission denied"
    )


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="cannot be reached: File name too long"):
        check_sqlite_file(sa.make_url(f"sqlite:///{tmp_path / ('x' * 300) / 'x.db'}"))


def _as_somebody_else(closed: Path, work: Callable[[], None]) -> str:
    """What the error says that work ends with, done by a user who may not enter a directory (root may enter any)."""
    reader, writer = os.pipe()
    closed.chmod(0)
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            work()
        except DatabaseError as error:
            os.write(writer, error.problems[0].what.encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    closed.chmod(0o700)
    with os.fdopen(reader) as stream:
        return stream.read()
