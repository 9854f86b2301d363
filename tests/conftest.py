"""Fixtures that the tests share: real databases, and a place to install sub-apps into."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributions import Site, make_core_environment
from tests.postgres import Cluster
from tests.zygote import QuickSite, Zygote

POSTGRES = [pytest.param("postgres16", id="pg16"), pytest.param("postgres18", id="pg18")]


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


@pytest.fixture(params=POSTGRES)
def postgres(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Each PostgreSQL server in turn, running; a test may stop it."""
    cluster: Cluster = request.getfixturevalue(request.param)
    cluster.start()
    yield cluster
    cluster.start()


@pytest.fixture
def postgres_url(postgres: Cluster) -> Iterator[str]:
    """The URL of an empty database of its own, on each PostgreSQL server in turn."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.start()
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", *POSTGRES])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of its own: a SQLite file, and each PostgreSQL server in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'opal_suite.db'}"
        return
    cluster: Cluster = request.getfixturevalue(request.param)
    cluster.start()
    name = cluster.create_database()
    yield cluster.url(name)
    cluster.drop_database(name)


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
