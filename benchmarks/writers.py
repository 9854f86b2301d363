"""``python -m benchmarks.writers``: processes that share one SQLite file; writes docs/benchmarks-sqlite.md.

Eight processes read a row, add one, and write it, as often as they can; then eight only read, beside one that writes.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from benchmarks.environments import ROOT
from benchmarks.machine import describe_machine
from opal_registry.registry import Registry
from opal_registry.settings.model import Settings

PAGE = ROOT / "docs" / "benchmarks-sqlite.md"
PROCESSES = 8
START_UP = 4.0
"""Seconds that the processes have to import what they need, before all of them begin."""


class Base(sa_orm.DeclarativeBase):
    """The tables of the benchmark."""


class Counted(Base):
    """One row that everybody changes."""

    __tablename__ = "counted"
    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    number: sa_orm.Mapped[int]


TABLE: sa.Table = Counted.__table__  # type: ignore[assignment]
READ = sa.select(TABLE.c.number).where(TABLE.c.id == 1)
WRITE = sa.update(TABLE).where(TABLE.c.id == 1)

Task = Callable[[], object]
"""One transaction."""


Make = Callable[[str], Task]
"""Makes the transaction of one process, for a URL."""


def _change(connection: sa.Connection) -> None:
    number: int = connection.execute(READ).scalar_one()
    connection.execute(WRITE.values(number=number + 1))


def _change_object(session: sa_orm.Session) -> None:
    session.get_one(Counted, 1).number += 1


def _in_connection(engine: sa.Engine, work: Callable[[sa.Connection], object]) -> Task:
    def task() -> None:
        with engine.begin() as connection:
            work(connection)

    return task


def _in_session(open_session: Callable[[], Any], work: Callable[[sa_orm.Session], object]) -> Task:
    def task() -> None:
        with open_session() as session:
            work(session)

    return task


def _registry(url: str) -> Registry:
    return Registry(Settings(database={"url": url}), sub_apps=["core"])  # type: ignore[arg-type]


def _immediate(url: str) -> sa.Engine:
    """SQLAlchemy's documented way to real transactions, with BEGIN IMMEDIATE for all of them, in WAL mode."""
    engine = sa.create_engine(url)

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _plain_session(url: str) -> Callable[[], Any]:
    return sa_orm.sessionmaker(sa.create_engine(url)).begin


def _reading(url: str) -> Task:
    registry = _registry(url)
    return _in_session(lambda: registry.session_scope(read_only=True), lambda session: session.scalar(READ))


CORE, ORM = "`create_engine`, Core", "`create_engine`, ORM"
IMMEDIATE = "always BEGIN IMMEDIATE, WAL, Core"
OUR_CORE, OUR_ORM = "`registry.engine()`, Core", "`registry.session_scope()`, ORM"

WRITE_WAYS: dict[str, Make] = {
    CORE: lambda url: _in_connection(sa.create_engine(url), _change),
    ORM: lambda url: _in_session(_plain_session(url), _change_object),
    IMMEDIATE: lambda url: _in_connection(_immediate(url), _change),
    OUR_CORE: lambda url: _in_connection(_registry(url).engine(), _change),
    OUR_ORM: lambda url: _in_session(_registry(url).session_scope, _change_object),
}
READ_WAYS: dict[str, Make] = {
    ORM: lambda url: _in_session(_plain_session(url), lambda session: session.scalar(READ)),
    IMMEDIATE: lambda url: _in_connection(_immediate(url), lambda connection: connection.scalar(READ)),
    OUR_ORM: _reading,
}
WAYS = {"write": WRITE_WAYS, "read": READ_WAYS}


@dataclass(slots=True)
class Count:
    """What one process did.

    Args:
        done: How many transactions came to a good end.
        errors: How often which error came instead.
        longest: Seconds that the longest transaction took.
    """

    done: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0


def work(key: str, role: str, url: str, begin_at: float, seconds: float, results: Any) -> None:
    """What each process does: one transaction after the other, from one moment of the clock to another."""
    task, count = WAYS[role][key](url), Count()
    if role == "read":
        task()  # the connection is made
    time.sleep(max(0.0, begin_at - time.time()))
    while (began := time.time()) < begin_at + seconds:
        try:
            task()
        except Exception as error:  # noqa: BLE001 -- they are what is counted
            count.errors[f"{type(error).__name__}: {getattr(error, 'orig', error)}"] += 1
        else:
            count.done += 1
        count.longest = max(count.longest, time.time() - began)
    results.put((role, count))


@dataclass(frozen=True, slots=True)
class Result:
    """What all processes of one run did.

    Args:
        writes: Transactions a second that wrote.
        reads: Transactions a second that only read.
        lost: Updates that were committed, and are not there.
        errors: How often which error came.
        longest: Seconds that the longest transaction took.
    """

    writes: float
    reads: float
    lost: int
    errors: Counter[str]
    longest: float


def run(key: str, roles: Sequence[str], seconds: float) -> Result:
    """Let processes with these roles work on a new file."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/shared.db"
        _create(url)
        results = context.Queue()
        begin_at = time.time() + START_UP
        processes = [context.Process(target=work, args=(key, role, url, begin_at, seconds, results)) for role in roles]
        for process in processes:
            process.start()
        counts = [results.get(timeout=START_UP + seconds + 120) for _ in processes]
        for process in processes:
            process.join()
        engine = sa.create_engine(url)
        with closing(engine.raw_connection()) as connection:
            final = connection.cursor().execute("SELECT number FROM counted").fetchone()[0]
        engine.dispose()
    written = sum(count.done for role, count in counts if role == "write")
    read = sum(count.done for role, count in counts if role == "read")
    errors: Counter[str] = sum((count.errors for _, count in counts), Counter())
    return Result(written / seconds, read / seconds, written - final, errors, max(c.longest for _, c in counts))


def _create(url: str) -> None:
    engine = sa.create_engine(url)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(TABLE).values(id=1, number=0))
    engine.dispose()


def iter_page(writing: dict[str, list[Result]], reading: dict[str, list[Result]], seconds: float) -> Iterator[str]:
    """The page, line by line."""
    rounds = len(next(iter(writing.values())))
    yield "# Benchmarks of SQLite under several processes\n"
    yield f"`make bench-sqlite` made this page: medians of {rounds} runs of {seconds:g} s each, everybody in turn. Numbers a second are"
    yield "this machine's; ratios hold elsewhere.\n"
    yield f"## {PROCESSES} processes that read a row, add one, and write it\n"
    yield "|  | commits a second | ratio | lost updates | errors | longest transaction |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for key, found in writing.items():
        first = _median(writing[ORM if key == OUR_ORM else CORE], "writes")
        writes = _median(found, "writes")
        yield _row(key, f"{writes:,.0f}", f"{writes / first:.1f}", f"{_median(found, 'lost'):,.0f}", *_end(found))
    yield f"\n## {PROCESSES} processes that read, and one that writes\n"
    yield "|  | writes a second | reads a second | errors | longest transaction |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for key, found in reading.items():
        yield _row(key, f"{_median(found, 'writes'):,.0f}", f"{_median(found, 'reads'):,.0f}", *_end(found))
    said = Counter(text for found in (*writing.values(), *reading.values()) for each in found for text in each.errors)
    if said:
        yield "\nThe errors: " + "; ".join(f"`{text}`" for text in sorted(said)) + "."
    yield "\n## The machine\n\n|  |  |\n| --- | --- |"
    yield from (_row(name, value) for name, value in describe_machine().items())


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _end(found: Sequence[Result]) -> tuple[str, str]:
    errors = statistics.median(sum(each.errors.values()) for each in found)
    return f"{errors:,.0f}", f"{_median(found, 'longest'):.2f} s"


def _median(found: Sequence[Result], what: str) -> float:
    values: list[float] = [getattr(each, what) for each in found]
    return statistics.median(values)


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-sqlite ARGS=...", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--output", type=Path, default=PAGE)
    chosen = parser.parse_args(argv)
    writing: dict[str, list[Result]] = {key: [] for key in WRITE_WAYS}
    reading: dict[str, list[Result]] = {key: [] for key in READ_WAYS}
    for _ in range(chosen.rounds):
        for found, roles in ((writing, ["write"] * PROCESSES), (reading, ["read"] * PROCESSES + ["write"])):
            for key in found:
                found[key].append(result := run(key, roles, chosen.seconds))
                print(f"{key}, {Counter(roles)}: {result}", file=sys.stderr, flush=True)
    page = "\n".join(iter_page(writing, reading, chosen.seconds)) + "\n"
    chosen.output.write_text(page)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
