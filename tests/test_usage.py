"""Sessions that are used wrongly: after their end, by two at once, without await, on an event loop."""

import asyncio
import logging
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from opal_registry.models import User
from opal_registry.registry import Registry
from opal_registry.usage import AsyncSessionError, ClosedSessionError, FailedTransactionError, SharedSessionError
from tests.databases import registry_of

ONE = sa.text("SELECT 1")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry of a SQLite file with a table ``users``."""
    with registry_of(f"sqlite:///{tmp_path / 'x.db'}") as registry:
        User.metadata.create_all(registry.engine(), [User.metadata.tables["users"]])
        yield registry


@pytest.fixture
def in_production(registry: Registry) -> Iterator[Registry]:
    url = registry.engine().url.render_as_string()
    with registry_of(url, environment="production") as registry:
        yield registry


class TestAfterItsEnd:
    def test_it_says_where_it_was_closed(self, registry: Registry) -> None:
        with registry.session_scope() as session:
            session.execute(ONE)
        with pytest.raises(ClosedSessionError) as caught:
            session.execute(ONE)

        here = re.escape(__file__) + r":\d+"
        assert re.fullmatch(
            rf"the session is used after it was closed; it was closed in {here}\n  where: {here}\n"
            r"  mend:  open session_scope\(\) where the work is done; a stream or a background task needs one of its own",
            str(caught.value),
        )

    def test_nothing_can_be_done_with_it_but_closing_it(self, registry: Registry) -> None:
        session = registry.session_factory()
        session.close()
        for work in (
            lambda: session.add(User(username="ada")),
            lambda: session.scalars(ONE),
            lambda: session.get(User, 1),
            lambda: session.query(User).all(),
            lambda: session.bulk_save_objects([User(username="ada")]),
            session.begin,
            session.commit,
            session.connection,
        ):
            with pytest.raises(ClosedSessionError):
                work()
        session.rollback()
        session.close()

    def test_under_asyncio_too(self, registry: Registry) -> None:
        async def main() -> str:
            async with registry, registry.async_session_scope() as session:
                await session.execute(ONE)
            with pytest.raises(ClosedSessionError) as caught:
                await session.execute(ONE)
            return str(caught.value)

        assert f"it was closed in {__file__}:" in asyncio.run(main())

    def test_whoever_asks_for_it_may_use_it_again(self, registry: Registry) -> None:
        session = registry.session_factory(close_resets_only=True)
        session.close()
        with pytest.raises(sa.exc.NoResultFound):
            session.get_one(User, 1)
        session.close()

    def test_other_errors_stay_what_they_are(self, registry: Registry) -> None:
        with registry.session_scope() as session, pytest.raises(sa.exc.NoResultFound) as caught:
            session.get_one(User, 1)
        assert not isinstance(caught.value, ClosedSessionError)


class TestTwoAtOnce:
    def flush_meanwhile(self, registry: Registry, *, at_once: bool = True) -> None:
        """Let one thread be in the middle of a statement, and another flush; it is answered, or waits."""
        asked, answer = threading.Event(), threading.Event()

        def wait(*_: object) -> None:
            asked.set()
            assert answer.wait(30)

        sa.event.listen(registry.engine(), "before_cursor_execute", wait)
        with registry.session_scope() as session, ThreadPoolExecutor(2, thread_name_prefix="other") as threads:
            done = threads.submit(session.execute, ONE)
            try:
                assert asked.wait(30)
                flushed = threads.submit(lambda: session.flush())
                if at_once:
                    flushed.result(30)
                assert not flushed.done()
            finally:
                answer.set()
                done.result(30)
                session.rollback()
            flushed.result(30)

    def test_threads_are_refused(self, registry: Registry) -> None:
        with pytest.raises(SharedSessionError) as caught:
            self.flush_meanwhile(registry)
        [problem] = caught.value.problems
        assert problem.what == (
            "one session is used by two at once: thread 'other_1' calls flush() while thread 'other_0' is in execute()"
        )
        assert problem.where.startswith(f"{__file__}:")
        assert problem.mend.startswith("open a session in each of them")

    def test_in_production_they_take_turns(self, in_production: Registry) -> None:
        self.flush_meanwhile(in_production, at_once=False)

    def test_one_after_the_other_may(self, registry: Registry) -> None:
        with registry.session_scope() as session, ThreadPoolExecutor(1) as threads:
            session.execute(ONE)
            assert threads.submit(session.scalar, ONE).result(30) == 1
            assert session.scalar(ONE) == 1

    def test_tasks_are_refused(self, registry: Registry) -> None:
        async def main() -> list[object]:
            async with registry, registry.async_session_scope() as session:
                tasks = [asyncio.create_task(session.scalar(ONE), name=name) for name in ("first", "second")]
                return list(await asyncio.gather(*tasks, return_exceptions=True))

        first, second = asyncio.run(main())
        assert first == 1
        assert isinstance(second, SharedSessionError)
        assert "task 'second' calls scalar() while task 'first' is in scalar()" in str(second)


class TestFromTheWrongWorld:
    def test_a_session_of_asyncio_without_await(self, registry: Registry) -> None:
        session = registry.async_session_factory()
        with pytest.raises(AsyncSessionError, match="asks the database without await"):
            session.sync_session.execute(ONE)
        session.sync_session.close()

    def test_an_object_that_would_have_to_ask(self, postgres_url: str) -> None:
        async def main() -> str:
            registry = registry_of(postgres_url.replace("psycopg", "asyncpg"))
            async with registry, registry.async_session_scope() as session:
                await (await session.connection()).run_sync(User.metadata.create_all, [User.metadata.tables["users"]])
                ada = User(username="ada")
                session.add(ada)
                await session.flush()
                session.expire(ada)
                with pytest.raises(AsyncSessionError) as caught:
                    _ = ada.username
                return str(caught.value)

        said = asyncio.run(main())
        assert f"where: {__file__}:" in said
        assert "selectinload()" in said

    def use_on_loop(self, registry: Registry) -> None:
        async def main() -> None:
            for _ in range(2):
                with registry.session_scope() as session:
                    session.execute(ONE)
            async with registry.async_session_scope() as async_session:
                await async_session.execute(ONE)
            await asyncio.to_thread(self.use, registry)
            await registry.aclose()

        asyncio.run(main())

    def use(self, registry: Registry) -> None:
        with registry.session_scope() as session:
            session.execute(ONE)

    def test_waiting_on_an_event_loop_is_told_once(
        self, registry: Registry, in_production: Registry, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "opal_registry"):
            self.use_on_loop(in_production)
            assert caplog.messages == []
            self.use_on_loop(registry)
        [said] = caplog.messages
        assert said.startswith("a session without asyncio is used on an event loop")
        assert f"where: {__file__}:" in said
        assert "get_async_db" in said


class TestAfterAFailure:
    @pytest.mark.parametrize("driver", ["psycopg", "pg8000", "asyncpg"])
    def test_what_postgresql_would_not_commit_is_not_taken_for_committed(self, postgres_url: str, driver: str) -> None:
        def work(session: Session) -> None:
            session.connection().exec_driver_sql("CREATE TEMP TABLE x (y int PRIMARY KEY)")
            with suppress(sa.exc.IntegrityError), session.begin_nested():
                session.execute(sa.text("INSERT INTO x VALUES (1), (1)"))
            session.commit()
            with suppress(sa.exc.IntegrityError):
                session.execute(sa.text("INSERT INTO x VALUES (2), (2)"))
            with pytest.raises(FailedTransactionError, match=r"with session.begin_nested\(\)"):
                session.commit()
            session.rollback()
            session.execute(sa.text("INSERT INTO x VALUES (3)"))

        async def main(registry: Registry) -> None:
            async with registry, registry.async_session_scope() as session:
                await session.run_sync(work)

        registry = registry_of(postgres_url.replace("psycopg", driver))
        if driver == "asyncpg":
            asyncio.run(main(registry))
            return
        with registry, registry.session_scope() as session:
            work(session)

    @pytest.mark.parametrize("driver", ["psycopg", "pg8000"])
    def test_a_savepoint_of_ones_own_saves_the_transaction(self, driver: str, postgres_url: str) -> None:
        with registry_of(postgres_url.replace("psycopg", driver)) as registry, registry.session_scope() as session:
            session.execute(sa.text("SAVEPOINT here"))
            with suppress(sa.exc.DBAPIError):
                session.execute(sa.text("SELECT 1 / 0"))
            session.execute(sa.text("ROLLBACK TO SAVEPOINT here"))
            session.execute(sa.text("CREATE TABLE things (name text)"))
            session.commit()
            assert session.scalar(sa.text("SELECT count(*) FROM things")) == 0

    def test_elsewhere_one_may_go_on(self, registry: Registry) -> None:
        with registry.session_scope() as session:
            session.execute(sa.insert(User).values(username="ada", roles=[]))
            with suppress(sa.exc.IntegrityError):
                session.execute(sa.insert(User).values(username="ada", roles=[]))
        with registry.session_scope() as session:
            assert session.scalars(sa.select(User.username)).all() == ["ada"]
