"""Throwaway MariaDB servers: real ones, on loopback, for the tests only.

The server's program is looked for as :func:`tests.programs.find_program` says, with ``$OPAL_TEST_MARIADB_BIN``.
``tests/install_servers.sh`` agrees.
"""

import os
import shutil
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.programs import ProgramMissingError, find_program
from tests.servers import Server, find_account

INSTALL = {
    "apt-get": "apt-get install --no-install-recommends mariadb-server",
    "dnf": "dnf install mariadb-server",
    "zypper": "zypper install mariadb",
    "pacman": "pacman -S mariadb",
    "apk": "apk add mariadb mariadb-client",
    "brew": "brew install mariadb",
    "else": "see https://mariadb.org/download",
}
"""The command that brings a server, by the program that says which system this is."""

SETTINGS = {
    "bind-address": "127.0.0.1",
    "character-set-server": "utf8mb4",
    "innodb-buffer-pool-size": "32M",
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-log-file-size": "16M",
    "innodb-use-native-aio": "0",
    "loose-debug-no-sync": "1",
    "loose-innodb-flush-method": "nosync",
    "skip-name-resolve": "1",
}
"""Fast, since the machine will not lose power; what was committed outlives a crash of the server all the same.

``nosync`` is for MariaDB 10; for MariaDB 11 it has no meaning, and ``debug-no-sync`` takes its place.
"""


def find_mariadbd() -> Path:
    """The server's program, where it really lies.

    Raises:
        ProgramMissingError: If there is none.
    """
    return find_program("mariadbd", variable="OPAL_TEST_MARIADB_BIN", install=INSTALL)


class MariaDB(Server):
    """One MariaDB server with a data folder of its own; ``root`` is its superuser, who needs no password.

    Any other user signs in as it was created: ``CREATE USER ada IDENTIFIED BY 'secret'``.

    Args:
        **settings: Server settings beside :data:`SETTINGS`; an underscore stands for a hyphen.

    Raises:
        ProgramMissingError: If there is no ``mariadbd``.
    """

    title = "MariaDB"
    _fast = signal.SIGTERM
    _immediate = signal.SIGKILL

    def __init__(self, **settings: str) -> None:
        self.mariadbd = find_mariadbd()
        self._settings = SETTINGS | {name.replace("_", "-"): value for name, value in settings.items()}
        super().__init__(find_account("mysql"), pid_file="server.pid")

    def url(
        self,
        database: str | None = None,
        *,
        user: str = "root",
        password: str | None = None,
        driver: str = "mysql+pymysql",
    ) -> str:
        """A SQLAlchemy URL; without a database, one that leads to none."""
        url = sa.URL.create(driver, user, password, "127.0.0.1", self.port, database)
        return url.render_as_string(hide_password=False)

    def execute(self, sql: str, *, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run SQL as the superuser, outside a transaction, and return its rows, if it has any."""
        engine = sa.create_engine(self.url(database), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect().execution_options(no_parameters=True) as connection:
            result = connection.exec_driver_sql(sql)
            return [tuple(row) for row in result] if result.returns_rows else []

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, whoever is still connected to it."""
        for (connection,) in self.execute(f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"):
            with suppress(sa.exc.DBAPIError):  # it has gone by itself
                self.execute(f"KILL {connection}")
        self.execute(f"SET STATEMENT lock_wait_timeout = 10 FOR DROP DATABASE IF EXISTS `{name}`")

    def _initialise(self) -> None:
        base = self.mariadbd.parent.parent
        folders = [str(base / "bin"), str(base / "scripts"), os.environ.get("PATH", os.defpath)]
        script = shutil.which("mariadb-install-db", path=os.pathsep.join(folders))
        if script is None:
            raise ProgramMissingError(f"there is no mariadb-install-db for {self.mariadbd}")
        who = ("--auth-root-authentication-method=normal", "--skip-test-db")
        self._run(Path(script), *self._options(), *who)

    def _command(self, port: int) -> list[str | Path]:
        return [self.mariadbd, *self._options(), f"--port={port}", f"--socket={self.socket_path}"]

    def _options(self) -> list[str]:
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        base = self.mariadbd.parent.parent
        return [
            "--no-defaults",
            f"--basedir={base}",
            f"--datadir={self.data}",
            f"--tmpdir={self.folder}",
            f"--pid-file={self._pid_file}",
            *settings,
        ]

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as greeted, suppress(OSError):
            greeted.settimeout(1)
            greeted.connect(str(self.socket_path))
            return bool(greeted.recv(1))
        return False

    @property
    def socket_path(self) -> Path:
        """The socket that the server makes beside its port."""
        return self.folder / "server.sock"

    def _environment(self) -> dict[str, str]:
        """Without ``MYSQL_*`` and ``MARIADB_*``, which would redirect MariaDB's programs."""
        foreign = ("MYSQL_", "MARIADB_")
        return {name: value for name, value in super()._environment().items() if not name.startswith(foreign)}


__all__ = ["MariaDB", "find_mariadbd"]
