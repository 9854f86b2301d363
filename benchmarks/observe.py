"""``python -m benchmarks.observe``: what it costs to be observed; writes docs/benchmarks-observe.md.

One session after the other takes a connection, asks for one row, and gives it back. Everybody works in turn, in short batches,
and on one core, so that what else the machine does falls on all alike; each in a process of its own, because spans change
SQLAlchemy for all engines of a process.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from benchmarks.databases import MAJOR
from benchmarks.environments import ROOT
from benchmarks.machine import describe_machine
from benchmarks.turns import BATCH, Ways, compare
from opal_registry.engines.caller import Caller, caller
from opal_registry.prometheus import export
from opal_registry.registry import Registry
from opal_registry.settings.model import Settings
from opal_registry.telemetry import instrument
from tests.postgres import Cluster

PAGE = ROOT / "docs" / "benchmarks-observe.md"
ASK = sa.text("SELECT 1")
NOTHING = "nothing"

Watch = Callable[[Registry], None]


def _nothing(_registry: Registry) -> None:
    pass


def _export(registry: Registry) -> None:
    export(registry, to=CollectorRegistry())


def _meter(registry: Registry) -> None:
    instrument(registry, meter_provider=MeterProvider([InMemoryMetricReader()]), spans=False)


def _trace(registry: Registry) -> None:
    instrument(registry, meter_provider=MeterProvider([InMemoryMetricReader()]), tracer_provider=TracerProvider())


WAYS: dict[str, tuple[dict[str, Any], Watch]] = {
    NOTHING: ({"leak_after": 0}, _nothing),
    "`pool.leak_after`": ({}, _nothing),
    "development: lines and use of sessions too": ({"environment": "development"}, _nothing),
    "`observe.slow_query`": ({"observe": {"slow_query": "500ms"}}, _nothing),
    "`observe.tags`": ({"observe": {"tags": True}}, _nothing),
    "Prometheus": ({}, _export),
    "OpenTelemetry, metrics": ({}, _meter),
    "OpenTelemetry, metrics and spans": ({}, _trace),
}
"""Settings, production's unless they say otherwise, and what watches."""


def make_ways(url: str, stack: ExitStack) -> Ways:
    """All ways to one database."""
    return {way: _start(way, url, stack) for way in WAYS}


def _start(way: str, url: str, stack: ExitStack) -> Callable[[], float]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(way, url, theirs))
    process.start()
    stack.callback(process.join)
    stack.callback(ours.send, "end")

    def run() -> float:
        ours.send("run")
        return float(ours.recv())

    return run


def _serve(way: str, url: str, asked: Any) -> None:
    """Run a batch each time it is asked for."""
    others, watch = WAYS[way]
    rest = {"environment": "production"} | others
    database = {"url": url, "pool": {"leak_after": rest.pop("leak_after", 60)}}
    caller.set(Caller("standupbot", "GET /users/{user_id}"))
    with Registry(Settings.model_validate({"database": database, **rest}), sub_apps=["core"]) as registry:
        watch(registry)
        while asked.recv() == "run":
            asked.send(_run(registry))


def _run(registry: Registry) -> float:
    began = time.perf_counter()
    for _ in range(BATCH):
        with registry.session_factory() as session:
            session.execute(ASK)
    return time.perf_counter() - began


def iter_page(results: dict[str, dict[str, tuple[float, float]]], rounds: int) -> Iterator[str]:
    """The page, line by line."""
    yield "# Benchmark of being observed\n"
    yield "`make bench-observe` made this page: a session takes a connection, asks for one row, and gives it back, without a network between."
    yield f"Microseconds are this machine's, medians of {rounds} batches of {BATCH}, everybody in turn; ratios are medians of those to the batch"
    yield "beside it that nobody observes.\n"
    yield f"| observed by | {' | '.join(f'{name} | ratio' for name in results)} |"
    yield f"| --- |{' ---: | ---: |' * len(results)}"
    for way in WAYS:
        cells = [text for found in results.values() for text in (f"{found[way][0]:.0f} µs", f"{found[way][1]:.3f}")]
        yield f"| {way} | {' | '.join(cells)} |"
    yield "\n## The machine\n\n|  |  |\n| --- | --- |"
    yield from (f"| {name} | {value} |" for name, value in describe_machine().items())


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-observe ARGS=...", description=__doc__)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--output", type=Path, default=PAGE)
    chosen = parser.parse_args(argv)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    results = {}
    with ExitStack() as stack:
        urls = {
            "SQLite": f"sqlite:///{stack.enter_context(TemporaryDirectory())}/opal_suite.db",
            f"PostgreSQL {MAJOR}, psycopg": stack.enter_context(Cluster(MAJOR)).url(),
        }
        for name, url in urls.items():
            with ExitStack() as ways:
                results[name] = compare(make_ways(url, ways), chosen.rounds, to=NOTHING)
    page = "\n".join(iter_page(results, chosen.rounds)) + "\n"
    chosen.output.write_text(page)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
