"""Calling the hooks of a sub-app inside the transaction that brings it up: its own plugin's, and nobody else's."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from opal_registry.discovery import Discovery
from opal_registry.engines.failures import explain, is_outage, without_secret
from opal_registry.errors import DatabaseError, LockTimeoutError, PluginError
from opal_registry.guard import guarded
from opal_registry.sessions import OpalSession
from opal_registry.suite import LoadedSubApp

_START = r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*"
_WORDS = r"BEGIN|START\s+TRANSACTION|COMMIT|END|ABORT|ROLLBACK(?!\s+(?:WORK\s+|TRANSACTION\s+)?TO\b)"
ENDS = re.compile(rf"{_START}(?P<words>{_WORDS})\b", re.IGNORECASE | re.DOTALL)
"""Statements that end the transaction they are executed in."""


def tell_of_tables(
    discovery: Discovery, connection: sa.Connection, app: LoadedSubApp, tables: Sequence[sa.Table]
) -> None:
    """Call ``opal_tables_created``.

    Raises:
        PluginError: If it fails.
        DatabaseError: If the database let it down.
    """
    with _hook(discovery, connection, "opal_tables_created", app) as call:
        call(connection=connection, sub_app=app.sub_app, tables=tables)


def seed(discovery: Discovery, connection: sa.Connection, app: LoadedSubApp) -> None:
    """Call ``opal_seed``, in a savepoint.

    Raises:
        PluginError: If it fails.
        DatabaseError: If the database let it down.
    """
    with _hook(discovery, connection, "opal_seed", app) as call, _make_session(connection) as session:
        call(session=session, sub_app=app.sub_app)
        session.commit()


@contextmanager
def _hook(
    discovery: Discovery, connection: sa.Connection, name: str, app: LoadedSubApp
) -> Iterator[Callable[..., object]]:
    """What it raises names the plugin, unless the database let it down."""
    doing = f"calling {name} of sub-app {app.name!r}"
    try:
        with guarded(f"calling {name}", where=str(app.plugin)), kept_open(connection):
            yield discovery.hook(name, app.plugin)
    except PluginError as error:
        url = connection.engine.url
        if error.__cause__ and is_outage(error.__cause__):
            explained = explain(error.__cause__, url, doing=doing)
            waits_for_itself = url.get_backend_name() == "sqlite" and isinstance(explained, LockTimeoutError)
            raise (_explain_waiting(explained) if waits_for_itself else explained) from error
        raise PluginError(*(replace(p, what=without_secret(p.what, url)) for p in error.problems)) from error.__cause__


def _explain_waiting(error: DatabaseError) -> DatabaseError:
    """On SQLite a hook that opens another connection waits for the run that called it."""
    mend = "use the session or connection that the hook is given: another one waits for this run to end"
    return type(error)(*(replace(problem, mend=mend) for problem in error.problems))


def _make_session(connection: sa.Connection) -> OpalSession:
    return OpalSession(bind=connection, join_transaction_mode="create_savepoint")


@contextmanager
def kept_open(connection: sa.Connection) -> Iterator[None]:
    """See to it that code which is handed the connection does not end the transaction it is in.

    Raises:
        RuntimeError: If it tries to: nothing of it is done then. Also if it did, past SQLAlchemy, where the driver knows.
    """
    transaction = connection.get_transaction()
    with ExitStack() as stack:
        for event, listener in REFUSALS.items():
            sa.event.listen(connection, event, listener)
            stack.callback(sa.event.remove, connection, event, listener)
        yield
    if connection.get_transaction() is not transaction or not _is_in_transaction(connection):
        raise RuntimeError("the transaction was ended here: that is done when everything is")
    if _is_broken(connection):
        raise RuntimeError("a statement failed, and its error was passed over: use connection.begin_nested() for that")


def _refuse_commit(_: sa.Connection) -> None:
    raise RuntimeError("the connection must not be committed here: that is done when everything is")


def _refuse_rollback(_: sa.Connection) -> None:
    raise RuntimeError("the connection must not be rolled back here: undo your own in connection.begin_nested()")


def _refuse_statement(_connection: object, _cursor: object, statement: str, *_: object) -> None:
    if found := ENDS.match(statement):
        raise RuntimeError(
            f"{found['words'].upper()} must not be executed here: the transaction ends when everything is done"
        )


REFUSALS: dict[str, Callable[..., None]] = {
    "commit": _refuse_commit,
    "rollback": _refuse_rollback,
    "before_cursor_execute": _refuse_statement,
}
"""By SQLAlchemy's event, who raises an error."""


def _is_broken(connection: sa.Connection) -> bool:
    """Whether the server refuses everything else in this transaction."""
    driver: Any = connection.connection.driver_connection
    return connection.dialect.driver == "psycopg" and driver.info.transaction_status.name == "INERROR"


def _is_in_transaction(connection: sa.Connection) -> bool:
    """Whether the driver is in a transaction; where it does not know, it is taken to be."""
    driver = connection.connection.driver_connection
    match connection.dialect.driver:
        case "pysqlite":
            return bool(driver.in_transaction)  # type: ignore[union-attr]
        case "psycopg":
            return bool(driver.info.transaction_status)  # type: ignore[union-attr]  # IDLE is 0
        case _:
            return True
