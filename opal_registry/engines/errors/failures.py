"""What a database's error means, in plain words: which database, what it refused, what to try."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import sqlalchemy as sa

from opal_registry.engines.errors import neutral
from opal_registry.engines.frozen import explain_place
from opal_registry.engines.url import describe_url, get_sqlite_path
from opal_registry.errors import DatabaseError, LockTimeoutError, Problem

DRIVERS = {"sqlite3", "psycopg", "pymysql", "asyncpg", "asyncmy", "pg8000"}
"""The modules whose exceptions are a database's errors too, where they come without SQLAlchemy's wrapping."""

DEFAULT = "default"
MEANING = "opal_meaning"
"""Under this name a driver's error has what it means, where that was found out when it was raised."""

SETTING = re.compile(r"\bdatabase\.(?=[a-z])")

NO_CODES = (0, 2003, 2026)
"""Numbers that drivers of MySQL give to all that may happen before a connection has come about, encrypted or not."""

WORDY = {"", "08P01"}
"""Where the text says more than the code: there is none, or it is the one that PgBouncer gives to most of what it says."""

BROKEN_RULE, WRITER = "a row breaks a rule of its table", "mend what writes it"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What some errors of databases have in common.

    Args:
        codes: Those of PostgreSQL (SQLSTATE, or its first two characters for a class), SQLite (name) and MySQL (number).
        text: What the error says where it has no code: drivers know none for a connection that did not come about.
        what: What it means.
        mend: What to try.
        kind: The error to raise.
        outage: Whether it comes from outside: whoever sent the statement could not help it.
        neutral: What SQLAlchemy's error is called instead, on every database; one that leaves in doubt, only of a COMMIT.
    """

    codes: str
    text: str
    what: str
    mend: str
    kind: type[DatabaseError] = DatabaseError
    outage: bool = True
    neutral: type[sa.exc.DBAPIError] | None = None

    def fits(self, code: str, text: str) -> bool:
        """Whether an error means this: by its code, or by its text where the code says nothing."""
        if code in WORDY and self.text and re.search(self.text, text, re.IGNORECASE):
            return True
        known = self.codes.split()
        return code in known or any(known_code in known for known_code in _classes(code))


MEANINGS = (
    Meaning("28P01 1045", r"password authentication failed|no password supplied", "the user or the password is wrong", "correct database.user and database.password"),
    Meaning("", r"no pg_hba\.conf entry.*(no encryption|SSL off)", "the server lets this user in with encryption only, if at all", "set database.ssl.mode to verify-full, or ask for access"),
    Meaning("28 1129 1130 1251 1698 2059", r"no pg_hba\.conf entry|role .* (does not exist|is not permitted)", "the server does not let this user in", "correct database.user, or ask for access"),
    Meaning("", r"'cryptography' package is required", "signing in without encryption needs the module cryptography", "pip install cryptography, or encrypt the connection (database.ssl)"),
    Meaning("3D 1049", r"database .* does not exist", "there is no database of that name", "create it (opal-db init --create-database), or correct the name"),
    Meaning("42501 1044 1142 1143 1227 1370", r"permission denied", "the user may not do this", "let somebody who may do it, or grant it; PostgreSQL needs GRANT CREATE ON SCHEMA for tables, CREATEDB for databases"),
    Meaning("55P03 1205 3572", "", "something else holds a lock for too long", "look for long transactions, then run the command again", LockTimeoutError, neutral=neutral.LockWaitError),
    Meaning("SQLITE_BUSY_SNAPSHOT", "", "another process wrote to the database in the meantime", "run the command again", LockTimeoutError, neutral=neutral.SerializationError),
    Meaning("SQLITE_BUSY", "", "another process writes to the database and does not finish", "run the command again; if it persists, look for a process that keeps a transaction open", LockTimeoutError, neutral=neutral.LockWaitError),
    Meaning("57P03 1047 1053", r"starting up|shutting down|not currently accepting|in recovery mode", "the server is starting or stopping", "wait for it: opal-db wait", neutral=neutral.InDoubtError),
    Meaning("53300 1040 1203 1226", r"too many (clients|connections)|connection slots are reserved", "the server has no connection left", "lower database.pool.size, or raise the server's limit"),
    Meaning("53200", "", "the server has no memory or no room for locks left", "raise max_locks_per_transaction on the server"),
    Meaning("53100 SQLITE_FULL 1021 1114", r"no space left", "the disk is full", "make room on the disk, then run the command again"),
    Meaning("SQLITE_READONLY", "", "the database is read-only here", "check the permissions of the file and its directory, and what else is written in the URL"),
    Meaning("25006 1290 1836", "", "the database is read-only here", "it is a standby, or set to be read-only: connect to the primary"),
    Meaning("1792", "", "the transaction was declared read-only", "open the session without read_only=True, or move the write out of it", outage=False),
    Meaning("SQLITE_NOTADB", "", "the file is not a SQLite database", "correct database.url, or move the file away"),
    Meaning("SQLITE_CORRUPT", "", "the database file is damaged", "restore it from a backup"),
    Meaning("SQLITE_CANTOPEN", "", "the file cannot be opened", "check the path and the permissions of its directory"),
    Meaning("SQLITE_IOERR", "", "the file cannot be read or written", "check the disk and what it is mounted with"),
    Meaning("57014 1317 1969 3024", "", "the server ended the statement: it took too long", "raise locks.statement_timeout (of a revision) or database.statement_timeout, or the server's for this user, or run the command when less is going on", neutral=neutral.StatementTimeoutError),
    Meaning("40P01 1213", "", "two transactions got into each other's way", "run the command again", neutral=neutral.DeadlockError),
    Meaning("40001 1020", "", "two transactions got into each other's way", "run the command again", neutral=neutral.SerializationError),
    Meaning("40", "", "the server ended the transaction", "run the command again"),
    Meaning("", r"name or service not known|could not translate host|getaddrinfo|name resolution|resolve host|idna", "the host name is not known", "correct database.host"),
    Meaning("", r"query_wait_timeout", "PgBouncer had no connection to the server free in time", "raise its pool_size, or go to the server directly with database.migration_url"),
    Meaning("", r"QueuePool limit of size", "all connections of the pool are in use", "close sessions sooner, or raise database.pool.size or database.pool.max_overflow"),
    Meaning("", r"the server was silent|the server did not answer in time", "the server hangs", "look at the server; if its statements may take longer, raise database.statement_timeout"),
    Meaning("", r"timeout expired|timed out|connection timeout", "the server did not answer in time", "check the address and the firewall, or raise database.connect_timeout"),
    Meaning("", r"certificate (has )?expired", "the server's certificate has expired", "renew it on the server; if it is valid, set this machine's clock (NTP)"),
    Meaning("", r"certificate is not yet valid", "the server's certificate is not valid yet", "set this machine's clock (NTP)"),
    Meaning("", r"(hostname|IP address) mismatch|does not match host name", "the server's certificate is for another name", "connect by the name that it bears (database.host), or set database.ssl.mode to verify-ca"),
    Meaning("", r"self-signed certificate|unable to get (local )?issuer certificate|root certificate file .* does not exist", "the server's certificate was signed by an authority that is not known here", "set database.ssl.root_cert to the authority's certificate"),
    Meaning("", r"private key file .* access", "others may read the client's key", "chmod 600 what database.ssl.key names"),
    Meaning("", r"could not load private key file", "the client's key cannot be used", "correct database.ssl.key; it must not need a pass phrase (openssl pkey -in KEY -out PLAIN takes it off)"),
    Meaning("", r"certificate required", "the server wants to see a certificate", "set database.ssl.cert and database.ssl.key"),
    Meaning("", r"SSL error: certificate verify failed", "the server's certificate has expired, or was signed by an authority that is not known here", "look at it (openssl s_client -starttls postgres -connect HOST:PORT), then renew it, or set database.ssl.root_cert"),
    Meaning("", r"does not support SSL|refuses SSL|rejected SSL upgrade|server doesn't support it|WRONG_VERSION_NUMBER", "the server does not encrypt", "let it (PostgreSQL: ssl = on), or take database.ssl.mode out where the network is safe"),
    Meaning("3159", r"\bSSL\b|\bTLS\b|certificate", "the encryption of the connection cannot be agreed on", "check database.ssl, and what the server offers"),
    Meaning("2002", r"connection refused|can't (connect|create a connection)|connect call failed|no such file or directory|no route to host|network is unreachable", "no server answers there", "start it, or correct database.host and database.port"),
    Meaning("08 57P01 57P02 57P04 1927 2006 2013 2055", r"closed the connection|connection.*(lost|closed|reset)|terminating connection|broken pipe|eof detected", "the connection was cut", "run the command again; nothing half done is left where DDL is transactional", neutral=neutral.InDoubtError),
    Meaning("", r"invalid (connection option|URI query parameter|\w+ value)|bad value for", "the driver cannot use an option of the URL", "correct what follows the '?' in database.url"),
    Meaning("", r"the driver stumbled", "the driver cannot work with what it is told", "correct what follows the '?' in database.url; if nothing does, look whether a server of that kind answers there", outage=False),
    Meaning("42P04 42P06 42P07 42710 1007 1050 1061 1826", "", "something of that name is there already", "rename or drop it; tables, indexes, sequences and views share their names", outage=False),
    Meaning("42704 42883 1305 4161", "", "the database lacks a type or a function that the models use", "install the extension that brings it (CREATE EXTENSION), or change the model", outage=False),
    Meaning("1115 1273", "", "the server lacks a character set or a collation that the models name", "leave it out of the model, or name one that the server has", outage=False),
    Meaning("42601 1064", "", "the database does not understand the statement", "it is meant for another database: correct it, or keep it for that one with execute_if(dialect=...)", outage=False),
    Meaning("1071", "", "an index is too long for this database", "give its columns a shorter length, or index only the beginning of them: Index(..., mysql_length=191)", outage=False),
    Meaning("1170", "", "an index of a TEXT or BLOB column needs a length", "use String(length), or index only the beginning of it: Index(..., mysql_length=191)", outage=False),
    Meaning("54011 1117 1118", "", "the columns of the table are too many or too long for this database", "use Text in place of long strings, or split the table", outage=False),
    Meaning("42622 1059", "", "a name is too long for this database", "give it a shorter name", outage=False),
    Meaning("42830 1005 1215 1822 3780", "", "a foreign key cannot be made as the models say", "let it refer to a column of the same type that is a primary key or unique", outage=False),
    Meaning("22001 22003 22007 22008 22P02 1264 1366 1406", "", "a value does not fit its column", "mend what writes it, or the column", outage=False),
    Meaning("23505 1062 1586 SQLITE_CONSTRAINT_UNIQUE SQLITE_CONSTRAINT_PRIMARYKEY SQLITE_CONSTRAINT_ROWID", "", BROKEN_RULE, WRITER, outage=False, neutral=neutral.UniqueError),
    Meaning("23001 23503 1216 1217 1451 1452 SQLITE_CONSTRAINT_FOREIGNKEY", "", BROKEN_RULE, WRITER, outage=False, neutral=neutral.ForeignKeyError),
    Meaning("23502 1048 1364 SQLITE_CONSTRAINT_NOTNULL", "", BROKEN_RULE, WRITER, outage=False, neutral=neutral.NotNullError),
    Meaning("23514 3819 4025 SQLITE_CONSTRAINT_CHECK", "", BROKEN_RULE, WRITER, outage=False, neutral=neutral.CheckError),
    Meaning("23 SQLITE_CONSTRAINT", "", BROKEN_RULE, WRITER, outage=False, neutral=neutral.ConstraintError),
)  # fmt: skip
"""The first one that fits counts."""

DENIED = re.compile(r"(?:permission denied for|must be owner of) (?:table|relation|view|sequence) (?P<name>(?!pg_)\S+)")
"""How PostgreSQL says that a thing which is there may not be used, or changed; on MySQL nothing has an owner."""

PLACE = re.compile(r"^LINE \d+: .*\n *\^", re.MULTILINE)
"""How PostgreSQL shows where it stopped: in a text that holds more statements than the one it is about."""

UNKNOWN = Meaning("", "", "the database refused", "read its words above; run with --traceback for the whole story", outage=False)  # fmt: skip


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
    except Exception as error:
        if is_database_error(error):
            raise explain(error, url, doing=doing) from error
        raise


@contextmanager
def of_bind(bind: str) -> Iterator[None]:
    """Let errors of another bind than the default one name it, and speak of its settings.

    Args:
        bind: The key of the configured database that is talked to.

    Example:
        >>> with of_bind("sales"):
        ...     raise DatabaseError(Problem("no server answers there", "db:5432", "start it, or correct database.host"))
        Traceback (most recent call last):
        ...
        opal_registry.errors.DatabaseError: no server answers there
          where: bind 'sales', db:5432
          mend:  start it, or correct binds.sales.host
    """
    try:
        yield
    except DatabaseError as error:
        if bind != DEFAULT:
            error.problems = tuple(_name_bind(problem, bind) for problem in error.problems)
        raise


def _name_bind(problem: Problem, bind: str) -> Problem:
    named = f"bind {bind!r}"
    if problem.where.startswith(named):
        return problem
    where = ", ".join(filter(None, (named, problem.where)))
    return replace(problem, where=where, mend=SETTING.sub(f"binds.{bind}.", problem.mend))


def is_database_error(error: BaseException) -> bool:
    """Whether an exception is what a database, its driver or the way to it says."""
    kinds = (sa.exc.DBAPIError, sa.exc.TimeoutError, OSError, UnicodeError)
    lacks_module = isinstance(error, RuntimeError) and "'cryptography' package is required" in str(error)
    return isinstance(error, kinds) or lacks_module or type(error).__module__.partition(".")[0] in DRIVERS


def is_outage(error: BaseException) -> bool:
    """Whether an exception is a database's, and not the fault of the statement: the disk, the network, a lock, a right."""
    return is_database_error(error) and find_meaning(getattr(error, "orig", None) or error).outage


def explain(error: BaseException, url: sa.URL, *, doing: str = "") -> DatabaseError:
    """The error as one problem: what it means, where it happened, what to try."""
    original = getattr(error, "orig", None) or error
    meaning = find_meaning(original)
    where = "; ".join(part for part in (describe_url(url), doing, _statement(error)) if part)
    said = without_secret(" ".join(PLACE.sub("", _find_words(original)).split()), url)
    what, mend = _refine(meaning, original, url)
    return meaning.kind(Problem(f"{what}: {said}", where, mend))


def _find_words(original: BaseException) -> str:
    """What an error says: its message, detail and hint, where the driver has them by their names (pg8000)."""
    told = next(iter(original.args), None)
    if not isinstance(told, dict):
        return str(original)
    return " ".join(str(told[name]) for name in ("M", "D", "H") if name in told)


def _refine(meaning: Meaning, original: BaseException, url: sa.URL) -> tuple[str, str]:
    """What an error means, and what to try, where more is known than its code."""
    if {"SQLITE_CANTOPEN", "SQLITE_READONLY"} & set(meaning.codes.split()):
        return explain_place(url) or (meaning.what, meaning.mend)
    if "42501" in meaning.codes.split() and (denied := DENIED.search(str(original))):
        name = denied["name"]
        mend = (
            f"{name!r} is there already, and belongs to somebody else: let its owner GRANT this user what is denied, "
        )
        return (
            meaning.what,
            mend + f"or hand it over: ALTER TABLE {name} OWNER TO ... (that is whom migration_role names)",
        )
    return meaning.what, meaning.mend


def check_sqlite_file(url: sa.URL, *, must_exist: bool = False) -> None:
    """Refuse a SQLite file that cannot be there, before connecting creates one in the wrong place.

    Raises:
        DatabaseError: If its directory is missing or closed, or it is no file, or it must exist and does not.
    """
    path = get_sqlite_path(url)
    if path is None:
        return
    try:
        problem = _find_file_problem(path.absolute(), must_exist=must_exist)
    except OSError as error:
        mend = "check the path and the permissions of its directories"
        problem = Problem(f"the SQLite file cannot be reached: {error.strerror}", mend=mend)
    if problem:
        raise DatabaseError(replace(problem, where=describe_url(url)))


def _find_file_problem(path: Path, *, must_exist: bool) -> Problem | None:
    if not path.parent.is_dir():
        mend = f"mkdir -p {shlex.quote(str(path.parent))}, or correct database.url"
        return Problem(f"the directory of the SQLite file does not exist: {path.parent}", mend=mend)
    if path.exists() and not path.is_file():
        return Problem(f"{path} is not a file", mend="correct database.url")
    if must_exist and not path.exists():
        return Problem(f"the SQLite file does not exist: {path}", mend="create it: opal-db init")
    return None


def find_meaning(original: BaseException) -> Meaning:
    """What a driver's error means; pg8000 tells only that it could not connect, and Python's own error why."""
    if (known := getattr(original, MEANING, None)) is not None:
        return cast("Meaning", known)
    cause = original.__cause__
    code, text = find_code(original), f"{cause}: {original}" if isinstance(cause, OSError) else str(original)
    return next((meaning for meaning in MEANINGS if meaning.fits(code, text)), UNKNOWN)


def find_code(original: BaseException | None) -> str:
    """The code of a driver's error in its database's own way; empty if there is none.

    Args:
        original: What the driver raised.

    Returns:
        The number of MySQL, SQLite's name, PostgreSQL's SQLSTATE (drivers of MySQL know that too, but it says less).
    """
    told = next(iter(getattr(original, "args", ())), None)
    if isinstance(told, int) and not isinstance(original, OSError):
        return "" if told in NO_CODES else str(told)
    if isinstance(told, dict):  # pg8000
        return str(told.get("C", ""))
    return str(getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", None) or "")


def _classes(code: str) -> list[str]:
    """What an error's code is a case of.

    Example:
        >>> _classes("28P01"), _classes("SQLITE_BUSY_SNAPSHOT"), _classes("1045")
        (['28'], ['SQLITE_BUSY'], [])
    """
    if code.startswith("SQLITE_"):
        return ["_".join(code.split("_")[:2])]
    return [code[:2]] if len(code) == len("28P01") else []


def _statement(error: BaseException) -> str:
    statement = getattr(error, "statement", None)
    if not isinstance(statement, str):
        return ""
    first = " ".join(statement.split())
    return f"statement: {first[:120]}{'...' if len(first) > 120 else ''}"


def without_secret(text: str, url: sa.URL) -> str:
    """The text without the password, should a driver quote it; a password that is the user's name is none to hide."""
    password = str(url.password or "")
    if not password or password in {url.username, url.database, url.host}:
        return text
    return re.sub(rf"(?<!\w){re.escape(password)}(?!\w)", "********", text)
