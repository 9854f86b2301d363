"""MySQL made safe: what every connection is set to, and how transactions begin, with each driver."""

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm as sa_orm
from sqlalchemy.ext.asyncio import AsyncEngine

from opal_registry.engines.errors.failures import explained
from opal_registry.engines.factory import make_async_engine, make_engine, with_intent
from opal_registry.errors import ConfigError, DatabaseError
from opal_registry.mixins import Timestamps, utc_now
from opal_registry.sessions import ReadOnlySessionError
from tests.databases import database_of, registry_of
from tests.mariadb import MariaDB

Work = Callable[[sa.Connection], Any]
Run = Callable[..., Any]

MODE = "@@sql_mode LIKE '%%STRICT_TRANS_TABLES%%'"


class Base(sa_orm.DeclarativeBase):
    pass


class Note(Timestamps, Base):
    """A model with moments, and text of a limited length."""

    __tablename__ = "notes"
    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    text: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(8))


@pytest.fixture(params=["mysql+pymysql", "mariadb+pymysql", "mysql+asyncmy", "mariadb+asyncmy"])
def run(request: pytest.FixtureRequest, mariadb_url: str) -> Run:
    """Do something on a connection of an engine as the registry makes it, with each driver, under each name."""
    url = mariadb_url.replace("mysql+pymysql", request.param)

    async def run_async(engine: AsyncEngine, work: Work, intent: Any) -> Any:
        try:
            async with AsyncEngine(with_intent(engine.sync_engine, intent)).begin() as connection:
                return await connection.run_sync(work)
        finally:
            await engine.dispose()

    def run(work: Work, *, intent: Any = "read_write", **settings: Any) -> Any:
        if request.param.endswith("asyncmy"):
            return asyncio.run(run_async(make_async_engine(database_of(url, **settings)), work, intent))
        engine = make_engine(database_of(url, **settings))
        try:
            with with_intent(engine, intent).begin() as connection:
                return work(connection)
        finally:
            engine.dispose()

    return run


@pytest.fixture
def strange_server(mariadb: MariaDB) -> Iterator[None]:
    """A server that cuts what is too long, and lives in another zone."""
    settings = ("sql_mode", "time_zone")
    usual = {name: mariadb.execute(f"SELECT @@GLOBAL.{name}")[0][0] for name in settings}
    mariadb.execute("SET GLOBAL sql_mode = '', time_zone = '+05:00'")
    yield
    for name, value in usual.items():
        mariadb.execute(f"SET GLOBAL {name} = '{value}'")


def scalar(sql: str) -> Work:
    return lambda connection: connection.exec_driver_sql(sql).scalar()


class TestEveryConnection:
    @pytest.mark.parametrize(
        ("asked", "answer"),
        [
            ("@@character_set_client", "utf8mb4"),
            ("@@character_set_connection", "utf8mb4"),
            ("@@character_set_results", "utf8mb4"),
            ("@@time_zone", "+00:00"),
            (MODE, 1),
            ("@@tx_isolation", "REPEATABLE-READ"),
        ],
    )
    def test_is_set(self, run: Run, asked: str, answer: object) -> None:
        assert run(scalar(f"SELECT {asked}")) == answer

    def test_keeps_every_character(self, run: Run) -> None:
        def work(connection: sa.Connection) -> object:
            Note.metadata.create_all(connection)
            connection.execute(sa.insert(Note).values(text="🔑ä漢"))
            return connection.scalar(sa.select(Note.text))

        assert run(work) == "🔑ä漢"

    def test_refuses_what_does_not_fit_whatever_the_server_would_do(self, run: Run, strange_server: None) -> None:
        def work(connection: sa.Connection) -> None:
            Note.metadata.create_all(connection)
            connection.execute(sa.insert(Note).values(text="much too long"))

        with pytest.raises(sa.exc.DataError, match="Data too long for column 'text'"):
            run(work)

    def test_has_utc_whatever_the_server_has(self, run: Run, strange_server: None) -> None:
        def work(connection: sa.Connection) -> Any:
            Note.metadata.create_all(connection)
            connection.exec_driver_sql("INSERT INTO notes (text) VALUES ('raw')")
            return connection.scalar(sa.select(Note.created_at))

        assert abs(run(work) - utc_now()) < dt.timedelta(hours=1)

    def test_keeps_the_modes_that_the_server_has(self, run: Run, mariadb: MariaDB, strange_server: None) -> None:
        mariadb.execute("SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_ZERO_DATE'")

        modes = run(scalar("SELECT @@sql_mode")).split(",")
        assert {"ANSI_QUOTES", "NO_ZERO_DATE", "STRICT_TRANS_TABLES"} <= set(modes)

    def test_is_replaced_before_the_server_would_end_it(self, mariadb_url: str) -> None:
        assert make_engine(database_of(mariadb_url)).pool._recycle < 28_800


class TestTransactions:
    def test_of_readers_are_refused_writes_by_the_server(self, run: Run) -> None:
        run(Note.metadata.create_all)

        with pytest.raises(sa.exc.DBAPIError) as caught:
            run(scalar("DELETE FROM notes"), intent="read_only")
        assert "(1792, 'Cannot execute statement in a READ ONLY transaction')" in str(caught.value)

    @pytest.mark.parametrize("intent", ["read_write", "read_first"])
    def test_of_others_may_write(self, run: Run, intent: str) -> None:
        def work(connection: sa.Connection) -> object:
            assert connection.scalar(sa.select(sa.func.count()).select_from(Note)) == 0
            connection.execute(sa.insert(Note).values(text="x"))
            return connection.scalar(sa.select(sa.func.count()).select_from(Note))

        run(Note.metadata.create_all)
        assert run(work, intent=intent) == 1

    def test_are_sessions_transactions(self, mariadb_url: str) -> None:
        with registry_of(mariadb_url) as registry:
            Note.metadata.create_all(registry.migration_engine())
            with registry.session_scope() as session:
                session.add(Note(text="x"))
            with registry.session_scope(read_only=True) as session:
                assert session.scalars(sa.select(Note.text)).all() == ["x"]
            with pytest.raises(ReadOnlySessionError), registry.session_scope(read_only=True) as session:
                session.add(Note(text="y"))
            with pytest.raises(DatabaseError) as caught, explained(registry.engine().url):
                with registry.session_scope(read_only=True) as session:
                    session.execute(sa.text("DELETE FROM notes"))
        assert str(caught.value).startswith("the transaction was declared read-only: (1792, ")

    def test_of_readers_leave_nothing_behind(self, mariadb_url: str) -> None:
        engine = make_engine(database_of(mariadb_url, pool={"size": 1, "max_overflow": 0}))
        with with_intent(engine, "read_only").connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TEMPORARY TABLE t (x int)")
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        engine.dispose()


class TestEncryption:
    @pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
    def test_that_the_server_does_not_offer_is_not_done_without(self, run: Run, mode: str) -> None:
        with pytest.raises(DatabaseError) as caught, explained(sa.make_url("mysql://db/x")):
            run(scalar("SELECT 1"), ssl={"mode": mode})
        assert str(caught.value).startswith("the server does not encrypt: ")

    @pytest.mark.parametrize("mode", ["disable", "allow"])
    def test_may_be_done_without(self, run: Run, mode: str) -> None:
        assert run(scalar("SELECT 1"), ssl={"mode": mode}) == 1

    def test_may_be_tried_by_pymysql(self, mariadb_url: str) -> None:
        with make_engine(database_of(mariadb_url, ssl={"mode": "prefer"})).connect() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1


class TestDrivers:
    @pytest.mark.parametrize(
        ("url", "said"),
        [
            (
                "mysql+mysqldb://db/x",
                "the driver 'mysqldb' needs the module 'MySQLdb', which is not installed\n"
                "  where: opal.yaml:3\n"
                "  mend:  pip install mysqlclient; or leave it out: mysql://...",
            ),
            (
                "mariadb+mariadbconnector://db/x",
                "the driver 'mariadbconnector' needs the module 'mariadb', which is not installed\n"
                "  where: opal.yaml:3\n"
                "  mend:  pip install mariadb; or leave it out: mariadb://...",
            ),
            (
                "mysql+mysqlconnector://db/x",
                "the driver 'mysqlconnector' needs the module 'mysql', which is not installed\n"
                "  where: opal.yaml:3\n"
                "  mend:  pip install mysql-connector-python; or leave it out: mysql://...",
            ),
        ],
        ids=["mysqldb", "mariadbconnector", "mysqlconnector"],
    )
    def test_of_others_are_named(self, url: str, said: str) -> None:
        with pytest.raises(ConfigError) as caught:
            make_engine(database_of(url), where="opal.yaml:3")
        assert str(caught.value) == said
