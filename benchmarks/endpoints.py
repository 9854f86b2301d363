"""``python -m benchmarks.endpoints``: what a session costs a request; writes docs/benchmarks-endpoints.md.

An endpoint looks one row up by its primary key, for sixteen clients. Everybody is asked in turn, in short batches.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from benchmarks import cancelled, single
from benchmarks.applications import CLIENTS, model
from benchmarks.databases import MAJOR
from benchmarks.environments import ROOT, find_versions, hold_folder, install_project, make_environment
from benchmarks.load import ROWS, ask, pin_self, serve
from benchmarks.machine import describe_machine
from tests.postgres import Cluster

PAGE = ROOT / "docs" / "benchmarks-endpoints.md"
BATCH = 400
"""Requests in one turn."""

DISTRIBUTIONS = (
    "uvicorn",
    "gunicorn",
    "fastapi",
    "SQLAlchemy",
    "psycopg",
    "Django",
    "Flask-SQLAlchemy",
    "advanced-alchemy",
)
REQUIREMENTS = (
    *("uvicorn[standard]", "gunicorn", "fastapi", "SQLAlchemy[asyncio]>=2.1", "psycopg[binary,pool]>=3.2"),
    *("Django>=5.2,<5.3", "Flask-SQLAlchemy", "advanced-alchemy", "aiosqlite"),
)


class Base(sa_orm.DeclarativeBase):
    """Of the benchmark's own table."""


class Reader(model.Reader, Base):
    """The table that everybody reads."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way of reading the row.

    Args:
        title: Its name in the tables.
        module: The application.
        path: Of the endpoint.
        server: What runs it.
        environ: What is set for it.
        target: What its ratio to the first way should be at least; 0 if nothing was promised.
    """

    title: str
    module: str
    path: str = "/readers/"
    server: str = "uvicorn"
    environ: dict[str, str] = field(default_factory=dict)
    target: float = 0.0


OTHERS = (
    Way("Advanced Alchemy", "advanced"),
    Way("Flask-SQLAlchemy, gunicorn", "flask_app", server="gunicorn"),
    Way("Django, gunicorn", "django_app", server="gunicorn"),
)
KEPT = {"KEPT": str(CLIENTS)}


def _make_ways(raw: str, get_db: float, limited: float) -> tuple[Way, ...]:
    return (
        Way("the textbook: a generator with `Session(engine)`", "textbook"),
        Way("`get_db`", "opal", "/get_db/", target=get_db),
        Way("`SessionDep`", "opal", "/dep/", target=get_db),
        Way("`SessionDep`, `lifespan(threads=4)`", "opal", "/dep/", environ={"THREADS": "4"}, target=limited),
        Way("no SQLAlchemy", "raw", raw),
        *OTHERS,
    )


def _keep_all(ways: tuple[Way, ...]) -> tuple[Way, ...]:
    return tuple(
        replace(way, environ=way.environ | KEPT, target=0) for way in ways if way.module in {"textbook", "opal"}
    )


SYNC = _make_ways("/postgresql/", 1.45, 0)
ASYNC = (
    Way("the textbook: a generator with `AsyncSession(engine)`", "textbook", "/async/"),
    Way("`get_async_db`", "opal", "/async/get_db/", target=1.4),
    Way("`AsyncSessionDep`", "opal", "/async/dep/", target=1.4),
    Way("no SQLAlchemy", "raw", "/async/"),
    Way("Advanced Alchemy", "advanced", "/async/", environ={"ASYNC": "1"}),
)
SERVER = f"PostgreSQL {MAJOR}, psycopg"
WAYS = {
    "SQLite": _make_ways("/sqlite/", 1.2, 1.5),
    SERVER: SYNC,
    f"{SERVER}, asyncio": ASYNC,
    f"{SERVER}, everybody keeps {CLIENTS} connections": _keep_all(SYNC),
    f"{SERVER}, asyncio, everybody keeps {CLIENTS} connections": _keep_all(ASYNC),
}


@dataclass(frozen=True, slots=True)
class Found:
    """What one way reached.

    Args:
        way: Which.
        rate: Requests a second, the median of the batches.
        ratio: The median ratio to the first way's batch beside it.
        slow: Milliseconds that 99 of 100 requests did not exceed.
    """

    way: Way
    rate: float
    ratio: float
    slow: float


def compare(ways: tuple[Way, ...], programs: Path, url: str, rounds: int) -> list[Found]:
    """Ask everybody in turn; the first is what the others are compared with."""
    with ExitStack() as stack:
        environ = {"URL": url}
        ports = [stack.enter_context(serve(programs, way.server, way.module, environ | way.environ)) for way in ways]
        batches: list[list[list[float]]] = [[] for _ in ways]
        for number in range(-1, rounds):
            for at in list(range(len(ways)))[:: 1 if number % 2 else -1]:
                times = asyncio.run(ask(ports[at], ways[at].path, BATCH))
                batches[at] += [times] if number >= 0 else []  # before that everybody connects
    return [_sum_up(way, found, batches[0]) for way, found in zip(ways, batches, strict=True)]


def _sum_up(way: Way, batches: list[list[float]], base: list[list[float]]) -> Found:
    wholes = [batch[-1] for batch in batches]
    ratio = statistics.median(other[-1] / batch[-1] for batch, other in zip(batches, base, strict=True))
    slow = statistics.quantiles([time for batch in batches for time in batch[:-1]], n=100)[98]
    return Found(way, BATCH / statistics.median(wholes), ratio, slow * 1000)


def fill(url: str) -> str:
    """Make the table that everybody reads, with its rows; returns the URL."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        Reader.metadata.create_all(connection)
        rows = [
            {"id": n, "name": f"name {n}", "email": f"{n}@example.com", "city": "Turin", "year": 1900 + n % 100}
            for n in range(1, ROWS + 1)
        ]
        connection.execute(sa.insert(Reader), rows)
    engine.dispose()
    return url


def iter_page(results: dict[str, list[Found]], rounds: int, rest: list[str], machine: dict[str, str]) -> Iterator[str]:
    """The page, line by line."""
    yield "# Benchmark of endpoints\n"
    yield f"`make bench-endpoints` made this page. {CLIENTS} clients ask a FastAPI endpoint, on connections that stay open, for one of {ROWS:,} rows by its"
    yield "primary key. Every way has a server process of its own on one core, uvicorn unless the table says otherwise; the clients and PostgreSQL have the"
    yield f"other. Everybody is asked in turn, {BATCH} requests at a time, {rounds} times; rates are medians, ratios medians of those to the textbook's batch"
    yield "beside it. The rates are this machine's, the ratios are what counts.\n"
    yield "Pools are as delivered: SQLAlchemy's keeps 5 connections and closes what a rush opened beyond at once, so that it connects for many a request; ours closes it"
    yield f"when the rush is over. What is left where nobody connects is in the tables in which everybody keeps {CLIENTS}.\n"
    for title, found in results.items():
        yield f"## {title}\n"
        yield "|  | requests/s | to the textbook | to reach | 99 of 100 within |"
        yield "| --- | ---: | ---: | ---: | ---: |"
        yield from map(_row, found)
        yield ""
    yield from rest
    yield "\n## The machine\n\n|  |  |\n| --- | --- |"
    yield from (f"| {name} | {value} |" for name, value in machine.items())


def _row(found: Found) -> str:
    target = f"{found.way.target:g}" if found.way.target else ""
    verdict = f", {'met' if found.ratio >= found.way.target else 'not met'}" if target else ""
    return f"| {found.way.title} | {found.rate:,.0f} | {found.ratio:.2f} | {target}{verdict} | {found.slow:.0f} ms |"


def _iter_rest(cluster: Cluster, url: str, file: str, rounds: int) -> Iterator[str]:
    yield from single.iter_section(cluster.port, url, rounds * 20)
    yield from cancelled.iter_section({"SQLite": file, SERVER: url})


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-endpoints ARGS=...", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=PAGE)
    chosen = parser.parse_args(argv)
    with hold_folder(), tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        programs = make_environment("endpoints", REQUIREMENTS)
        install_project(programs, ROOT)
        machine = describe_machine()
        pin_self()
        cluster = stack.enter_context(Cluster(MAJOR, max_connections="400"))
        file, url = fill(f"sqlite:///{folder}/readers.db"), fill(cluster.url())
        results = {
            title: compare(ways, programs, file if title == "SQLite" else url, chosen.rounds)
            for title, ways in WAYS.items()
        }
        rest = list(_iter_rest(cluster, url, file, chosen.rounds))
        versions = find_versions(programs, DISTRIBUTIONS)
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    page = "\n".join(iter_page(results, chosen.rounds, [*rest, f"\nVersions: {shown}."], machine)) + "\n"
    chosen.output.write_text(page)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
