"""What each driver is told when it connects: how long to wait, who is calling, how to encrypt."""

import os
import socket
from typing import Any

import sqlalchemy as sa

from opal_registry.engines.pools.limits import make_waiting_arguments
from opal_registry.engines.tls import make_tls_arguments
from opal_registry.settings.database import DatabaseSettings

PROGRAM = "opal_registry"
"""What connects, where nothing more is known."""

LONGEST_NAME = 63
"""So many bytes of an application's name PostgreSQL keeps."""


def make_arguments(
    url: sa.URL, settings: DatabaseSettings, *, program: str = PROGRAM, for_run: bool = False
) -> dict[str, Any]:
    """What a driver is told beside the URL; what the URL says itself it is not told again.

    Args:
        url: The database.
        settings: How it is reached.
        program: What connects, for the server's list of connections.
        for_run: Whether the connection is for one run only: the server is told whose, and nothing is prepared on it.

    Raises:
        sqlalchemy.exc.ArgumentError: If the URL and the section ``ssl`` both say something of encryption.
        OSError: If a file of the section ``ssl`` cannot be used; ``filename`` is which.
    """
    driver = url.get_driver_name()
    arguments: dict[str, dict[str, Any]] = {
        "pysqlite": {"check_same_thread": False},
        "psycopg": {"prepare_threshold": None} if for_run else {},
        "pg8000": {} if url.password else {"password": ""},  # or it stumbles when the server asks for one
        "pymysql": {"charset": "utf8mb4"},
        "asyncmy": {"charset": "utf8mb4"},
    }
    ours = arguments.get(driver, {}) | make_waiting_arguments(driver, settings, for_run=for_run)
    ours |= make_tls_arguments(url, settings.ssl) | _make_socket_arguments(url)
    name = make_run_name() if for_run else settings.application_name or make_process_name(program)
    ours |= _make_name_argument(driver, name)
    return {name: value for name, value in ours.items() if name not in url.query}


def name_processes(engine: sa.Engine, settings: DatabaseSettings, *, program: str = PROGRAM) -> None:
    """Let each connection carry the number of the process that makes it, which may be forked from that of the engine."""
    if settings.application_name is not None:
        return

    def name(_dialect: object, _record: object, _args: object, params: dict[str, Any]) -> None:
        ours = _make_name_argument(engine.dialect.driver, make_process_name(program))
        params |= {key: value for key, value in ours.items() if key not in engine.url.query}

    sa.event.listen(engine, "do_connect", name)


def make_process_name(program: str) -> str:
    """The name under which a server sees this process: what it is, on which host, and its number there.

    Example:
        >>> make_process_name("standupbot").startswith("standupbot "), make_process_name("x").endswith(f":{os.getpid()}")
        (True, True)
    """
    end = f":{os.getpid()}"
    room = LONGEST_NAME - len(program.encode()) - len(" ") - len(end)
    host = socket.gethostname().encode()[: max(room, 0)].decode(errors="ignore")
    return f"{program} {host}{end}"


def make_run_name() -> str:
    """The name under which a server sees a run: who holds a lock or a table can be told by it.

    Example:
        >>> make_run_name().startswith("opal-db "), make_run_name().endswith(f":{os.getpid()}")
        (True, True)
    """
    return make_process_name("opal-db")


def _make_socket_arguments(url: sa.URL) -> dict[str, Any]:
    """How a driver is told of a socket in the file system, where the URL has its directory, or for MySQL its path, as host.

    Example:
        >>> url = sa.URL.create("postgresql+pg8000", host="/cloudsql/my-project:europe-west1:suite")
        >>> _make_socket_arguments(url)
        {'unix_sock': '/cloudsql/my-project:europe-west1:suite/.s.PGSQL.5432'}
    """
    path = url.host or ""
    if not path.startswith("/"):
        return {}
    arguments = {
        "pg8000": {"unix_sock": f"{path}/.s.PGSQL.{url.port or 5432}"},
        "pymysql": {"unix_socket": path},
        "asyncmy": {"unix_socket": path},
    }
    return arguments.get(url.get_driver_name(), {})


def _make_name_argument(driver: str, name: str) -> dict[str, Any]:
    arguments: dict[str, dict[str, Any]] = {
        "psycopg": {"application_name": name},
        "asyncpg": {"server_settings": {"application_name": name}},
        "pg8000": {"application_name": name},
        "pymysql": {"program_name": name},
        "asyncmy": {"program_name": name},
    }
    return arguments.get(driver, {})
