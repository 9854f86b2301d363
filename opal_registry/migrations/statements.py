"""The statements of a revision where each that creates something commits by itself (MySQL): written down, so that it resumes.

A statement that ends the transaction is written down before it is sent, and with it all that came before; the rows of
others and what is written down of them are committed together, by the next one or at the end. So everything that is found
written down took effect, but perhaps the last: that is sent once more, and what it would make may be there already.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from opal_registry.engines.errors.failures import find_code
from opal_registry.engines.url import describe_url
from opal_registry.errors import DatabaseError, Problem
from opal_registry.migrations.revision_file import Revision
from opal_registry.store import journal, tables
from opal_registry.store.journal import LONGEST_STATEMENT, Sent, Unfinished

_START = r"(?:\s|--[^\n]*(?:\n|\Z)|\#[^\n]*(?:\n|\Z)|/\*(?!!).*?\*/)*"
FLAGS = re.IGNORECASE | re.DOTALL
READS = re.compile(
    _START
    + r"(\(|(BEGIN(?!\s+NOT\b)|SELECT|VALUES|SHOW|DESC|DESCRIBE|EXPLAIN|SET|USE|SAVEPOINT|RELEASE|ROLLBACK|HELP)\b)",
    FLAGS,
)
"""Statements that change nothing which lasts."""

CHANGES_ROWS = re.compile(_START + r"(INSERT|UPDATE|DELETE|REPLACE|WITH|LOAD|DO)\b", FLAGS)
"""Statements that do not end the transaction; every other one may."""

REPEATABLE = re.compile(_START + r"(CREATE|ALTER|DROP|RENAME|TRUNCATE|GRANT|REVOKE|ANALYZE|OPTIMIZE)\b", FLAGS)
"""Statements that may be sent a second time: they do nothing new, or are refused."""

PASSING = re.compile(_START + r"CREATE\s+(OR\s+REPLACE\s+)?TEMPORARY\b", FLAGS)
"""What they make is gone with the connection."""

ONCE = re.compile(
    _START + r"(RENAME\s+TABLE\b.*,"
    r"|ALTER\b.*\bADD\s+(CONSTRAINT\s+)?(FOREIGN\s+KEY|CHECK|INDEX|KEY|(UNIQUE|FULLTEXT|SPATIAL)(\s+(INDEX|KEY))?)\s*\()",
    FLAGS,
)
"""Statements among those that would do it all over again: what has no name is made twice, what was swapped is swapped back."""

RENAMES = re.compile(_START + r"(RENAME\b|ALTER\b.*\b(RENAME|CHANGE)\b)", FLAGS)

DONE = {1007, 1008, 1022, 1050, 1051, 1060, 1061, 1068, 1091, 1304, 1305, 1359, 1360, 1537, 1539, 1826, 4091, 4092}
"""How MySQL and MariaDB say that what is to be created is there already, or that what is to be dropped is not."""

RENAMED = {1054, 1146}
"""How they say that a column or table which is to be renamed is not there."""

TWICE = re.compile(r"errno: 121\b")
"""How MariaDB says, with 1005, that there is a foreign key of that name already."""

STRIKE_OUT = f"DELETE FROM {tables.steps.name} WHERE sub_app = %s AND number = %s"  # noqa: S608 -- a name of ours

NOTHING = "DO 0"
"""A statement without effect."""


class Statements:
    """Writes down what one revision sends, and leaves out what an earlier attempt has done.

    Args:
        connection: The database.
        revision: The revision.
        command: ``upgrade`` or ``downgrade``.

    Attributes:
        is_own: Whether what is being sent is the writing down itself.
    """

    def __init__(self, connection: sa.Connection, revision: Revision, command: str) -> None:
        self._connection, self._revision = connection, revision
        self.is_own = False
        begun = self._find_begun(command)
        self._is_same_file = begun is None or begun.checksum == revision.checksum
        self._journal = begun or Unfinished(revision.app, revision.id, command, revision.checksum)
        self._left = list(self._journal.sent)
        self._place = len(self._left)
        self._number = journal.find_last_number(connection, revision.app)
        self._last = self._left[-1].number if self._left else 0
        self._unwritten: list[Sent] = []

    @property
    def done(self) -> int:
        """How many of its statements have taken effect for good."""
        return self._place - len(self._unwritten)

    @contextmanager
    def written_down(self) -> Iterator[None]:
        """Do so for the length of a block.

        Raises:
            DatabaseError: If it cannot be told what an earlier attempt has done, or this one wants something else.
        """
        sa.event.listen(self._connection, "before_cursor_execute", self._before, retval=True)
        sa.event.listen(self._connection.engine, "handle_error", self._refused)
        try:
            yield
        finally:
            sa.event.remove(self._connection, "before_cursor_execute", self._before)
            sa.event.remove(self._connection.engine, "handle_error", self._refused)
        if self._left:
            self._settle()

    def _find_begun(self, command: str) -> Unfinished | None:
        found = journal.read_journal(self._connection, tables.COMPLETE).unfinished.get(self._revision.app, [])
        return next((each for each in found if (each.revision, each.command) == (self._revision.id, command)), None)

    def _before(self, _connection: object, cursor: Any, text: str, values: Any, context: Any, *_: object) -> Any:
        if self.is_own or READS.match(text):
            return text, values
        self._connection.execution_options(skip_user_error_events=False)  # reflection on MySQL leaves it on
        shown = text if values or context.no_parameters else text.replace("%%", "%")  # as the driver sends it
        statement = Sent(self._place + 1, shown, _digest(shown, values))
        if self._left and self._pass_over(statement):
            is_done = self._left or self._try(self._journal.sent[-1], cursor)
            return (NOTHING, ()) if is_done else (text, values)
        self._place += 1
        self._unwritten.append(statement)
        if not CHANGES_ROWS.match(text) or self._is_autocommit:
            self._write()
        return text, values

    @property
    def _is_autocommit(self) -> bool:
        return bool(self._connection.connection.driver_connection.get_autocommit())  # type: ignore[union-attr]

    def _write(self) -> None:
        rows = journal.make_rows(self._journal, self._unwritten, self._number)
        self._execute(sa.insert(tables.steps), rows)
        self._number += len(rows)
        self._last = self._number
        self._unwritten.clear()

    def _execute(self, statement: sa.Executable, rows: list[dict[str, object]] | None = None) -> None:
        self.is_own = True
        try:
            self._connection.execute(statement, rows)
        finally:
            self.is_own = False

    def _refused(self, context: sa.ExceptionContext) -> None:
        """A statement that was refused had no effect; it is not to be taken for one that had."""
        is_ours = context.connection is self._connection and not self.is_own
        if not is_ours or context.is_disconnect or not context.statement or READS.match(context.statement):
            return
        if self._unwritten:
            self._unwritten.pop()
            self._place -= 1
        elif self._place:
            driver: Any = self._connection.connection.driver_connection
            driver.cursor().execute(STRIKE_OUT, (self._revision.app, self._last))
            driver.commit()  # the statement ended the transaction by itself
            self._place -= 1

    def _pass_over(self, statement: Sent) -> bool:
        """Whether a statement is one that was sent by an earlier attempt; those before it are done, too.

        The same file may leave some out, because it looks what is there already.
        """
        known = next((n for n, each in enumerate(self._left) if each.digest == statement.digest), None)
        if known is not None and (self._is_same_file or known == 0):
            if any(PASSING.match(each.statement) for each in self._left[: known + 1]):
                raise self._error(self._left[known], "made something that is gone by now")
            del self._left[: known + 1]
            return True
        first = self._left[0]
        if not self._is_same_file or any(CHANGES_ROWS.match(each.statement) for each in self._left):
            now = "with other values" if first.statement == statement.statement else f"now {_short(statement)}"
            raise self._error(first, f"is not what it sends at this point this time, {now}")
        self._settle()
        return False

    def _settle(self) -> None:
        """See to it that the last statement of an earlier attempt took effect, which this one does not send."""
        first, last = self._left[0], self._left[-1]
        if not self._is_same_file:
            raise self._error(first, "is not in its file any more")
        self._left.clear()
        cursor = self._connection.connection.cursor()
        if not self._try(last, cursor):
            self._execute(sa.text(last.statement.replace(":", r"\:")))
        cursor.close()

    def _try(self, last: Sent, cursor: Any) -> bool:
        """Send the last statement of an earlier attempt again; False if it has to be sent once more, to learn what is wrong."""
        text = last.statement
        if not REPEATABLE.match(text) or ONCE.match(text) or len(text) == LONGEST_STATEMENT:
            raise self._error(last, "may have taken effect or not, which cannot be told from here")
        try:
            cursor.execute(text)
        except Exception as error:  # noqa: BLE001 -- it comes again where it is expected
            is_done = _is_done(text, error)
        else:
            is_done = True
        if not self._is_autocommit:
            cursor.execute("START TRANSACTION")  # in place of the one that it ended
        return is_done

    def _error(self, statement: Sent, what: str) -> DatabaseError:
        revision, is_downgrade = self._revision, self._journal.command == "downgrade"
        before = f"{revision.app}@{revision.parents[0] if revision.parents else 'base'}"
        done, undone = (before, str(revision)) if is_downgrade else (str(revision), before)
        mend = "look whether it took effect; then complete the revision by hand and write that down "
        mend += f"(opal-db stamp {done}), or undo it by hand and write that down (opal-db stamp {undone})"
        text = f"{revision} ended in the middle, and its statement {statement.place} {what}: {_short(statement)}"
        return DatabaseError(Problem(text, f"{describe_url(self._connection.engine.url)}; {revision.path}", mend))


def _digest(text: str, values: Any) -> str:
    return sha256(f"{text}\n{values!r}".encode()).hexdigest()


def _short(statement: Sent) -> str:
    text = " ".join(statement.statement.split())
    return text if len(text) <= 200 else f"{text[:200]}..."


def _is_done(text: str, error: Exception) -> bool:
    """Whether a statement was refused because it had been executed before."""
    code = find_code(error)
    if not code.isdigit():
        return False
    return int(code) in DONE or bool(RENAMES.match(text) and int(code) in RENAMED) or bool(TWICE.search(str(error)))
