"""Is the database there? Asked once, or until it is."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from opal_registry.engines.errors.failures import check_sqlite_file, explained, of_bind
from opal_registry.engines.factory import for_looking
from opal_registry.engines.url import describe_url, get_sqlite_path
from opal_registry.errors import DatabaseError
from opal_registry.registry import Registry

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
LIMITS = ("connect_timeout", "timeout", "read_timeout", "write_timeout")
"""By which names drivers are told how long they may take to connect."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """The answer of one database.

    Args:
        bind: The key of the configured database.
        url: Where it is, without its password.
        server: What answers there, with its version.
        milliseconds: How long connecting and one round trip took.
    """

    bind: str
    url: str
    server: str
    milliseconds: float


def ping(registry: Registry) -> list[Pulse]:
    """Connect to every configured database and ask for one row.

    Raises:
        DatabaseError: If one does not answer; a SQLite file that does not exist is not created.
    """
    return [ping_one(bind, registry.engine(bind)) for bind in registry.settings.databases]


def ping_one(bind: str, engine: sa.Engine, *, must_exist: bool = True) -> Pulse:
    """The same with one database.

    Args:
        bind: Its key.
        engine: Its engine.
        must_exist: Whether a SQLite file that does not exist is an error.

    Raises:
        DatabaseError: If it does not answer.
    """
    with of_bind(bind):
        return _ask(bind, engine, must_exist=must_exist)


def wait_until_ready(
    registry: Registry, *, timeout: float, on_failure: Callable[[DatabaseError], None] = lambda _: None
) -> list[Pulse]:
    """Ask every configured database until it answers.

    A SQLite file that does not exist yet counts as ready, if its directory is there: ``init`` will create it.

    Args:
        registry: The registry.
        timeout: How many seconds to try.
        on_failure: Told of each answer that was an error.

    Raises:
        DatabaseError: The last answer, if the time is up.
    """
    deadline = time.monotonic() + timeout
    return [
        _wait(bind, registry.engine(bind), deadline=deadline, on_failure=on_failure)
        for bind in registry.settings.databases
    ]


def _wait(bind: str, engine: sa.Engine, *, deadline: float, on_failure: Callable[[DatabaseError], None]) -> Pulse:
    pause = FIRST_PAUSE
    while True:
        try:
            with _connecting_until(deadline, engine):
                return ping_one(bind, engine, must_exist=False)
        except DatabaseError as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            on_failure(error)
            time.sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_PAUSE)


@contextmanager
def _connecting_until(deadline: float, engine: sa.Engine) -> Iterator[None]:
    """Spend no more time on a connection than is left, where its driver knows a limit."""

    def shorten(_dialect: object, _record: object, _args: object, params: dict[str, Any]) -> None:
        left = max(1, math.ceil(deadline - time.monotonic()))
        params.update({key: min(params[key], left) for key in LIMITS if key in params})

    sa.event.listen(engine, "do_connect", shorten)
    try:
        yield
    finally:
        sa.event.remove(engine, "do_connect", shorten)


def _ask(bind: str, engine: sa.Engine, *, must_exist: bool) -> Pulse:
    check_sqlite_file(engine.url, must_exist=must_exist)
    started = time.perf_counter()
    path = get_sqlite_path(engine.url)
    if path is None or path.exists():
        with explained(engine.url), for_looking(engine).connect() as connection:
            connection.execute(sa.text("SELECT count(*) FROM sqlite_master" if path else "SELECT 1"))
    return Pulse(bind, describe_url(engine.url), _server(engine), (time.perf_counter() - started) * 1000)


def _server(engine: sa.Engine) -> str:
    version = getattr(engine.dialect, "server_version_info", None) or ()
    name = "mariadb" if getattr(engine.dialect, "is_mariadb", False) else engine.dialect.name
    return f"{name} {'.'.join(str(part) for part in version)}".strip()
