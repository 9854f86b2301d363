"""SQLite made safe: what every connection is set to, how transactions begin, and what is lost (nothing)."""

import asyncio
import multiprocessing
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from opal_registry.engines.factory import with_intent
from opal_registry.engines.sqlite import StaleReadError
from opal_registry.registry import Registry
from opal_registry.sessions import OpalSession
from tests.databases import engine_of, registry_of

metadata = sa.MetaData()
counters = sa.Table("counters", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))
parts = sa.Table("parts", metadata, sa.Column("counter_id", sa.ForeignKey("counters.id")))


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a file with one counter that stands at 0."""
    url = f"sqlite:///{tmp_path / 'opal.db'}"
    engine = engine_of(url)
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(sa.insert(counters).values(id=1, n=0))
    engine.dispose()
    return url


@pytest.fixture
def registry(url: str) -> Iterator[Registry]:
    """A registry of that file."""
    with registry_of(url) as registry:
        yield registry


@pytest.fixture
def engine(registry: Registry) -> sa.Engine:
    """Its engine."""
    return registry.engine()


@pytest.fixture
def impatient(url: str) -> Iterator[Registry]:
    """A registry of that file which waits for nobody."""
    with registry_of(url) as registry:
        sa.event.listen(registry.engine(), "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=0"))
        yield registry


def pragma(connection: sa.Connection, name: str) -> object:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def begun(engine: sa.Engine) -> list[str]:
    """How the transactions of an engine begin, from now on."""
    seen: list[str] = []

    def note(statement: str) -> None:
        if statement.startswith("BEGIN"):
            seen.append(statement)

    sa.event.listen(engine, "checkout", lambda connection, *_: connection.set_trace_callback(note))
    return seen


def count(connection: sa.Connection | OpalSession) -> int:
    return int(connection.execute(sa.select(counters.c.n)).scalar_one())


def increment(connection: sa.Connection | OpalSession) -> None:
    connection.execute(sa.update(counters).values(n=counters.c.n + 1))


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "value"), [("foreign_keys", 1), ("journal_mode", "wal"), ("synchronous", 1), ("busy_timeout", 30_000)]
    )
    def test_every_connection_is_set(self, engine: sa.Engine, name: str, value: object) -> None:
        with engine.connect() as first, engine.connect() as second:
            assert pragma(first, name) == pragma(second, name) == value

    def test_the_pools_timeout_is_how_long_a_writer_waits(self, url: str) -> None:
        engine = engine_of(url, pool={"timeout": 1.5})
        with engine.connect() as connection:
            assert pragma(connection, "busy_timeout") == 1500
        engine.dispose()

    def test_foreign_keys_count(self, engine: sa.Engine) -> None:
        with pytest.raises(sa.exc.IntegrityError, match="FOREIGN KEY"), engine.begin() as connection:
            connection.execute(sa.insert(parts).values(counter_id=7))

    def test_who_only_looks_does_not_change_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "theirs.db"
        with sqlite3.connect(path) as theirs:
            theirs.execute("CREATE TABLE t (x)")
        theirs.close()
        before = path.read_bytes()
        engine = engine_of(f"sqlite:///{path}")
        with with_intent(engine, "read_only").connect() as connection:
            connection.execute(sa.text("SELECT * FROM t"))
        with with_intent(engine, "read_first").connect() as connection:
            connection.execute(sa.text("SELECT * FROM t"))
        engine.dispose()
        assert path.read_bytes() == before
        assert [entry.name for entry in tmp_path.iterdir()] == ["theirs.db"]

    def test_memory_is_one_database_for_all_connections(self) -> None:
        with registry_of("sqlite://") as registry:
            metadata.create_all(registry.engine())
            with registry.session_scope() as session:
                session.execute(sa.insert(counters).values(id=1, n=5))
            with registry.session_scope(read_only=True) as session:
                assert count(session) == 5
            with registry.session_scope() as session:
                increment(session)


class TestTransactions:
    def test_begin_at_the_first_statement_as_they_are_meant(self, engine: sa.Engine) -> None:
        seen = begun(engine)
        for intent in ("read_write", "read_first", "read_only"):
            with with_intent(engine, intent).connect() as connection:
                assert not seen
                assert [count(connection), count(connection)] == [0, 0]
            assert [seen.pop()] == ["BEGIN IMMEDIATE" if intent == "read_write" else "BEGIN"]

    @pytest.mark.parametrize(
        "statement",
        [
            sa.select(counters).with_for_update(),
            sa.insert(counters).values(n=1),
            sa.update(counters).values(n=1),
            sa.delete(counters),
            sa.text("/* a note */ UPDATE counters SET n = 1"),
            sa.text("CREATE TABLE x (y)"),
            sa.delete(counters).where(sa.select(counters.c.id).cte("c").select().exists()),
        ],
        ids=["for update", "insert", "update", "delete", "text", "ddl", "cte"],
    )
    def test_an_expected_reader_that_starts_by_writing_takes_the_lock(
        self, engine: sa.Engine, statement: sa.Executable
    ) -> None:
        seen = begun(engine)
        with with_intent(engine, "read_first").connect() as connection:
            connection.execute(statement)
        assert seen == ["BEGIN IMMEDIATE"]

    @pytest.mark.parametrize("text", ["SELECT 1", "-- a note\n select 1", "WITH x AS (SELECT 1) SELECT * FROM x"])
    def test_an_expected_reader_that_reads_does_not(self, engine: sa.Engine, text: str) -> None:
        seen = begun(engine)
        with with_intent(engine, "read_first").connect() as connection:
            connection.execute(sa.text(text))
        with with_intent(engine, "read_first").connect() as connection, connection.begin_nested():
            count(connection)
        assert seen == ["BEGIN", "BEGIN"]

    @pytest.mark.parametrize("text", ["PRAGMA user_version", "VACUUM", "/* x */ PRAGMA optimize", " vacuum"])
    def test_statements_that_cannot_be_in_one_are_not(self, engine: sa.Engine, text: str) -> None:
        seen = begun(engine)
        with engine.connect() as connection:
            connection.exec_driver_sql(text)
        assert not seen

    def test_vacuum_works_on_a_connection_that_was_read_only_before(self, url: str) -> None:
        engine = engine_of(url, pool={"size": 1, "max_overflow": 0})
        with with_intent(engine, "read_only").connect() as connection:
            count(connection)
        with engine.connect() as connection:
            connection.exec_driver_sql("VACUUM")
        engine.dispose()

    def test_ddl_is_undone_with_the_rest(self, engine: sa.Engine) -> None:
        with suppress(ZeroDivisionError), engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE half_done (x INTEGER)"))
            increment(connection)
            raise ZeroDivisionError
        assert not sa.inspect(engine).has_table("half_done")
        with engine.connect() as connection:
            assert count(connection) == 0

    def test_savepoints_undo_their_part(self, engine: sa.Engine) -> None:
        with engine.begin() as connection:
            increment(connection)
            with suppress(ZeroDivisionError), connection.begin_nested():
                increment(connection)
                raise ZeroDivisionError
        with engine.connect() as connection:
            assert count(connection) == 1

    def test_autocommit_commits_each_statement(self, engine: sa.Engine) -> None:
        seen = begun(engine)
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            increment(connection)
            connection.rollback()
        with engine.connect() as connection:
            assert count(connection) == 1
            increment(connection)
        with engine.connect() as connection:
            assert count(connection) == 1
        assert seen == ["BEGIN IMMEDIATE", "BEGIN IMMEDIATE"]

    def test_autocommit_writes_on_a_connection_that_was_read_only_before(self, url: str) -> None:
        engine = engine_of(url, pool={"size": 1, "max_overflow": 0})
        with with_intent(engine, "read_only").connect() as connection:
            count(connection)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            increment(connection)
        engine.dispose()

    def test_a_raw_connection_is_never_left_read_only(self, url: str) -> None:
        engine = engine_of(url, pool={"size": 1, "max_overflow": 0})
        with with_intent(engine, "read_only").connect() as connection:
            count(connection)
        raw = engine.raw_connection()
        raw.cursor().execute("UPDATE counters SET n = 3")
        raw.close()
        engine.dispose()


def test_readers_and_a_writer_do_not_stop_each_other(impatient: Registry) -> None:
    with impatient.session_scope(read_only=True) as reader, impatient.session_scope() as writer:
        assert count(reader) == 0
        increment(writer)
        writer.commit()
        assert count(reader) == 0
    with impatient.session_scope(read_only=True) as reader:
        assert count(reader) == 1


def test_two_writers_at_once_are_one_too_many(impatient: Registry) -> None:
    with impatient.session_scope() as first, impatient.session_factory() as second:
        increment(first)
        with pytest.raises(sa.exc.OperationalError, match="database is locked") as caught:
            increment(second)
    assert not isinstance(caught.value, StaleReadError)


class TestStaleReads:
    def test_a_write_that_rests_on_a_stale_read_is_refused_with_a_remedy(self, registry: Registry) -> None:
        with registry.session_factory(intent="read_first") as reader, registry.session_scope() as writer:
            count(reader)
            increment(writer)
            writer.commit()
            with pytest.raises(StaleReadError) as caught:
                increment(reader)
        said = str(caught.value)
        assert "this transaction read before another one wrote" in said
        assert "with_for_update()" in said
        assert "UPDATE counters" in said
        assert isinstance(caught.value, sa.exc.OperationalError)
        assert "SQLITE_BUSY_SNAPSHOT" in repr(vars(caught.value.orig))

    def test_also_while_the_other_one_still_writes(self, registry: Registry) -> None:
        with registry.session_factory(intent="read_first") as reader, registry.session_scope() as writer:
            count(reader)
            increment(writer)
            with pytest.raises(StaleReadError):
                increment(reader)

    def test_also_in_a_flush(self, registry: Registry) -> None:
        from opal_registry.models import User

        with registry.session_factory(intent="read_first") as reader, registry.session_scope() as writer:
            User.metadata.create_all(registry.engine(), [User.metadata.tables["users"]])
            count(reader)
            increment(writer)
            writer.commit()
            reader.add(User(username="ada"))
            with pytest.raises(StaleReadError):
                reader.flush()
            reader.rollback()
            reader.add(User(username="ada"))
            reader.commit()

    def test_running_it_again_does(self, registry: Registry) -> None:
        with registry.session_factory(intent="read_first") as reader, registry.session_scope() as writer:
            count(reader)
            increment(writer)
            writer.commit()
            with pytest.raises(StaleReadError):
                increment(reader)
            reader.rollback()
            assert count(reader) == 1
            increment(reader)
            reader.commit()
            assert count(reader) == 2

    def test_waiting_for_a_writer_is_something_else(self, impatient: Registry) -> None:
        with impatient.session_scope() as writer, impatient.session_factory(intent="read_first") as reader:
            increment(writer)
            with pytest.raises(sa.exc.OperationalError) as caught:
                increment(reader)
        assert not isinstance(caught.value, StaleReadError)


def increment_by_reading(url: str, times: int) -> None:
    """Add 1 so many times: read, think, write."""
    with registry_of(url) as registry:
        for _ in range(times):
            with registry.session_scope() as session:
                session.execute(sa.update(counters).values(n=count(session) + 1))


def test_no_update_of_any_process_is_lost(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=increment_by_reading, args=(url, 100)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    engine = engine_of(url)
    with engine.connect() as connection:
        assert count(connection) == 300
    engine.dispose()


def test_no_update_of_any_thread_is_lost(registry: Registry) -> None:
    def work() -> None:
        for _ in range(25):
            with registry.session_scope() as session:
                session.execute(sa.update(counters).values(n=count(session) + 1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with registry.session_scope(read_only=True) as session:
        assert count(session) == 100


class TestAsyncio:
    """The same through aiosqlite."""

    def run(self, url: str, work: Callable[[Registry], Awaitable[None]]) -> None:
        async def main() -> None:
            async with registry_of(url) as registry:
                await work(registry)

        asyncio.run(main())

    async def count(self, session: AsyncSession) -> int:
        return int((await session.execute(sa.select(counters.c.n))).scalar_one())

    def test_every_connection_is_set(self, url: str) -> None:
        async def work(registry: Registry) -> None:
            async with registry.async_engine().connect() as connection:
                for name, value in (("foreign_keys", 1), ("journal_mode", "wal"), ("synchronous", 1)):
                    assert (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar() == value

        self.run(url, work)

    def test_no_update_of_any_task_is_lost(self, url: str) -> None:
        async def work(registry: Registry) -> None:
            async def add(times: int) -> None:
                for _ in range(times):
                    async with registry.async_session_scope() as session:
                        await session.execute(sa.update(counters).values(n=await self.count(session) + 1))

            await asyncio.gather(*(add(20) for _ in range(4)))
            async with registry.async_session_scope(read_only=True) as session:
                assert await self.count(session) == 80

        self.run(url, work)

    def test_a_stale_read_is_refused_with_a_remedy(self, url: str) -> None:
        async def work(registry: Registry) -> None:
            async with registry.async_session_factory(intent="read_first") as reader:
                await self.count(reader)
                async with registry.async_session_scope() as writer:
                    await writer.execute(sa.update(counters).values(n=7))
                with pytest.raises(StaleReadError, match="another one wrote"):
                    await reader.execute(sa.update(counters).values(n=8))

        self.run(url, work)

    def test_ddl_is_undone_and_savepoints_undo_their_part(self, url: str) -> None:
        async def work(registry: Registry) -> None:
            async with registry.async_session_factory() as session:
                await session.execute(sa.text("CREATE TABLE half_done (x INTEGER)"))
                async with session.begin_nested() as savepoint:
                    await session.execute(sa.update(counters).values(n=7))
                    await savepoint.rollback()
                assert await self.count(session) == 0
            async with registry.async_session_scope() as session:
                names = await session.run_sync(lambda s: sa.inspect(s.connection()).get_table_names())
                assert "half_done" not in names

        self.run(url, work)

    def test_a_read_only_session_leaves_no_trace_on_the_connection(self, url: str) -> None:
        async def work(registry: Registry) -> None:
            for _ in range(2):
                async with registry.async_session_scope(read_only=True) as session:
                    await self.count(session)
                    with pytest.raises(sa.exc.OperationalError, match="declared read-only"):
                        await session.execute(sa.text("UPDATE counters SET n = 9"))
                async with registry.async_session_scope() as session:
                    await session.execute(sa.update(counters).values(n=counters.c.n + 1))
            async with registry.async_session_scope() as session:
                assert await self.count(session) == 2

        self.run(url, work)
