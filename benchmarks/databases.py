"""Empty databases for every run: SQLite files, and PostgreSQL near and far."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import URL

from benchmarks.environments import FOLDER
from benchmarks.generate import Scale
from benchmarks.proxy import DelayProxy, Trips
from tests.postgres import Cluster

Kind = Literal["sqlite", "postgresql"]

SETTINGS = {"autovacuum": "on", "fsync": "on", "full_page_writes": "on", "shared_buffers": "128MB"}
"""As PostgreSQL is delivered; the tests' own servers trade durability for speed."""

MAJOR = 18


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured.

    Args:
        scale: How much is generated.
        kind: The kind of database.
        delay: How long a round trip to the server takes, in milliseconds.
    """

    scale: Scale
    kind: Kind
    delay: float = 0.0

    def __str__(self) -> str:
        where = "SQLite" if self.kind == "sqlite" else f"PostgreSQL, round trip {self.delay:g} ms"
        return f"{self.scale.tables:,} tables, {where}"


@dataclass(frozen=True, slots=True)
class Target:
    """An empty database: a SQLite file, or a name on a server whose port may be that of a proxy."""

    kind: Kind
    name: str
    port: int | None = None

    def url(self, driver: str = "psycopg") -> str:
        """Its URL, as SQLAlchemy writes it."""
        if self.kind == "sqlite":
            return f"sqlite:///{self.name}"
        url = URL.create(f"postgresql+{driver}", "postgres", None, "127.0.0.1", self.port, self.name)
        return url.render_as_string(hide_password=False)


class Databases:
    """A context manager that makes empty databases; the server starts with the first one that needs it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="work-", dir=FOLDER))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._cluster: Cluster | None = None
        self._proxies: dict[float, DelayProxy] = {}
        self._numbers = itertools.count(1)

    def __enter__(self) -> "Databases":
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    @property
    def cluster(self) -> Cluster:
        """The PostgreSQL server."""
        if self._cluster is None:
            self._cluster = self._stack.enter_context(Cluster(MAJOR, **SETTINGS))
        return self._cluster

    @contextmanager
    def create(self, case: Case) -> Iterator[Target]:
        """An empty database for as long as the context lasts."""
        if case.kind == "sqlite":
            path = self.folder / f"{next(self._numbers)}.db"
            yield Target("sqlite", str(path))
            path.unlink(missing_ok=True)
            return
        name = self.cluster.create_database()
        yield Target("postgresql", name, self._proxy(case.delay).port if case.delay else self.cluster.port)
        self.cluster.drop_database(name)

    def connect(self, target: Target) -> sa.Engine:
        """An engine that goes past any proxy."""
        url = target.url() if target.kind == "sqlite" else self.cluster.url(target.name)
        return sa.create_engine(url, poolclass=sa.NullPool)

    def trips(self, case: Case) -> Trips | None:
        """The round trips so far over a case's proxy; None where there is none."""
        return self._proxy(case.delay).trips if case.delay else None

    def _proxy(self, delay: float) -> DelayProxy:
        if delay not in self._proxies:
            proxy = DelayProxy(self.cluster.port, seconds=delay / 1000)
            self._proxies[delay] = self._stack.enter_context(proxy)
        return self._proxies[delay]
