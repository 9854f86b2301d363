"""What monitoring is told of engines: measured once, at the pool and at each statement, for whatever wants to show it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from opal_registry.engines.caller import caller
from opal_registry.engines.pools.leases import Sink
from opal_registry.engines.pools.lingering import LingeringQueuePool
from opal_registry.engines.watching.observing import time_statements


class Meter(Sink, Protocol):
    """What is told of one engine."""

    def executed(self, seconds: float, app: str, error: str) -> None:
        """A statement was run, for a sub-app, and failed with an error of that name; both may be empty."""


@dataclass(frozen=True, slots=True)
class Level:
    """How full the pools of one database are.

    Args:
        bind: Its key.
        used: How many connections are in use.
        idle: How many are kept.
        limit: How many there may be.
    """

    bind: str
    used: int = 0
    idle: int = 0
    limit: int = 0


class Metering:
    """Watches the engines of a registry.

    Args:
        make_meter: Makes what is told of an engine, of its bind key and the name of its database system.
    """

    def __init__(self, make_meter: Callable[[str, str], Meter]) -> None:
        self._make_meter = make_meter
        self._binds: WeakKeyDictionary[sa.Engine, str] = WeakKeyDictionary()

    def add(self, engine: sa.Engine, bind: str) -> None:
        """Watch an engine; one that keeps no connections, such as that of a migration, is none of an application."""
        if not isinstance(engine.pool, LingeringQueuePool):
            return
        meter = self._make_meter(bind, engine.dialect.name)
        self._binds[engine] = bind
        engine.pool.leases.sinks.append(meter)

        def tell(_context: Any, seconds: float, error: BaseException | None) -> None:
            meter.executed(seconds, caller.get().app, "" if error is None else type(error).__name__)

        time_statements(engine, tell)

    def iter_levels(self) -> Iterator[Level]:
        """How full the pools are now, by database; several pools of one are added up."""
        levels: dict[str, Level] = {}
        for engine, bind in list(self._binds.items()):
            pool: Any = engine.pool
            known = levels.get(bind, Level(bind))
            used, idle = pool.checkedout(), pool.checkedin()
            levels[bind] = Level(bind, known.used + used, known.idle + idle, known.limit + pool.size())
        yield from levels.values()
