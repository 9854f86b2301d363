"""What MySQL's errors become, with each driver: the number counts, which says more than the SQLSTATE beside it."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import sqlalchemy as sa

from opal_registry.engines.errors.failures import explained
from opal_registry.engines.factory import make_async_engine, make_engine
from opal_registry.errors import DatabaseError, LockTimeoutError
from tests.databases import database_of, engine_of
from tests.mariadb import MariaDB


def failure(url: str, statement: str = "SELECT 1") -> DatabaseError:
    """What comes of running a statement."""
    run = run_with_asyncio if "asyncmy" in url else run_plainly
    with pytest.raises(DatabaseError) as caught, explained(sa.make_url(url)):
        run(url, statement)
    return caught.value


def run_plainly(url: str, statement: str) -> None:
    engine = make_engine(database_of(url))
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)
    finally:
        engine.dispose()


def run_with_asyncio(url: str, statement: str) -> None:
    engine = make_async_engine(database_of(url))

    async def run() -> None:
        try:
            async with engine.begin() as connection:
                await connection.exec_driver_sql(statement)
        finally:
            await engine.dispose()

    asyncio.run(run())


def deadlock(engine: sa.Engine) -> None:
    """Let two transactions wait for each other."""
    change = "UPDATE t SET y = y + 1 WHERE x = %s"
    with ThreadPoolExecutor(1) as pool, engine.begin() as one, engine.begin() as two:
        one.exec_driver_sql(change, (1,))
        two.exec_driver_sql(change, (2,))
        waiting = pool.submit(one.exec_driver_sql, change, (2,))
        try:
            two.exec_driver_sql(change, (1,))
        finally:
            wait([waiting], 30)
        waiting.result()


@pytest.fixture
def app(mariadb: MariaDB) -> Iterator[str]:
    """A URL of a user who may do everything in a database, and nothing else."""
    name = mariadb.create_database()
    mariadb.execute("CREATE USER app IDENTIFIED BY 'hunter2'")
    mariadb.execute(f"GRANT ALL ON {name}.* TO app")
    yield mariadb.url(name, user="app", password="hunter2")
    mariadb.execute("DROP USER app")
    mariadb.drop_database(name)


@pytest.mark.parametrize(
    ("statement", "what", "mend"),
    [
        ("CREATE TABLE t (x varchar(800) PRIMARY KEY)", "an index is too long for this database", "mysql_length"),
        (
            "CREATE TABLE t (x text PRIMARY KEY)",
            "an index of a TEXT or BLOB column needs a length",
            "String(length)",
        ),
        ("CREATE TABLE t (x varchar(9000), y varchar(9000))", "the columns of the table are too many", "use Text"),
        ("CREATE TABLE t (x JSONB)", "the database lacks a type or a function", "change the model"),
        ("CREATE TABLE t (x serial ARRAY)", "the database does not understand the statement", "execute_if(dialect"),
        (f"CREATE TABLE t ({'x' * 65} int)", "a name is too long for this database", "shorter name"),
        (
            "CREATE TABLE t (x text COLLATE utf8mb4_0900_ai_ci)",
            "the server lacks a character set or a",
            "leave it out",
        ),
        (
            "CREATE TABLE t (x int, y int, FOREIGN KEY (y) REFERENCES t (x))",
            "a foreign key cannot be made",
            "primary key or unique",
        ),
        ("SELECT no_such_function()", "the database lacks a type or a function", "change the model"),
        ("CREATE DATABASE other", "the user may not do this", "grant it"),
        ("SET GLOBAL read_only = 1", "the user may not do this", "grant it"),
        ("SELECT * FROM mysql.user", "the user may not do this", "grant it"),
        ("SELECT 1 FROM no_such_table", "the database refused", "read its words"),
        ("SET STATEMENT max_statement_time=0.01 FOR SELECT sleep(5)", "it took too long", "statement_timeout"),
        ("KILL CONNECTION_ID()", "the connection was cut", "run the command again"),
    ],
)
def test_the_number_counts(app: str, statement: str, what: str, mend: str) -> None:
    for driver in ("pymysql", "asyncmy"):
        said = str(failure(app.replace("pymysql", driver), statement))
        assert what in said, driver
        assert mend in said, driver


@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
def test_who_is_not_let_in_learns_why(app: str, mariadb: MariaDB, driver: str) -> None:
    known, database = {"user": "app", "driver": f"mysql+{driver}"}, app.rpartition("/")[2]
    wrong = str(failure(mariadb.url(database, password="wrong-one", **known)))
    assert wrong.startswith("the user or the password is wrong: ")
    assert "wrong-one" not in wrong
    closed = str(failure(mariadb.url("mysql", password="hunter2", **known)))
    assert closed.startswith("the user may not do this: ")
    missing = str(failure(mariadb.url("no_such", user="root", driver=f"mysql+{driver}")))
    assert missing.startswith("there is no database of that name: ")
    assert "opal-db init --create-database" in missing


@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
def test_no_server(driver: str) -> None:
    assert str(failure(f"mysql+{driver}://app@127.0.0.1:1/x")).startswith("no server answers there: ")
    unknown = str(failure(f"mysql+{driver}://app@no.such.host.invalid/x"))
    assert unknown.startswith("the host name is not known: ")


@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
def test_a_server_that_is_full(app: str, mariadb: MariaDB, driver: str) -> None:
    mariadb.execute("GRANT USAGE ON *.* TO app WITH MAX_USER_CONNECTIONS 1")
    with engine_of(app).connect() as connection:
        assert "the server has no connection left" in str(failure(app.replace("pymysql", driver)))
    connection.engine.dispose()


def test_a_server_that_takes_no_writes(app: str, mariadb: MariaDB) -> None:
    mariadb.execute("SET GLOBAL read_only = 1")
    try:
        said = str(failure(app, "CREATE TABLE t (x int)"))
    finally:
        mariadb.execute("SET GLOBAL read_only = 0")
    assert said.startswith("the database is read-only here: ")
    assert "mend:  it is a standby, or set to be read-only: connect to the primary" in said


def test_a_lock_that_is_not_to_be_had(app: str) -> None:
    holder = engine_of(app)
    with holder.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x int) ENGINE=InnoDB")
        connection.exec_driver_sql("SELECT * FROM t")
        error = failure(app, "SET STATEMENT lock_wait_timeout=1 FOR ALTER TABLE t ADD y int")
    holder.dispose()
    assert isinstance(error, LockTimeoutError)


def test_two_that_wait_for_each_other(app: str) -> None:
    engine = engine_of(app)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x int PRIMARY KEY, y int)")
        connection.exec_driver_sql("INSERT INTO t VALUES (1, 1), (2, 2)")
    with pytest.raises(DatabaseError) as caught, explained(engine.url):
        deadlock(engine)
    engine.dispose()
    assert str(caught.value).startswith("two transactions got into each other's way: (1213, ")
