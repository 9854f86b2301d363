"""Sessions of requests: held no longer than said, given back whatever happens, and never waited for on the event loop."""

import asyncio
import importlib.util
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Annotated, Any

import anyio
import fastapi
import pytest
import sqlalchemy as sa
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection

import opal_registry.fastapi
from opal_registry.database import get_async_db, get_db
from opal_registry.engines.caller import Caller, caller
from opal_registry.errors import ConfigError, OpalError
from opal_registry.fastapi import (
    AsyncReadSessionDep,
    AsyncSessionDep,
    ReadSessionDep,
    SessionDep,
    install_error_handlers,
    lifespan,
    make_probes,
)
from opal_registry.init import init
from opal_registry.models import User
from opal_registry.registry import Registry
from opal_registry.sessions import OpalSession, ReadOnlySessionError
from opal_registry.transactions import InDoubtError
from opal_registry.usage import ClosedSessionError
from tests.asgi import Exchange
from tests.databases import checked_out, registry_of

Db = Annotated[OpalSession, fastapi.Depends(get_db)]
AsyncDb = Annotated[AsyncSession, fastapi.Depends(get_async_db)]
NAMES = sa.select(User.username)


@pytest.fixture
def registry(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The default registry, of a database with the table ``users``, in which there is Ada."""
    monkeypatch.setattr("opal_registry.registry._default", None)
    with registry_of(database_url).as_default() as registry:
        init(registry)
        with registry.session_scope() as session:
            session.add(User(username="ada"))
        yield registry


def ask(registry: Registry, app: Any, path: str, method: str = "GET", **options: Any) -> Exchange:
    async def main() -> Exchange:
        async with registry:
            return await Exchange(app, path, method, **options).run()

    return asyncio.run(main())


def writing() -> fastapi.FastAPI:  # noqa: C901 -- many small ones
    """Endpoints that begin a transaction and leave it open, return or fail."""
    app = fastapi.FastAPI()

    def write(db: Any) -> int:
        db.add(User(username="bob"))
        db.flush()
        return 1

    async def awrite(db: Any) -> int:
        return int(await db.run_sync(write))

    @app.post("/lent")
    def lent(db: SessionDep) -> int:
        return write(db)

    @app.post("/kept")
    def kept(db: Db) -> int:
        return write(db)

    @app.post("/async/lent")
    async def alent(db: AsyncSessionDep) -> int:
        return await awrite(db)

    @app.post("/async/kept")
    async def akept(db: AsyncDb) -> int:
        return await awrite(db)

    @app.post("/lent/fail")
    def lent_fail(db: SessionDep) -> float:
        return write(db) / 0

    @app.post("/kept/fail")
    def kept_fail(db: Db) -> float:
        return write(db) / 0

    @app.post("/async/lent/fail")
    async def alent_fail(db: AsyncSessionDep) -> float:
        return await awrite(db) / 0

    return app


class TestHowLong:
    @pytest.mark.parametrize(
        ("path", "held"),
        [("/lent", 0), ("/kept", 1), ("/async/lent", 0), ("/async/kept", 1)],
        ids=lambda each: str(each),
    )
    def test_a_session_is_held_as_long_as_said(self, path: str, held: int, registry: Registry) -> None:
        async def main() -> None:
            async with registry:
                exchange = await Exchange(writing(), path, "POST", on_start=lambda: checked_out(registry)).run()
                assert (exchange.body, exchange.at_start) == (b"1", held)
                assert checked_out(registry) == 0

        asyncio.run(main())
        assert names(registry) == ["ada"]

    @pytest.mark.parametrize("path", ["/lent/fail", "/kept/fail", "/async/lent/fail"])
    def test_an_error_gives_it_back(self, path: str, registry: Registry) -> None:
        with pytest.raises(ZeroDivisionError):
            ask(registry, writing(), path, "POST")
        assert checked_out(registry) == 0
        assert names(registry) == ["ada"]

    def test_nothing_is_connected_before_the_first_statement(self, registry: Registry) -> None:
        app = fastapi.FastAPI()

        @app.get("/")
        def nothing(one: SessionDep, other: ReadSessionDep, async_one: AsyncSessionDep) -> int:
            return checked_out(registry)

        assert ask(registry, app, "/").body == b"0"

    def test_a_dependency_that_needs_it_ends_first(self, registry: Registry) -> None:
        app, seen = fastapi.FastAPI(), list[str]()

        def get_names(db: Db) -> Iterator[list[str]]:
            yield list(db.scalars(NAMES))
            seen.extend(db.scalars(NAMES))

        @app.get("/")
        def read(names: Annotated[list[str], fastapi.Depends(get_names)]) -> list[str]:
            return names

        assert ask(registry, app, "/").body == b'["ada"]'
        assert seen == ["ada"]


def names(registry: Registry) -> list[str]:
    with registry.session_scope(read_only=True) as session:
        return sorted(session.scalars(NAMES))


def test_read_sessions_refuse_to_write(registry: Registry) -> None:
    app = fastapi.FastAPI()

    @app.get("/")
    def write(db: ReadSessionDep) -> None:
        db.execute(sa.delete(User))

    @app.get("/async")
    async def awrite(db: AsyncReadSessionDep) -> None:
        await db.execute(sa.delete(User))

    for path in ("/", "/async"):
        with pytest.raises(ReadOnlySessionError):
            ask(registry, app, path)
    assert checked_out(registry) == 0


@pytest.fixture
def narrow(database_url: str, registry: Registry) -> Iterator[Registry]:
    """A registry whose pool has one connection, for which nobody waits long."""
    pool = {"size": 1, "max_overflow": 0, "timeout": "200ms"}
    with registry_of(database_url, database={"url": database_url, "pool": pool}).as_default() as narrow:
        yield narrow


class TestAdmission:
    """One thread is left for those who have a connection, and have to finish."""

    def test_more_requests_than_threads_and_connections_are_all_answered(self, narrow: Registry) -> None:
        app = fastapi.FastAPI()

        @app.get("/")
        def read(db: SessionDep, other: ReadSessionDep) -> list[str]:
            return list(db.scalars(NAMES))

        async def main() -> None:
            anyio.to_thread.current_default_thread_limiter().total_tokens = 3
            answers = await asyncio.gather(*(Exchange(app, "/").run() for _ in range(30)))
            assert {(each.status, each.body) for each in answers} == {(200, b'["ada"]')}

        asyncio.run(main())
        narrow.close()

    @pytest.mark.parametrize(("path", "status"), [("/holds", 503), ("/done", 200)])
    def test_a_long_response_keeps_others_out_as_long_as_it_has_a_connection(
        self, path: str, status: int, narrow: Registry
    ) -> None:
        app, on = fastapi.FastAPI(), asyncio.Event()
        install_error_handlers(app)

        async def slowly() -> AsyncIterator[str]:
            yield "ada"
            await on.wait()

        @app.get("/holds")
        def hold(db: Db) -> StreamingResponse:
            db.execute(NAMES.with_for_update())
            return StreamingResponse(slowly())

        @app.get("/done")
        def finish(db: Db) -> StreamingResponse:
            db.execute(NAMES.with_for_update())
            db.commit()
            return StreamingResponse(slowly())

        async def main() -> None:
            anyio.to_thread.current_default_thread_limiter().total_tokens = 1
            long = Exchange(app, path)
            task = asyncio.create_task(long.run())
            await asyncio.wait_for(long.first.wait(), 30)
            other = await Exchange(app, "/done").run() if status == 503 else Exchange(app, "/done")
            if status == 200:
                second = asyncio.create_task(other.run())
                await asyncio.wait_for(other.first.wait(), 30)
                on.set()
                await second
            on.set()
            await task
            assert other.status == status
            assert (await Exchange(app, "/done").run()).status == 200

        asyncio.run(main())
        narrow.close()


class TestTheEventLoop:
    @pytest.mark.parametrize("path", ["/lent", "/kept", "/lent/fail"])
    def test_waits_for_no_database(self, path: str, registry: Registry) -> None:
        seen: dict[str, threading.Thread] = {}

        def note(what: str) -> None:
            seen[what] = threading.current_thread()

        def listen() -> None:
            sa.event.listen(registry.engine(), "do_connect", lambda *_: note("connect"))
            sa.event.listen(registry.engine(), "before_cursor_execute", lambda *_: note("execute"))
            sa.event.listen(registry.engine(), "rollback", lambda *_: note("rollback"))

        async def main() -> None:
            async with registry:
                registry.close()
                listen()
                with suppress(ZeroDivisionError):
                    await Exchange(writing(), path, "POST").run()

        asyncio.run(main())
        assert set(seen) == {"connect", "execute", "rollback"}
        assert threading.main_thread() not in seen.values()


class Gate:
    """Where an endpoint says that it is there, and waits to be let on."""

    def __init__(self) -> None:
        self.there, self.on, self.gone = threading.Event(), threading.Event(), threading.Event()
        self.errors: list[BaseException] = []

    def wait(self, *_: object) -> None:
        self.there.set()
        assert self.on.wait(30)

    async def arrived(self) -> None:
        await asyncio.to_thread(self.there.wait, 30)


class TestCancelled:
    """Without a word from anyio, as servers do that stop, or ``asyncio.wait_for``."""

    def test_a_thread_that_goes_on_finds_its_session_closed(self, registry: Registry) -> None:
        app, gate = fastapi.FastAPI(), Gate()

        @app.post("/")
        def hang(db: SessionDep) -> None:
            try:
                db.add(User(username="bob"))
                db.flush()
                gate.wait()
                db.commit()
            except Exception as error:  # noqa: BLE001 -- nobody else is told
                gate.errors.append(error)
            finally:
                gate.gone.set()

        async def main() -> None:
            async with registry:
                task = asyncio.create_task(Exchange(app, "/", "POST").run())
                await gate.arrived()
                assert checked_out(registry) == 1
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert checked_out(registry) == 0
                gate.on.set()
                await asyncio.to_thread(gate.gone.wait, 30)

        asyncio.run(main())
        assert [type(error) for error in gate.errors] == [ClosedSessionError]
        assert names(registry) == ["ada"]

    def test_a_statement_in_a_thread_may_finish_first(self, registry: Registry) -> None:
        app, gate = fastapi.FastAPI(), Gate()

        @app.get("/")
        def read(db: Db) -> list[str]:
            return list(db.scalars(NAMES))

        async def main() -> None:
            async with registry:
                sa.event.listen(registry.engine(), "before_cursor_execute", gate.wait)
                task = asyncio.create_task(Exchange(app, "/").run())
                await gate.arrived()
                task.cancel()
                await asyncio.sleep(0)
                gate.on.set()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert checked_out(registry) == 0

        asyncio.run(main())

    @pytest.mark.parametrize("by", ["asyncio", "anyio"])
    @pytest.mark.parametrize("path", ["/lent", "/kept"])
    def test_a_coroutine_gives_its_session_back(self, path: str, by: str, registry: Registry) -> None:
        app, there = fastapi.FastAPI(), asyncio.Event()

        async def hang(db: AsyncSession) -> None:
            db.add(User(username="bob"))
            await db.flush()
            there.set()
            await asyncio.Event().wait()

        @app.post("/lent")
        async def lent(db: AsyncSessionDep) -> None:
            await hang(db)

        @app.post("/kept")
        async def kept(db: AsyncDb) -> None:
            await hang(db)

        async def main() -> None:
            async with registry, anyio.create_task_group() as tasks:
                task: Any = asyncio.create_task(asyncio.sleep(0))
                if by == "asyncio":
                    task = asyncio.create_task(Exchange(app, path, "POST").run())
                else:
                    tasks.start_soon(Exchange(app, path, "POST").run)
                await asyncio.wait_for(there.wait(), 30)
                assert checked_out(registry) == 1
                (task if by == "asyncio" else tasks.cancel_scope).cancel()
                with anyio.CancelScope(shield=True), suppress(asyncio.CancelledError):
                    await task
            assert checked_out(registry) == 0

        asyncio.run(main())
        assert names(registry) == ["ada"]


def afterwards() -> fastapi.FastAPI:  # noqa: C901 -- many small ones
    """Endpoints that use their session when they have returned: in a stream, and in a background task."""
    app = fastapi.FastAPI()

    def read(db: OpalSession) -> Iterator[str]:
        yield from db.scalars(NAMES)

    async def aread(db: AsyncSession) -> AsyncIterator[str]:
        for name in await db.scalars(NAMES):
            yield name

    @app.get("/stream/kept")
    def stream_kept(db: Db) -> StreamingResponse:
        return StreamingResponse(read(db))

    @app.get("/stream/lent")
    def stream_lent(db: SessionDep) -> StreamingResponse:
        return StreamingResponse(read(db))

    @app.get("/stream/async/kept")
    async def astream_kept(db: AsyncDb) -> StreamingResponse:
        return StreamingResponse(aread(db))

    @app.get("/stream/async/lent")
    async def astream_lent(db: AsyncSessionDep) -> StreamingResponse:
        return StreamingResponse(aread(db))

    @app.get("/task/kept")
    def task_kept(db: Db, tasks: fastapi.BackgroundTasks) -> str:
        tasks.add_task(list, read(db))
        return "ada"

    @app.get("/task/lent")
    def task_lent(db: SessionDep, tasks: fastapi.BackgroundTasks) -> str:
        tasks.add_task(list, read(db))
        return "ada"

    @app.get("/endless")
    async def endless(db: AsyncDb) -> StreamingResponse:
        async def go_on() -> AsyncIterator[str]:
            while True:
                for name in await db.scalars(NAMES.with_for_update()):
                    yield name

        return StreamingResponse(go_on())

    return app


class TestAfterwards:
    @pytest.mark.parametrize("path", ["/stream/kept", "/stream/async/kept", "/task/kept"])
    def test_the_session_of_get_db_can_be_used(self, path: str, registry: Registry) -> None:
        async def main() -> None:
            async with registry:
                assert b"ada" in (await Exchange(afterwards(), path).run()).body
                assert checked_out(registry) == 0

        asyncio.run(main())

    @pytest.mark.parametrize("path", ["/stream/lent", "/stream/async/lent", "/task/lent"])
    def test_that_of_session_dep_says_what_to_do_instead(self, path: str, registry: Registry) -> None:
        with pytest.raises(ClosedSessionError) as caught:
            ask(registry, afterwards(), path)
        [problem] = caught.value.problems
        assert problem.mend == (
            "open session_scope() where the work is done; a stream or a background task needs one of its own"
        )
        assert checked_out(registry) == 0

    def test_a_client_that_leaves_ends_a_stream(self, registry: Registry) -> None:
        async def main() -> None:
            async with registry:
                exchange = Exchange(afterwards(), "/endless", "GET")
                task = asyncio.create_task(exchange.run())
                await asyncio.wait_for(exchange.first.wait(), 30)
                assert checked_out(registry) == 1
                exchange.left.set()
                await asyncio.wait_for(task, 30)
                assert checked_out(registry) == 0

        asyncio.run(main())


class TestLifespan:
    def test_the_registry_lives_as_long_as_the_application(self, registry: Registry) -> None:
        app = fastapi.FastAPI(lifespan=lifespan(registry, threads=3))

        @app.get("/")
        def read(db: SessionDep) -> list[str]:
            return list(db.scalars(NAMES))

        async def main() -> None:
            async with lifespan(registry, threads=3)(app):
                assert registry.is_prepared
                assert anyio.to_thread.current_default_thread_limiter().total_tokens == 3
                assert (await Exchange(app, "/").run()).body == b'["ada"]'
                pool: Any = registry.engine().pool
                assert pool.checkedin() == 1
            assert pool.checkedin() == 0

        asyncio.run(main())

    def test_what_is_wrong_with_the_configuration_stops_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("opal_registry.registry._default", None)
        monkeypatch.setenv("OPAL_CONFIG", "/no/such/file.yaml")

        async def main() -> None:
            async with lifespan()(fastapi.FastAPI()):
                raise AssertionError

        with pytest.raises(ConfigError):
            asyncio.run(main())

    def test_without_it_the_first_request_reads_the_configuration_in_a_thread(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[threading.Thread] = []
        prepare = Registry.prepare

        def note(registry: Registry) -> None:
            seen.append(threading.current_thread())
            prepare(registry)

        monkeypatch.setattr(Registry, "prepare", note)
        app = fastapi.FastAPI()

        @app.get("/")
        def read(db: SessionDep) -> int:
            return int(db.scalar(sa.select(1)) or 0)

        with registry_of("sqlite://").as_default() as registry:
            assert [ask(registry, app, "/").body for _ in range(2)] == [b"1", b"1"]
        assert len(seen) == 1
        assert seen[0] is not threading.main_thread()


class TestProbes:
    def test_say_whether_the_code_can_work(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        app = fastapi.FastAPI()
        with registry_of(database_url) as registry:
            app.include_router(make_probes(registry))
            assert ask(registry, app, "/livez").body == b'{"status":"alive"}'
            before = ask(registry, app, "/readyz")
            assert before.status == 503
            assert b'"status":"behind"' in before.body
            init(registry)
            after = ask(registry, app, "/readyz")
            assert (after.status, b'"status":"ready"' in after.body) == (200, True)

    def test_an_instance_whose_database_is_away_is_alive_and_not_ready(self, caplog: pytest.LogCaptureFixture) -> None:
        app = fastapi.FastAPI()
        with registry_of("postgresql://ada:secret@127.0.0.1:1/opal") as registry:
            app.include_router(make_probes(registry))
            assert ask(registry, app, "/livez").status == 200
            away = ask(registry, app, "/readyz")
            assert away.status == 503
            assert b"no server answers" in away.body
            assert b"secret" not in away.body
            assert b"127.0.0.1" not in away.body
            assert "127.0.0.1" in caplog.text


class TestErrors:
    def app(self) -> fastapi.FastAPI:
        app = fastapi.FastAPI()
        install_error_handlers(app, retry_after=2)

        @app.post("/users/{name}")
        def add(name: str, db: SessionDep) -> None:
            db.add(User(username=name))
            db.commit()

        @app.get("/users")
        def read(db: SessionDep) -> list[str]:
            return list(db.scalars(NAMES))

        @app.post("/doubt")
        def doubt() -> None:
            raise InDoubtError("COMMIT", None, Exception())

        return app

    def test_a_row_that_is_there_already_is_a_conflict(self, registry: Registry) -> None:
        answer = ask(registry, self.app(), "/users/ada", "POST")
        assert (answer.status, answer.body) == (409, b'{"detail":"there is such a row already"}')
        assert checked_out(registry) == 0

    def test_an_exhausted_pool_asks_to_come_back(self, database_url: str, caplog: pytest.LogCaptureFixture) -> None:
        pool = {"size": 1, "max_overflow": 0, "timeout": "10ms"}
        with registry_of(database_url, database={"url": database_url, "pool": pool}).as_default() as registry:
            with registry.engine().connect():
                answer = asyncio.run(Exchange(self.app(), "/users").run())
        assert (answer.status, answer.body) == (503, b'{"detail":"try again later"}')
        assert answer.headers[b"retry-after"] == b"2"
        assert "GET /users is answered with 503: QueuePool limit of size 1" in caplog.text
        assert re.search(rf"they are out for \d+\.\d s: {re.escape(__file__)}:\d", caplog.text)

    def test_a_server_that_is_not_there_too(self) -> None:
        with registry_of("postgresql://ada:secret@127.0.0.1:1/opal").as_default() as registry:
            assert ask(registry, self.app(), "/users").status == 503

    def test_nobody_is_told_to_try_a_commit_in_doubt_again(self) -> None:
        with registry_of("sqlite://").as_default() as registry, pytest.raises(InDoubtError):
            ask(registry, self.app(), "/doubt", "POST")


def test_statements_know_for_which_route_they_are() -> None:
    app, seen = fastapi.FastAPI(), list[Caller]()

    def note(user_id: int, db: SessionDep) -> None:
        seen.append(caller.get())

    note.__module__ = "opal_registry.pages"
    router = fastapi.APIRouter(prefix="/users")
    router.get("/{user_id}")(note)
    app.include_router(router)
    with registry_of("sqlite://").as_default() as registry:
        ask(registry, app, "/users/1")
    assert seen == [Caller("core", "GET /users/{user_id}")]


def test_without_greenlet_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"opal-registry\[async\]"):
        opal_registry.fastapi.__getattr__("AsyncSessionDep")


def test_another_framework_is_told_that_nobody_would_close_the_session() -> None:
    with registry_of("sqlite://").as_default(), pytest.raises(OpalError, match="keeps no exit stack"):
        asyncio.run(get_db(HTTPConnection({"type": "http", "method": "GET", "path": "/"})))


def test_requests_that_fail_and_are_cancelled_leave_nothing_behind(registry: Registry) -> None:
    """A smaller edition of the benchmark's."""
    app = writing()

    async def main() -> None:
        async with registry:
            paths = ("/lent", "/kept", "/async/lent", "/async/kept", "/lent/fail", "/async/lent/fail")
            tasks = [asyncio.create_task(Exchange(app, paths[n % 6], "POST").run()) for n in range(60)]
            for n, task in enumerate(tasks):
                if n % 5 == 0:
                    await asyncio.sleep(0.001)
                    task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(each) for each in outcomes} <= {Exchange, ZeroDivisionError, asyncio.CancelledError}
            assert checked_out(registry) == 0

    asyncio.run(main())
