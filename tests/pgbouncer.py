"""A throwaway PgBouncer in transaction mode: a real one, on loopback, for the tests only.

The program is looked for as :func:`tests.programs.find_program` says, with ``$OPAL_TEST_PGBOUNCER_BIN``.
``tests/install_servers.sh`` agrees.
"""

import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from tests.postgres import Cluster
from tests.programs import find_program
from tests.servers import Server, find_account

INSTALL = {
    "apt-get": "apt-get install --no-install-recommends pgbouncer",
    "dnf": "dnf install pgbouncer",
    "zypper": "zypper install pgbouncer",
    "pacman": "pacman -S pgbouncer",
    "apk": "apk add pgbouncer",
    "brew": "brew install pgbouncer",
    "else": "see https://www.pgbouncer.org",
}
"""The command that brings it, by the program that says which system this is."""

CONSOLE = "pgbouncer"
"""The name under which PgBouncer itself answers."""

PASSWORD = "console"
"""That of ``postgres``, where users have passwords."""

SETTINGS = {
    "admin_users": "postgres",
    "ignore_startup_parameters": "extra_float_digits",
    "listen_addr": "127.0.0.1",
    "pool_mode": "transaction",
}


def find_pgbouncer() -> Path:
    """The program.

    Raises:
        ProgramMissingError: If there is none.
    """
    return find_program("pgbouncer", variable="OPAL_TEST_PGBOUNCER_BIN", install=INSTALL)


class PgBouncer(Server):
    """A pooler before a PostgreSQL server, with a pool for each of its databases; ``postgres`` needs no password.

    Args:
        cluster: The server.
        users: Users and their passwords; without any, everybody is let in.

    Raises:
        ProgramMissingError: If there is no ``pgbouncer``.
    """

    title = "PgBouncer"
    _fast = signal.SIGTERM
    _immediate = signal.SIGKILL

    def __init__(self, cluster: Cluster, users: dict[str, str] | None = None) -> None:
        self.cluster, self._users = cluster, users or {}
        self._pgbouncer = find_pgbouncer()
        super().__init__(find_account("postgres"), pid_file="pgbouncer.pid")

    def url(self, database: str) -> str:
        """A SQLAlchemy URL for the superuser; the driver is psycopg."""
        return sa.URL.create(
            "postgresql+psycopg", "postgres", None, "127.0.0.1", self.port, database
        ).render_as_string()

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Have PgBouncer itself do something, such as ``SET default_pool_size = 1`` or ``SHOW POOLS``."""
        with self._connect() as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def count_waiting(self, database: str) -> int:
        """How many clients wait for a connection to a database."""
        with self._connect() as connection:
            cursor = connection.execute("SHOW POOLS")
            names = [column.name for column in cursor.description or ()]
            pools = [dict(zip(names, row, strict=True)) for row in cursor]
        return sum(pool["cl_waiting"] for pool in pools if pool["database"] == database)

    def let_in(self, user: str, password: str) -> None:
        """Take another password for a user than before."""
        self._users[user] = password
        self._write_users()
        self.execute("RELOAD")

    def create_database(self) -> str:
        """Create an empty database on the server, and return its name."""
        return self.cluster.create_database()

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is still connected to it."""
        self.cluster.drop_database(name)

    def _connect(self) -> "psycopg.Connection[tuple[Any, ...]]":
        known = f"host=127.0.0.1 port={self.port} user=postgres password={PASSWORD} dbname={CONSOLE}"
        return psycopg.connect(known, autocommit=True)

    def _initialise(self) -> None:
        self.data.mkdir()
        self._account.own(self.data)
        self._write_users()

    def _write_users(self) -> None:
        lines = [f'"{user}" "{password}"\n' for user, password in {"postgres": PASSWORD, **self._users}.items()]
        (self.data / "users.txt").write_text("".join(lines))

    def _command(self, port: int) -> list[str | Path]:
        self._listens_on = port
        files = {"auth_file": self.data / "users.txt", "pidfile": self._pid_file, "unix_socket_dir": self.folder}
        settings = SETTINGS | files | {"listen_port": port, "auth_type": "md5" if self._users else "trust"}
        config = self.data / "pgbouncer.ini"
        lines = ["[databases]", f"* = host=127.0.0.1 port={self.cluster.port}", "[pgbouncer]"]
        config.write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in settings.items()), ""]))
        return [self._pgbouncer, "--quiet", config]

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._listens_on), timeout=1):
            return True
        return False


__all__ = ["PgBouncer", "find_pgbouncer"]
