"""How many connections an application may open at once, and whether its server has as many."""

import math
from dataclasses import dataclass

from opal_registry.settings.database import PoolSettings
from opal_registry.settings.model import DeploymentSettings


def find_most(pool: PoolSettings) -> float:
    """How many connections one process may have at once by one pool; infinite where none is kept and none counted.

    Example:
        >>> find_most(PoolSettings()), find_most(PoolSettings(kind="singleton")), find_most(PoolSettings(kind="none"))
        (15, 5, inf)
    """
    match pool.kind:
        case None | "queue":
            return pool.size + pool.max_overflow
        case "singleton":
            return pool.size
        case "none":
            return math.inf
        case _:
            return 1


@dataclass(frozen=True, slots=True)
class Budget:
    """The connections of one application to one server, and what the server has for it.

    Args:
        deployment: How often the application runs.
        pools: Those that lead to the server, of one process.
        limit: How many connections the server gives to this user and database at most.

    Example:
        >>> budget = Budget(DeploymentSettings(instances=4, workers=2), (PoolSettings(),), limit=97)
        >>> budget.wanted, budget.room, budget.fits
        (120, 92, False)
        >>> print(budget.mend)
        lower pool.size + pool.max_overflow to 11 at most (such as size: 5, max_overflow: 6), or let the server take 125 (max_connections), or put a pooler such as PgBouncer before it
    """

    deployment: DeploymentSettings
    pools: tuple[PoolSettings, ...]
    limit: int

    @property
    def processes(self) -> int:
        """How many there are."""
        return self.deployment.instances * self.deployment.workers

    @property
    def wanted(self) -> float:
        """How many connections all of them may have at once."""
        return self.processes * sum(map(find_most, self.pools))

    @property
    def room(self) -> int:
        """How many connections there are for them."""
        return self.limit - self.deployment.reserve

    @property
    def fits(self) -> bool:
        """Whether there are enough."""
        return self.wanted <= self.room

    @property
    def sum(self) -> str:
        """The computation, for people."""
        each = " + ".join(_count(pool) for pool in self.pools)
        each = f"({each})" if len(self.pools) > 1 else each
        return f"{self.deployment.instances} x {self.deployment.workers} x {each} = {self.wanted:g} connections"

    @property
    def mend(self) -> str:
        """What to change where they do not fit."""
        needed = self.wanted + self.deployment.reserve
        others = f"let the server take {needed:g} (max_connections), or put a pooler such as PgBouncer before it"
        each = self.room // self.processes // len(self.pools)
        if each < 1:
            return f"run fewer than {self.processes} processes (deployment), or {others}"
        size = min(each, *(pool.size for pool in self.pools))
        suggested = f"such as size: {size}, max_overflow: {each - size}"
        return f"lower pool.size + pool.max_overflow to {each} at most ({suggested}), or {others}"


def _count(pool: PoolSettings) -> str:
    return f"({pool.size} + {pool.max_overflow})" if pool.kind in {None, "queue"} else f"{find_most(pool):g}"
