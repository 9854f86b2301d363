"""Sessions that were declared read-only cannot write, by no way, on no database; and leave no trace behind."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm as sa_orm
from sqlalchemy.ext.asyncio import AsyncSession

from opal_registry.base import make_base
from opal_registry.models import User
from opal_registry.registry import Registry
from opal_registry.sessions import OpalSession, ReadOnlySessionError, make_session_factory
from tests.databases import engine_of, registry_of

REFUSED = (ReadOnlySessionError, sa.exc.OperationalError, sa.exc.InternalError)
"""By us, by SQLite, by PostgreSQL."""


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    """A registry with one connection only, of a database with a table ``users`` in which there is Ada."""
    with registry_of(database_url, database={"url": database_url, "pool": {"size": 1, "max_overflow": 0}}) as registry:
        User.metadata.create_all(registry.engine(), [User.metadata.tables["users"]])
        with registry.session_scope() as session:
            session.add(User(username="ada"))
        yield registry


def people(registry: Registry) -> list[str]:
    with registry.session_scope(read_only=True) as session:
        return sorted(session.scalars(sa.select(User.username)))


def change_ada(session: sa_orm.Session) -> None:
    session.scalars(sa.select(User).filter_by(username="ada")).one().first_name = "Ada"
    session.flush()


def delete_ada(session: sa_orm.Session) -> None:
    session.delete(session.scalars(sa.select(User).filter_by(username="ada")).one())
    session.flush()


def add_bob(session: sa_orm.Session) -> None:
    session.add(User(username="bob"))
    session.commit()


def add_bob_and_look(session: sa_orm.Session) -> None:
    session.add(User(username="bob"))
    session.scalars(sa.select(User)).all()


IN_PROCESS: dict[str, Callable[[sa_orm.Session], object]] = {
    "add": add_bob,
    "change": change_ada,
    "delete": delete_ada,
    "insert": lambda session: session.execute(sa.insert(User).values(username="bob", roles=[])),
    "update": lambda session: session.execute(sa.update(User).values(username="bob")),
    "core delete": lambda session: session.execute(sa.delete(User.metadata.tables["users"])),
    "query delete": lambda session: session.query(User).delete(),
    "autoflush": add_bob_and_look,
}
BY_THE_SERVER: dict[str, Callable[[sa_orm.Session], object]] = {
    "text": lambda session: session.execute(sa.text("UPDATE users SET username = 'bob'")),
    "ddl": lambda session: session.execute(sa.text("CREATE TABLE sneaky (x INTEGER)")),
    "bulk save": lambda session: session.bulk_save_objects([User(username="bob")]),
    "bulk insert": lambda session: session.bulk_insert_mappings(sa.inspect(User), [{"username": "bob", "roles": []}]),
    "connection": lambda session: session.connection().execute(sa.insert(User).values(username="bob", roles=[])),
    "driver": lambda session: session.connection().exec_driver_sql("DELETE FROM users"),
    "after a read": lambda session: (
        session.scalars(sa.select(User)).all(),
        session.execute(sa.text("DELETE FROM users")),
    ),
}
WAYS = [pytest.param(way, id=name) for name, way in (IN_PROCESS | BY_THE_SERVER).items()]


@pytest.mark.parametrize("write", WAYS)
def test_no_way_to_write_is_open(registry: Registry, write: Callable[[sa_orm.Session], object]) -> None:
    with pytest.raises(REFUSED), registry.session_scope(read_only=True) as session:
        write(session)

    assert people(registry) == ["ada"]
    with registry.session_scope() as session:  # on the same connection
        session.add(User(username="carl"))
    assert people(registry) == ["ada", "carl"]


@pytest.mark.parametrize("name", IN_PROCESS)
def test_what_this_process_can_see_never_gets_to_the_server(tmp_path: Path, name: str) -> None:
    with registry_of(f"sqlite:///{tmp_path / 'x.db'}") as registry:
        User.metadata.create_all(registry.engine(), [User.metadata.tables["users"]])
        with registry.session_scope() as session:
            session.add(User(username="ada"))
        with (
            pytest.raises(ReadOnlySessionError, match="open the session without read_only=True"),
            registry.session_scope(read_only=True) as session,
        ):
            IN_PROCESS[name](session)


def test_no_way_is_open_under_asyncio(database_url: str, registry: Registry) -> None:
    expected = ["ada"]
    for driver in ("psycopg", "asyncpg") if "psycopg" in database_url else ("aiosqlite",):
        for name, write in (IN_PROCESS | BY_THE_SERVER).items():
            expected.append(f"{name} {driver}")
            asyncio.run(refuse_and_go_on(database_url.replace("psycopg", driver), write, expected[-1]))
    assert people(registry) == sorted(expected)


async def refuse_and_go_on(url: str, write: Callable[[sa_orm.Session], object], username: str) -> None:
    """Try to write in a read-only session; then add somebody, on the same connection."""
    async with registry_of(url, database={"url": url, "pool": {"size": 1, "max_overflow": 0}}) as registry:
        with pytest.raises((*REFUSED, sa.exc.DBAPIError)):
            async with registry.async_session_scope(read_only=True) as session:
                await session.run_sync(write)
        async with registry.async_session_scope() as session:
            session.add(User(username=username))


def test_one_connection_serves_the_whole_session(registry: Registry) -> None:
    for read_only in (True, False):
        with registry.session_scope(read_only=read_only) as session:
            for _ in range(3):
                session.execute(sa.select(User))
            assert registry.engine().pool.checkedout() == 1  # type: ignore[attr-defined]


def test_a_read_only_session_sees_one_state_of_a_sqlite_file(tmp_path: Any) -> None:
    with registry_of(f"sqlite:///{tmp_path / 'x.db'}") as registry:
        User.metadata.create_all(registry.engine(), [User.metadata.tables["users"]])
        with registry.session_scope(read_only=True) as session:
            assert session.scalars(sa.select(User)).all() == []
            with registry.session_scope() as other:
                other.add(User(username="ada"))
            assert session.scalars(sa.select(User)).all() == []


def test_a_scope_commits_at_its_end_and_rolls_back_on_any_error(registry: Registry) -> None:
    for error in (ZeroDivisionError, KeyboardInterrupt, GeneratorExit, SystemExit):
        with suppress(error), registry.session_scope() as session:
            session.add(User(username="bob"))
            session.flush()
            raise error
    assert people(registry) == ["ada"]
    assert registry.engine().pool.checkedout() == 0  # type: ignore[attr-defined]


def test_nothing_is_connected_before_the_first_statement() -> None:
    with (
        registry_of("postgresql://nobody@127.0.0.1:1/nothing") as registry,
        registry.session_scope() as session,
        registry.session_scope(read_only=True),
    ):
        session.add(User(username="ada"))
        session.expunge_all()


def test_a_cancelled_task_gives_its_connection_back(database_url: str, registry: Registry) -> None:
    async def main() -> int:
        async with registry:
            started = asyncio.Event()

            async def work(session: AsyncSession) -> None:
                await session.execute(sa.select(User))
                started.set()
                await asyncio.Event().wait()

            async def request() -> None:
                async with registry.async_session_scope() as session:
                    session.add(User(username="bob"))
                    await work(session)

            task = asyncio.create_task(request())
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return int(registry.async_engine().pool.checkedout())  # type: ignore[attr-defined]

    assert asyncio.run(main()) == 0
    assert people(registry) == ["ada"]


class TestBinds:
    """A session over two databases."""

    @pytest.fixture
    def factory(self, tmp_path: Any) -> Iterator[sa_orm.sessionmaker[OpalSession]]:
        """Sessions over two files, each with a table of its own."""
        base = make_base()

        class Order(base):  # type: ignore[misc, valid-type]
            __tablename__ = "orders"
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)

        class Visit(base):  # type: ignore[misc, valid-type]
            __tablename__ = "visits"
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)

        self.Order, self.Visit = Order, Visit
        engines = {bind: engine_of(f"sqlite:///{tmp_path / bind}.db") for bind in ("default", "analytics")}
        Order.__table__.create(engines["default"])
        Visit.__table__.create(engines["analytics"])
        yield make_session_factory(
            {bind: lambda engine=engine: engine for bind, engine in engines.items()},  # type: ignore[misc]
            lambda table: "analytics" if table.name == "visits" else "default",
        )
        for engine in engines.values():
            engine.dispose()

    def test_each_table_is_found_where_it_lives(self, factory: sa_orm.sessionmaker[OpalSession]) -> None:
        with factory() as session:
            session.add_all([self.Order(id=1), self.Visit(id=2)])
            session.commit()
            visits = self.Visit.__table__
            other = visits.alias()
            for statement in (
                sa.select(self.Visit),
                sa.select(visits.c.id),
                sa.select(sa.func.count()).select_from(visits),
                sa.select(visits.join(other, visits.c.id == other.c.id)),
                sa.select(sa.select(visits).subquery()),
                sa.select(sa.select(visits).cte()),
                sa.union_all(sa.select(visits.c.id), sa.select(other.c.id)),
            ):
                assert session.execute(statement).first() is not None
            assert session.execute(sa.update(visits).values(id=3)).rowcount == 1  # type: ignore[attr-defined]
            assert session.execute(sa.text("SELECT id FROM orders")).scalar() == 1

    def test_both_are_read_only_together(self, factory: sa_orm.sessionmaker[OpalSession]) -> None:
        with factory(intent="read_only") as session:
            assert session.scalars(sa.select(self.Visit)).all() == []
            with pytest.raises(sa.exc.OperationalError, match="declared read-only"):
                session.connection(bind_arguments={"mapper": self.Visit}).exec_driver_sql("DELETE FROM visits")
