"""A run that is killed anywhere leaves nothing half done, or what the next run completes."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import dying, wicked
from tests.contenders import LONG
from tests.distributions import Finished, Site
from tests.mariadb import MariaDB
from tests.postgres import Cluster
from tests.servers import Server
from tests.snapshots import rows_of, snapshot
from tests.wicked import SUITE

KILLED = -9
LAST = 1000
"""A step that no run here comes to."""

Found = dict[str, Any]

IN_CHUNKS = "import opal_registry.work; opal_registry.work.MOST_TABLES = 2\n"
"""Code that cuts the suite into three transactions."""

FORGETFUL = """
from opal_registry.store import journal
journal.make_step = lambda step: journal.make_end(step.sub_app)
"""
"""Code that breaks the journal."""

TABLES = {"core": ("users",), "henhouse": ("eggs", "hens"), "woods": ("foxes",)}
"""The tables of the suite."""

TO_COME = {
    "henhouse": "a run ended before it came to this: create 2 tables (opal-db init goes on)",
    "woods": "a run ended before it came to this: create 1 table (opal-db init goes on)",
}
"""What is said of what no transaction was begun for."""

WAIT_AT_THE_GATE = """
    import os

    @hookimpl
    def opal_tables_created(connection, sub_app, tables):
        open(os.environ["GATE"]).read()
"""

HASTY = """
from opal_registry.bring_up import BringUp
def bring_up(self, batch, creator, app, real=BringUp._bring_up):
    deed = real(self, batch, creator, app)
    batch.flush()
    batch.connection.connection.commit()
    return deed
BringUp._bring_up = bring_up
"""
"""Code that breaks the transaction."""


def run_until(site: Site, url: str, step: int, *, first: str = "") -> Finished:
    """Run ``init`` until it kills itself at a step, after some code was executed."""
    code = first + Path(dying.__file__).read_text("utf-8")
    return site.python(code, str(step), "init", env={"OPAL_DATABASE__URL": url})


def is_killed(site: Site, url: str, step: int, *, first: str = "") -> bool:
    """Whether a run came to a step, at which it was killed; else it came to its end without an error."""
    done = run_until(site, url, step, first=first)
    assert done.code in {KILLED, 0}, done
    return done.code == KILLED


def complete(site: Site, url: str) -> Found:
    """What the database holds when ``init`` has run to its end."""
    done = site.run("init", env={"OPAL_DATABASE__URL": url})
    assert (done.code, done.err) == (0, ""), done
    return snapshot(url)


def outcomes(url: str) -> list[str]:
    """How the runs that are recorded ended."""
    return [row["outcome"] for row in rows_of(url, "opal_events")]


def states(site: Site, url: str) -> dict[str, tuple[str, str]]:
    """What ``status`` says of each sub-app."""
    done = site.run("status", "--json", env={"OPAL_DATABASE__URL": url})
    found = {app["name"]: (app["state"], app["detail"]) for app in done.json["sub_apps"]}
    assert done.code == int(any(state != "ready" for state, _ in found.values())), done
    return found


def recorded(url: str) -> tuple[str, ...]:
    """The sub-apps in the ledger, in the order of the suite; none where there is no ledger."""
    ledger = "".join(snapshot(url).get("rows of opal_sub_apps", ()))
    return tuple(name for name in SUITE if f"'name': '{name}'" in ledger)


def killed_everywhere(
    site: Site, server: Server, expected: Found, look: Callable[[str], object], *, first: str = ""
) -> None:
    """Kill a run at each of its steps in turn, each on an empty database, and see that the next one completes it.

    Args:
        site: Where the suite is.
        server: Where databases can be made.
        expected: What an undisturbed run makes.
        look: Told the database that a run which was killed has left; once for each state that it may be in.
        first: Code to execute before the run that is killed.
    """
    before: Found | None = None
    for step in range(1, LAST):
        name = server.create_database()
        killed = is_killed(site, server.url(name), step, first=first)
        left = snapshot(server.url(name))
        if left != before:
            look(server.url(name))
            assert complete(site, server.url(name)) == expected
        server.drop_database(name)
        before = left
        if not killed:
            return


@pytest.fixture
def site(quick_site: Site) -> Site:
    """Where the suite is that is brought up."""
    wicked.install(quick_site)
    return quick_site


@pytest.fixture
def other_url(database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A second database of the same kind."""
    if database_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'other.db'}"
        return
    server = request.getfixturevalue(request.node.callspec.params["database_url"])
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


class TestInOneTransaction:
    def left(self, site: Site, url: str, *, first: str = "") -> list[Found]:
        """What is left by runs that are killed at each of their steps in turn, one after the other in one database."""
        found: list[Found] = []
        while is_killed(site, url, len(found) + 1, first=first):
            found.append(snapshot(url))
        return found

    def test_nothing_is_seen_before_the_commit_and_everything_after_it(
        self, site: Site, database_url: str, other_url: str
    ) -> None:
        expected = complete(site, other_url)
        left = self.left(site, database_url)
        assert left == [{}] * (len(left) - 1) + [expected]
        assert complete(site, database_url) == expected
        assert outcomes(database_url) == ["done"]

    def test_a_commit_too_early_would_be_noticed(self, site: Site, tmp_path: Path) -> None:
        left = self.left(site, f"sqlite:///{tmp_path / 'x.db'}", first=HASTY)
        assert any(left[:-1])

    def test_no_file_is_left_beside_the_database(self, site: Site, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'x.db'}"
        assert is_killed(site, url, 5)
        assert sorted(path.name for path in tmp_path.glob("x.db*")) != ["x.db"]
        complete(site, url)
        assert sorted(path.name for path in tmp_path.glob("x.db*")) == ["x.db"]


@pytest.mark.mariadb
class TestJournaled:
    @pytest.fixture
    def expected(self, site: Site, mariadb_url: str) -> Found:
        """What an undisturbed run makes."""
        return complete(site, mariadb_url)

    def test_every_state_that_a_run_leaves_is_told_and_completed(
        self, site: Site, mariadb: MariaDB, expected: Found
    ) -> None:
        told: list[str] = []

        def look(url: str) -> None:
            found = states(site, url)
            told.extend(detail for _, detail in found.values() if "in the middle" in detail)
            assert [name for name, (state, _) in found.items() if state == "ready"] == list(recorded(url))

        killed_everywhere(site, mariadb, expected, look)
        assert (
            "a run ended in the middle, at: CREATE VIEW rings AS SELECT ring FROM hens (opal-db init goes on)" in told
        )

    def test_a_run_without_a_journal_would_be_noticed(self, site: Site, mariadb: MariaDB, expected: Found) -> None:
        with pytest.raises(AssertionError):
            killed_everywhere(site, mariadb, expected, lambda _: None, first=FORGETFUL)

    def test_a_run_that_goes_on_may_be_killed_too(self, site: Site, mariadb: MariaDB, expected: Found) -> None:
        url = mariadb.url(name := mariadb.create_database())
        runs = 0
        while is_killed(site, url, 9):
            runs += 1
        assert snapshot(url) == expected
        assert outcomes(url) == ["interrupted"] * runs + ["done"]
        assert runs > 1
        mariadb.drop_database(name)


class TestInChunks:
    """PostgreSQL has no room for the locks of very many tables in one transaction."""

    @pytest.fixture
    def expected(self, site: Site, postgres18: Cluster) -> Iterator[Found]:
        """What an undisturbed run makes."""
        name = postgres18.create_database()
        yield complete(site, postgres18.url(name))
        postgres18.drop_database(name)

    def test_each_sub_app_is_complete_or_to_come(self, site: Site, postgres18: Cluster, expected: Found) -> None:
        seen: list[tuple[str, ...]] = []

        def look(url: str) -> None:
            there = recorded(url)
            columns = str(snapshot(url).get("columns", ""))
            assert [name for name in SUITE if all(f"'{table}'" in columns for table in TABLES[name])] == list(there)
            assert [name for name in SUITE if any(f"'{table}'" in columns for table in TABLES[name])] == list(there)
            if there:
                assert {row["sub_app"] for row in rows_of(url, "opal_steps")} == set(SUITE) - set(there)
                to_come = {name: detail for name, (state, detail) in states(site, url).items() if state == "pending"}
                assert to_come == {name: TO_COME[name] for name in SUITE if name not in there}
            seen.append(there)

        killed_everywhere(site, postgres18, expected, look, first=IN_CHUNKS)
        assert seen == [(), SUITE[:1], SUITE[:2], SUITE]

    def test_another_run_waits_until_the_last_of_them_is_done(self, site: Site, postgres18: Cluster) -> None:
        url = postgres18.url(name := postgres18.create_database())
        env = {"OPAL_DATABASE__URL": url, "GATE": str(gate := site.cwd / "gate")}
        os.mkfifo(gate)
        site.sub_app("woods", wicked.FOXES, requires=("henhouse",), hooks=WAIT_AT_THE_GATE)
        code = f"{IN_CHUNKS}import sys; from opal_registry.cli.main import main; sys.exit(main(['init']))"
        first = site.start(site.core_python, "-c", code, env=env)
        with gate.open("w"):  # once the first run reads: in its last transaction
            assert recorded(url) == SUITE[:2]
            second = site.start(*site.command("init"), env=env)
            assert second.stderr is not None
            said = second.stderr.readline()
        ends = [first.communicate(timeout=LONG), second.communicate(timeout=LONG)]
        assert said.startswith(
            f"waiting for another run of opal-db: host {socket.gethostname()}, process {first.pid}, "
        )
        assert (first.returncode, second.returncode) == (0, 0), ends
        assert "4 tables created, 0 present" in ends[0][0]
        assert "4 present, 3 sub-apps" in ends[1][0]
        assert (recorded(url), outcomes(url)) == (SUITE, ["done"])
        postgres18.drop_database(name)
