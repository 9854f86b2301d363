"""The lock file beside a SQLite database: it names who works on the database, and is freed when that process dies.

A SQLite database can be locked, but does not say by whom. So a run first locks ``<database file>-opal-lock`` and writes
its name into it. This is a courtesy among runs: where no such file can be made or locked, SQLite's own lock does.
"""

import datetime as dt
import errno
import json
import os
import socket
import sys
import time
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path

from opal_registry.mixins import utc_now
from opal_registry.store.holder import RUN, RUN_HOLDS, Holder

if sys.platform != "win32":
    import fcntl

SUFFIX = "-opal-lock"
LONGEST = 4096
"""So many bytes are read of a file: what is longer was not written by a run."""

ATTEMPTS = 10
"""How often the file may be removed by its holder just while it is being locked."""


class Sidecar:
    """The lock file of one database.

    Args:
        database: The database file; if that is a symbolic link, the lock is beside the file that it leads to.

    Attributes:
        path: The lock file.
    """

    awaited, holding = RUN, RUN_HOLDS
    attempt = 0.05

    def __init__(self, database: str | Path) -> None:
        self.path = Path(os.path.realpath(database) + SUFFIX)
        self._holder: Holder | None = None
        self._file: int | None = None
        self._pauses = chain((0.001 * 2**n for n in range(6)), repeat(self.attempt))

    def take(self, seconds: float) -> bool:
        """Lock the file, after a pause of at most so many seconds.

        The holder removes the file while it still has it locked. So whoever gets the lock looks whether the file is still
        the one of that name, and begins again if it is not.

        Returns:
            False if another process has it; True also where no file can be locked.
        """
        if seconds:
            time.sleep(min(seconds, next(self._pauses)))
        for _ in range(ATTEMPTS):
            file = self._open()
            if file is None:
                continue
            if refusal := _lock(file):
                self._holder = _read_holder(file)
                os.close(file)
                return refusal not in {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
            if self._keep(file):
                self._file = file
                return True
            os.close(file)
        return True

    def find_holder(self) -> Holder | None:
        """Who had it when it was last found locked; None if that one has not written its name yet."""
        return self._holder

    def release(self) -> None:
        """Remove the file and unlock it; nothing happens if it is not locked."""
        file, self._file = self._file, None
        if file is None:
            return
        with suppress(OSError):
            if self._is_there(file):
                self.path.unlink()
        os.close(file)

    def _open(self) -> int | None:
        """The file, for reading where it is another user's."""
        if sys.platform == "win32":
            return None
        for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
            with suppress(OSError):
                return os.open(self.path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        return None

    def _keep(self, file: int) -> bool:
        """Write our name into a file that is locked, unless it is no longer the one to be locked."""
        if not self._is_there(file):
            return False
        try:
            _write_holder(file)
        except OSError:  # another user's that was left behind: one of our own takes its place, if that may be
            with suppress(OSError):
                self.path.unlink()
                return False
        return True

    def _is_there(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self.path.lstat())
        except OSError:
            return False


def _lock(file: int) -> int:
    """Lock a file; the number of the error if that cannot be, else 0."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno or errno.ENOLCK
    return 0


def _write_holder(file: int) -> None:
    who = {"host": socket.gethostname(), "pid": os.getpid(), "since": utc_now().isoformat(timespec="seconds")}
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(who).encode(), 0)


def _read_holder(file: int) -> Holder | None:
    """Who is named in a file that is locked; nobody by name if that one has died: another has the lock, and may not write."""
    try:
        found = json.loads(os.pread(file, LONGEST, 0))
        since = dt.datetime.fromisoformat(found["since"]).astimezone(dt.UTC)
        host = "".join(filter(str.isprintable, found["host"]))
        holder = Holder(host, int(found["pid"]), since, (utc_now() - since).total_seconds())
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError):
        return None
    return Holder() if holder.is_gone else holder
