"""What a database's error means, in plain words: which database, what it refused, what to try."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from opal_registry.engines.url import describe_url, get_sqlite_path
from opal_registry.errors import DatabaseError, LockTimeoutError, Problem

MEANINGS: tuple[tuple[str, str, str], ...] = (
    # a pattern over the error's code and text, what it means, what to try
    (r"28P01|password authentication failed|no password supplied|\b1045\b", "the user or the password is wrong", "correct database.user and database.password"),
    (r"28000|no pg_hba\.conf entry|role .* does not exist", "the server does not let this user in", "correct database.user, or ask for access"),
    (r"3D000|database \"?.*\"? does not exist|\b1049\b", "there is no database of that name", "create it (opal-db init --create-database), or correct the name"),
    (r"42501|permission denied|\b1044\b|\b1142\b", "the user may not do this", "grant it: the user must be allowed to create tables in this database"),
    (r"55P03|lock timeout|\b1205\b", "something else holds a lock for too long", "look for long transactions, then run the command again"),
    (r"57P03|starting up|shutting down", "the server is starting or stopping", "wait for it: opal-db wait"),
    (r"53300|too many (clients|connections)|\b1040\b", "the server has no connection left", "lower database.pool.size, or raise the server's limit"),
    (r"53100|No space left|SQLITE_FULL|disk is full", "the disk is full", "make room on the disk; what was begun has been undone"),
    (r"25006|read-only transaction|SQLITE_READONLY|readonly database", "the database is read-only here", "check the file's permissions, or connect to the primary"),
    (r"SQLITE_NOTADB|not a database", "the file is not a SQLite database", "correct database.url, or move the file away"),
    (r"SQLITE_CORRUPT|malformed", "the database file is damaged", "restore it from a backup"),
    (r"SQLITE_BUSY|database is locked", "another process writes to the database and does not finish", "run the command again; if it persists, look for a process that keeps a transaction open"),
    (r"SQLITE_CANTOPEN|unable to open database file", "the file cannot be opened", "check the path and the permissions of its directory"),
    (r"Name or service not known|could not translate host|getaddrinfo|name resolution", "the host name is not known", "correct database.host"),
    (r"Connection refused|Can't connect|\b2003\b", "no server answers there", "start it, or correct database.host and database.port"),
    (r"timeout expired|timed out|timeout", "the server did not answer in time", "check the address and the firewall, or raise database.connect_timeout"),
    (r"closed the connection|connection.*(lost|closed|reset)|57P0[12]|terminating connection|Broken pipe|\b2006\b|\b2013\b", "the connection was cut", "run the command again; nothing half done is left where DDL is transactional"),
)  # fmt: skip

LOCKED = {"something else holds a lock for too long", "another process writes to the database and does not finish"}
"""The meanings that end a command with exit code 5."""


@contextmanager
def explained(url: sa.URL, *, doing: str = "") -> Iterator[None]:
    """Turn the driver's and SQLAlchemy's errors into a :class:`DatabaseError` that says what to do.

    Args:
        url: The database that is talked to.
        doing: What is being done, such as "creating the tables of sub-app 'core'".

    Raises:
        DatabaseError: In place of any database error.
    """
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError, OSError) as error:
        raise explain(error, url, doing=doing) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] in {
            "sqlite3",
            "psycopg",
            "pymysql",
            "asyncpg",
            "asyncmy",
            "pg8000",
        }:
            raise explain(error, url, doing=doing) from error
        raise


def explain(error: BaseException, url: sa.URL, *, doing: str = "") -> DatabaseError:
    """The error as one problem: what it means, where it happened, what to try."""
    original = getattr(error, "orig", None) or error
    text = " ".join(str(original).split())
    what, mend = _meaning(original, text)
    where = "; ".join(part for part in (describe_url(url), doing, _statement(error)) if part)
    kind = LockTimeoutError if what in LOCKED else DatabaseError
    return kind(Problem(f"{what}: {_without_secret(text, url)}", where, mend))


def check_sqlite_file(url: sa.URL, *, must_exist: bool = False) -> None:
    """Refuse a SQLite file that cannot be there, before connecting creates one in the wrong place.

    Raises:
        DatabaseError: If its directory is missing, or it is no file, or it must exist and does not.
    """
    path = get_sqlite_path(url)
    if path is None:
        return
    path = path.absolute()
    if not path.parent.is_dir():
        mend = f"mkdir -p {path.parent}, or correct database.url"
        raise DatabaseError(Problem(f"the directory of the SQLite file does not exist: {path.parent}", str(path), mend))
    if path.exists() and not path.is_file():
        raise DatabaseError(Problem(f"{path} is not a file", describe_url(url), "correct database.url"))
    if must_exist and not path.exists():
        raise DatabaseError(
            Problem(f"the SQLite file does not exist: {path}", describe_url(url), "create it: opal-db init")
        )


def _meaning(original: BaseException, text: str) -> tuple[str, str]:
    codes = [getattr(original, name, None) for name in ("sqlstate", "sqlite_errorname")]
    subject = f"{' '.join(str(code) for code in codes if code)} {text}"
    for pattern, what, mend in MEANINGS:
        if re.search(pattern, subject, re.IGNORECASE):
            return what, mend
    return "the database refused", "read its words above; run with --traceback for the whole story"


def _statement(error: BaseException) -> str:
    statement = getattr(error, "statement", None)
    if not isinstance(statement, str):
        return ""
    first = " ".join(statement.split())
    return f"statement: {first[:120]}{'...' if len(first) > 120 else ''}"


def _without_secret(text: str, url: sa.URL) -> str:
    return text.replace(str(url.password), "********") if url.password else text
