"""How sessions are used, and what is told to those who use one wrongly: after its end, two at once, from the wrong world.

A session of the registry is one of these; what it is for, and where it leads, is said in :mod:`opal_registry.sessions`.
"""

import asyncio
import functools
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.engines.caller import find_place
from opal_registry.engines.errors.failed import FailedTransactionError, refuse_lost_commit
from opal_registry.errors import OpalError, Problem

WORK = (
    "begin_nested",
    "bulk_insert_mappings",
    "bulk_save_objects",
    "bulk_update_mappings",
    "commit",
    "connection",
    "execute",
    "flush",
    "get",
    "get_one",
    "merge",
    "refresh",
    "scalar",
    "scalars",
)
"""What two may not do at once in one session. ``close`` and ``rollback`` are left out: tidying up is never refused."""

STARTING = ("add", "add_all", "begin", "delete")
"""What begins a transaction, too, but asks the database nothing."""

HOOKS = "opal_after_commit"
"""Where a session keeps what is to be done after its commit (:mod:`opal_registry.transactions`)."""

logger = logging.getLogger("opal_registry")


class ClosedSessionError(OpalError, sa.exc.InvalidRequestError):
    """A session was used after it had been closed."""


class SharedSessionError(OpalError, sa.exc.InvalidRequestError):
    """Two threads, or two tasks of asyncio, use one session at the same time."""


class AsyncSessionError(OpalError, sa.exc.MissingGreenlet):
    """A session of asyncio, or an object of one, was used without ``await``."""


class CheckedSession(sa_orm.Session):
    """A session that says what is wrong with how it is used.

    Args:
        debug: Refuse to be used by two threads or tasks at once, and tell of waiting for the database on an event loop.
        close_resets_only: Let it be used again after ``close()``, as SQLAlchemy does unless told otherwise.
        **options: What :class:`sqlalchemy.orm.Session` takes.
    """

    def __init__(self, *, debug: bool = False, close_resets_only: bool = False, **options: Any) -> None:
        super().__init__(close_resets_only=close_resets_only, **options)
        self._debug, self._reopens = debug, close_resets_only
        self._in_use = threading.Lock()
        self._turn = threading.RLock()
        self._user: tuple[object, str, str] | None = None
        self._closed_at: str | None = None
        self._begun: list[sa.Connection] = []

    def rollback(self) -> None:
        """Undo what is not committed, and forget what was to be done after its commit, also if nothing has happened yet."""
        self._forget_hooks()
        super().rollback()

    def close(self) -> None:
        """Give the connection back and forget the objects; what is not committed is rolled back.

        Where another thread is at work in the session, it may finish what it is doing, but do no more.
        """
        with self._turn:
            self._forget_hooks()
            if self._closed_at is None and not self._reopens:
                self._closed_at = find_place() if self._debug else ""
            super().close()

    def _forget_hooks(self) -> None:
        """Those of a transaction that has not begun; the end of one that has forgets its own."""
        if not self.in_transaction() and HOOKS in self.info:
            self.info[HOOKS].forget()

    def _use(self, name: str, method: Callable[..., Any], arguments: Any, named: Any) -> Any:
        """Do something alone; within it, the same thread or task may do more."""
        me = _find_user()
        if self._user is not None and self._user[0] == me:
            return method(self, *arguments, **named)
        if not self._in_use.acquire(blocking=False):
            raise self._refusal(name)
        try:
            self._user = me, _name_user(), name
            with self._turn:
                return method(self, *arguments, **named)
        finally:
            self._user = None
            self._in_use.release()

    def _refusal(self, name: str) -> SharedSessionError:
        _, other, doing = self._user or (None, "another", "its work")
        what = f"one session is used by two at once: {_name_user()} calls {name}() while {other} is in {doing}()"
        mend = "open a session in each of them: session_scope(), async_session_scope()"
        return SharedSessionError(Problem(what, find_place(), mend))

    def _explain(self, error: sa.exc.SQLAlchemyError) -> OpalError | None:
        if isinstance(error, OpalError):
            return None
        if isinstance(getattr(error, "orig", error), sa.exc.MissingGreenlet):
            what = "a session of asyncio, or an object of one, asks the database without await"
            mend = "await the methods of AsyncSession; load what an object leads to with selectinload(), or with "
            return AsyncSessionError(Problem(what, find_place(), mend + "await session.run_sync(...)"))
        if self._closed_at is not None:
            closed = f"; it was closed in {self._closed_at}" if self._closed_at else ""
            mend = "open session_scope() where the work is done; a stream or a background task needs one of its own"
            return ClosedSessionError(Problem(f"the session is used after it was closed{closed}", find_place(), mend))
        return None


def _checked(name: str, *, work: bool) -> Callable[..., Any]:
    method = getattr(sa_orm.Session, name)

    @functools.wraps(method)
    def checked(self: CheckedSession, *arguments: Any, **named: Any) -> Any:
        try:
            if work and self._debug:
                return self._use(name, method, arguments, named)
            with self._turn:
                return method(self, *arguments, **named)
        except (sa.exc.InvalidRequestError, sa.exc.StatementError) as error:
            explained = self._explain(error)
            if explained is None:
                raise
            raise explained from error

    return checked


for _name in (*WORK, *STARTING):
    setattr(CheckedSession, _name, _checked(_name, work=_name in WORK))


@sa.event.listens_for(CheckedSession, "before_commit")
def _refuse_lost_commit(session: CheckedSession) -> None:
    for connection in session._begun:
        refuse_lost_commit(connection)


@sa.event.listens_for(CheckedSession, "after_transaction_end")
def _forget_connections(session: CheckedSession, transaction: sa_orm.SessionTransaction) -> None:
    if transaction.parent is None:
        session._begun.clear()


@sa.event.listens_for(CheckedSession, "after_begin")
def _tell_of_waiting(session: CheckedSession, _transaction: object, connection: sa.Connection) -> None:
    session._begun.append(connection)
    if session._debug and not connection.dialect.is_async and _is_on_loop():
        _tell_once(find_place())


@functools.lru_cache(maxsize=256)
def _tell_once(place: str) -> None:
    what = "a session without asyncio is used on an event loop, which waits for the database meanwhile"
    mend = "use async_session_scope() or get_async_db, or write the endpoint with def instead of async def"
    logger.warning("%s", Problem(what, place, mend))


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _find_user() -> object:
    """Who uses a session now: each call of an ``AsyncSession`` is a greenlet of its own."""
    greenlet = sys.modules.get("greenlet")
    return greenlet.getcurrent() if greenlet else threading.get_ident()


def _name_user() -> str:
    task = asyncio.current_task() if _is_on_loop() else None
    return f"task {task.get_name()!r}" if task else f"thread {threading.current_thread().name!r}"


__all__ = [
    "AsyncSessionError",
    "CheckedSession",
    "ClosedSessionError",
    "FailedTransactionError",
    "SharedSessionError",
]
