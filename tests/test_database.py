"""The door for applications: the four original names and their asyncio twins, in programs and in FastAPI."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import fastapi
import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy import orm as sa_orm
from sqlalchemy.ext.asyncio import AsyncSession

from opal_registry.database import (
    AsyncSessionLocal,
    SessionLocal,
    async_session_scope,
    engine,
    get_async_db,
    get_db,
    session_scope,
)
from opal_registry.init import init
from opal_registry.models import User
from opal_registry.registry import Registry
from opal_registry.sessions import OpalSession
from tests.databases import registry_of

Db = Annotated[OpalSession, fastapi.Depends(get_db)]
AsyncDb = Annotated[AsyncSession, fastapi.Depends(get_async_db)]


@pytest.fixture
def registry(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The default registry, of a database with the table ``users``; set after the names above were imported."""
    monkeypatch.setattr("opal_registry.registry._default", None)
    with registry_of(database_url).as_default() as registry:
        init(registry)
        yield registry


def usernames() -> list[str]:
    with session_scope(read_only=True) as session:
        return sorted(session.scalars(sa.select(User.username)))


def checked_out(registry: Registry) -> int:
    pools = [registry.engine().pool, registry.async_engine().pool]
    return sum(pool.checkedout() for pool in pools)  # type: ignore[attr-defined]


class TestNames:
    def test_importing_them_reads_no_configuration_and_opens_nothing(self, tmp_path: Path) -> None:
        code = (
            "import os; os.environ['OPAL_CONFIG'] = '/no/such/file.yaml'\n"
            "from opal_registry.database import *\n"
            "from opal_registry.database import Base, SessionLocal, engine, get_db\n"
            "import sys; assert 'opal_registry.models' not in sys.modules and not Base.metadata.tables\n"
            "assert 'fastapi' not in sys.modules and 'starlette' not in sys.modules and 'alembic' not in sys.modules"
        )
        done = subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert list(tmp_path.iterdir()) == []

    def test_they_follow_the_default_registry_wherever_it_goes(self, registry: Registry, tmp_path: Path) -> None:
        assert engine.url == registry.engine().url
        with registry_of(f"sqlite:///{tmp_path / 'other.db'}").as_default() as other:
            assert engine.url == other.engine().url
            assert repr(engine) == repr(other.engine())
            with SessionLocal() as session:
                assert session.connection().engine.url == other.engine().url
        registry.as_default()
        assert usernames() == []

    def test_the_engine_is_one_in_all_respects(self, registry: Registry) -> None:
        assert isinstance(engine, sa.Engine)
        assert sa.inspect(engine).has_table("users")
        with engine.begin() as connection:
            connection.execute(sa.insert(User).values(username="ada", roles=[]))
        with engine.connect() as connection:
            assert connection.execute(sa.select(User.username)).scalars().all() == ["ada"]
        sa.MetaData().create_all(bind=engine)

    def test_events_can_be_listened_to(self, registry: Registry) -> None:
        seen: list[object] = []
        sa.event.listen(engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
        usernames()
        assert any("FROM users" in str(statement) for statement in seen)

    def test_sessions_of_the_original_kind_use_one_connection(self, registry: Registry) -> None:
        """``sessionmaker(bind=engine)``, as the original suite wrote it."""
        factory = sa_orm.sessionmaker(autocommit=False, autoflush=False, bind=engine)
        with factory() as session:
            session.add(User(username="ada"))
            session.flush()
            assert session.scalars(sa.select(User.username)).all() == ["ada"]
            assert checked_out(registry) == 1
            session.commit()
        with sa_orm.Session(engine) as session:
            assert session.scalars(sa.select(User.username)).all() == ["ada"]
        assert checked_out(registry) == 0

    def test_the_factory_is_one_in_all_respects(self, registry: Registry) -> None:
        scoped: sa_orm.scoped_session[Any] = sa_orm.scoped_session(SessionLocal)  # type: ignore[arg-type]
        scoped.add(User(username="ada"))
        scoped.commit()
        scoped.remove()
        with SessionLocal.begin() as session:
            session.add(User(username="bob"))
        with SessionLocal(autoflush=False, expire_on_commit=False) as session:
            assert not session.autoflush
        assert usernames() == ["ada", "bob"]
        assert "session_factory" in repr(SessionLocal)

    def test_the_asyncio_names_work(self, registry: Registry) -> None:
        async def main() -> list[str]:
            async with registry:
                async with AsyncSessionLocal() as session:
                    session.add(User(username="ada"))
                    await session.commit()
                async with async_session_scope() as session:
                    session.add(User(username="bob"))
                async with async_session_scope(read_only=True) as session:
                    return sorted(await session.scalars(sa.select(User.username)))

        assert asyncio.run(main()) == ["ada", "bob"]


class TestByHand:
    """``get_db`` as a plain generator."""

    def test_the_session_is_closed_at_the_end(self, registry: Registry) -> None:
        for session in get_db():
            session.execute(sa.select(User))
            assert checked_out(registry) == 1
        assert checked_out(registry) == 0

    def test_also_when_the_generator_is_thrown_away(self, registry: Registry) -> None:
        generator = get_db()
        session = next(generator)
        session.add(User(username="ada"))
        session.flush()
        generator.close()
        assert checked_out(registry) == 0
        assert usernames() == []

    def test_also_when_an_error_is_thrown_in(self, registry: Registry) -> None:
        generator: Any = get_db()
        next(generator).add(User(username="ada"))
        with pytest.raises(ZeroDivisionError):
            generator.throw(ZeroDivisionError)
        assert usernames() == []

    def test_nothing_is_committed_unasked(self, registry: Registry) -> None:
        for session in get_db():
            session.add(User(username="ada"))
            session.flush()
        assert usernames() == []
        for session in get_db():
            session.add(User(username="ada"))
            session.commit()
        assert usernames() == ["ada"]


def application() -> fastapi.FastAPI:
    """Routes that read, write, fail and hang."""
    app = fastapi.FastAPI()
    add_routes(app)
    add_asyncio_routes(app)
    return app


def add_routes(app: fastapi.FastAPI) -> None:
    @app.get("/users")
    def read(db: Db) -> list[str]:
        return [db.intent, *db.scalars(sa.select(User.username))]

    @app.post("/users/{name}")
    def write(name: str, db: Db) -> str:
        db.add(User(username=name))
        db.commit()
        return db.intent

    @app.post("/forget/{name}")
    def forget(name: str, db: Db) -> None:
        db.add(User(username=name))
        db.flush()

    @app.post("/fail/{name}")
    def fail(name: str, db: Db) -> None:
        db.add(User(username=name))
        db.flush()
        raise fastapi.HTTPException(418)


def add_asyncio_routes(app: fastapi.FastAPI) -> None:
    @app.get("/async/users")
    async def aread(db: AsyncDb) -> list[str]:
        return list(await db.scalars(sa.select(User.username)))

    @app.post("/async/users/{name}")
    async def awrite(name: str, db: AsyncDb) -> None:
        db.add(User(username=name))
        await db.commit()

    @app.post("/async/fail/{name}")
    async def afail(name: str, db: AsyncDb) -> None:
        db.add(User(username=name))
        await db.flush()
        raise fastapi.HTTPException(418)

    @app.post("/async/hang/{name}")
    async def ahang(name: str, db: AsyncDb) -> None:
        db.add(User(username=name))
        await db.flush()
        app.state.hangs.set()
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def client_of(app: fastapi.FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://opal") as client:
        yield client


class TestFastApi:
    def test_a_request_has_a_session_for_what_its_method_says(self, registry: Registry) -> None:
        async def main() -> None:
            async with client_of(application()) as client:
                assert (await client.post("/users/ada")).json() == "read_write"
                assert (await client.get("/users")).json() == ["read_first", "ada"]

        asyncio.run(main())
        assert checked_out(registry) == 0

    @pytest.mark.parametrize("path", ["/forget/ada", "/fail/ada", "/async/fail/ada"])
    def test_what_was_not_committed_is_gone(self, registry: Registry, path: str) -> None:
        async def main() -> None:
            async with registry, client_of(application()) as client:
                assert (await client.post(path)).status_code in {200, 418}
                assert checked_out(registry) == 0

        asyncio.run(main())
        assert usernames() == []

    def test_the_asyncio_dependency_works(self, registry: Registry) -> None:
        async def main() -> None:
            async with registry, client_of(application()) as client:
                assert (await client.post("/async/users/ada")).status_code == 200
                assert (await client.get("/async/users")).json() == ["ada"]
                assert checked_out(registry) == 0

        asyncio.run(main())

    def test_a_cancelled_request_gives_its_connection_back(self, registry: Registry) -> None:
        async def main() -> None:
            app = application()
            app.state.hangs = asyncio.Event()
            async with registry, client_of(app) as client:
                request = asyncio.create_task(client.post("/async/hang/ada"))
                await app.state.hangs.wait()
                assert checked_out(registry) == 1
                request.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await request
                assert checked_out(registry) == 0

        asyncio.run(main())
        assert usernames() == []

    def test_many_requests_at_once_share_a_small_pool(self, registry: Registry) -> None:
        async def main() -> None:
            async with registry, client_of(application()) as client:
                paths = [f"/users/u{n}" if n % 2 else f"/async/users/u{n}" for n in range(30)]
                answers = await asyncio.gather(*(client.post(path) for path in paths))
                assert {answer.status_code for answer in answers} == {200}
                assert checked_out(registry) == 0

        asyncio.run(main())
        assert len(usernames()) == 30

    def test_the_dependency_can_be_replaced_in_tests(self, registry: Registry) -> None:
        app = application()
        with session_scope() as session:
            app.dependency_overrides[get_db] = lambda: session

            async def main() -> None:
                async with client_of(app) as client:
                    assert (await client.get("/users")).json() == ["read_write"]

            asyncio.run(main())

    def test_the_request_is_no_parameter_of_the_api(self, registry: Registry) -> None:
        operations = application().openapi()["paths"]["/users"]
        assert "parameters" not in operations["get"]
        assert "requestBody" not in operations["get"]
