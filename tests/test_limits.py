"""Nobody waits for ever: for a network, for a statement, for a server that hangs."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any, Self

import pytest
import sqlalchemy as sa

from opal_registry.engines.factory import make_async_engine, make_engine, make_migration_engine
from opal_registry.engines.pools.limits import DESCRIPTORS
from opal_registry.settings.database import DatabaseSettings
from opal_registry.transactions import StatementTimeoutError
from tests.databases import database_of
from tests.mariadb import MariaDB
from tests.postgres import Cluster

LIMITS = {"network_timeout": "500ms", "statement_timeout": "500ms", "pool": {"ping_after": "1m"}}
ASYNC = {"postgresql+asyncpg", "postgresql+psycopg_async", "mysql+asyncmy"}
POSTGRES_DRIVERS = ["postgresql+psycopg", "postgresql+pg8000", "postgresql+psycopg_async", "postgresql+asyncpg"]
DRIVERS = [
    *POSTGRES_DRIVERS,
    *(pytest.param(f"mysql+{name}", marks=pytest.mark.mariadb) for name in ("pymysql", "asyncmy")),
]


class Application:
    """Sends statements through an ordinary or an asyncio engine, as if they were the same."""

    def __init__(self, settings: DatabaseSettings, *, use_async: bool) -> None:
        self._runner = asyncio.Runner()
        self._async = make_async_engine(settings) if use_async else None
        self.engine = self._async.sync_engine if self._async else make_engine(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.forget_connections()
        self._runner.close()

    def forget_connections(self) -> None:
        if self._async:
            self._runner.run(self._async.dispose())
        self.engine.dispose()

    def ask(self, statement: str) -> Any:
        if self._async:
            return self._runner.run(self._ask(statement))
        with self.engine.connect() as connection:
            return connection.execute(sa.text(statement)).scalar()

    async def _ask(self, statement: str) -> Any:
        assert self._async
        async with self._async.connect() as connection:
            return await connection.scalar(sa.text(statement))


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(driver: str, request: pytest.FixtureRequest) -> Cluster | MariaDB:
    found: Cluster | MariaDB = request.getfixturevalue("mariadb" if driver.startswith("mysql") else "postgres")
    found.start()
    return found


@pytest.fixture
def application(driver: str, server: Cluster | MariaDB) -> Iterator[Application]:
    url = sa.make_url(server.url("postgres" if isinstance(server, Cluster) else "mysql"))
    url = url.set(drivername=driver.removesuffix("_async"))
    settings = database_of(url.render_as_string(hide_password=False), **LIMITS)
    with Application(settings, use_async=driver in ASYNC) as application:
        yield application


def stop(pid: int) -> None:
    """Stop a process, and wait until it stands still: it may be answering."""
    os.kill(pid, signal.SIGSTOP)
    while (
        not subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True).stdout.strip().startswith(b"T")
    ):
        pass


def test_the_server_ends_what_takes_too_long(application: Application) -> None:
    sleep = "SELECT pg_sleep(30)" if application.engine.dialect.name == "postgresql" else "SELECT sleep(30)"
    with pytest.raises(StatementTimeoutError):
        application.ask(sleep)
    assert application.ask("SELECT 1") == 1


def test_a_server_that_hangs_is_given_up_and_asked_again(application: Application, server: Cluster | MariaDB) -> None:
    is_postgres = isinstance(server, Cluster)
    own = application.ask("SELECT pg_backend_pid()" if is_postgres else "SELECT connection_id()")
    pid = own if is_postgres else server.pid
    stop(pid)
    try:
        with pytest.raises(
            sa.exc.OperationalError, match=r"server was silent|did not answer|timed out|read timeout"
        ) as caught:
            application.ask("SELECT 1")
        assert caught.value.connection_invalidated
    finally:
        os.kill(pid, signal.SIGCONT)
    assert application.ask("SELECT 1") == 1


def test_the_kernel_watches_the_network(application: Application) -> None:
    seen: list[int] = []

    @sa.event.listens_for(application.engine, "checkout")
    def look(_connection: object, record: Any, _fairy: object) -> None:
        descriptor = DESCRIPTORS[application.engine.dialect.driver](record.driver_connection)
        with socket.socket(fileno=os.dup(descriptor)) as ours:
            seen.append(ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            seen.append(ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT))
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                seen.append(ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))

    application.ask("SELECT 1")
    assert seen == [1, 3, 500][: len(seen)]


def test_ddl_has_no_limit_of_applications(postgres_url: str) -> None:
    engine = make_migration_engine(database_of(postgres_url, **LIMITS))
    with engine.connect() as connection:
        assert connection.execute(sa.text("SHOW statement_timeout")).scalar() == "0"
    engine.dispose()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pg8000 does not close its socket then
def test_a_server_that_says_nothing_to_who_connects_is_given_up(driver: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{driver.removesuffix('_async')}://app@127.0.0.1:{silent.getsockname()[1]}/x"
        with Application(database_of(url, connect_timeout="1s"), use_async=driver in ASYNC) as application:
            with pytest.raises(sa.exc.OperationalError, match=r"did not answer in time|timed out|read timeout"):
                application.ask("SELECT 1")
    gc.collect()


def test_a_host_name_that_nobody_knows_any_more_costs_new_connections_only(
    driver: str, server: Cluster | MariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve, is_gone = socket.getaddrinfo, threading.Event()

    def ask_dns(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host in {"db.test", b"db.test"} and is_gone.is_set():
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve("127.0.0.1" if host in {"db.test", b"db.test"} else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", ask_dns)
    url = sa.make_url(server.url("postgres" if isinstance(server, Cluster) else "mysql"))
    url = url.set(drivername=driver.removesuffix("_async"), host="db.test")
    settings = database_of(url.render_as_string(hide_password=False))
    with Application(settings, use_async=driver in ASYNC) as application:
        assert application.ask("SELECT 1") == 1
        is_gone.set()
        assert application.ask("SELECT 1") == 1
        application.forget_connections()
        with pytest.raises(sa.exc.OperationalError, match="the host name is not known"):
            application.ask("SELECT 1")
        is_gone.clear()
        assert application.ask("SELECT 1") == 1


@pytest.mark.mariadb
@pytest.mark.parametrize("driver", ["mysql+pymysql", "mysql+asyncmy"])
def test_a_statement_may_take_longer_than_connecting(driver: str, mariadb: MariaDB) -> None:
    settings = database_of(mariadb.url("mysql", driver=driver), connect_timeout="1s")
    with Application(settings, use_async=driver in ASYNC) as application:
        assert application.ask("SELECT sleep(1.3)") == 0
    direct = make_migration_engine(settings)
    with direct.connect() as connection:
        assert connection.execute(sa.text("SELECT sleep(1.3)")).scalar() == 0
