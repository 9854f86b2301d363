"""``python -m benchmarks.pools``: what testing connections costs a busy pool; writes docs/benchmarks-pools.md.

One session after the other takes a connection, asks for one row, and gives it back. Everybody works in turn, in short batches,
and on one core, so that what else the machine does, and where it wakes a server, falls on all alike.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from benchmarks.databases import MAJOR
from benchmarks.environments import ROOT
from benchmarks.machine import describe_machine
from benchmarks.turns import BATCH, Ways, compare
from opal_registry.engines.pools.patience import ping_idle
from tests.mariadb import MariaDB
from tests.postgres import Cluster

PAGE = ROOT / "docs" / "benchmarks-pools.md"
ASK = sa.text("SELECT 1")
WITHOUT, IDLE, PRE_PING = "no test", "`pool.ping_after: 1s`", "`pool_pre_ping`"


def _make_options(way: str) -> dict[str, Any]:
    return {"pool_use_lifo": True, "pool_pre_ping": way == PRE_PING}


def make_ways(url: str, stack: ExitStack) -> Ways:
    """The ways with an ordinary driver."""
    return {way: _make_way(url, way, stack) for way in (WITHOUT, IDLE, PRE_PING)}


def _make_way(url: str, way: str, stack: ExitStack) -> Callable[[], float]:
    engine = sa.create_engine(url, **_make_options(way))
    if way == IDLE:
        ping_idle(engine, after=1)
    stack.callback(engine.dispose)

    def run() -> float:
        began = time.perf_counter()
        for _ in range(BATCH):
            with sa_orm.Session(engine) as session:
                session.execute(ASK)
        return time.perf_counter() - began

    return run


def make_async_ways(url: str, stack: ExitStack) -> Ways:
    """The ways with a driver for asyncio."""
    runner = stack.enter_context(asyncio.Runner())
    return {way: _make_async_way(url, way, runner, stack) for way in (WITHOUT, IDLE, PRE_PING)}


def _make_async_way(url: str, way: str, runner: asyncio.Runner, stack: ExitStack) -> Callable[[], float]:
    engine = create_async_engine(url, **_make_options(way))
    if way == IDLE:
        ping_idle(engine.sync_engine, after=1)
    stack.callback(lambda: runner.run(engine.dispose()))

    async def batch() -> float:
        began = time.perf_counter()
        for _ in range(BATCH):
            async with AsyncSession(engine) as session:
                await session.execute(ASK)
        return time.perf_counter() - began

    return lambda: runner.run(batch())


def iter_page(results: dict[str, dict[str, tuple[float, float]]], rounds: int) -> Iterator[str]:
    """The page, line by line."""
    yield "# Benchmark of testing connections\n"
    yield "`make bench-pools` made this page: a session takes a connection from a busy pool, asks for one row, and gives it back. Client and"
    yield f"server share a core. Microseconds are this machine's, medians of {rounds} batches of {BATCH}, everybody in turn; ratios are medians of"
    yield "those to the batch beside it.\n"
    yield f"|  | {WITHOUT} | {IDLE} | ratio | {PRE_PING} | ratio |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for driver, found in results.items():
        cells = [f"{found[WITHOUT][0]:.0f} µs"]
        cells += [text for way in (IDLE, PRE_PING) for text in (f"{found[way][0]:.0f} µs", f"{found[way][1]:.3f}")]
        yield f"| {driver} | {' | '.join(cells)} |"
    yield "\nOn loopback a test costs least: on a network it costs a whole round trip more.\n"
    yield "## The machine\n\n|  |  |\n| --- | --- |"
    yield from (f"| {name} | {value} |" for name, value in describe_machine().items())


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-pools ARGS=...", description=__doc__)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--output", type=Path, default=PAGE)
    chosen = parser.parse_args(argv)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with ExitStack() as stack:
        postgres, mariadb = stack.enter_context(Cluster(MAJOR)), stack.enter_context(MariaDB())
        urls = {"psycopg": postgres.url(), "asyncpg": postgres.url().replace("psycopg", "asyncpg")}
        everybody = {
            f"PostgreSQL {MAJOR}, psycopg": make_ways(urls["psycopg"], stack),
            f"PostgreSQL {MAJOR}, psycopg, asyncio": make_async_ways(urls["psycopg"], stack),
            f"PostgreSQL {MAJOR}, asyncpg": make_async_ways(urls["asyncpg"], stack),
            "MariaDB, PyMySQL": make_ways(mariadb.url("mysql"), stack),
        }
        results = {name: compare(ways, chosen.rounds, to=WITHOUT) for name, ways in everybody.items()}
    page = "\n".join(iter_page(results, chosen.rounds)) + "\n"
    chosen.output.write_text(page)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
