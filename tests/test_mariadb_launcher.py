"""The tests' own MariaDB servers, and what is said where there is none."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from tests.mariadb import MariaDB, find_mariadbd
from tests.programs import ProgramMissingError

ROOT = Path(__file__).parent.parent


def test_each_test_gets_an_empty_database(mariadb_url: str) -> None:
    engine = sa.create_engine(mariadb_url)
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


def test_the_url_leads_to_a_mariadb_that_knows_all_of_unicode(mariadb_url: str) -> None:
    engine = sa.create_engine(mariadb_url)
    with engine.connect() as connection:
        assert "MariaDB" in str(connection.scalar(sa.text("SELECT VERSION()")))
        assert connection.scalar(sa.text("SELECT @@character_set_database")) == "utf8mb4"
    engine.dispose()


def test_the_driver_can_be_chosen(mariadb: MariaDB) -> None:
    async def greet() -> object:
        engine = create_async_engine(mariadb.url(driver="mysql+asyncmy"))
        async with engine.connect() as connection:
            answer: object = await connection.scalar(sa.text("SELECT 'hello'"))
        await engine.dispose()
        return answer

    assert asyncio.run(greet()) == "hello"


def test_every_kind_of_database_is_empty_and_usable(any_database_url: str) -> None:
    engine = sa.create_engine(any_database_url)
    assert sa.inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE things (id INTEGER)"))
    assert sa.inspect(engine).get_table_names() == ["things"]
    engine.dispose()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_stopped_server_comes_back_on_its_port_with_its_data(mariadb: MariaDB, mariadb_url: str, mode: str) -> None:
    name = sa.make_url(mariadb_url).database
    mariadb.execute("CREATE TABLE kept (id INTEGER)", database=name)
    mariadb.execute("INSERT INTO kept VALUES (7)", database=name)
    port = mariadb.port

    mariadb.stop("fast" if mode == "fast" else "immediate")
    try:
        with pytest.raises(sa.exc.OperationalError):
            mariadb.execute("SELECT 1")
    finally:
        mariadb.start()

    assert mariadb.port == port
    assert mariadb.execute("SELECT * FROM kept", database=name) == [(7,)]


def test_a_killed_server_is_noticed_and_started_again(mariadb: MariaDB) -> None:
    before = mariadb.pid
    os.kill(before, signal.SIGKILL)
    _wait_until(lambda: not mariadb.running)
    mariadb.start()
    assert mariadb.pid != before
    assert mariadb.execute("SELECT 1") == [(1,)]


def test_other_users_need_their_password(mariadb: MariaDB) -> None:
    mariadb.execute("CREATE USER ada@'%' IDENTIFIED BY 'right'")
    try:
        assert _refusal(mariadb.url(user="ada", password="right")) is None
        for url in (mariadb.url(user="ada", password="wrong"), mariadb.url(user="ada"), mariadb.url(user="nobody")):
            assert '(1045, "Access denied for user' in str(_refusal(url))
    finally:
        mariadb.execute("DROP USER ada")


def test_a_database_can_be_dropped_while_it_is_in_use(mariadb: MariaDB) -> None:
    name = mariadb.create_database()
    engine = sa.create_engine(mariadb.url(name), poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE things (id INTEGER)"))
        connection.execute(sa.text("INSERT INTO things VALUES (1)"))
        mariadb.drop_database(name)
        connection.invalidate()
    mariadb.drop_database(name)
    assert mariadb.execute(f"SHOW DATABASES LIKE '{name}'") == []


@pytest.mark.mariadb
def test_a_closed_server_leaves_nothing_behind() -> None:
    with MariaDB() as server:
        pid = server.pid
        assert _alive(pid)
    assert not _alive(pid)
    assert not server.folder.exists()


@pytest.mark.mariadb
def test_a_server_ends_when_the_tests_are_killed() -> None:
    program = "from tests.mariadb import MariaDB; m = MariaDB(); print(m.pid, m.folder, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as tests:
        assert tests.stdout is not None
        pid, _, folder = tests.stdout.readline().strip().partition(" ")
        tests.kill()
    _wait_until(lambda: not _alive(int(pid)))
    _wait_until(lambda: not Path(folder).exists())


@pytest.mark.mariadb
def test_a_server_that_cannot_start_says_what_its_log_says() -> None:
    with pytest.raises(RuntimeError, match=r"unknown variable 'no-such-setting=1'"):
        MariaDB(no_such_setting="1")


def test_only_the_folder_that_is_named_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mariadbd"
    program.touch(mode=0o755)
    monkeypatch.setenv("OPAL_TEST_MARIADB_BIN", str(tmp_path))
    assert find_mariadbd() == program
    program.unlink()
    with pytest.raises(ProgramMissingError) as caught:
        find_mariadbd()
    assert str(caught.value).startswith(
        f"there is no mariadbd in OPAL_TEST_MARIADB_BIN={tmp_path}; unset it, and install one with: "
    )


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("apt-get", "apt-get install --no-install-recommends mariadb-server"),
        ("dnf", "dnf install mariadb-server"),
        ("brew", "brew install mariadb"),
        ("none", "see https://mariadb.org/download"),
    ],
)
def test_the_command_that_brings_a_server_is_the_system_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, command: str
) -> None:
    (tmp_path / program).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("OPAL_TEST_MARIADB_BIN", str(tmp_path))
    with pytest.raises(ProgramMissingError) as caught:
        find_mariadbd()
    assert str(caught.value).endswith((f"install one with: {command}", f"install one with: sudo {command}"))


@pytest.mark.parametrize(
    ("options", "environment", "code"),
    [pytest.param([], {}, 0, id="by hand"), pytest.param(["-n", "2"], {"CI": "true"}, 1, id="CI, with workers")],
)
def test_a_run_without_mariadb_leaves_its_tests_out_and_ends_with_saying_so(
    tmp_path: Path, options: list[str], environment: dict[str, str], code: int
) -> None:
    done = _run_tests_without_mariadb(tmp_path, *options, "-k", "named_counts or password", **environment)
    assert done.returncode == code
    assert done.stdout.splitlines()[-1].startswith(
        "MariaDB was not tested (tests left out: 1): there is no mariadbd in OPAL_TEST_MARIADB_BIN="
    )
    assert "1 passed" in done.stdout
    assert "skipped" not in done.stdout


def test_a_run_that_asks_for_no_mariadb_says_nothing_of_it(tmp_path: Path) -> None:
    done = _run_tests_without_mariadb(tmp_path, "-k", "named_counts", CI="true")
    assert done.returncode == 0
    assert "not tested" not in done.stdout


def _run_tests_without_mariadb(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, __file__],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ours | {"OPAL_TEST_MARIADB_BIN": str(folder)} | environment,
        check=False,
    )


def _refusal(url: str) -> str | None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        engine.connect().close()
    except sa.exc.OperationalError as error:
        return str(error)
    return None


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
