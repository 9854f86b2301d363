"""What throwaway database servers have in common: an account, a port, a folder, and an end with the tests."""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

START_SECONDS = 60.0
PORTS = range(15_000, 30_000)
"""Below the ports that systems hand out by themselves, so that a stopped server finds its port free again."""

KEEPER = """
import os, shutil, subprocess, sys, threading

folder, uid, gid, last_signal, *command = sys.argv[1:]
drop = {"user": int(uid), "group": int(gid), "extra_groups": []} if int(uid) >= 0 else {}
server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **drop)
orphaned = threading.Event()

def obey():
    wanted = os.read(0, 16)
    if not wanted:
        orphaned.set()
    server.send_signal(int(wanted or last_signal))

threading.Thread(target=obey, daemon=True).start()
code = server.wait()
if orphaned.is_set():
    shutil.rmtree(folder, ignore_errors=True)
os._exit(code % 256)
"""
"""The server's parent. It waits for the number of a signal on its standard input; when the tests die in any way, the
pipe closes, the server ends, and its folder goes."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server; an empty one means who we are."""

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


def find_account(preferred: str) -> Account:
    """The account that a server runs as: servers refuse root, so that root becomes ``preferred``, else ``nobody``."""
    if os.geteuid() != 0:
        return Account()
    for name in (preferred, "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    return Account(65534, 65534)


class Server(ABC):
    """One server with a data folder of its own. Made running; a context manager that stops it and removes its files.

    Args:
        account: Who runs it.
        pid_file: Its name in the data folder.

    Attributes:
        title: What it is, such as ``PostgreSQL 18``.
        port: Where it listens on 127.0.0.1; the same after ``stop`` and ``start``.
        folder: Holds the data folder ``data``, the log ``server.log`` and the Unix socket.

    Raises:
        RuntimeError: If it does not start, with the end of its log.
    """

    title: str
    _fast: ClassVar[signal.Signals]
    _immediate: ClassVar[signal.Signals]

    def __init__(self, account: Account, *, pid_file: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="opal-db-", dir="/tmp"))  # short: a socket's path has a limit
        self.data = self.folder / "data"
        self.port = 0
        self._account = account
        self._log = self.folder / "server.log"
        self._pid_file = self.data / pid_file
        self._keeper: subprocess.Popen[bytes] | None = None
        try:
            self.folder.chmod(0o755)
            account.own(self.folder)
            self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<{self.title} on port {self.port}, {'running' if self.running else 'stopped'}>"

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
        """The process id of the server, to send signals to."""
        return int(self._pid_lines()[0])

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
        raise RuntimeError(f"{self.title} did not start:\n{self._log.read_text(errors='replace')[-3000:]}")

    def stop(self, mode: Literal["fast", "immediate"] = "immediate") -> None:
        """Stop the server: ``immediate`` like a crash, ``fast`` in order; nothing happens if it does not run."""
        keeper, self._keeper = self._keeper, None
        if keeper is None or keeper.stdin is None:
            return
        number = self._fast if mode == "fast" else self._immediate
        with suppress(BrokenPipeError), keeper.stdin:
            keeper.stdin.write(str(number.value).encode())
        keeper.wait(START_SECONDS)

    def close(self) -> None:
        """Stop the server and remove its folder; may be called again."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_database(self) -> str:
        """Create an empty database under a new name, and return the name."""
        name = f"opal_{random.SystemRandom().getrandbits(48):012x}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    @abstractmethod
    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, whoever is still connected to it."""

    @abstractmethod
    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run SQL as the superuser, outside a transaction, and return its rows, if it has any."""

    @abstractmethod
    def url(self, database: str) -> str:
        """A SQLAlchemy URL for the superuser."""

    @abstractmethod
    def _initialise(self) -> None:
        """Make the data folder."""

    @abstractmethod
    def _command(self, port: int) -> list[str | Path]:
        """The command that runs the server in the foreground."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server that wrote the pid file takes connections."""

    def _environment(self) -> dict[str, str]:
        """Ours, with messages in English and times in UTC."""
        return dict(os.environ) | {"LC_ALL": "C", "TZ": "UTC"}

    def _run(self, program: Path, *arguments: str | Path) -> str:
        """Run a program to its end as the server's account, and return what it printed.

        Raises:
            RuntimeError: If it fails, with the end of its output.
        """
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(),
            cwd="/",
            check=False,
            **self._account.popen,
        )
        if done.returncode:
            raise RuntimeError(f"{program.name} failed ({done.returncode}):\n{done.stdout[-2000:]}")
        return done.stdout

    def _started(self, port: int) -> bool:
        account = (str(self._account.uid), str(self._account.gid))
        arguments = [self.folder, *account, str(self._immediate.value), *self._command(port)]
        stale = self._pid_lines()
        with self._log.open("ab") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", KEEPER, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment(),
                cwd="/",
                bufsize=0,
                start_new_session=True,
            )
        if self._ready(self._keeper, stale):
            return True
        self.stop()
        return False

    def _ready(self, keeper: subprocess.Popen[bytes], stale: list[str]) -> bool:
        """Wait until the server answers; a pid file that a crash left behind does not count."""
        end = time.monotonic() + START_SECONDS
        while keeper.poll() is None and time.monotonic() < end:
            if self._pid_lines() not in ([], stale) and self._answers():
                return True
            time.sleep(0.01)
        return False

    def _pid_lines(self) -> list[str]:
        try:
            return self._pid_file.read_text().splitlines()
        except FileNotFoundError:
            return []


def _free_port() -> int:
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no free port in {PORTS}")


__all__ = ["Account", "Server", "find_account"]
