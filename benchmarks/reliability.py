"""``python -m benchmarks.reliability``: what applications notice when a server fails; the figures of docs/reliability.md.

Threads run one small transaction after the other through ``session_scope``, as requests do; something happens to the server;
what they lose, and how long it lasts, is counted.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from benchmarks.databases import MAJOR
from benchmarks.environments import ROOT
from opal_registry.registry import Registry
from opal_registry.settings.model import Settings
from tests.postgres import Cluster
from tests.replication import Standby

PAGE = ROOT / "docs" / "benchmarks-reliability.md"
THREADS = 8
BEFORE, AFTER = 1.0, 3.0
"""Seconds of undisturbed work before something happens, and after it is over."""

PAUSE = 0.002
"""Seconds between two transactions of a thread."""

DOWN = 1.0
"""Seconds that a server is away."""


HANGS = 5.0
"""Seconds that a server says nothing."""

IMPATIENT = {"statement_timeout": "500ms", "network_timeout": "500ms", "connect_timeout": "1s"}


@dataclass(slots=True)
class Call:
    """One transaction: when it began and ended, and the error it ended with."""

    began: float
    ended: float
    error: str = ""


@dataclass(slots=True)
class Load:
    """Threads that work until they are told to stop.

    Args:
        registry: Through which they work.
    """

    registry: Registry
    calls: list[Call] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Work for the length of a block."""
        threads = [threading.Thread(target=self._work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _work(self) -> None:
        while not self._stop.wait(PAUSE):
            began, error = time.monotonic(), ""
            try:
                with self.registry.session_scope() as session:
                    session.execute(sa.text("UPDATE counted SET number = number + 1 WHERE id = :id"), {"id": 1})
            except Exception as failure:  # noqa: BLE001 -- they are what is counted
                error = type(failure).__name__
            self.calls.append(Call(began, time.monotonic(), error))


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to a server.

    Args:
        title: What it is called on the page.
        happen: Does it; when it returns, a server is there again.
        settings: What is set of the database beside its URL.
    """

    title: str
    happen: Callable[[Cluster, Standby], None]
    settings: dict[str, str] = field(default_factory=dict)


def _cut_all(primary: Cluster, _: Standby) -> None:
    primary.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )


def _restart(primary: Cluster, _: Standby) -> None:
    primary.stop("fast")
    primary.start()


def _crash(primary: Cluster, _: Standby) -> None:
    primary.stop("immediate")
    time.sleep(DOWN)
    primary.start()


def _fail_over(primary: Cluster, standby: Standby) -> None:
    primary.stop("immediate")
    time.sleep(DOWN)
    standby.promote()


def _hang(primary: Cluster, _: Standby) -> None:
    pids = [pid for (pid,) in primary.execute("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in (primary.pid, *pids):
            with suppress(ProcessLookupError):  # a worker that had done its work
                os.kill(pid, number)
        time.sleep(HANGS if number == signal.SIGSTOP else 0)


FAULTS = (
    Fault("every connection is cut by the server", _cut_all),
    Fault("the server is restarted in order", _restart),
    Fault(f"the server crashes, and comes back after {DOWN:g} s", _crash),
    Fault(f"the server crashes, and its standby is promoted after {DOWN:g} s", _fail_over),
    Fault(f"the server hangs for {HANGS:g} s", _hang),
    Fault(f"the server hangs for {HANGS:g} s; `statement_timeout` and `network_timeout` are 500 ms", _hang, IMPATIENT),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the threads noticed.

    Args:
        title: Of what.
        calls: How many transactions they ran.
        lost: How many of them failed.
        after: How many failed that began when a server was there again.
        recovered: Seconds from then to the first one that succeeded.
        longest: Seconds that the longest one took.
        errors: How many failed with which error.
    """

    title: str
    calls: int
    lost: int
    after: int
    recovered: float
    longest: float
    errors: Counter[str]


def run(fault: Fault) -> Outcome:
    """Let one fault happen to new servers."""
    with Cluster(MAJOR) as primary, Standby(primary) as standby:
        primary.execute("CREATE TABLE counted (id int PRIMARY KEY, number int); INSERT INTO counted VALUES (1, 0)")
        ports = f"{primary.port},{standby.port}"
        url = f"postgresql://postgres@/postgres?host=127.0.0.1,127.0.0.1&port={ports}&target_session_attrs=read-write"
        with Registry(
            Settings.model_validate({"database": {"url": url} | fault.settings}), sub_apps=["core"]
        ) as registry:
            load = Load(registry)
            with load.running():
                time.sleep(BEFORE)
                fault.happen(primary, standby)
                there = time.monotonic()
                time.sleep(AFTER)
    return _sum_up(fault, load.calls, there)


def _sum_up(fault: Fault, calls: list[Call], there: float) -> Outcome:
    failed = [call for call in calls if call.error]
    again = min(call.ended for call in calls if call.ended >= there and not call.error)
    return Outcome(
        fault.title,
        len(calls),
        len(failed),
        sum(call.began >= there for call in failed),
        again - there,
        max(call.ended - call.began for call in calls),
        Counter(call.error for call in failed),
    )


def iter_page(outcomes: list[Outcome]) -> Iterator[str]:
    """The page, line by line."""
    yield "# Benchmark of failures\n"
    yield f"`make bench-reliability` made this page: {THREADS} threads run one small transaction after the other on PostgreSQL {MAJOR}, through"
    yield "`session_scope` and one URL that names the primary and its standby. *Lost* are transactions that ended with an error, *after* those"
    yield "of them that began when a server was there again, *recovered* the seconds from then to the first one that succeeded.\n"
    yield "| what happens | transactions | lost | after | recovered | longest | errors |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | --- |"
    for each in outcomes:
        errors = ", ".join(f"{number} {name}" for name, number in sorted(each.errors.items()))
        figures = f"{each.calls:,} | {each.lost:,} | {each.after} | {each.recovered:.2f} s | {each.longest:.2f} s"
        yield f"| {each.title} | {figures} | {errors} |"


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-reliability ARGS=...", description=__doc__)
    parser.add_argument("--output", type=Path, default=PAGE)
    chosen = parser.parse_args(argv)
    outcomes = []
    for fault in FAULTS:
        outcomes.append(outcome := run(fault))
        print(outcome, file=sys.stderr, flush=True)
    page = "\n".join(iter_page(outcomes)) + "\n"
    chosen.output.write_text(page)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
