"""Who ran what, when, from where, how long, and with what outcome."""

import datetime as dt
import getpass
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from opal_registry.mixins import utc_now
from opal_registry.store.ledger import signature
from opal_registry.store.tables import Columns, events, select_known

LONGEST_HOST, LONGEST_USER = 255, 100
"""So many characters of each fit into the table."""

RENAME = "rename"
"""The command of an event which says, under ``renamed``, which name became which."""

RUNNING, DONE, FAILED, INTERRUPTED = "running", "done", "failed", "interrupted"


@dataclass(frozen=True, slots=True)
class Event:
    """One run of a command.

    Args:
        command: Such as ``init``.
        host: The machine it ran on.
        pid: Its process there.
        os_user: Who ran it.
        written_by: The release of this package.
        started_at: When it began.
        seconds: How long it took; None if it has not ended, or was killed.
        outcome: ``running``, ``done``, ``failed`` or ``interrupted``.
        detail: What it did: ``created`` (tables by sub-app), or ``error``.
        id: Its number in the database; None if it is not there yet.
    """

    command: str
    host: str
    pid: int
    os_user: str
    written_by: str
    started_at: dt.datetime
    seconds: float | None
    outcome: str
    detail: Mapping[str, Any]
    id: int | None = None


def make_event(command: str, started_at: dt.datetime, *, outcome: str = RUNNING, **detail: Any) -> Event:
    """An event of this process that ends now, unless it is running; if the clock was set back, it took no time."""
    seconds = None if outcome == RUNNING else max(0.0, round((utc_now() - started_at).total_seconds(), 3))
    host, user = socket.gethostname()[:LONGEST_HOST], _find_user()[:LONGEST_USER]
    return Event(command, host, os.getpid(), user, signature(), started_at, seconds, outcome, detail)


def make_insert(event: Event) -> sa.Insert:
    """The statement that records an event."""
    values = {name: getattr(event, name) for name in events.c.keys() if name != "id"}  # noqa: SIM118 -- no dict
    return sa.insert(events).values(values | {"detail": dict(event.detail)})


def make_update(event: Event) -> sa.Update:
    """The statement that records how an event of this process ended which was recorded as running."""
    mine = (events.c.host == event.host, events.c.pid == event.pid, events.c.outcome == RUNNING)
    return (
        sa.update(events).where(*mine).values(seconds=event.seconds, outcome=event.outcome, detail=dict(event.detail))
    )


def make_burial() -> sa.Update:
    """The statement that marks the runs that never ended; for whoever holds the lock, and has not begun."""
    return sa.update(events).where(events.c.outcome == RUNNING).values(outcome=INTERRUPTED)


def read_events(connection: sa.Connection, there: Columns, *, limit: int) -> list[Event]:
    """The last events, the latest first."""
    if events.name not in there:
        return []
    rows = connection.execute(select_known(events, there).order_by(events.c.id.desc()).limit(limit)).mappings()
    return [_event(row) for row in rows]


def read_renames(connection: sa.Connection, there: Columns) -> dict[str, str]:
    """The former names of sub-apps, each with the one that it has today, as far as it is among the events."""
    if events.name not in there:
        return {}
    query = sa.select(events.c.detail).where(events.c.command == RENAME, events.c.outcome == DONE)
    names: dict[str, str] = {}
    for detail in connection.scalars(query.order_by(events.c.id)):
        for old, new in detail["renamed"].items():
            names = {former: new if name == old else name for former, name in names.items()} | {old: new}
            names.pop(new, None)
    return names


def _event(row: Mapping[Any, Any]) -> Event:
    names = (column.name for column in events.columns)
    return Event(**{name: row.get(name) for name in names} | {"detail": row.get("detail") or {}})


def _find_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid()) if hasattr(os, "getuid") else ""
