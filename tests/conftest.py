"""Fixtures that the tests share: real databases, and a place to install sub-apps into."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tests.distributions import Site, make_core_environment
from tests.mariadb import MariaDB, find_mariadbd
from tests.pgbouncer import PgBouncer, find_pgbouncer
from tests.postgres import Cluster
from tests.programs import ProgramMissingError
from tests.servers import Server
from tests.zygote import QuickSite, Zygote

POSTGRES = ("postgres16", "postgres18")
MARIADB = pytest.param("mariadb", id="mariadb", marks=pytest.mark.mariadb)


@pytest.fixture(scope="session")
def postgres16() -> Iterator[Cluster]:
    """A PostgreSQL 16 server."""
    with Cluster(16) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgres18() -> Iterator[Cluster]:
    """A PostgreSQL 18 server."""
    with Cluster(18) as cluster:
        yield cluster


@pytest.fixture
def postgres(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """One of the PostgreSQL servers, running; a test may stop it.

    Which one is decided by the test's name, so that it is the same in every run, and each version meets its share.
    """
    number = crc32(request.node.name.encode()) % len(POSTGRES)
    cluster: Cluster = request.getfixturevalue(POSTGRES[number])
    cluster.start()
    yield cluster
    cluster.start()


@pytest.fixture
def postgres_url(postgres: Cluster) -> Iterator[str]:
    """The URL of an empty database of its own, on PostgreSQL."""
    yield from _url_of_empty_database(postgres)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of its own: a SQLite file, and on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'opal_suite.db'}"
    else:
        yield from _url_of_empty_database(request.getfixturevalue(request.param))


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """A MariaDB server; a test that stops it starts it again."""
    with MariaDB() as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer(postgres18: Cluster) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode before the PostgreSQL 18 server."""
    with PgBouncer(postgres18) as pooler:
        yield pooler


@pytest.fixture
def pgbouncer_url(pgbouncer: PgBouncer) -> Iterator[str]:
    """The URL of an empty database of its own, behind PgBouncer, whose settings are as it was started with."""
    for setting in ("default_pool_size = 20", "query_wait_timeout = 120"):
        pgbouncer.execute(f"SET {setting}")
    yield from _url_of_empty_database(pgbouncer)


@pytest.fixture
def mariadb_url(mariadb: MariaDB) -> Iterator[str]:
    """The URL of an empty database of its own, on MariaDB."""
    yield from _url_of_empty_database(mariadb)


@pytest.fixture(params=["sqlite", "postgres", MARIADB])
def any_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of its own, on every kind of database there is."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'opal_suite.db'}"
    else:
        yield from _url_of_empty_database(request.getfixturevalue(request.param))


@pytest.fixture
def every_database_url(
    tmp_path: Path, postgres16: Cluster, postgres18: Cluster, mariadb: MariaDB
) -> Iterator[dict[str, str]]:
    """The URL of an empty database of its own of every kind, by kind."""
    servers = {"pg16": postgres16, "pg18": postgres18, "mariadb": mariadb}
    for server in servers.values():
        server.start()
    names = {kind: server.create_database() for kind, server in servers.items()}
    yield {"sqlite": f"sqlite:///{tmp_path / 'opal_suite.db'}"} | {
        kind: server.url(names[kind]) for kind, server in servers.items()
    }
    for kind, server in servers.items():
        server.drop_database(names[kind])


def _url_of_empty_database(server: Server) -> Iterator[str]:
    server.start()
    name = server.create_database()
    yield server.url(name)
    server.start()
    server.drop_database(name)


@pytest.fixture(scope="session")
def core_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment like this one, without the sample sub-apps."""
    return make_core_environment(tmp_path_factory.mktemp("core") / "venv")


@pytest.fixture(scope="session")
def zygote(core_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """A process of that environment that programs are forked from."""
    zygote = Zygote(core_python, tmp_path_factory.mktemp("zygote"))
    yield zygote
    zygote.close()


@pytest.fixture
def site(tmp_path: Path, core_python: Path) -> Iterator[Site]:
    """A place to install distributions into and to run ``opal-db`` with them; see :class:`tests.distributions.Site`."""
    folder, cwd = tmp_path / "site-packages", tmp_path / "work"
    folder.mkdir()
    cwd.mkdir()
    site = Site(folder, cwd, core_python)
    yield site
    site.close()


@pytest.fixture
def quick_site(tmp_path: Path, core_python: Path, zygote: Zygote) -> Site:
    """The same where programs are forked from a process that has imported the libraries already: much faster."""
    folder, cwd = tmp_path / "site-packages", tmp_path / "work"
    folder.mkdir()
    cwd.mkdir()
    return QuickSite(folder, cwd, core_python, zygote=zygote)


OPTIONAL = {"mariadb": ("MariaDB", find_mariadbd), "pgbouncer": ("PgBouncer", find_pgbouncer)}
"""Servers that no Python package brings, by the fixture or marker of what needs them: a name, and who finds it."""

LEFT_OUT = pytest.StashKey[dict[str, int]]()
"""How many tests were left out for want of such a server."""


def pytest_configure(config: pytest.Config) -> None:
    """Say what the markers mean; let what tests start be interrupted, also where they run in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[LEFT_OUT] = {}
    for marker, (title, _) in OPTIONAL.items():
        config.addinivalue_line("markers", f"{marker}: needs {title}; left out, and told, where there is none")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a server that is not there."""
    missing = [name for name in OPTIONAL if _find_lack(name)]
    needs = {item: [name for name in missing if _needs(item, name)] for item in items}
    left_out = [item for item in items if needs[item]]
    items[:] = [item for item in items if not needs[item]]
    config.stash[LEFT_OUT] = dict(Counter(name for item in left_out for name in needs[item]))
    if left_out:
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """Learn from a worker of pytest-xdist how much it left out; all of them leave out the same."""
    node.config.stash[LEFT_OUT] |= getattr(node, "workeroutput", {}).get("left_out", {})


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """End with a line for each server that was not tested; where ``CI=true``, fail."""
    left_out = session.config.stash[LEFT_OUT]
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = left_out
    elif left_out and os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    yield
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    for name, count in left_out.items():
        line = f"{OPTIONAL[name][0]} was not tested (tests left out: {count}): {_find_lack(name)}"
        if terminal:
            terminal.write_line(line, yellow=True, bold=True)


def _find_lack(name: str) -> str | None:
    try:
        OPTIONAL[name][1]()
    except ProgramMissingError as error:
        return str(error)
    return None


def _needs(item: pytest.Item, name: str) -> bool:
    return name in getattr(item, "fixturenames", ()) or item.get_closest_marker(name) is not None
