"""What each database has for a lock of its own, with a common face: try for some seconds, ask who has it, let go."""

import datetime as dt
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from itertools import chain, repeat

import sqlalchemy as sa

from opal_registry.store.holder import RUN, RUN_HOLDS, Holder, make_holder
from opal_registry.store.tables import events

NAME = "opal_registry"
KEY = int.from_bytes(sha256(NAME.encode()).digest()[:8], signed=True)
"""The advisory lock's number on PostgreSQL, where it is one per database."""

LONGEST_NAME = 64
"""So many characters a named lock may have on MySQL."""

STAY = "SESSION wait_timeout = GREATEST(@@SESSION.wait_timeout, 28800)"
"""So many seconds, by default, the server keeps a connection that is silent, as one that holds a lock is."""

TAKEN = ("55P03", "SQLITE_BUSY", "SQLITE_BUSY_RECOVERY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_BUSY_TIMEOUT")
"""How a database says that a lock was not to be had in time."""

ADVISORY_HOLDER = sa.text("""
    SELECT a.application_name AS application, host(a.client_addr) AS address, l.pid,
        EXTRACT(epoch FROM a.xact_start) AS since, EXTRACT(epoch FROM clock_timestamp()) AS now
    FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND l.classid = CAST(:high AS oid) AND l.objid = CAST(:low AS oid)
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
""").bindparams(high=KEY >> 32 & 0xFFFFFFFF, low=KEY & 0xFFFFFFFF)
"""What the user may not know is NULL: of other users' sessions all but the name of the application."""

NAMED_HOLDER = sa.text("""
    SELECT IS_USED_LOCK(:name) AS id, UTC_TIMESTAMP() AS now,
        (SELECT host FROM information_schema.processlist WHERE id = IS_USED_LOCK(:name)) AS address
""")

LAST_RUNNING = (
    sa.select(events.c.host, events.c.pid, events.c.started_at)
    .where(events.c.outcome == "running")
    .order_by(events.c.id.desc())
    .limit(1)
)


class AdvisoryLock:
    """PostgreSQL: an advisory lock of the connection's transaction, with which it ends.

    It is asked for again and again, in transactions of its own, and not waited for in the server's queue: a statement that
    waits there holds a snapshot, and a ``CREATE INDEX CONCURRENTLY`` of the run that has the lock waits for every snapshot to
    end (the manual, "Building Indexes Concurrently"); and a transaction holds one of the connections of a pooler, which the
    run that has the lock may need.

    Args:
        connection: The database.
        statement_wait: For how many seconds the transaction's further statements wait for a table; None: as usual.
    """

    awaited, holding = RUN, RUN_HOLDS
    attempt = 0.25

    def __init__(self, connection: sa.Connection, statement_wait: float | None = None) -> None:
        self._connection = connection
        limit = "" if statement_wait is None else f"; {make_limit(statement_wait)}"
        self._try = f"SELECT pg_try_advisory_xact_lock({KEY}){limit}"
        self._pauses = chain((0.005 * 2**n for n in range(6)), repeat(self.attempt))

    def take(self, seconds: float) -> bool:
        """Get the lock, after a pause of at most so many seconds, in which no transaction is open."""
        self._connection.rollback()
        if seconds:
            time.sleep(min(seconds, next(self._pauses)))
        return bool(self._connection.exec_driver_sql(self._try).scalar())

    def find_holder(self) -> Holder | None:
        """Who has it, as far as the user may know; None if nobody."""
        with suppress(sa.exc.ProgrammingError), self._connection.begin_nested():  # a hardened server keeps it all
            return find_advisory_holder(self._connection)
        return None

    def release(self) -> None:
        """Nothing: the lock ends with the transaction."""


def find_advisory_holder(connection: sa.Connection) -> Holder | None:
    """Who has the lock of a PostgreSQL database, as far as the user may know; None if nobody.

    Raises:
        sqlalchemy.exc.ProgrammingError: If the user may know nothing.
    """
    row = connection.execute(ADVISORY_HOLDER).first()
    if row is None:
        return None
    holder = make_holder(row.application or "", row.address or "")
    if row.pid:
        holder = replace(holder, end=f"SELECT pg_terminate_backend({row.pid})")
    if row.since is None:
        return holder
    since = dt.datetime.fromtimestamp(float(row.since), dt.UTC)
    return replace(holder, since=since, seconds=float(row.now - row.since))


class NamedLock:
    """MySQL: a lock of the connection, in the whole server, under a name that holds the database's.

    Args:
        connection: The database.
        statement_wait: For how many seconds the connection's further statements wait for a table; None: as usual.
    """

    awaited, holding = RUN, RUN_HOLDS
    attempt = 1.0

    def __init__(self, connection: sa.Connection, statement_wait: float | None = None) -> None:
        self._connection = connection
        self._name = make_name(connection.engine.url.database or "")
        self._held = False
        self._settings = STAY if statement_wait is None else f"{STAY}, {make_mysql_limit(statement_wait)}"

    def take(self, seconds: float) -> bool:
        """Get the lock, within so many seconds, rounded up to whole ones."""
        self._held = bool(self._connection.scalar(sa.select(sa.func.get_lock(self._name, math.ceil(seconds)))))
        if self._held:
            self._connection.exec_driver_sql(f"SET {self._settings}")
        return self._held

    def find_holder(self) -> Holder | None:
        """Who has it: the last run that is recorded as running, else the address of the connection; None if nobody."""
        row = self._connection.execute(NAMED_HOLDER, {"name": self._name}).one()
        if row.id is None:
            return None
        holder = self._find_event(row.now.replace(tzinfo=dt.UTC))
        if holder is None or holder.is_gone:
            holder = Holder(re.sub(r":\d+$", "", row.address or ""))
        return replace(holder, end=f"KILL {row.id}")

    def release(self) -> None:
        """Let go of it, if it is held; with a connection that is lost it is, too."""
        if not self._held:
            return
        self._held = False
        try:
            self._connection.scalar(sa.select(sa.func.release_lock(self._name)))
        except sa.exc.SQLAlchemyError:
            with suppress(sa.exc.SQLAlchemyError):
                self._connection.invalidate()

    def _find_event(self, now: dt.datetime) -> Holder | None:
        try:
            row = self._connection.execute(LAST_RUNNING).first()
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated:
                raise
            return None  # there is no such table yet, or it is not for us
        return row and Holder(row.host, row.pid, row.started_at, (now - row.started_at).total_seconds())


class WriteLock:
    """SQLite: the right to write, with which the connection's transaction begins and ends."""

    awaited = "another process that writes to this database"
    holding = "another process {}writes to this database"
    attempt = 0.05  # the driver waits in C, where it cannot be interrupted

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def take(self, seconds: float) -> bool:
        """Get the lock, within so many seconds."""
        usual = set_patience(self._connection, seconds)
        try:
            with _refusal() as refused:
                self._connection.exec_driver_sql(
                    "PRAGMA busy_timeout"
                )  # begins none, so that WAL is on before one does
                self._connection.exec_driver_sql("SELECT 1")  # begins the transaction: BEGIN IMMEDIATE
        finally:
            if not self._connection.invalidated:  # as it is after Ctrl-C
                set_patience(self._connection, usual)
        return not refused

    def find_holder(self) -> Holder | None:
        """Somebody: SQLite does not say who."""
        return Holder()

    def release(self) -> None:
        """Nothing: the lock ends with the transaction."""


def set_patience(connection: sa.Connection, seconds: float) -> float:
    """Set for how long SQLite waits, past SQLAlchemy (for which it would be a statement), and return what it was."""
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA busy_timeout")
    usual = int(cursor.fetchone()[0])  # type: ignore[index]  # it always answers
    cursor.execute(f"PRAGMA busy_timeout={_milliseconds(seconds) if seconds else 0}")
    cursor.close()
    return usual / 1000


def is_lock_held(connection: sa.Connection) -> bool:
    """Whether a connection that got the lock has it still: PostgreSQL's ends with the transaction, MySQL's is asked for.

    Raises:
        sqlalchemy.exc.DBAPIError: If the connection is lost, and the lock with it.
    """
    if connection.dialect.name == "postgresql":
        return bool(connection.scalar(sa.select(1)))
    name = make_name(connection.engine.url.database or "")
    return bool(connection.scalar(sa.select(sa.func.is_used_lock(name) == sa.func.connection_id())))


def make_name(database: str) -> str:
    """The name of a database's lock on MySQL, where it counts in the whole server.

    Example:
        >>> make_name("suite"), make_name("x" * 60)
        ('opal_registry.suite', 'opal_registry.42f2d97335669f86846b721a8aa58551')
    """
    name = f"{NAME}.{database}"
    return name if len(name) <= LONGEST_NAME else f"{NAME}.{sha256(database.encode()).hexdigest()[:32]}"


def make_limit(seconds: float) -> str:
    """The statement that limits for how long a PostgreSQL transaction's further statements wait for a table.

    Example:
        >>> make_limit(2)
        'SET LOCAL lock_timeout = 2000'
    """
    return f"SET LOCAL lock_timeout = {_milliseconds(seconds)}"


def make_mysql_limit(seconds: float) -> str:
    """The same for a connection to MySQL, where it counts whole seconds, as what follows ``SET``.

    Example:
        >>> make_mysql_limit(0.5)
        'SESSION lock_wait_timeout = 1'
    """
    return f"SESSION lock_wait_timeout = {max(1, math.ceil(seconds))}"


def find_file(connection: sa.Connection) -> str | None:
    """The file of a SQLite database, as SQLite knows it; None for one in memory."""
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA database_list")
    files = {name: file for _, name, file in cursor.fetchall()}
    cursor.close()
    return files["main"] or None


def _milliseconds(seconds: float) -> int:
    """At least one: 0 would be no limit."""
    return max(1, int(seconds * 1000))


@contextmanager
def _refusal() -> Iterator[list[BaseException]]:
    """Holds, after the block, the error that says the lock was not to be had in time, if there was one."""
    refused: list[BaseException] = []
    try:
        yield refused
    except sa.exc.DBAPIError as error:
        if _code(error.orig) not in TAKEN:
            raise
        refused.append(error)


def _code(original: BaseException | None) -> str:
    told = next(iter(getattr(original, "args", ())), None)
    code = told.get("C") if isinstance(told, dict) else None  # pg8000
    return str(getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", None) or code or "")
