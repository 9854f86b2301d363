"""Testing connections that were idle for long, and no others: a busy pool pays nothing, a restarted server is survived."""

from time import monotonic

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

LAST_USE = "opal_last_use"
"""Under this name a connection's entry in the pool has the time, in seconds, when it was last taken."""


def ping_idle(engine: sa.Engine, *, after: float) -> None:
    """Test a kept connection before it is used again, if it was idle for long; a dead one is replaced, with all as old.

    The habit is HikariCP's (``aliveBypassWindowMs``). A connection that was just made is not tested. Time counts from when it
    was last taken: to see it given back as well would cost a busy pool as much again, and spare a test to those only that
    had it for as long.

    Args:
        engine: The engine; for asyncio its ``sync_engine``.
        after: From how many seconds on it was idle for long; 0 is always.
    """
    dialect = engine.dialect

    def test(connection: DBAPIConnection, record: ConnectionPoolEntry, _fairy: object) -> None:
        info, now = record.info, monotonic()
        last = info.get(LAST_USE)
        info[LAST_USE] = now
        if last is not None and now - last >= after and not _answers(dialect, connection):
            raise sa.exc.InvalidatePoolError

    sa.event.listen(engine, "checkout", test)


def _answers(dialect: sa.Dialect, connection: DBAPIConnection) -> bool:
    try:
        return dialect.do_ping(connection)
    except OSError:
        return False
    except dialect.loaded_dbapi.Error as error:
        if dialect.is_disconnect(error, connection, None):
            return False
        raise
