"""Who holds a lock, in words, and how to get rid of it if it hangs."""

import datetime as dt
import os
import re
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

RUN = "another run of opal-db"
RUN_HOLDS = RUN + " {}holds this database"
"""What the holder does, with room for its name."""

APPLICATION = re.compile(r"opal-db (?P<host>.+):(?P<pid>\d+)")
"""How a run introduces itself to a server."""

DAY = 86_400


@dataclass(frozen=True, slots=True)
class Holder:
    """A run that holds a lock. What is not known is left out; two are equal if they are the same process.

    Args:
        host: Its machine: the name, or the address that it connects from.
        pid: Its process there.
        since: When it began.
        seconds: How long ago that is, by the clock that ``since`` was read from.
        end: The statement that ends its session on the server.

    Example:
        >>> holder = Holder("web-1", 4711, dt.datetime(2026, 11, 23, 12, 3, 4, tzinfo=dt.UTC), seconds=5.2)
        >>> str(holder), holder.age
        ('host web-1, process 4711, since 12:03:04 UTC', '5 s')
    """

    host: str = ""
    pid: int | None = None
    since: dt.datetime | None = field(default=None, compare=False)
    seconds: float = field(default=0.0, compare=False)
    end: str = field(default="", compare=False)

    def __str__(self) -> str:
        parts = (
            self.host and f"host {self.host}",
            self.pid and f"process {self.pid}",
            self.since and f"since {self.since:{'%H:%M:%S' if self.seconds < DAY else '%Y-%m-%d %H:%M:%S'}} UTC",
        )
        return ", ".join(part for part in parts if part)

    @property
    def age(self) -> str:
        """How long it has been at it; empty if that is not known. A clock that was set back makes it 0."""
        return f"{max(0.0, self.seconds):.0f} s" if self.since else ""

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended: a process of this machine that is no more."""
        return self._is_here and not self._runs

    @property
    def remedy(self) -> str:
        """What to do if it hangs; empty if nothing can be told."""
        if self._is_here and self._runs:
            if self._is_stopped:
                return f"it is stopped: kill -CONT {self.pid} lets it go on, kill -KILL {self.pid} ends it"
            return f"if it hangs, end it: kill -KILL {self.pid}"
        return f"if it hangs, end its session: {self.end}" if self.end else ""

    @property
    def _is_here(self) -> bool:
        return self.pid is not None and self.host == socket.gethostname()

    @property
    def _runs(self) -> bool:
        if self.pid is None or sys.platform == "win32":  # there, signal 0 is not harmless
            return True
        with suppress(PermissionError, OverflowError):
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return False
        return True

    @property
    def _is_stopped(self) -> bool:
        with suppress(OSError):
            stat = Path(f"/proc/{self.pid}/stat").read_text(errors="replace")
            return stat.rpartition(")")[2].split()[0] in {"T", "t"}
        return False


def make_holder(application: str, address: str) -> Holder:
    """The holder by the name of its application, or at least by its address.

    Example:
        >>> str(make_holder("opal-db web-1:4711", "10.0.0.7")), str(make_holder("psql", "10.0.0.7"))
        ('host web-1, process 4711', 'host 10.0.0.7')
    """
    if found := APPLICATION.fullmatch(application):
        return Holder(found["host"], int(found["pid"]))
    return Holder(address)
