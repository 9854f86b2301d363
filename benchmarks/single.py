"""One read in a session of its own, far from the server: how many round trips it takes."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from benchmarks.proxy import DelayProxy
from opal_registry.registry import Registry
from opal_registry.settings.model import Settings

ROUND_TRIP = 0.001
"""Seconds."""

TARGET = 2.2
"""Milliseconds."""

ASK: sa.Select[tuple[str]] = (
    sa.select(sa.literal_column("name")).select_from(sa.table("readers", sa.column("id"))).where(sa.column("id") == 7)
)

Read = Callable[[], object]


def iter_section(port: int, url: str, rounds: int) -> Iterator[str]:
    """The section of the page, line by line."""
    with DelayProxy(port, seconds=ROUND_TRIP) as proxy, ExitStack() as stack:
        far = sa.make_url(url).set(port=proxy.port).render_as_string(hide_password=False)
        ways = _make_ways(far, stack)
        found = {title: _measure(read, proxy, rounds) for title, read in ways.items()}
        longest = _measure_near(proxy, far)
    yield "## One read, with a round trip of 1 ms\n"
    yield f"A session is opened, reads one row, and is closed; medians of {rounds}. What a connection that is opened already needs for `SELECT 1` in autocommit"
    yield f"beside it: {longest:.1f} ms. To reach: {TARGET} ms.\n"
    yield "|  | ms | round trips |\n| --- | ---: | ---: |"
    yield from (f"| {title} | {took:.1f} | {trips:.0f} |" for title, (took, trips) in found.items())
    yield ""


def _make_ways(url: str, stack: ExitStack) -> dict[str, Read]:
    registry = stack.enter_context(Registry(Settings.model_validate({"database": {"url": url}}), sub_apps=["core"]))
    return {
        "`Session(engine)`": _make_plain(url, stack),
        "`Session(engine)`, `pool_pre_ping=True`": _make_plain(url, stack, pool_pre_ping=True),
        "`SessionLocal()`": _make_read(registry.session_factory),
        "`session_scope(read_only=True)`": _make_read(lambda: registry.session_scope(read_only=True)),
    }


def _make_plain(url: str, stack: ExitStack, **options: bool) -> Read:
    engine = sa.create_engine(url, **options)
    stack.callback(engine.dispose)
    return _make_read(lambda: sa_orm.Session(engine))


def _make_read(open_session: Callable[[], object]) -> Read:
    def read() -> None:
        with open_session() as session:  # type: ignore[attr-defined]
            session.execute(ASK).scalar_one()

    return read


def _measure(read: Read, proxy: DelayProxy, rounds: int) -> tuple[float, float]:
    for _ in range(3):  # the first connects, and asks the server about itself
        read()
    before, times = proxy.trips.total, []
    for _ in range(rounds):
        began = time.perf_counter()
        read()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000, (proxy.trips.total - before) / rounds


def _measure_near(proxy: DelayProxy, url: str) -> float:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        took, _ = _measure(lambda: connection.exec_driver_sql("SELECT 1").scalar(), proxy, 100)
    engine.dispose()
    return took
