"""A pool that closes the connections it opened for a rush when the rush is over, and not each time one is given back.

SQLAlchemy's ``QueuePool`` closes what exceeds ``pool_size`` at once. Where a few more clients than that come all the time,
it connects for a good part of the requests, and a connection costs more than many small queries.
"""

import time
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import pool as sa_pool
from sqlalchemy.pool import ConnectionPoolEntry

from opal_registry.engines.pools.leases import Leases

LINGER = 30.0
"""So many seconds without a rush, and what was opened for the last one is closed as it is given back."""


class LingeringQueuePool(sa_pool.QueuePool):
    """A queue of ``pool_size + max_overflow`` connections, of which ``pool_size`` are kept when few are needed.

    It knows who has which of them.

    Args:
        creator: Makes a connection.
        pool_size: How many are kept.
        max_overflow: How many more there may be.
        **options: What :class:`sqlalchemy.pool.QueuePool` takes beside; ``size()`` is that of both together.
    """

    def __init__(self, creator: Any, pool_size: int = 5, max_overflow: int = 10, **options: Any) -> None:
        super().__init__(creator, pool_size=pool_size + max_overflow, max_overflow=0, **options)
        self._kept, self._rushed_at = pool_size, float("-inf")
        self.leases = Leases()

    def has_room(self) -> bool:
        """Whether a connection that is given back now stays open."""
        if self.checkedout() > self._kept:
            self._rushed_at = time.monotonic()
        return self.checkedin() < self._kept or time.monotonic() - self._rushed_at < LINGER

    def recreate(self) -> Self:
        """An empty pool of the same kind; what it keeps is said once more, because the queue has room for all."""
        again: Any = super().recreate()
        again._kept, again.leases = self._kept, self.leases
        return again  # type: ignore[no-any-return]

    def _do_get(self) -> ConnectionPoolEntry:
        began = time.monotonic()
        try:
            record = super()._do_get()
        except sa.exc.TimeoutError as error:
            error.args = (f"{error.args[0]}; they are out for {self.leases.tell_of_exhaustion()}",)
            raise
        self.leases.take(record, began)
        return record

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        self.leases.give_back(record)
        if self.has_room():
            super()._do_return_conn(record)
            return
        try:
            record.close()
        finally:
            self._dec_overflow()


class AsyncLingeringQueuePool(LingeringQueuePool, sa_pool.AsyncAdaptedQueuePool):
    """The same for asyncio."""
