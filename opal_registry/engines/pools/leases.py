"""Who has a connection of a pool, since when: what is out too long is told, with its holder, and so is why nobody gets one."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.pool import ConnectionPoolEntry

from opal_registry.engines.caller import Caller, caller, find_stack
from opal_registry.errors import Problem

LOOK_EVERY = 1.0
"""Seconds between two looks for what is out too long; somebody has to ask for a connection."""

DEPTH = 5
"""So many places of the call by which one was taken are remembered."""

logger = logging.getLogger("opal_registry")


class Sink(Protocol):
    """What is told of the use of a pool, as it happens."""

    def waited(self, seconds: float) -> None:
        """Somebody got a connection."""

    def used(self, seconds: float) -> None:
        """Somebody gave one back."""

    def timed_out(self) -> None:
        """Somebody got none in time."""


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """One connection that is out; equal to itself only.

    Args:
        since: When it was taken, in seconds of :func:`time.monotonic`.
        caller: For whom.
        place: The file and line, and those that led there, where they are looked for.
    """

    since: float
    caller: Caller
    place: str = ""

    @property
    def seconds(self) -> float:
        """How long it has been out."""
        return time.monotonic() - self.since

    def __str__(self) -> str:
        """Such as ``12.3 s: GET /users of standupbot, app.py:31``."""
        names = " of ".join(filter(None, (self.caller.route, self.caller.app)))
        return f"{self.seconds:.1f} s: {', '.join(filter(None, (names, self.place))) or 'nobody said for what'}"


class Leases:
    """The connections of a pool that are out.

    Attributes:
        sinks: What is told of everything.
    """

    def __init__(self) -> None:
        self._leak_after, self._with_places = 0.0, False
        self._out: dict[ConnectionPoolEntry, Lease] = {}
        self._told: set[Lease] = set()
        self._look_at = 0.0
        self.sinks: list[Sink] = []

    def __iter__(self) -> Iterator[Lease]:
        leases = list(self._out.copy().values())  # others take some and give some back meanwhile
        return iter(sorted(leases, key=lambda lease: lease.since))

    def look_for_leaks(self, *, after: float, with_places: bool) -> None:
        """Tell of each connection that is out for longer, once.

        Args:
            after: Seconds; 0 for never.
            with_places: Whether to look for the line that takes one.
        """
        self._leak_after, self._with_places = after, with_places

    def clear(self) -> None:
        """Forget all that are out: in a forked process they are the parent's."""
        self._out.clear()

    def take(self, record: ConnectionPoolEntry, began: float) -> None:
        """Note that somebody has got a connection, who began to wait for it then."""
        now = time.monotonic()
        self._out[record] = Lease(now, caller.get(), find_stack(DEPTH) if self._with_places else "")
        for sink in self.sinks:
            sink.waited(now - began)
        if self._leak_after and now >= self._look_at:
            self._look(now)

    def give_back(self, record: ConnectionPoolEntry) -> None:
        """Note that somebody has given a connection back."""
        lease = self._out.pop(record, None)
        if lease is not None:
            for sink in self.sinks:
                sink.used(lease.seconds)

    def tell_of_exhaustion(self) -> str:
        """Who has the connections that somebody has waited for in vain."""
        for sink in self.sinks:
            sink.timed_out()
        self._look(time.monotonic())
        return "; ".join(map(str, self))

    def _look(self, now: float) -> None:
        self._look_at = now + LOOK_EVERY
        leases = list(self)
        self._told &= set(leases)
        for lease in leases:
            if self._leak_after and now - lease.since >= self._leak_after and lease not in self._told:
                self._told.add(lease)
                mend = "close the session, or let session_scope() do it; if it has to be so long, raise pool.leak_after"
                logger.warning("%s", Problem(f"a connection is out for {lease}", mend=mend))
