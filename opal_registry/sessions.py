"""Sessions that know what they are for, and refuse what they are not for."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm
from sqlalchemy.sql import visitors

from opal_registry.engines.caller import find_place
from opal_registry.engines.factory import check_asyncio, with_intent
from opal_registry.engines.in_transaction import is_open
from opal_registry.engines.pools.kinds import has_room
from opal_registry.engines.pools.loops import Loop, find_loop
from opal_registry.engines.sqlite import OPTION, Intent
from opal_registry.errors import OpalError, Problem
from opal_registry.usage import AsyncSessionError, CheckedSession

if TYPE_CHECKING:  # needs greenlet, which only the extra "async" brings
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker


class ReadOnlySessionError(OpalError):
    """A session that was declared read-only was asked to write."""


class OpalSession(CheckedSession):
    """A session with an intent: what its transactions are for.

    Args:
        engines: For each bind key what returns its engine; absent where ``bind`` says it all.
        bind_of: The bind key of a table.
        intent: ``read_write``, ``read_first`` (may write, but is not expected to) or ``read_only``.
        **options: What :class:`opal_registry.usage.CheckedSession` takes.
    """

    def __init__(
        self,
        *,
        engines: Mapping[str, Callable[[], sa.Engine]] | None = None,
        bind_of: Callable[[sa.Table], str] | None = None,
        intent: Intent = "read_write",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.intent = intent
        self._engines = engines or {}
        self._bind_of = bind_of
        self._loop: Loop | None = None

    def get_bind(self, mapper: Any = None, *, clause: Any = None, bind: Any = None, **kw: Any) -> Any:
        """The engine for a statement: that of the table's bind, for the session's intent; none for one that may not be."""
        if self.intent == "read_only" and isinstance(clause, sa.UpdateBase):
            raise _refusal(f"a statement that writes ({type(clause).__name__.upper()})")
        if bind is not None or self.bind is not None or not self._engines:
            return super().get_bind(mapper, clause=clause, bind=bind, **kw)
        engine = self._engines[self._bind_key(mapper, clause) if len(self._engines) > 1 else "default"]()
        if engine.dialect.is_async:
            self._refuse_other_loop()
        return with_intent(engine, "read_only") if self.intent == "read_only" else engine

    def _refuse_other_loop(self) -> None:
        """A session in the middle of its work would begin another transaction on a connection of the other loop."""
        loop = find_loop()
        if self._loop is not loop and self._loop is not None and self._begun:
            what = "a session of asyncio is used in another event loop than before"
            raise AsyncSessionError(Problem(what, find_place(), "open a session in each loop: async_session_scope()"))
        self._loop = loop

    def is_quick_to_close(self) -> bool:
        """Whether ``close()`` waits for nobody: the pool keeps its connections, and in them is no transaction to end.

        One that has only read a SQLite file is as good as none.
        """
        return not any(self._may_wait(connection) for connection in self._begun if not connection.closed)

    def _may_wait(self, connection: sa.Connection) -> bool:
        if connection.invalidated or not has_room(connection.engine.pool):
            return True
        if self.intent != "read_write" and connection.dialect.driver == "pysqlite":
            return False
        return is_open(connection.dialect, connection.connection)

    def _bind_key(self, mapper: Any, clause: Any) -> str:
        if self._bind_of is None:
            return "default"
        table = sa.inspect(mapper).local_table if mapper is not None else _find_table(clause)
        return self._bind_of(table) if isinstance(table, sa.Table) else "default"


def make_session_factory(
    engines: Mapping[str, Callable[[], sa.Engine]], bind_of: Callable[[sa.Table], str], *, debug: bool = False
) -> sa_orm.sessionmaker[OpalSession]:
    """Make a factory of sessions; its sessions connect when they first need to.

    Args:
        engines: For each bind key what returns its engine.
        bind_of: The bind key of a table.
        debug: Look more closely at how the sessions are used.
    """
    return sa_orm.sessionmaker(class_=OpalSession, engines=engines, bind_of=bind_of, debug=debug)


def make_async_session_factory(
    engines: Mapping[str, Callable[[], sa.Engine]], bind_of: Callable[[sa.Table], str], *, debug: bool = False
) -> "async_sessionmaker[AsyncSession]":
    """The same for asyncio; ``engines`` return the ``sync_engine`` of asyncio engines."""
    check_asyncio()
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

    options: dict[str, Any] = {"engines": engines, "bind_of": bind_of, "debug": debug, "expire_on_commit": False}
    return async_sessionmaker(class_=AsyncSession, sync_session_class=OpalSession, **options)


def _find_table(clause: Any) -> sa.Table | None:
    found = visitors.iterate(clause) if clause is not None else ()
    return next((element for element in found if isinstance(element, sa.Table)), None)


@sa.event.listens_for(OpalSession, "before_flush")
def _refuse_flush(session: OpalSession, _context: object, _instances: object) -> None:
    changed = [*session.new, *session.deleted, *(item for item in session.dirty if session.is_modified(item))]
    if session.intent == "read_only" and changed:
        raise _refusal(f"a flush of {type(changed[0]).__name__}")


@sa.event.listens_for(OpalSession, "after_begin")
def _say_intent(session: OpalSession, _transaction: object, connection: sa.Connection) -> None:
    """To the connection, where the engine need not know: one of its own would look up all its events twice."""
    if session.intent == "read_first":
        connection.execution_options(**{OPTION: session.intent})


def _refusal(what: str) -> ReadOnlySessionError:
    mend = "open the session without read_only=True, or move the write out of it"
    return ReadOnlySessionError(Problem(f"{what} in a session that was declared read-only", mend=mend))
