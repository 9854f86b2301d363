"""What the dependencies of a route need: sessions until they are done, connections for all of them, and nobody else's."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import anyio
import fastapi
import pytest
import sqlalchemy as sa

from opal_registry.database import get_db, session_scope
from opal_registry.fastapi import (
    AsyncReadSessionDep,
    AsyncSessionDep,
    ReadSessionDep,
    SessionDep,
    StreamingResponse,
    get_session,
    install_error_handlers,
    lifespan,
)
from opal_registry.init import init
from opal_registry.models import User
from opal_registry.registry import Registry
from opal_registry.routes import Needs, find_needs
from opal_registry.sessions import OpalSession
from tests.asgi import Exchange
from tests.databases import checked_out, registry_of

NAMES = sa.select(User.username)


def registry_with(url: str, size: int, **binds: Any) -> Registry:
    pool = {"size": size, "max_overflow": 0, "timeout": "5s"}
    registry = registry_of(url, database={"url": url, "pool": pool}, binds=binds).as_default()
    init(registry)
    with registry.session_scope() as session:
        session.add(User(username="ada"))
    return registry


def statuses(registry: Registry, app: Any, *paths: str) -> set[int]:
    """What requests at once are answered with, by four threads."""

    async def main() -> set[int]:
        async with registry:
            anyio.to_thread.current_default_thread_limiter().total_tokens = 4
            answers = await asyncio.gather(*(Exchange(app, path).run() for path in paths))
            assert checked_out(registry) == 0
            return {each.status for each in answers}

    return asyncio.run(main())


def save(db: OpalSession, name: str) -> None:
    db.add(User(username=name))


def unit_of_work(db: SessionDep) -> Iterator[OpalSession]:
    yield db
    db.commit()


async def async_unit_of_work(db: AsyncSessionDep) -> AsyncIterator[Any]:
    yield db
    await db.commit()


@pytest.mark.parametrize("scope", ["function", None])
def test_what_a_dependency_does_after_its_yield_may_use_its_session(scope: Any, database_url: str) -> None:
    app = fastapi.FastAPI()

    @app.get("/plain")
    def plain(db: Annotated[OpalSession, fastapi.Depends(unit_of_work, scope=scope)]) -> None:
        save(db, "bob")

    @app.get("/async")
    async def plain_async(db: Annotated[Any, fastapi.Depends(async_unit_of_work, scope=scope)]) -> None:
        await db.run_sync(save, "cyd")

    registry = registry_with(database_url, 5)
    for path in ("/plain", "/async"):
        assert statuses(registry, app, path) == {200}
    with registry.session_scope() as session:
        assert set(session.scalars(NAMES)) == {"ada", "bob", "cyd"}
    registry.close()


@pytest.mark.parametrize("path", ["/plain", "/async", "/apart", "/kept"])
def test_requests_that_need_two_connections_do_not_wait_for_each_other(path: str, postgres_url: str) -> None:
    app = fastapi.FastAPI()

    def read(*sessions: OpalSession) -> None:
        for session in sessions:
            session.scalars(NAMES.with_for_update(read=True) if session.intent != "read_only" else sa.text("SELECT 1"))

    @app.get("/plain")
    def plain(one: SessionDep, two: ReadSessionDep) -> None:
        read(one, two)

    @app.get("/async")
    async def plain_async(one: AsyncSessionDep, two: AsyncReadSessionDep) -> None:
        for session in (one, two):
            await session.execute(sa.text("SELECT pg_sleep(0.001)"))

    @app.get("/apart")
    def apart(one: SessionDep, two: Annotated[OpalSession, fastapi.Depends(get_session, use_cache=False)]) -> None:
        read(one, two)

    @app.get("/kept")
    def kept(one: SessionDep, two: Annotated[OpalSession, fastapi.Depends(get_db)], three: ReadSessionDep) -> None:
        read(one, two, three)

    registry = registry_with(postgres_url, 3)
    assert statuses(registry, app, *[path] * 30) == {200}
    registry.close()


def test_requests_without_a_connection_keep_nobody_out(database_url: str) -> None:
    app, there, on = fastapi.FastAPI(), threading.Semaphore(0), asyncio.Event()
    install_error_handlers(app)

    @app.get("/elsewhere")
    async def elsewhere(db: SessionDep) -> None:
        there.release()
        await on.wait()

    @app.get("/read")
    def read(db: SessionDep) -> list[str]:
        return list(db.scalars(NAMES))

    async def main() -> None:
        async with registry:
            anyio.to_thread.current_default_thread_limiter().total_tokens = 4
            others = [asyncio.create_task(Exchange(app, "/elsewhere").run()) for _ in range(20)]
            for _ in others:
                await asyncio.to_thread(there.acquire, timeout=30)
            assert (await Exchange(app, "/read").run()).body == b'["ada"]'
            on.set()
            await asyncio.gather(*others)

    registry = registry_with(database_url, 1)
    asyncio.run(main())
    registry.close()


def test_the_smallest_pool_counts(postgres_url: str) -> None:
    small = {"url": postgres_url, "pool": {"size": 1, "max_overflow": 0, "timeout": "5s"}}
    app = fastapi.FastAPI()

    @app.get("/")
    def read(db: SessionDep) -> None:
        connection = db.connection(bind_arguments={"bind": registry.engine("small")})
        connection.execute(sa.text("SELECT pg_sleep(0.001)"))

    registry = registry_with(postgres_url, 20, small=small)
    assert statuses(registry, app, *["/"] * 30) == {200}
    registry.close()


def test_two_applications_in_one_process_have_each_its_own(tmp_path: Path) -> None:
    registries = [registry_with(f"sqlite:///{tmp_path}/{name}.db", 5) for name in "ab"]

    def make_app() -> fastapi.FastAPI:
        app, inner = fastapi.FastAPI(), fastapi.FastAPI()

        @app.get("/")
        @inner.get("/")
        def where(db: SessionDep) -> str:
            return str(db.get_bind().url.database)

        app.mount("/inner", inner)
        return app

    async def main() -> None:
        first, second = (make_app(), make_app())
        async with lifespan(registries[0])(first), lifespan(registries[1])(second):
            for path in ("/", "/inner/"):
                assert (await Exchange(first, path).run()).body == f'"{tmp_path}/a.db"'.encode()
                assert (await Exchange(second, path).run()).body == f'"{tmp_path}/b.db"'.encode()

    asyncio.run(main())


class TestStreams:
    @pytest.mark.parametrize("how", ["leaves", "cancelled"])
    def test_that_are_left_give_their_connection_back(self, how: str, database_url: str) -> None:
        app = fastapi.FastAPI()

        def rows() -> Iterator[str]:
            with session_scope(read_only=True) as db:
                while True:
                    yield from db.scalars(NAMES)

        @app.get("/")
        def export() -> StreamingResponse:
            return StreamingResponse(rows())

        async def main() -> None:
            async with registry:
                exchange = Exchange(app, "/")
                task = asyncio.create_task(exchange.run())
                await asyncio.wait_for(exchange.first.wait(), 30)
                assert checked_out(registry) == 1
                exchange.left.set() if how == "leaves" else task.cancel()
                await asyncio.wait([task], timeout=30)
                assert checked_out(registry) == 0

        registry = registry_with(database_url, 5)
        asyncio.run(main())
        registry.close()

    def test_that_are_read_to_their_end_are_as_ever(self) -> None:
        app = fastapi.FastAPI()

        @app.get("/list")
        def of_a_list() -> StreamingResponse:
            return StreamingResponse(["a", "b"], media_type="text/plain")

        @app.get("/async")
        def of_asyncio() -> StreamingResponse:
            async def letters() -> AsyncIterator[str]:
                for letter in "cd":
                    yield letter

            return StreamingResponse(letters())

        async def main() -> None:
            plain = await Exchange(app, "/list").run()
            assert (plain.body, plain.headers[b"content-type"]) == (b"ab", b"text/plain; charset=utf-8")
            assert (await Exchange(app, "/async").run()).body == b"cd"

        asyncio.run(main())


def test_a_websocket_that_has_read_locks_out_nobody(tmp_path: Path) -> None:
    registry = registry_with(f"sqlite:///{tmp_path}/x.db", 5)
    app = fastapi.FastAPI()

    @app.websocket("/")
    async def talk(socket: fastapi.WebSocket, db: SessionDep) -> None:
        await socket.accept()
        await socket.send_json(await asyncio.to_thread(lambda: list(db.scalars(NAMES))))
        await socket.receive_text()

    async def main() -> None:
        to_app, from_app = asyncio.Queue[Any](), asyncio.Queue[Any]()
        scope = {
            "type": "websocket",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "headers": [],
            "root_path": "",
        }
        async with registry:
            talking = asyncio.create_task(app(scope | {"subprotocols": []}, to_app.get, from_app.put))
            await to_app.put({"type": "websocket.connect"})
            assert (await from_app.get())["type"] == "websocket.accept"
            assert (await from_app.get())["text"] == '["ada"]'
            with registry.session_scope() as session:
                session.add(User(username="bob"))
            await to_app.put({"type": "websocket.receive", "text": "enough"})
            await asyncio.wait_for(talking, 30)
            assert checked_out(registry) == 0

    asyncio.run(main())
    registry.close()


class Checker:
    """A dependency that is an object."""

    def __call__(self, db: SessionDep) -> None:
        """Look."""


def test_needs_are_read_from_the_route() -> None:
    app = fastapi.FastAPI()

    @app.get("/none")
    async def none() -> None: ...

    @app.get("/object")
    async def with_object(db: SessionDep, checked: Annotated[None, fastapi.Depends(Checker())]) -> None: ...

    @app.get("/unit")
    async def unit(db: Annotated[OpalSession, fastapi.Depends(unit_of_work)]) -> None: ...

    routes: list[Any] = [route for route in app.routes if hasattr(route, "dependant")]
    needs = {route.path: find_needs({"route": route}) for route in routes}
    assert needs == {
        "/none": Needs(sessions=1, threads=False),
        "/object": Needs(sessions=1, threads=True),
        "/unit": Needs(sessions=1, threads=True, outlives=True),
    }
