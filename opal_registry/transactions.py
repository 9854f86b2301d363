"""Whole transactions: run again where the database asks for it, and followed by what must wait for their end.

    from opal_registry.transactions import after_commit, in_transaction

The errors are those of :mod:`opal_registry.engines.errors.neutral`: the same on every database and with every driver.
"""

import asyncio
import functools
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast, overload

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.engines.errors.neutral import (
    CheckError,
    ConnectError,
    ConnectionLostError,
    ConstraintError,
    DeadlockError,
    ForeignKeyError,
    InDoubtError,
    LockWaitError,
    NotNullError,
    Rule,
    SerializationError,
    StatementTimeoutError,
    UniqueError,
)
from opal_registry.errors import OpalError, Problem
from opal_registry.registry import Registry, get_default_registry
from opal_registry.usage import HOOKS

if TYPE_CHECKING:  # needs greenlet, which only the extra "async" brings
    from sqlalchemy.ext.asyncio import AsyncSession

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = 3
RETRIED = (DeadlockError, SerializationError)
"""What only says that the transaction came at the wrong time."""

SHORTEST, LONGEST = 0.02, 1.0
"""Between which the longest pause before a repetition lies, in seconds."""

logger = logging.getLogger("opal_registry")

_under_way: set[asyncio.Future[Any]] = set()


@overload
def in_transaction(function: Callable[Concatenate[Any, P], R], /) -> Callable[P, R]: ...


@overload
def in_transaction(
    *,
    registry: Registry | None = None,
    read_only: bool = False,
    retries: int = RETRIES,
    retry_on: tuple[type[sa.exc.SQLAlchemyError], ...] = RETRIED,
) -> Callable[[Callable[Concatenate[Any, P], R]], Callable[P, R]]: ...


def in_transaction(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Let a function run in a transaction of its own, the whole of it again where the database asks for that.

    The function gets a session as its first argument, an ``AsyncSession`` if it is a coroutine function; whoever calls it
    leaves that out. What it does is committed when it returns, and rolled back if it raises. It may be run several times:
    what it does outside of the database belongs into :func:`after_commit`. It does not commit itself. The pauses between the
    runs are random, up to twice as long each time, from 20 ms to 1 s, so that those who got into each other's way do not
    meet again ("full jitter", Marc Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015).

    Never run again is what may have been committed: where the connection was lost during the COMMIT, or where it failed in
    one of several databases.

    Args:
        function: The function, where the decorator is used without parentheses.
        **options: ``registry``: where the sessions come from; the default one unless given. ``read_only``: refuse to write.
            ``retries``: how often it is run again at most; 3 unless given. ``retry_on``: the errors after which it is;
            ``DeadlockError`` and ``SerializationError`` unless given.

    Raises:
        OpalError: If the function commits; and whatever it or the commit raises.

    Example:
        >>> from opal_registry.settings.model import Settings
        >>> @in_transaction
        ... def add(session, a, b):
        ...     after_commit(session, lambda: print("committed"))
        ...     return session.scalar(sa.select(sa.literal(a) + b))
        >>> with Registry(Settings(database={"url": "sqlite://"}), sub_apps=["core"]).as_default():
        ...     add(1, 2)
        committed
        3
    """
    way = _Way(**options)
    return way.decorate if function is None else way.decorate(function)


def after_commit(
    session: "sa_orm.Session | sa_orm.scoped_session[Any] | AsyncSession", callback: Callable[[], Any]
) -> None:
    """Call something when what a session does now is committed, and never if it is rolled back.

    The callbacks of a transaction are called in the order in which they were given, after its outermost COMMIT, when its
    connection is free again. Those given within a savepoint that is rolled back are forgotten. An error of one is
    logged and stops neither the others nor the program: the transaction has been committed. One that uses the
    database opens a session of its own.

    Args:
        session: The session; nothing need have happened in it yet.
        callback: Takes no arguments; for an ``AsyncSession`` it may be a coroutine function, which is awaited.

    Raises:
        OpalError: If the callback is a coroutine function and the session is not an ``AsyncSession``.
    """
    used = session() if isinstance(session, sa_orm.scoped_session) else session
    plain = cast("sa_orm.Session", getattr(used, "sync_session", used))
    if plain is used and inspect.iscoroutinefunction(callback):
        what = f"the coroutine function {_name(callback)} cannot be awaited after the commit of a Session"
        raise OpalError(Problem(what, mend="give a function, or use an AsyncSession"))
    if HOOKS not in plain.info:
        plain.info[HOOKS] = _Hooks(plain)
    plain.info[HOOKS].add(callback)


class _Hooks:
    """What waits for the commits of one session, each with the savepoint that it was given in, if any."""

    def __init__(self, session: sa_orm.Session) -> None:
        self._session = session
        self._waiting: list[tuple[Callable[[], Any], sa_orm.SessionTransaction | None]] = []
        self._committed: sa_orm.SessionTransaction | None = None
        sa.event.listen(session, "after_commit", self._note)
        sa.event.listen(session, "after_transaction_end", self._end)

    def add(self, callback: Callable[[], Any]) -> None:
        self._waiting.append((callback, self._session.get_nested_transaction()))

    def forget(self) -> None:
        """Call none of them."""
        self._waiting.clear()

    def _note(self, session: sa_orm.Session) -> None:
        self._committed = session.get_nested_transaction() or session.get_transaction()

    def _end(self, _session: sa_orm.Session, ended: sa_orm.SessionTransaction) -> None:
        if ended.parent is not None and not ended.nested:
            return  # a part of a flush
        committed, self._committed = self._committed is ended, None
        if ended.nested:
            outer = ended.parent if ended.parent is not None and ended.parent.nested else None
            moved = [(callback, outer if place is ended else place) for callback, place in self._waiting]
            self._waiting = moved if committed else [each for each in self._waiting if each[1] is not ended]
            return
        done, self._waiting = self._waiting, []
        if committed:
            _call([callback for callback, _ in done])


def _call(callbacks: list[Callable[[], Any]]) -> None:
    """Call them all, whatever happens to one, and to whoever waits for it."""
    stopped: BaseException | None = None
    for callback in callbacks:
        try:
            result = callback()
            if inspect.isawaitable(result):
                from sqlalchemy.util import await_only

                await_only(_finish(result))
        except Exception:
            logger.exception("%r, which was to be called after a commit, failed", callback)
        except BaseException as error:  # noqa: BLE001 -- it is raised when all have been called
            stopped = stopped or error
    if stopped is not None:
        raise stopped


async def _finish(awaitable: Awaitable[Any]) -> None:
    """Let it come to its end also where the task that has committed is cancelled meanwhile."""
    task = asyncio.ensure_future(awaitable)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    await asyncio.shield(task)


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", repr(function)))


class _Runs:
    """The runs of one call, of which all but the last end with an error that asks for another.

    Nobody but the runner commits, so that what fails before the commit, or in the commit of the only database, has
    left nothing behind.
    """

    def __init__(self, name: str, retries: int) -> None:
        self._name, self._left, self._longest = name, retries, SHORTEST
        self._engines: set[sa.Engine] = set()
        self.committing = False

    def begin(self, session: sa_orm.Session) -> None:
        self.committing = False
        self._engines.clear()
        sa.event.listen(session, "after_begin", lambda _, __, connection: self._engines.add(connection.engine))
        sa.event.listen(session, "before_commit", self._refuse)

    def pause(self, error: sa.exc.SQLAlchemyError) -> float:
        """How many seconds to wait before the next run; the error is raised if there is none."""
        perhaps_done = isinstance(error, InDoubtError) or (self.committing and len(self._engines) > 1)
        if perhaps_done or self._left <= 0:
            raise error
        pause = SystemRandom().uniform(0, self._longest)
        self._left, self._longest = self._left - 1, min(2 * self._longest, LONGEST)
        logger.info("%s is run again in %.3f s: %s", self._name, pause, type(error).__name__)
        return pause

    def _refuse(self, session: sa_orm.Session) -> None:
        if not self.committing and not session.in_nested_transaction():
            what = f"{self._name} commits, but its transaction is committed when it returns"
            raise OpalError(Problem(what, mend="leave commit() and begin() out; for a savepoint, use begin_nested()"))


@dataclass(frozen=True, slots=True)
class _Way:
    """How the functions of one decorator are run."""

    registry: Registry | None = None
    read_only: bool = False
    retries: int = RETRIES
    retry_on: tuple[type[sa.exc.SQLAlchemyError], ...] = RETRIED

    def decorate(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            what = f"{_name(function)} is a generator, whose body runs when its transaction has ended"
            raise OpalError(Problem(what, mend="let it return a list, or open session_scope() in it"))

        @functools.wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
            return self.run(function, *arguments, **named)

        @functools.wraps(function)
        async def run_async(*arguments: Any, **named: Any) -> Any:
            return await self.run_async(function, *arguments, **named)

        decorated: Any = run_async if inspect.iscoroutinefunction(function) else run
        decorated.__signature__ = _without_session(function)  # what FastAPI, help() and editors go by
        return cast("Callable[..., Any]", decorated)

    def run(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        runs = _Runs(_name(function), self.retries)
        registry = self.registry or get_default_registry()
        while True:
            try:
                with registry.session_scope(read_only=self.read_only) as session:
                    runs.begin(session)
                    result = function(session, *arguments, **named)
                    runs.committing = True
            except self.retry_on as error:
                pause = runs.pause(error)
            else:
                return result
            time.sleep(pause)

    async def run_async(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        runs = _Runs(_name(function), self.retries)
        registry = self.registry or get_default_registry()
        while True:
            try:
                async with registry.async_session_scope(read_only=self.read_only) as session:
                    runs.begin(session.sync_session)
                    result = await function(session, *arguments, **named)
                    runs.committing = True
            except self.retry_on as error:
                pause = runs.pause(error)
            else:
                return result
            await asyncio.sleep(pause)


def _without_session(function: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(function)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


__all__ = [
    "CheckError",
    "ConnectError",
    "ConnectionLostError",
    "ConstraintError",
    "DeadlockError",
    "ForeignKeyError",
    "InDoubtError",
    "LockWaitError",
    "NotNullError",
    "Rule",
    "SerializationError",
    "StatementTimeoutError",
    "UniqueError",
    "after_commit",
    "in_transaction",
]
