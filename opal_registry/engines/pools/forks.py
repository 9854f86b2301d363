"""A forked process connects anew: what it inherited belongs to its parent, who goes on using the same sockets and files."""

import os
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from opal_registry.engines.pools.lingering import LingeringQueuePool

_guarded: "WeakKeyDictionary[sa.Engine, WeakSet[ConnectionPoolEntry]]" = WeakKeyDictionary()
"""What each engine of this process has connected."""

_inherited: list[object] = []
"""Connections of the parent process. They are neither used nor closed here; to let go of some would close them."""


def guard_forks(engine: sa.Engine) -> None:
    """Let a process that is forked from this one make connections of its own.

    A transaction that is open at that moment stays the parent's: in the child its next statement is an error that says so,
    and rolling it back does nothing.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
    """
    entries = _guarded[engine] = WeakSet()

    def remember(_connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        entries.add(entry)

    sa.event.listen(engine, "connect", remember)


def _leave_to_parent() -> None:
    for engine, entries in list(_guarded.items()):
        for entry in list(entries):
            _let_go(entry)
        entries.clear()
        _inherited.append(engine.pool)
        if isinstance(engine.pool, LingeringQueuePool):
            engine.pool.leases.clear()
        engine.dispose(close=False)


def _let_go(entry: Any) -> None:
    """Take the connection from its place in the pool and from whoever uses it, and do not close it."""
    user = entry.fairy_ref
    _inherited.append(entry.dbapi_connection)
    entry.dbapi_connection = entry.fairy_ref = None  # without a user it does not go back to the old pool
    if user is not None and (fairy := user()) is not None:
        fairy.dbapi_connection = _ParentsConnection()


class _ParentsConnection:
    """Stands for a connection of the parent: can be left, but not used."""

    def rollback(self) -> None:
        """Leave it to the parent."""

    def close(self) -> None:
        """Leave it to the parent."""

    def __getattr__(self, name: str) -> Any:
        raise sa.exc.InvalidRequestError(
            "the process was forked while this connection was in use, and it stays the parent's: "
            "close the session or connection here, and open another one"
        )


with suppress(AttributeError):  # Windows has no fork
    os.register_at_fork(after_in_child=_leave_to_parent)
