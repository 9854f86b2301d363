"""Connections of aiosqlite whose task was cancelled in the middle of a statement: nobody waits for them, and they keep no lock."""

import asyncio
from typing import Any

import sqlalchemy as sa
from sqlalchemy.util.concurrency import await_, in_greenlet


def give_up_well(engine: sa.Engine) -> None:
    """Give connections up without waiting for them, and wait when the engine is disposed of.

    SQLAlchemy's own way waits for the thread of the connection, and tells it a second time that it is the end when the task is
    cancelled again, as anyio does; a task is left then that waits for a thread that has ended. And a file stays locked as long as
    there is a cursor with an answer that nobody has read, whatever is closed, unless it is rolled back first.

    Args:
        engine: The ``sync_engine`` of one that works with aiosqlite.
    """
    ends: set[asyncio.Future[Any]] = set()

    def terminate(connection: Any) -> None:
        driver = connection.driver_connection
        driver._tx.put_nowait((None, lambda: driver._conn.rollback()))  # nobody waits
        end = driver.stop()
        if end is not None:
            ends.add(end)
            end.add_done_callback(ends.discard)

    def wait(_engine: sa.Engine) -> None:
        if in_greenlet() and (here := _find_those_of_this_loop(ends)):
            await_(asyncio.wait(here))

    engine.dialect.do_terminate = terminate  # type: ignore[assignment, method-assign]
    sa.event.listen(engine, "engine_disposed", wait)


def _find_those_of_this_loop(ends: set[asyncio.Future[Any]]) -> list[asyncio.Future[Any]]:
    return [end for end in ends if end.get_loop() is asyncio.get_running_loop()]
