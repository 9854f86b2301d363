"""Whole transactions: run again where the database asks for it, never where it may have been done; and what follows them."""

import asyncio
import functools
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm as sa_orm
from sqlalchemy.ext.asyncio import AsyncSession

from opal_registry.base import make_base
from opal_registry.errors import OpalError
from opal_registry.registry import Registry
from opal_registry.transactions import (
    DeadlockError,
    InDoubtError,
    SerializationError,
    UniqueError,
    after_commit,
    in_transaction,
)
from tests.databases import registry_of
from tests.proxy import Proxy

Base = make_base()


class Account(Base):  # type: ignore[misc, valid-type]
    __tablename__ = "accounts"
    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True, autoincrement=False)
    balance: sa_orm.Mapped[int] = sa_orm.mapped_column(default=0)


SERVERS = ["postgres", pytest.param("mariadb", marks=pytest.mark.mariadb)]


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    """A registry of a database with two accounts, on SQLite and PostgreSQL."""
    with registry_of(database_url) as registry:
        fill(registry)
        yield registry


@pytest.fixture
def server_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


def fill(registry: Registry) -> None:
    Base.metadata.create_all(registry.engine())
    with registry.session_scope() as session:
        session.add_all([Account(id=1, balance=100), Account(id=2, balance=100)])


def balances(registry: Registry) -> dict[int, int]:
    with registry.session_scope(read_only=True) as session:
        return {account.id: account.balance for account in session.scalars(sa.select(Account))}


def at_once(*works: Any) -> list[Any]:
    with ThreadPoolExecutor(len(works)) as threads:
        return [each.result(60) for each in [threads.submit(work) for work in works]]


def add_to(number: int, amount: int) -> sa.Update:
    return sa.update(Account).where(Account.id == number).values(balance=Account.balance + amount)


class TestRunningAgain:
    @pytest.mark.parametrize("server_url", SERVERS, indirect=True)
    def test_the_loser_of_a_deadlock_is_run_again(self, server_url: str) -> None:
        with registry_of(server_url) as registry:
            fill(registry)
            both, runs = threading.Barrier(2), list[int]()

            @in_transaction(registry=registry)
            def transfer(session: sa_orm.Session, source: int, target: int) -> int:
                """Move one."""
                runs.append(source)
                session.execute(add_to(source, -1))
                if len(runs) <= 2:
                    both.wait(30)
                session.execute(add_to(target, 1))
                return source

            assert transfer.__doc__ == "Move one."
            assert str(inspect.signature(transfer)) == "(source: int, target: int) -> int"
            assert at_once(lambda: transfer(1, 2), lambda: transfer(2, target=1)) == [1, 2]
            assert len(runs) == 3
            assert balances(registry) == {1: 100, 2: 100}

    def test_the_same_under_asyncio(self, postgres_url: str) -> None:
        runs: list[int] = []

        async def main() -> list[int]:
            both = asyncio.Barrier(2)
            async with registry_of(postgres_url.replace("psycopg", "asyncpg")) as registry:

                @in_transaction(registry=registry)
                async def transfer(session: AsyncSession, source: int, target: int) -> int:
                    runs.append(source)
                    await session.execute(add_to(source, -1))
                    if len(runs) <= 2:
                        await both.wait()
                    await session.execute(add_to(target, 1))
                    return source

                async with asyncio.timeout(30):
                    return list(await asyncio.gather(transfer(1, 2), transfer(2, 1)))

        with registry_of(postgres_url) as registry:
            fill(registry)
            assert asyncio.run(main()) == [1, 2]
            assert len(runs) == 3
            assert balances(registry) == {1: 100, 2: 100}

    def test_serializable_transactions_lose_nothing(self, postgres_url: str) -> None:
        with registry_of(postgres_url) as registry:
            fill(registry)
            both = threading.Barrier(2)
            runs: list[int] = []

            @in_transaction(registry=registry, retries=20)
            def withdraw(session: sa_orm.Session, number: int) -> bool:
                """Take 150 out of one account, if there is so much on both together."""
                session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                runs.append(number)
                enough = session.scalars(sa.select(sa.func.sum(Account.balance))).one() >= 150
                if len(runs) <= 2:
                    both.wait(30)
                if enough:
                    session.execute(add_to(number, -150))
                return enough

            assert sorted(at_once(lambda: withdraw(1), lambda: withdraw(2))) == [False, True]
            assert sum(balances(registry).values()) == 50

    def test_it_ends_with_the_error_when_that_was_often_enough(self, registry: Registry) -> None:
        runs: list[int] = []

        @in_transaction(registry=registry, retries=2)
        def work(session: sa_orm.Session) -> None:
            runs.append(1)
            session.execute(add_to(1, 1))
            raise SerializationError("x", {}, Exception("y"))

        with pytest.raises(SerializationError):
            work()
        assert len(runs) == 3
        assert balances(registry) == {1: 100, 2: 100}

    def test_other_errors_are_raised_at_once(self, registry: Registry) -> None:
        runs: list[int] = []

        @in_transaction(registry=registry)
        def work(session: sa_orm.Session) -> None:
            runs.append(1)
            session.execute(sa.insert(Account).values(id=1, balance=1))

        with pytest.raises(UniqueError):
            work()
        assert len(runs) == 1

    def test_the_default_registry_is_used_unless_another_is_given(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        @in_transaction
        def count(session: sa_orm.Session) -> int:
            return len(session.scalars(sa.select(Account)).all())

        monkeypatch.setattr("opal_registry.registry._default", registry)
        assert count() == 2


class TestNeverTwice:
    def test_a_commit_in_doubt(self, postgres_url: str) -> None:
        url = sa.make_url(postgres_url)
        assert url.port
        runs: list[int] = []
        with registry_of(postgres_url) as direct, Proxy(url.port, b"COMMIT", "after") as proxy:
            fill(direct)
            there = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
            with registry_of(there) as registry:

                @in_transaction(registry=registry, retry_on=(sa.exc.OperationalError,))
                def work(session: sa_orm.Session) -> None:
                    runs.append(1)
                    session.execute(add_to(1, 1))

                with pytest.raises(InDoubtError, match="nobody knows whether it took effect"):
                    work()
                assert len(runs) == 1
                work()
            assert balances(direct)[1] in {101, 102}

    @pytest.mark.parametrize(("others", "runs"), [(0, 3), (1, 1)], ids=["one database", "two databases"])
    def test_what_is_committed_in_one_of_several_databases(
        self, postgres_url: str, tmp_path: Path, others: int, runs: int
    ) -> None:
        binds = {"b": {"url": f"sqlite:///{tmp_path / 'b.db'}"}}
        with registry_of(postgres_url, binds=binds) as registry:
            fill(registry)
            with registry.engine().begin() as connection:
                connection.exec_driver_sql(FAIL_AT_COMMIT)
            ran: list[int] = []

            @in_transaction(registry=registry, retries=2)
            def work(session: sa_orm.Session) -> None:
                ran.append(1)
                session.execute(add_to(1, 1), bind_arguments={"bind": registry.engine()})
                if others:
                    session.execute(sa.text("SELECT 1"), bind_arguments={"bind": registry.engine("b")})

            with pytest.raises(SerializationError):
                work()
            assert len(ran) == runs

    def test_what_the_function_commits_itself(self, registry: Registry) -> None:
        @in_transaction(registry=registry)
        def work(session: sa_orm.Session) -> None:
            with session.begin_nested():
                session.execute(add_to(1, 1))
            session.commit()

        with pytest.raises(OpalError, match=r"work commits, but its transaction is committed when it returns"):
            work()
        assert balances(registry) == {1: 100, 2: 100}


FAIL_AT_COMMIT = """
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'too late' USING ERRCODE = '40001'; END $$;
    CREATE CONSTRAINT TRIGGER fail AFTER UPDATE ON accounts DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION fail();
"""


class TestAfterCommit:
    def test_callbacks_are_called_in_order_when_the_connection_is_free(self, registry: Registry) -> None:
        said: list[object] = []
        with registry.session_scope() as session:
            after_commit(session, lambda: said.append(registry.engine().pool.checkedout()))  # type: ignore[attr-defined]
            session.execute(add_to(1, 1))
            after_commit(session, lambda: said.append(balances(registry)[1]))
            session.flush()
            assert said == []
        assert said == [0, 101]

    def test_a_rollback_forgets_them(self, registry: Registry) -> None:
        said: list[str] = []
        with registry.session_factory() as session:
            after_commit(session, lambda: said.append("rolled back"))
            session.execute(add_to(1, 1))
            session.rollback()
            session.execute(add_to(1, 1))
            after_commit(session, lambda: said.append("committed"))
            session.commit()
            session.execute(add_to(1, 1))
            session.commit()
            session.execute(add_to(1, 1))
            after_commit(session, lambda: said.append("closed"))
        assert said == ["committed"]

    def test_a_rollback_before_anything_has_happened_does_so_too(self, registry: Registry) -> None:
        said: list[str] = []
        for end in ("rollback", "close"):
            with registry.session_factory(close_resets_only=True) as session:
                after_commit(session, lambda end=end: said.append(end))  # type: ignore[misc]
                getattr(session, end)()
                session.execute(add_to(1, 1))
                session.commit()
        assert said == []

    def test_whoever_is_cancelled_meanwhile_loses_none_of_them(self, registry: Registry, database_url: str) -> None:
        said: list[str] = []

        async def main() -> None:
            there, on = asyncio.Event(), asyncio.Event()

            async def first() -> None:
                there.set()
                await on.wait()
                said.append("first")

            async def commit() -> None:
                async with registry_of(database_url) as elsewhere, elsewhere.async_session_scope() as session:
                    after_commit(session, first)
                    after_commit(session, lambda: said.append("second"))
                    await session.execute(add_to(1, 1))

            task = asyncio.create_task(commit())
            await asyncio.wait_for(there.wait(), 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert said == ["second"]
            on.set()
            while "first" not in said:
                await asyncio.sleep(0)

        asyncio.run(main())
        assert balances(registry)[1] == 101

    def test_there_may_be_very_many(self, registry: Registry) -> None:
        said: list[int] = []
        with registry.session_scope() as session:
            for number in range(3000):
                after_commit(session, functools.partial(said.append, number))
        assert said == list(range(3000))

    def test_a_program_that_is_stopped_calls_them_first(self, registry: Registry) -> None:
        said: list[str] = []

        def stop() -> None:
            raise KeyboardInterrupt

        with registry.session_factory() as session:
            after_commit(session, stop)
            after_commit(session, lambda: said.append("next"))
            session.execute(add_to(1, 1))
            with pytest.raises(KeyboardInterrupt):
                session.commit()
        assert said == ["next"]

    def test_callables_without_a_name_have_one_in_errors(self, registry: Registry) -> None:
        async def work(_number: int) -> None: ...

        with (
            registry.session_scope() as session,
            pytest.raises(OpalError, match=r"functools.partial\(.*cannot be awaited"),
        ):
            after_commit(session, functools.partial(work, 1))
        assert in_transaction(registry=registry)(functools.partial(lambda session, number: number, number=1))() == 1

    def test_a_generator_has_no_transaction(self, registry: Registry) -> None:
        def rows(session: sa_orm.Session) -> Iterator[int]:
            yield from session.scalars(sa.select(Account.id))

        with pytest.raises(OpalError, match="rows is a generator, whose body runs when its transaction has ended"):
            in_transaction(registry=registry)(rows)

    def test_a_savepoint_forgets_its_own(self, registry: Registry) -> None:
        said: list[str] = []
        with registry.session_scope() as session:
            after_commit(session, lambda: said.append("first"))
            outer = session.begin_nested()
            after_commit(session, lambda: said.append("kept"))
            with session.begin_nested():
                after_commit(session, lambda: said.append("kept within"))
                session.add(Account(id=3))
            outer.commit()
            outer = session.begin_nested()
            with session.begin_nested():
                after_commit(session, lambda: said.append("lost with the outer one"))
            outer.rollback()
            with suppress(UniqueError), session.begin_nested():
                after_commit(session, lambda: said.append("lost"))
                session.execute(sa.insert(Account).values(id=1))
            after_commit(session, lambda: said.append("last"))
        assert said == ["first", "kept", "kept within", "last"]

    def test_one_that_fails_is_logged_and_the_others_go_on(
        self, registry: Registry, caplog: pytest.LogCaptureFixture
    ) -> None:
        said: list[str] = []

        def fail() -> None:
            raise ZeroDivisionError

        with registry.session_scope() as session:
            after_commit(session, fail)
            after_commit(session, lambda: said.append("next"))
        assert said == ["next"]
        assert "which was to be called after a commit, failed" in caplog.text
        assert "ZeroDivisionError" in caplog.text

    def test_what_is_run_again_is_followed_once(self, registry: Registry) -> None:
        said: list[int] = []

        @in_transaction(registry=registry)
        def work(session: sa_orm.Session) -> None:
            after_commit(session, lambda: said.append(1))
            session.execute(add_to(1, 1))
            if not said and not said.append(0):  # type: ignore[func-returns-value]
                raise DeadlockError("x", {}, Exception("y"))

        work()
        assert said == [0, 1]
        assert balances(registry)[1] == 101

    def test_coroutine_functions_follow_an_async_session(self, registry: Registry, database_url: str) -> None:
        said: list[object] = []

        async def main() -> None:
            async with registry_of(database_url) as there:

                async def look() -> None:
                    async with there.async_session_scope(read_only=True) as session:
                        said.append(await session.scalar(sa.select(Account.balance).where(Account.id == 1)))

                async with there.async_session_scope() as session:
                    after_commit(session, look)
                    after_commit(session, lambda: said.append("plain"))
                    await session.execute(add_to(1, 1))

        asyncio.run(main())
        assert said == [101, "plain"]
        with registry.session_scope() as session, pytest.raises(OpalError, match="use an AsyncSession"):
            after_commit(session, main)

    def test_sessions_of_others_have_them_too(self, registry: Registry) -> None:
        said: list[str] = []
        scoped = sa_orm.scoped_session(sa_orm.sessionmaker(registry.engine()))
        after_commit(scoped, lambda: said.append("scoped"))
        scoped.commit()
        scoped.remove()
        assert said == ["scoped"]
