"""Running revisions of one sub-app on one connection: Alembic does it, each in a transaction of its own.

A revision sees what it would see in any Alembic environment: ``op`` and ``context`` of the package ``alembic``.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import sqlalchemy as sa
from alembic import context as alembic_context
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.util import CommandError

from opal_registry.base import NAMING_CONVENTION
from opal_registry.engines.errors.failures import explain, is_database_error
from opal_registry.engines.kept_open import KeptOpen
from opal_registry.engines.url import SCRATCH_PREFIX, describe_url
from opal_registry.errors import DatabaseError, LockTimeoutError, OpalError, PluginError, Problem
from opal_registry.guard import find_place, guarded
from opal_registry.migrations.history import History
from opal_registry.migrations.revision_file import Revision
from opal_registry.migrations.statements import READS, Statements
from opal_registry.ownership.definitions import not_noted

TRANSACTIONAL = {"postgresql", "sqlite"}
"""Databases that take DDL back."""

MOST_SHOWN = 3
"""So many of the statements that were committed are shown: the last ones."""

CHANGES = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE|MERGE|WITH)\b", re.IGNORECASE)
"""Statements whose rows are counted."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A revision that was run, or taken back.

    Args:
        revision: The revision.
        seconds: How long it took.
        rows: How many rows its statements inserted, updated or deleted, as far as the driver says.
    """

    revision: Revision
    seconds: float
    rows: int


class CommittedError(LockTimeoutError):
    """A revision met a lock after something of it had been committed, so that it is not simply run again."""


Record = Callable[[sa.Connection, Ran], None]
"""Called inside the transaction of a revision, after it."""

Check = Callable[[str, Revision, Sequence[str]], None]
"""Called with a statement before a revision executes it, and with those before; an error it raises ends the revision."""


@contextmanager
def make_environment(connection: sa.Connection, history: History, **options: Any) -> Iterator[EnvironmentContext]:
    """Alembic's environment for the history of a sub-app, as an ``env.py`` would configure it.

    Args:
        connection: The database; in no transaction.
        history: The history.
        **options: More of ``EnvironmentContext.configure``.
    """
    defaults: dict[str, Any] = {
        "version_table": history.version_table,
        "target_metadata": sa.MetaData(naming_convention=NAMING_CONVENTION),
        "transaction_per_migration": True,
        "transactional_ddl": connection.dialect.name in TRANSACTIONAL,
        "render_as_batch": True,
    }
    with EnvironmentContext(Config(), history.script) as environment:
        environment.configure(connection=connection, **defaults | options)
        yield environment


def run_revisions(
    connection: sa.Connection,
    history: History,
    revisions: Sequence[Revision],
    *,
    record: Record,
    check: Check = lambda *_: None,
    downgrade: bool = False,
) -> None:
    """Run revisions of one sub-app, in the order given, each in a transaction of its own.

    Args:
        connection: The database; in no transaction.
        history: Where they are from.
        revisions: Which ones.
        record: Called inside the transaction of each, after it.
        check: Called before each statement of theirs.
        downgrade: Whether to take them back instead.

    Raises:
        PluginError: If one of them fails by itself.
        DatabaseError: If the database fails, or refuses a statement of one of them.
    """
    runs = [_Run(history, each, connection, record, check, downgrade=downgrade) for each in revisions]
    url = connection.engine.url
    try:
        with (
            not_noted(),
            make_environment(connection, history, fn=lambda *_: [run.step for run in runs]) as environment,
        ):
            environment.run_migrations()
    except Exception as error:
        if (failure := _find_failure(error, runs, history, url)) is error:
            raise
        raise failure from failure.__cause__ or error


def _find_failure(error: Exception, runs: Sequence["_Run"], history: History, url: sa.URL) -> Exception:
    """What went wrong first: with a connection that is broken, it cannot even be rolled back."""
    begun = [run for run in runs if run.is_begun]
    if begun and begun[-1].failure is not None:
        return begun[-1].failure
    if isinstance(error, CommandError):
        what = f"the version table of {history.app!r} is not what it was: {error}"
        where = "; ".join([describe_url(url), *(run.doing for run in begun[-1:])])
        return DatabaseError(Problem(what, where, "run the command again"))
    if begun and is_database_error(error):
        return explain(error, url, doing=begun[-1].doing)
    return error


class _Run:
    """One revision that Alembic runs for us.

    Attributes:
        doing: What is done with it, for people.
        is_begun: Whether it was begun.
        failure: How it failed by itself, if it did.
    """

    failure: Exception | None = None
    is_begun = False
    _statements: Statements | None = None

    def __init__(
        self,
        history: History,
        revision: Revision,
        connection: sa.Connection,
        record: Record,
        check: Check,
        *,
        downgrade: bool,
    ) -> None:
        self._revision, self._connection, self._record, self._check = revision, connection, record, check
        self._rows = 0
        self._sent: list[str] = []
        self._committed: list[str] = []
        make = MigrationStep.downgrade_from_script if downgrade else MigrationStep.upgrade_from_script
        self.step = make(history.script.revision_map, history.script.get_revision(revision.id))
        self._function = self.step.migration_fn
        self.doing = f"{'taking back' if downgrade else 'running'} the revision {revision}"
        self._command = "downgrade" if downgrade else "upgrade"
        self.step.migration_fn = wraps(self._function)(lambda **arguments: self._call(**arguments))
        self._kept, self._done = KeptOpen(connection), 0

    def _call(self, **arguments: Any) -> None:
        started = time.perf_counter()
        self.is_begun = True
        context: MigrationContext = alembic_context.get_context()
        autocommit_block = context.autocommit_block

        @contextmanager
        def lifted() -> Iterator[None]:
            with self._kept.lifted(), autocommit_block():
                self._sent = self._committed = [*self._committed, *self._sent]
                yield
            self._sent = []

        vars(context)["autocommit_block"] = lifted
        if self._connection.dialect.name == "sqlite":
            self._connection.exec_driver_sql("SELECT 1")  # begins the transaction, before nobody may
        try:
            with self._explained(), self._written_down(), self._kept.held(), self._counting():
                self._function(**arguments)
            self._record(self._connection, Ran(self._revision, time.perf_counter() - started, self._rows))
        except Exception as error:
            self.failure = error
            raise
        finally:
            del vars(context)["autocommit_block"]

    @contextmanager
    def _written_down(self) -> Iterator[None]:
        """Where DDL is not taken back, an error says what stays, and another attempt goes on there."""
        if self._connection.dialect.name in TRANSACTIONAL:
            yield
            return
        self._statements = statements = Statements(self._connection, self._revision, self._command)
        try:
            with statements.written_down():
                yield
        finally:
            self._done = statements.done

    @contextmanager
    def _counting(self) -> Iterator[None]:
        listeners = {"before_cursor_execute": self._note, "after_cursor_execute": self._count}
        for event, listener in listeners.items():
            sa.event.listen(self._connection, event, listener)
        try:
            yield
        finally:
            for event, listener in listeners.items():
                sa.event.remove(self._connection, event, listener)

    @property
    def _is_journaling(self) -> bool:
        return self._statements is not None and self._statements.is_own

    def _note(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not (READS.match(statement) or self._is_journaling):
            self._check(statement, self._revision, self._sent)
            self._sent.append(f"{' '.join(statement.split()):.120}")

    def _count(self, _connection: object, cursor: Any, statement: str, *_: object) -> None:
        if CHANGES.match(statement) and not self._is_journaling:
            self._rows += max(0, cursor.rowcount)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What goes wrong names the revision, its file, and what is done about it."""
        try:
            with guarded(self.doing, where=str(self._revision.path)):
                yield
        except PluginError as error:
            cause = error.__cause__
            if isinstance(cause, DatabaseError):
                raise cause from None
            if cause is not None and is_database_error(cause):
                where = f"{self.doing} ({find_place(cause) or self._revision.path})"
                raise self._with_what_stays(explain(cause, self._connection.engine.url, doing=where)) from cause
            raise self._with_what_stays(error) from cause

    def _with_what_stays(self, error: OpalError) -> OpalError:
        """The same error, which says as well what of the revision was committed before."""
        kind, stays = type(error), ""
        if (self._connection.engine.url.database or "").startswith(SCRATCH_PREFIX):
            return error  # nothing stays
        if self._done:
            those = "its first statement has" if self._done == 1 else f"its first {self._done} statements have"
            stays = f"{those} taken effect already: the next run goes on after that"
            before = self._revision.parents[0] if self._revision.parents else "base"
            done = f"{self._revision.app}@{before}" if self._command == "downgrade" else str(self._revision)
            stays += f"; or finish it by hand, and write that down: opal-db stamp {done}"
        elif self._committed:
            kind = CommittedError if isinstance(error, LockTimeoutError) else kind
            stays = "what its autocommit_block sent, and what was sent before it, is not taken back, and the next run begins"
            stays += f" at the beginning: see that it can, after {'; '.join(self._committed[-MOST_SHOWN:])}"
        return kind(*(replace(each, mend=f"{each.mend}; {stays}") for each in error.problems)) if stays else error
