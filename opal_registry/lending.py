"""Sessions for requests: made without asking anybody, given back however the request ends.

A generator would do, but FastAPI runs each half of one in a thread, which costs more than a small query. So a dependency is a
coroutine function here, and says to the exit stack of the request, which FastAPI keeps for generators, what has to be done.
"""

import asyncio
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from opal_registry.admission import Place, find_place
from opal_registry.engines.caller import Caller, caller
from opal_registry.engines.sqlite import Intent
from opal_registry.errors import OpalError, Problem
from opal_registry.registry import Registry, get_default_registry
from opal_registry.routes import find_needs
from opal_registry.sessions import OpalSession

if TYPE_CHECKING:  # needs greenlet, which only the extra "async" brings
    from sqlalchemy.ext.asyncio import AsyncSession

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""The HTTP methods that do not write (RFC 9110, 9.2.1)."""

STATE = "opal_registry"
"""Where the state of an application has its registry."""

Until = Literal["response", "function"]
"""How long a session is lent: until the response has been sent, or until the function has returned."""

STACKS: dict[Until, str] = {"response": "fastapi_inner_astack", "function": "fastapi_function_astack"}
"""Where FastAPI keeps, in the scope of a request, what is to be done then."""


class _Dependency(ABC):
    """What FastAPI calls for a session, and others may call as the generator function that it is to them.

    Its signature names the request's type when FastAPI asks for it: applications without FastAPI do not import it.

    Args:
        until: How long the session is lent.
        read_only: Whether it refuses to write.
    """

    def __init__(self, *, until: Until, read_only: bool = False) -> None:
        self.opal_lends, self._read_only = until, read_only

    @property
    def __signature__(self) -> inspect.Signature:
        requests = sys.modules.get("starlette.requests")
        annotation = requests.HTTPConnection if requests else inspect.Parameter.empty
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature([inspect.Parameter("request", kind, default=None, annotation=annotation)])

    async def __wrapped__(self, request: Any) -> Any:
        """A session for a request; FastAPI looks here to know what kind of function this is."""
        scope = request.scope
        registry = await _find_registry(scope)
        caller.set(_find_caller(registry, scope))
        until = "response" if find_needs(scope).outlives else self.opal_lends
        return await self._lend(registry, scope, _find_stack(scope, until))

    @abstractmethod
    async def _lend(self, registry: Registry, scope: dict[str, Any], stack: Any) -> Any:
        """A session that is given back with the end of an exit stack."""

    def _intent(self, scope: dict[str, Any] | None) -> Intent:
        """What a session is for; one of a WebSocket, which may last, locks out nobody before it writes."""
        if self._read_only:
            return "read_only"
        is_safe = scope is not None and (scope["type"] == "websocket" or scope.get("method") in SAFE_METHODS)
        return "read_first" if is_safe else "read_write"


class SessionDependency(_Dependency):
    """A dependency for ordinary sessions."""

    opal_in_threads = True

    def __call__(self, request: Any = None) -> Any:
        """A coroutine for a request; without one, a generator."""
        return self._generate() if request is None else self.__wrapped__(request)

    def _generate(self) -> Iterator[OpalSession]:
        with get_default_registry().session_factory(intent=self._intent(None)) as session:
            yield session

    async def _lend(self, registry: Registry, scope: dict[str, Any], stack: Any) -> OpalSession:
        returned = _find_stack(scope, "function")
        place = await find_place(registry, scope)
        session = registry.session_factory(intent=self._intent(scope))
        place.enter(session)
        stack.push_async_exit(partial(_close, session, place))
        if stack is not returned:
            returned.callback(_leave_if_done, session, place)
        return session


class AsyncSessionDependency(_Dependency):
    """A dependency for sessions of asyncio."""

    def __call__(self, request: Any = None) -> Any:
        """A coroutine for a request; without one, an asynchronous generator."""
        return self._generate() if request is None else self.__wrapped__(request)

    async def _generate(self) -> "AsyncIterator[AsyncSession]":
        async with get_default_registry().async_session_factory(intent=self._intent(None)) as session:
            yield session

    async def _lend(self, registry: Registry, scope: dict[str, Any], stack: Any) -> "AsyncSession":
        place = await find_place(registry, scope)
        session = registry.async_session_factory(intent=self._intent(scope))
        place.enter(session)
        stack.push_async_exit(partial(_aclose, session, place))
        return session


async def _close(session: OpalSession, place: Place, kind: type[BaseException] | None, *_: object) -> None:
    """Close a session, in a thread if that may take time, or if an endpoint that was given up may still be using it."""
    if (kind is None or issubclass(kind, Exception)) and session.is_quick_to_close():
        try:
            session.close()
        finally:
            place.leave(session)
    else:
        await _finish(_close_in_thread(session, place))


async def _close_in_thread(session: OpalSession, place: Place) -> None:
    import anyio

    limiter = anyio.CapacityLimiter(1)  # of its own: endpoints may have all the threads
    try:
        await anyio.to_thread.run_sync(session.close, limiter=limiter)
    finally:
        place.leave(session)


def _leave_if_done(session: OpalSession, place: Place) -> None:
    """Let others in where a session has no connection any more, however long the response takes."""
    if not session.in_transaction():
        place.leave(session)


async def _aclose(session: "AsyncSession", place: Place, *_: object) -> None:
    """The same for asyncio."""
    plain = session.sync_session
    try:
        if isinstance(plain, OpalSession) and plain.is_quick_to_close():
            plain.close()
        else:
            await _finish(session.close())
    finally:
        place.leave(session)


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Let work come to its end also where its task is cancelled once more, by anyio or by asyncio itself."""
    import anyio

    with anyio.CancelScope(shield=True):
        await asyncio.shield(asyncio.ensure_future(work))


async def _find_registry(scope: dict[str, Any]) -> Registry:
    """That of the application's lifespan, or else the default one."""
    registry = getattr(getattr(scope.get("app"), "state", None), STATE, None) or get_default_registry()
    if not registry.is_prepared:
        import anyio

        await anyio.to_thread.run_sync(registry.prepare)
    return registry


def _find_stack(scope: dict[str, Any], until: Until) -> Any:
    stack = scope.get(STACKS[until])
    if stack is None:
        what = "FastAPI keeps no exit stack for this request, so that nobody would close its session"
        raise OpalError(Problem(what, mend="use FastAPI 0.123.5 or later, or open session_scope() in the endpoint"))
    return stack


def _find_caller(registry: Registry, scope: dict[str, Any]) -> Caller:
    path = getattr(scope.get("route"), "path", scope.get("path", ""))
    module = getattr(scope.get("endpoint"), "__module__", "")
    return Caller(registry.discovery.find_app_of(module), f"{scope.get('method', 'WEBSOCKET')} {path}")
