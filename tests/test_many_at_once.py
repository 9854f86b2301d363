"""Runs that start at once: one of them does the work, and the others wait for it and find nothing to do."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from opal_registry.init import init
from opal_registry.store.locks import hold_run
from tests import wicked
from tests.contenders import Contender
from tests.databases import registry_of
from tests.distributions import Site
from tests.pgbouncer import PgBouncer
from tests.postgres import Cluster
from tests.snapshots import rows_of

Env = dict[str, str | None]
MANY = 8

AT_THE_GATE = """
import sys
from opal_registry.cli import views
from opal_registry.cli.main import main
from opal_registry.registry import Registry
import opal_registry.status, sqlalchemy.dialects.postgresql, sqlalchemy.dialects.mysql
print("ready", file=sys.stderr, flush=True)
sys.stdin.readline()
sys.exit(main(sys.argv[1:]))
"""
"""Code of a run that has started, and begins when it is told to."""

IN_CHUNKS = "import opal_registry.work; opal_registry.work.MOST_TABLES = 2\n"
"""Code before it, by which few tables are many."""

TYPED = """
    import sqlalchemy as sa
    from opal_registry import Base

    for number in range({tables}):
        name = f"{name}_{{number}}"
        sa.Table(
            name, Base.metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("state", sa.Enum("new", "old", name=f"{{name}}_state")),
            sa.Column("owner", sa.ForeignKey("users.id"), index=True),
        )
"""
"""Models of tables with an enum type each."""


WAITS = re.compile(
    rf"waiting for another run of opal-db: host ({re.escape(socket.gethostname())}, process \d+, since .+ UTC \(.+ s\)|127.0.0.1)"
)
"""What is said by whoever waits; on MySQL, a run that has only just begun is known by its address."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: its exit code, its report, and what it said beside that."""

    code: int
    out: str
    said: list[str]

    @property
    def created(self) -> int:
        """How many tables it created."""
        found = re.search(r"^(\d+) tables? created", self.out, re.MULTILINE)
        return int(found[1]) if found else 0


def start_at_once(site: Site, environments: Sequence[Env], *arguments: str, before: str = "") -> list[Ended]:
    """Start a run with each environment, and let them all begin when the last one is ready."""
    command = arguments or ("init",)
    runs = [site.start(site.core_python, "-c", before + AT_THE_GATE, *command, env=env) for env in environments]
    for run in runs:
        assert run.stderr is not None
        assert run.stderr.readline() == "ready\n"
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("go\n")
        run.stdin.flush()
    ends = [(*run.communicate(timeout=300), run.returncode) for run in runs]
    return [Ended(code, out, err.splitlines()) for out, err, code in ends]


def agree(ended: Sequence[Ended], url: str, tables: int, *, chunks: bool = False) -> None:
    """See that one run did everything, that the others say for whom they wait, and that nothing is recorded twice."""
    assert [run.code for run in ended] == [0] * len(ended), ended
    workers = [run for run in ended if run.created]
    assert [run.created for run in workers] == [tables]
    said = [line for run in ended for line in run.said if not (chunks and " transactions, so that " in line)]
    assert all(WAITS.fullmatch(line) for line in said), ended
    assert chunks or [run.said for run in workers] == [[]]
    assert [event["outcome"] for event in rows_of(url, "opal_events")] == ["done"]


@pytest.mark.mariadb
def test_what_another_run_has_half_done_is_no_reason_to_end(mariadb_url: str) -> None:
    seen = threading.Event()
    with registry_of(mariadb_url) as registry, ThreadPoolExecutor(1) as other:
        init(registry)
        engine = registry.migration_engine()
        with hold_run(engine, wait=10, where="here"):
            with engine.begin() as connection:
                at = connection.scalar(sa.text("SELECT version_num FROM opal_revision_core"))
                connection.execute(sa.text("DELETE FROM opal_revision_core"))
            waits = other.submit(init, registry, announce=lambda _: seen.set())
            assert seen.wait(30)
            with engine.begin() as connection:
                connection.execute(sa.text("INSERT INTO opal_revision_core VALUES (:at)"), {"at": at})
        report = waits.result(60)
    assert (report.exit_code, report.sub_apps[0].withheld) == (0, "")


class TestOneSuite:
    @pytest.fixture
    def site(self, site: Site) -> Site:
        """Where it is installed."""
        wicked.install(site)
        return site

    def test_one_makes_the_tables_and_the_others_find_them(self, site: Site, any_database_url: str) -> None:
        agree(start_at_once(site, [{"OPAL_DATABASE__URL": any_database_url}] * MANY), any_database_url, 4)

    @pytest.mark.pgbouncer
    def test_behind_pgbouncer_too(self, site: Site, pgbouncer_url: str) -> None:
        agree(start_at_once(site, [{"OPAL_DATABASE__URL": pgbouncer_url}] * MANY), pgbouncer_url, 4)

    @pytest.fixture
    def pool(self, pgbouncer: PgBouncer) -> Iterator[Callable[[int], object]]:
        """Sets how many connections PgBouncer may have to each database."""
        yield lambda size: pgbouncer.execute(f"SET default_pool_size = {size}")
        pgbouncer.execute("SET default_pool_size = 20")

    @pytest.mark.pgbouncer
    def test_behind_a_small_pool_in_several_transactions_too(
        self, site: Site, pool: Callable[[int], object], pgbouncer_url: str
    ) -> None:
        pool(2)
        agree(
            start_at_once(site, [{"OPAL_DATABASE__URL": pgbouncer_url}] * MANY, before=IN_CHUNKS),
            pgbouncer_url,
            4,
            chunks=True,
        )

    @pytest.mark.pgbouncer
    def test_with_a_single_connection_such_a_run_says_what_to_do(
        self, site: Site, pool: Callable[[int], object], pgbouncer_url: str
    ) -> None:
        pool(1)
        [ended] = start_at_once(site, [{"OPAL_DATABASE__URL": pgbouncer_url}], before=IN_CHUNKS)
        assert (ended.code, ended.out) == (4, "")
        assert ended.said[0].startswith("error: the pooler had no second connection for this run within 5 s")
        assert "set database.migration_url" in ended.said[-1]

    def test_nothing_to_do_takes_no_lock(self, site: Site, any_database_url: str, tmp_path: Path) -> None:
        env: Env = {"OPAL_DATABASE__URL": any_database_url, "OPAL_LOCKS__WAIT": "0s"}
        assert site.run("init", env=env).code == 0
        with Contender(any_database_url, tmp_path / "section", recorded="mysql" in any_database_url) as holder:
            holder.hear_in()
            for options in ((), ("--verify",)):
                done = site.run("init", *options, env=env)
                assert (done.code, done.err) == (0, ""), done
            site.sub_app("barn", BARN, requires=("core",))
            done = site.run("init", env=env)
            assert done.code == 5
            assert done.err.startswith(f"error: another run of opal-db ({holder.name}"), done.err
            assert "for longer than 0 s" in done.err
            assert "raise locks.wait" in done.err
        assert site.run("init", env=env).code == 0


BARN = TYPED.format(name="stall", tables=1)


class TestManySuites:
    """Images that share a database and no sub-app."""

    def race(self, site: Site, url: str, *, processes: int, sub_apps: int, tables: int) -> None:
        """Have processes race, each with some of the sub-apps of its own, and see that every table came to be."""
        for number in range(sub_apps):
            name = f"app{number:02}"
            site.sub_app(name, TYPED.format(name=name, tables=tables), requires=("core",))
        share = [[f"app{n:02}" for n in range(sub_apps) if n % processes == p] for p in range(processes)]
        envs: list[Env] = [
            {
                "OPAL_DATABASE__URL": url,
                "OPAL_SUB_APPS__ENABLED": json.dumps(["core", *names]),
                "OPAL_LOCKS__WAIT": "300s",
            }
            for names in share
        ]
        ended = start_at_once(site, envs)
        assert [run.code for run in ended] == [0] * processes, ended
        assert sum(run.created for run in ended) == sub_apps * tables + 1
        assert len(rows_of(url, "opal_sub_apps")) == sub_apps + 1
        assert [event["outcome"] for event in rows_of(url, "opal_events")] == ["done"] * processes
        assert rows_of(url, "opal_steps") == []
        everything = site.run("status", env={"OPAL_DATABASE__URL": url})
        assert everything.code == 0, everything

    def test_come_one_by_one(self, site: Site, any_database_url: str) -> None:
        self.race(site, any_database_url, processes=4, sub_apps=4, tables=50)

    def test_twenty_sub_apps_of_twenty_tables(self, site: Site, postgres18: Cluster) -> None:
        name = postgres18.create_database()
        self.race(site, postgres18.url(name), processes=8, sub_apps=20, tables=20)
        postgres18.drop_database(name)
