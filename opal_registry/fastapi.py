"""FastAPI: sessions for endpoints, the registry's life in that of the application, probes, and errors as responses.

    from opal_registry.fastapi import ReadSessionDep, SessionDep, install_error_handlers, lifespan, make_probes

    app = FastAPI(lifespan=lifespan())
    app.include_router(make_probes())
    install_error_handlers(app)

Needs the extra ``fastapi``.
"""

import contextlib
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Annotated, Any

import sqlalchemy as sa

from opal_registry.engines.errors.neutral import (
    CheckError,
    ConnectError,
    ConnectionLostError,
    DeadlockError,
    ForeignKeyError,
    InDoubtError,
    LockWaitError,
    NotNullError,
    SerializationError,
    StatementTimeoutError,
    UniqueError,
)
from opal_registry.engines.factory import check_asyncio
from opal_registry.errors import OpalError
from opal_registry.extras import MissingExtraError
from opal_registry.lending import STATE, AsyncSessionDependency, SessionDependency
from opal_registry.migrations.ready import Readiness, find_verdict, get_readiness
from opal_registry.registry import Registry, get_default_registry
from opal_registry.sessions import OpalSession

OLDEST = [0, 123, 5]
"""The version since which FastAPI takes an object for a coroutine function that wraps one."""

try:
    import anyio
    import anyio.to_thread
    from fastapi import APIRouter, Depends, FastAPI, Request, __version__
    from fastapi.responses import JSONResponse
    from fastapi.responses import StreamingResponse as PlainStreamingResponse
except ModuleNotFoundError:
    raise MissingExtraError.of("opal_registry.fastapi needs FastAPI", "fastapi") from None

if [int(part) for part in re.findall(r"\d+", __version__)[:3]] < OLDEST:
    what = f"opal_registry.fastapi needs FastAPI 0.123.5 or later, and there is {__version__}"
    raise MissingExtraError.of(what, "fastapi")

if TYPE_CHECKING:  # needs greenlet, which only the extra "async" brings
    from sqlalchemy.ext.asyncio import AsyncSession

get_session = SessionDependency(until="function")
get_read_session = SessionDependency(until="function", read_only=True)
get_async_session = AsyncSessionDependency(until="function")
get_async_read_session = AsyncSessionDependency(until="function", read_only=True)

SessionDep = Annotated[OpalSession, Depends(get_session)]
"""A session until the endpoint has returned: its connection is free before the response is sent."""

ReadSessionDep = Annotated[OpalSession, Depends(get_read_session)]
"""The same for reading only."""

if TYPE_CHECKING:
    AsyncSessionDep = Annotated[AsyncSession, Depends(get_async_session)]
    AsyncReadSessionDep = Annotated[AsyncSession, Depends(get_async_read_session)]

ASYNC = {"AsyncSessionDep": get_async_session, "AsyncReadSessionDep": get_async_read_session}

CONFLICTS: dict[type[sa.exc.IntegrityError], str] = {
    UniqueError: "there is such a row already",
    ForeignKeyError: "it refers to what is not there, or others refer to it",
    NotNullError: "a value is missing",
    CheckError: "a value is not allowed",
}
"""What is said of rows that break a rule; names of tables and columns are nobody's business outside."""

BUSY = (
    *(ConnectError, ConnectionLostError, DeadlockError, LockWaitError, SerializationError, StatementTimeoutError),
    sa.exc.TimeoutError,
)
"""Errors that pass: the same request may succeed a little later."""

LONGEST_SAID = 1000
"""So many characters of an error are logged."""

logger = logging.getLogger("opal_registry")


def __getattr__(name: str) -> Any:
    if name not in ASYNC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_asyncio()
    from sqlalchemy.ext.asyncio import AsyncSession

    globals()[name] = Annotated[AsyncSession, Depends(ASYNC[name])]
    return globals()[name]


def lifespan(
    registry: Registry | None = None, *, threads: int | None = None
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Let a registry live as long as an application: it is the default one, and its connections are closed at the end.

    The configuration is read when the application starts, so that what is wrong with it stops the start and not a request.
    Nothing is connected.

    Args:
        registry: The registry; the default one if it is not given.
        threads: How many functions written with ``def`` may run at once, endpoints among them; 40 if it is not set. A
            few serve more requests a second where all are short, and let short ones wait where some are long.

    Raises:
        ConfigError: At the start, if anything in the configuration is wrong.

    Example:
        >>> from opal_registry.settings.model import Settings
        >>> registry = Registry(Settings(database={"url": "sqlite://"}), sub_apps=["core"])
        >>> app = FastAPI(lifespan=lifespan(registry))
    """

    @contextlib.asynccontextmanager
    async def live(_app: Any) -> AsyncIterator[None]:
        lasting = (registry or get_default_registry()).as_default()
        _hand_over(_app, lasting)
        await anyio.to_thread.run_sync(lasting.prepare)
        if threads is not None:
            anyio.to_thread.current_default_thread_limiter().total_tokens = threads
        async with lasting:
            yield

    return live


def _hand_over(app: Any, registry: Registry) -> None:
    """Let an application and those that are mounted in it know their registry, whatever the process has beside them."""
    setattr(app.state, STATE, registry)
    for route in app.routes:
        if hasattr(mounted := getattr(route, "app", None), "state"):
            _hand_over(mounted, registry)


class StreamingResponse(PlainStreamingResponse):
    """FastAPI's, which closes what it streams also when the client has left, so that a session in it ends then.

    Starlette leaves a generator where it stands, with its connection, until the garbage collector comes by.

    Args:
        content: What is streamed: the rows of a generator that opens ``session_scope()``.
        *arguments: As of FastAPI's.
        **named: As of FastAPI's.
    """

    def __init__(self, content: Any, *arguments: Any, **named: Any) -> None:
        self._content = content if hasattr(content, "__aiter__") else _Steps(content)
        super().__init__(self._content, *arguments, **named)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._close()

    async def _close(self) -> None:
        if isinstance(self._content, _Steps):
            await anyio.to_thread.run_sync(self._content.close, limiter=anyio.CapacityLimiter(1))
        elif hasattr(self._content, "aclose"):
            await self._content.aclose()


class _Steps(Iterator[Any]):
    """An iterator that can be closed from another thread: the step that is under way comes to its end first."""

    def __init__(self, content: Any) -> None:
        self._content, self._lock = iter(content), threading.Lock()

    def __next__(self) -> Any:
        with self._lock:
            return next(self._content)

    def close(self) -> None:
        with self._lock:
            if hasattr(self._content, "close"):
                self._content.close()


def make_probes(registry: Registry | None = None, *, live: str = "/livez", ready: str = "/readyz") -> APIRouter:
    """Make the routes that a platform asks whether to restart an instance, and whether to send it requests.

    The first answers 200 without asking anybody: an instance is not restarted because its database is away. The second asks
    each database whether the code of this image can work with it (:func:`opal_registry.migrations.ready.get_readiness`),
    and answers 200 or 503 with what it found. Neither waits for a thread that endpoints use.

    Args:
        registry: The registry; the default one if it is not given.
        live: The path of the first.
        ready: The path of the second.

    Example:
        >>> [route.path for route in make_probes().routes]
        ['/livez', '/readyz']
    """
    router = APIRouter(include_in_schema=False)

    @router.get(live)
    async def is_alive() -> dict[str, str]:
        return {"status": "alive"}

    @router.get(ready)
    async def is_ready() -> JSONResponse:
        limiter = anyio.CapacityLimiter(1)
        return await anyio.to_thread.run_sync(_look, registry or get_default_registry(), limiter=limiter)

    return router


def _look(registry: Registry) -> JSONResponse:
    try:
        found = get_readiness(registry)
    except OpalError as error:
        logger.warning("nobody knows whether this is ready: %s", error)
        detail = [each.what.partition(": ")[0] for each in error.problems]  # a server's own words name users and hosts
        return JSONResponse({"status": "unknown", "detail": detail}, 503)
    apps = [_describe(each) for each in found]
    return JSONResponse(
        {"status": find_verdict(found), "sub_apps": apps}, 200 if all(each.is_ready for each in found) else 503
    )


def _describe(found: Readiness) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("app", "bind", "verdict", "is_ready", "detail")}


def install_error_handlers(app: FastAPI, *, retry_after: int = 1) -> None:
    """Answer errors of databases that are nobody's mistake as HTTP has it, instead of with 500.

    Rows that break a rule are 409. What passes is 503 with ``Retry-After``: the pool was exhausted, no server answers or
    the connection to it was lost, a deadlock, a lost race, a lock or statement that took too long. A COMMIT in doubt
    stays 500, because nobody may simply try again.

    Args:
        app: The application.
        retry_after: After how many seconds to try again.

    Example:
        >>> install_error_handlers(FastAPI())
    """

    async def conflict(_request: Request, error: Exception) -> JSONResponse:
        said = (text for kind, text in CONFLICTS.items() if isinstance(error, kind))
        return JSONResponse({"detail": next(said, "it breaks a rule of the database")}, 409)

    async def busy(request: Request, error: Exception) -> JSONResponse:
        said = " ".join(str(error).split())[:LONGEST_SAID]
        logger.warning("%s %s is answered with 503: %s", request.method, request.url.path, said)
        return JSONResponse({"detail": "try again later"}, 503, {"Retry-After": str(retry_after)})

    async def doubt(_request: Request, error: Exception) -> JSONResponse:
        raise error

    app.add_exception_handler(sa.exc.IntegrityError, conflict)
    app.add_exception_handler(InDoubtError, doubt)
    for kind in BUSY:
        app.add_exception_handler(kind, busy)


__all__ = [
    "AsyncReadSessionDep",
    "AsyncSessionDep",
    "ReadSessionDep",
    "SessionDep",
    "StreamingResponse",
    "get_async_read_session",
    "get_async_session",
    "get_read_session",
    "get_session",
    "install_error_handlers",
    "lifespan",
    "make_probes",
]
