"""Calling the hooks of a sub-app inside the transaction that brings it up: its own plugin's, and nobody else's."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.orm import SessionTransaction

from opal_registry.discovery import Discovery
from opal_registry.engines.errors.failures import explain, is_outage, without_secret
from opal_registry.engines.kept_open import kept_open
from opal_registry.errors import DatabaseError, LockTimeoutError, PluginError
from opal_registry.guard import guarded
from opal_registry.sessions import OpalSession
from opal_registry.suite import LoadedSubApp

WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE|MERGE|REPLACE)\b", re.IGNORECASE)
LOST = (
    "what it put in was rolled back, or lost because the session was closed before a commit: undo a part in "
    "session.begin_nested(), and raise an error to undo everything"
)


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
    with (
        _hook(discovery, connection, "opal_seed", app) as call,
        _make_session(connection) as session,
        _nothing_lost(session, connection),
    ):
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


class _Fate:
    """What has become of the rows that a session puts in."""

    is_open = False
    """Whether it has put some in, and not committed them."""

    is_lost = False
    """Whether it took back what it put in last."""

    def note(self, *_: object) -> None:
        """Something is put in."""
        self.is_open, self.is_lost = True, False

    def read(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        """A statement is sent."""
        if WRITES.match(statement):
            self.note()

    def keep(self, session: OpalSession) -> None:
        """Something was committed, if only into a savepoint."""
        self.is_open = self.is_open and session.in_nested_transaction()

    def end(self, _session: object, transaction: SessionTransaction) -> None:
        """A transaction has ended, in whatever way."""
        if transaction.parent is None and self.is_open:
            self.is_open, self.is_lost = False, True


@contextmanager
def _nothing_lost(session: OpalSession, connection: sa.Connection) -> Iterator[None]:
    """Refuse to take a seed for done that undid what it had put in.

    Raises:
        RuntimeError: If it rolled back, or closed the session, and put nothing in after that.
    """
    fate = _Fate()
    sa.event.listen(session, "transient_to_pending", fate.note)
    sa.event.listen(session, "after_commit", fate.keep)
    sa.event.listen(session, "after_transaction_end", fate.end)
    sa.event.listen(connection, "before_cursor_execute", fate.read)
    try:
        yield
    finally:
        sa.event.remove(connection, "before_cursor_execute", fate.read)
    if fate.is_lost:
        raise RuntimeError(LOST)


def _make_session(connection: sa.Connection) -> OpalSession:
    return OpalSession(bind=connection, join_transaction_mode="create_savepoint", close_resets_only=True)
