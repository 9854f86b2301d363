"""The benchmark measures what it says: the generated suite is as large as told, and the proxy delays and counts."""

import os
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from benchmarks.__main__ import make_cases, parse
from benchmarks.databases import Case
from benchmarks.generate import (
    Distribution,
    Scale,
    make_advanced_alchemy_suite,
    make_create_all_suite,
    make_invenio_suite,
    make_opal_suite,
)
from benchmarks.generate_django import make_django_suite
from benchmarks.measure import Run, run
from benchmarks.measures import LARGE, SMALL, iter_measures
from benchmarks.proxy import DelayProxy, Trips
from benchmarks.report import make_report
from benchmarks.rounds import Results
from benchmarks.shape import Shape, get_shape, make_shape
from tests.distributions import Site
from tests.postgres import Cluster

FEW = Scale(apps=2, tables_per_app=3)
SHAPE = Shape(tables=6, columns=48, indexes=12, to_users=6, inside=6)
HOUR = 3600.0
SUITES = [make_opal_suite, make_create_all_suite, make_advanced_alchemy_suite, make_invenio_suite, make_django_suite]


def install(site: Site, distributions: list[Distribution]) -> None:
    for each in distributions:
        site.install(each.name, files=each.files, entry_points=each.entry_points)


def shape_of(url: str) -> Shape:
    engine = sa.create_engine(url)
    try:
        return get_shape(engine)
    finally:
        engine.dispose()


# The generated suite


def test_the_full_suite_has_fifty_sub_apps_with_twenty_tables() -> None:
    assert (LARGE.apps, LARGE.tables_per_app, SMALL.tables) == (50, 20, 100)
    assert make_shape(LARGE) == Shape(tables=1000, columns=8000, indexes=2000, to_users=1000, inside=1000)


def test_opal_db_init_makes_the_whole_generated_suite(quick_site: Site, database_url: str) -> None:
    install(quick_site, make_opal_suite(FEW))
    done = quick_site.run("init", env={"DATABASE_URL": database_url})
    assert done.code == 0, done.err
    assert shape_of(database_url) == make_shape(FEW) == SHAPE


def test_create_all_makes_the_same(site: Site, database_url: str) -> None:
    install(site, make_create_all_suite(FEW))
    done = site.python("import bench_core.create", env={"DATABASE_URL": database_url})
    assert done.code == 0, done.err
    assert shape_of(database_url) == SHAPE


def test_the_printed_ddl_makes_the_same(site: Site, tmp_path: Path) -> None:
    install(site, make_create_all_suite(FEW))
    done = site.python("import sys; sys.argv[1:] = ['sqlite']; import bench_core.print_ddl")
    connection = sqlite3.connect(tmp_path / "script.db")
    connection.executescript(done.out)
    connection.close()
    assert shape_of(f"sqlite:///{tmp_path / 'script.db'}") == SHAPE


@pytest.mark.parametrize("make_suite", SUITES)
def test_every_suite_is_one_distribution_per_sub_app_of_valid_python(
    make_suite: Callable[[Scale], list[Distribution]],
) -> None:
    suite = make_suite(FEW)
    assert [each.name for each in suite if each.name != "bench_core"] == ["app01", "app02"]
    for distribution in suite:
        for path, source in distribution.files.items():
            compile(source, path, "exec")


# The proxy


@contextmanager
def serving(dialogue: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server for one connection; the port that it listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                dialogue(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def read(connection: socket.socket, wanted: bytes) -> None:
    """Take exactly these bytes, in however many pieces they come."""
    found = b""
    while len(found) < len(wanted):
        piece = connection.recv(len(wanted) - len(found))
        assert piece, f"the connection ended after {found!r}"
        found += piece
    assert found == wanted


def test_what_is_answered_is_a_round_trip_however_many_messages_it_took() -> None:
    def dialogue(client: socket.socket) -> None:
        read(client, b"hello")
        client.sendall(b"who? ")
        read(client, b"me")
        client.sendall(b"READY")
        read(client, b"one two three")
        client.sendall(b"1 2")
        client.sendall(b" 3")
        read(client, b"four")
        client.sendall(b"4")
        read(client, b"farewell")

    with serving(dialogue) as server, DelayProxy(server, seconds=0.001, ready=b"READY") as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port)) as us:
            us.sendall(b"hello")
            read(us, b"who? ")
            assert proxy.trips == Trips(total=1, after_start=0)
            us.sendall(b"me")
            read(us, b"READY")
            assert proxy.trips == Trips(total=2, after_start=0)
            for word in (b"one ", b"two ", b"three"):
                us.sendall(word)
            read(us, b"1 2 3")
            assert proxy.trips == Trips(total=3, after_start=1)
            us.sendall(b"four")
            read(us, b"4")
            us.sendall(b"farewell")
            us.shutdown(socket.SHUT_WR)
            assert us.recv(1) == b""
        assert proxy.trips == Trips(total=4, after_start=2)


def test_each_statement_that_postgresql_answers_is_a_round_trip(postgres18: Cluster) -> None:
    with DelayProxy(postgres18.port, seconds=0.001) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
        for _ in range(2):
            with psycopg.connect(url, autocommit=True) as connection:
                for _ in range(3):
                    connection.execute("SELECT 1")
                with connection.pipeline():
                    cursors = [connection.execute("SELECT 1") for _ in range(10)]
                assert [cursor.fetchone() for cursor in cursors] == [(1,)] * 10
        assert proxy.trips == Trips(total=2 * (1 + 3 + 1), after_start=2 * (3 + 1))


@pytest.mark.parametrize("speaker", ["client", "server"])
def test_either_direction_is_held_back(speaker: str) -> None:
    """With a round trip of two hours nothing has arrived when something that was said later, elsewhere, is there."""
    connected, arrived = threading.Event(), threading.Event()
    heard: list[bytes] = []

    def slow(client: socket.socket) -> None:
        if speaker == "server":
            client.sendall(b"slow")
        connected.set()
        heard.append(client.recv(4))

    def fast(client: socket.socket) -> None:
        read(client, b"fast")
        arrived.set()

    with serving(slow) as far, DelayProxy(far, seconds=2 * HOUR) as proxy:
        with serving(fast) as near, DelayProxy(near, seconds=0) as other:
            us, them = (socket.create_connection(("127.0.0.1", port)) for port in (proxy.port, other.port))
            with us, them:
                assert connected.wait(HOUR)
                us.sendall(b"slow" if speaker == "client" else b"")
                them.sendall(b"fast")
                assert arrived.wait(HOUR)
                us.setblocking(False)
                with pytest.raises(BlockingIOError):
                    us.recv(4)
                assert heard == []
                assert proxy.trips == Trips(0, 0)
    assert heard == [b""]  # what was still on its way when the line was cut is lost


def test_a_server_that_is_gone_ends_the_connection_and_not_the_proxy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with DelayProxy(port, seconds=0) as proxy:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", proxy.port)) as us:
                assert us.recv(1) == b""


# One run


def test_a_run_knows_its_exit_code_and_the_end_of_its_output(tmp_path: Path) -> None:
    done = run([sys.executable, "-c", "print('x' * 9999 + 'no'); exit(3)"], environ={}, cwd=tmp_path, timeout=HOUR)
    assert (done.code, done.stopped, done.succeeded, done.output[-3:]) == (3, False, False, "no\n")
    assert len(done.output) == 2000


def test_the_processor_time_of_children_counts(tmp_path: Path) -> None:
    child = "import time\nwhile time.process_time() < 0.3: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-I', '-S', '-c', {child!r}])"
    done = run([sys.executable, "-I", "-S", "-c", parent], environ={}, cwd=tmp_path, timeout=HOUR)
    assert done.succeeded
    assert done.cpu >= 0.3


def test_a_run_that_takes_too_long_is_stopped_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "child"
    child = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(3600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-I', '-S', '-c', {child!r}])"
    for patience in (0.5, 5, 50):  # until the child had the time to begin
        done = run([sys.executable, "-I", "-S", "-c", parent], environ={}, cwd=tmp_path, timeout=patience)
        assert (done.stopped, done.succeeded) == (True, False)
        if note.exists() and note.read_text():
            break
    end = time.monotonic() + 20
    while _runs(int(note.read_text())):
        assert time.monotonic() < end
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# The choice


def test_everything_is_measured_unless_told_otherwise() -> None:
    chosen = parse([])
    assert list(map(str, make_cases(chosen.tables, chosen.databases, chosen.round_trips))) == [
        "100 tables, SQLite",
        "1,000 tables, SQLite",
        "100 tables, PostgreSQL, round trip 0 ms",
        "100 tables, PostgreSQL, round trip 1 ms",
        "100 tables, PostgreSQL, round trip 5 ms",
        "1,000 tables, PostgreSQL, round trip 0 ms",
        "1,000 tables, PostgreSQL, round trip 1 ms",
        "1,000 tables, PostgreSQL, round trip 5 ms",
    ]
    assert chosen.only == ["create_all", "opal", "django", "invenio", "advanced_alchemy", "script"]


def test_a_quick_run_is_one_round_with_a_hundred_tables() -> None:
    assert (parse(["--quick"]).tables, parse(["--quick"]).rounds) == ([100], 1)


# The report


def results_of(**seconds: float) -> Results:
    """Cold and warm runs of some contestants at 100 tables, as long as told; whose time is negative was stopped."""
    results = Results()
    case = Case(SMALL, "sqlite")
    for key, wall in seconds.items():
        if wall < 0:
            results.runs[case, "cold", key] = [Run(-wall, -wall, -9, stopped=True)]
        else:
            results.runs[case, "cold", key] = [Run(wall, wall, 0)] * 2 + [Run(99.0, 99.0, 0)]
            results.runs[case, "warm", key] = [Run(wall / 10, wall / 10, 0)]
    return results


def test_a_measure_says_its_target_and_whether_it_is_met() -> None:
    measures = {each.what: each for each in iter_measures(results_of(opal=2.0, create_all=4.0, django=5.0))}
    assert measures["warm, 100 tables, SQLite: CPU"].is_met is True
    assert measures["warm, 100 tables, SQLite: CPU, to Django"].value == pytest.approx(0.4)
    assert measures["cold, 1,000 tables, SQLite: CPU, to `create_all`"].is_met is None
    assert len(measures) == 17


def test_the_page_shows_medians_ratios_and_who_was_stopped() -> None:
    titles = {"create_all": "create_all", "opal": "opal", "django": "Django"}
    results = results_of(create_all=4.0, opal=2.0, django=-120.0)
    page = make_report(results, [Case(SMALL, "sqlite")], titles, machine={"cores": "2"}, versions={}, rounds=3)
    assert "| create_all | 4.00 s | 1.00 | 4.00 s | 1.00 | 0.40 s | 1.00 | 0.40 s | 1.00 |\n" in page
    assert "| opal | 2.00 s | 0.50 | 2.00 s | 0.50 | 0.20 s | 0.50 | 0.20 s | 0.50 |\n" in page
    assert "| Django | stopped after 120 s |  |  |  |  |  |  |  |\n" in page
    assert "| warm, 100 tables, SQLite: CPU | <= 0.30 s | 0.20 s | met |\n" in page
    assert "| `opal-db --help`: CPU | <= 0.20 s | not measured |  |\n" in page
