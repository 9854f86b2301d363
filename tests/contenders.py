"""Processes that contend for the lock of a database, one step at a time as a test says, or all at once."""

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from opal_registry.mixins import utc_now
from opal_registry.store.locks import AnotherRunError, hold_lock, ignore, try_lock
from opal_registry.store.tables import events
from tests.databases import engine_of

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__, "psycopg", "pymysql"])

LONG = 60.0
"""Seconds after which a test that hangs fails."""

LockOf = Callable[..., AbstractContextManager[sa.Connection]]
Announce = Callable[[str], None]


@contextmanager
def alone(section: Path) -> Iterator[None]:
    """Be in the critical section.

    Raises:
        FileExistsError: If somebody else is in it.
    """
    os.close(os.open(section, os.O_CREAT | os.O_EXCL))
    yield
    section.unlink()


@contextmanager
def connected(url: str, **options: Any) -> Iterator[sa.Connection]:
    """A connection as a run makes it: it introduces itself; on MySQL it is in AUTOCOMMIT."""
    engine = make_engine(url, **options)
    try:
        with engine.connect() if url.startswith("mysql") else engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def holding(
    url: str, *, lock: LockOf = hold_lock, wait: float = 0, where: str = "", announce: Announce = ignore, **options: Any
) -> Iterator[sa.Connection]:
    """The lock of a database, and the connection that holds it."""
    limit = {"statement_wait": options.pop("statement_wait")} if "statement_wait" in options else {}
    engine = make_engine(url, **options)
    try:
        with lock(engine, wait=wait, where=where, announce=announce, **limit) as connection:
            yield connection
    finally:
        engine.dispose()


def make_engine(url: str, **options: Any) -> sa.Engine:
    """An engine as a run makes it."""
    if url.startswith("sqlite"):
        return engine_of(url)
    if url.startswith("mysql"):
        return sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    name = f"opal-db {socket.gethostname()}:{os.getpid()}"
    arguments = {"application_name": name, "prepare_threshold": None, **options}
    return sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments)


class Contender:
    """A process that takes the lock, says so, and keeps it until it is told to leave.

    Args:
        url: The database.
        section: The critical section.
        wait: For how many seconds it waits for the lock.
        lock: The lock.
        recorded: Whether it records itself in ``opal_events``.
        **options: For the connection.

    What it says are pairs: ``waiting`` with the announcement, ``in``, ``out``, ``error`` with its text, ``interrupted``.
    """

    def __init__(
        self,
        url: str,
        section: Path,
        *,
        wait: float = LONG,
        lock: LockOf = hold_lock,
        recorded: bool = False,
        **options: Any,
    ) -> None:
        self._pipe, theirs = CONTEXT.Pipe()
        arguments = (theirs, url, section, wait, lock, recorded, options)
        self._process = CONTEXT.Process(target=_contend, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def name(self) -> str:
        """How it is named where it holds the lock."""
        return f"host {socket.gethostname()}, process {self.pid}"

    def hear(self) -> tuple[str, str]:
        """What it says next."""
        assert self._pipe.poll(LONG), "it says nothing"
        kind, text = self._pipe.recv()
        return kind, text

    def hear_in(self) -> None:
        """It gets into the critical section, whatever it announces before."""
        assert self._hear_the_end() == ("in", "")

    def hear_error(self) -> str:
        """It does not; the text of the error."""
        kind, text = self._hear_the_end()
        assert kind == "error"
        return text

    def leave(self) -> None:
        """Have it leave the critical section, and hear that it did."""
        self._pipe.send("leave")
        assert self.hear() == ("out", "")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def _hear_the_end(self) -> tuple[str, str]:
        heard = self.hear()
        while heard[0] == "waiting":
            heard = self.hear()
        return heard


def _contend(
    pipe: Connection,
    url: str,
    section: Path,
    wait: float,
    lock: LockOf,
    recorded: bool,
    options: dict[str, Any],
) -> None:
    def announce(text: str) -> None:
        pipe.send(("waiting", text))

    try:
        with holding(url, lock=lock, wait=wait, where="here", announce=announce, **options) as held, alone(section):
            if recorded:
                _record(held)
            pipe.send(("in", ""))
            pipe.recv()
        pipe.send(("out", ""))
    except KeyboardInterrupt:
        pipe.send(("interrupted", ""))
    except FileExistsError:
        pipe.send(("overlap", ""))
    except (AnotherRunError, sa.exc.DBAPIError) as error:
        pipe.send(("error", str(error)))


def _record(connection: sa.Connection) -> None:
    events.create(connection, checkfirst=True)
    values = {"command": "init", "os_user": "", "written_by": "", "started_at": utc_now(), "outcome": "running"}
    connection.execute(sa.insert(events).values(values | {"host": socket.gethostname(), "pid": os.getpid()}))


def race(processes: int, rounds: int, go: Callable[[int, Path], None], section: Path) -> list[str]:
    """Have processes that begin at once do something again and again.

    Args:
        processes: How many.
        rounds: How often each of them does it.
        go: Does it once, in a process of which it is told the number, with the critical section.
        section: The critical section.

    Returns:
        What went wrong in each of the processes; empty where nothing did.
    """
    barrier, results = CONTEXT.Barrier(processes), CONTEXT.SimpleQueue()
    arguments = [(barrier, results, rounds, go, number, section) for number in range(processes)]
    started = [CONTEXT.Process(target=_race, args=each, daemon=True) for each in arguments]
    for process in started:
        process.start()
    found = [results.get() for _ in started]
    for process in started:
        process.join()
        process.close()
    results.close()
    return found


def _race(barrier: Any, results: Any, rounds: int, go: Callable[[int, Path], None], number: int, section: Path) -> None:
    barrier.wait(LONG)
    try:
        for _ in range(rounds):
            go(number, section)
    except Exception as error:  # noqa: BLE001 -- the test judges it
        results.put(f"{type(error).__name__}: {error}")
    else:
        results.put("")


def take_turn(url: str, number: int, section: Path) -> None:
    """Lock a database, be in the critical section, and unlock it; for :func:`race`."""
    with holding(url, wait=LONG), alone(section):
        pass


def lock_is_free(url: str) -> bool:
    """Whether nobody has the lock of a database."""
    engine = make_engine(url)
    with try_lock(engine) as connection:
        is_free = connection is not None
    engine.dispose()
    return is_free


def limits_of(connection: sa.Connection) -> tuple[str, str]:
    """The limits of a PostgreSQL transaction: of each statement, and of each wait for a lock."""
    names = ("statement_timeout", "lock_timeout")
    statement, lock = (str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in names)
    return statement, lock


__all__ = [
    "CONTEXT",
    "LONG",
    "Contender",
    "LockOf",
    "alone",
    "connected",
    "holding",
    "limits_of",
    "lock_is_free",
    "make_engine",
    "race",
    "take_turn",
]
