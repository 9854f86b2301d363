"""The journal of a run that is not one transaction, so that the next run knows what it had begun.

Where each DDL statement commits by itself (MySQL), every statement is written down before it is sent: all but the last
one of a sub-app are known to be done. Where a run is cut into several transactions (PostgreSQL, many tables), what is
still to come is written down with the first. The statements of revisions have their places here too, apart from those.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from opal_registry.mixins import utc_now
from opal_registry.store.tables import Columns, select_known, steps

OF_INIT = steps.c.revision.is_(None)


@dataclass(frozen=True, slots=True)
class OpenStep:
    """A step of a run that has not ended.

    Args:
        sub_app: Whose.
        number: Which one, counted from 1; 0 stands for all of a sub-app's steps, none of them begun.
        table: The table it is about; empty if it is about none.
        statement: What is executed.
    """

    sub_app: str
    number: int
    table: str
    statement: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A statement of a revision that was sent, or was about to be.

    Args:
        place: Its place in the revision, counted from 1.
        statement: Its text, without values; the beginning of a very long one.
        digest: Of the text and the values.
        number: The number under which it is written down.
    """

    place: int
    statement: str
    digest: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A revision that was begun and not finished: all that is known to be sent took effect, but perhaps the last.

    Args:
        sub_app: Whose it is.
        revision: Its identifier.
        command: ``upgrade`` or ``downgrade``.
        checksum: A digest of its file, as it was then.
        sent: What was sent, in order.
    """

    sub_app: str
    revision: str
    command: str
    checksum: str
    sent: list[Sent] = field(default_factory=list)

    def __str__(self) -> str:
        last = " ".join(self.sent[-1].statement.split())
        doing = "taking back" if self.command == "downgrade" else "running"
        return f"{doing} the revision {self.revision} ended in the middle, at its statement {self.sent[-1].place}: {last:.80}"

    def describe_ways(self, before: str = "REV") -> str:
        """What to do about it: the command that goes on with it, and what writes down that somebody finished it by hand.

        Args:
            before: The revision that it follows, where that is known.
        """
        is_downgrade = self.command == "downgrade"
        done = f"{self.sub_app}@{before if is_downgrade else self.revision}"
        again = f"opal-db downgrade {done}" if is_downgrade else "opal-db upgrade"
        return (
            f"{again} goes on with it, its file mended if need be; opal-db stamp {done} where it was finished by hand"
        )


FIRST_OF_REVISIONS = 1_000_000
"""Where the numbers of revisions' statements begin, so that they are not those of ``init``."""

LONGEST_STATEMENT = 15_000
"""So many characters of a statement are kept: MySQL's TEXT holds 65,535 bytes."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What was begun in one database and has not ended, by sub-app.

    Args:
        steps: The open steps of ``init``, in order.
        unfinished: The revisions that were begun and not finished.
    """

    steps: dict[str, list[OpenStep]] = field(default_factory=dict)
    unfinished: dict[str, list[Unfinished]] = field(default_factory=dict)

    def add(self, row: Any) -> None:
        """Take in a row of ``opal_steps``; those of a sub-app come in order of their numbers."""
        if getattr(row, "revision", None) is None:  # an older ledger lacks the column
            self.steps.setdefault(row.sub_app, []).append(
                OpenStep(row.sub_app, row.number, row.table_name, row.statement)
            )
            return
        known = self.unfinished.setdefault(row.sub_app, [])
        begun = Unfinished(row.sub_app, row.revision, row.command, row.checksum)
        same = next((each for each in known if (each.revision, each.command) == (row.revision, row.command)), None)
        if same is None:
            known.append(same := begun)
        same.sent.append(Sent(len(same.sent) + 1, row.statement, row.digest, row.number))


def read_journal(connection: sa.Connection, there: Columns) -> Journal:
    """What has not ended; nothing where there is no journal."""
    found = Journal()
    if steps.name in there:
        for row in connection.execute(select_known(steps, there).order_by(steps.c.sub_app, steps.c.number)):
            found.add(row)
    return found


def make_step(step: OpenStep) -> sa.Insert:
    """The statement that writes a step down."""
    begun_at = utc_now() if step.number else None
    values = {"sub_app": step.sub_app, "number": step.number, "table_name": step.table, "statement": step.statement}
    return sa.insert(steps).values(values | {"begun_at": begun_at})


def make_end(sub_app: str) -> sa.Delete:
    """The statement that closes all steps of ``init`` for a sub-app."""
    return sa.delete(steps).where(steps.c.sub_app == sub_app, OF_INIT)


def find_last_number(connection: sa.Connection, sub_app: str) -> int:
    """The number after which further statements of a sub-app's revisions are written down."""
    return (
        connection.scalar(sa.select(sa.func.max(steps.c.number)).where(steps.c.sub_app == sub_app, ~OF_INIT))
        or FIRST_OF_REVISIONS
    )


def make_rows(revision: Unfinished, sent: Iterable[Sent], last_number: int) -> list[dict[str, object]]:
    """The rows that write down what is about to be sent, after the last number of the sub-app."""
    who = {name: getattr(revision, name) for name in ("sub_app", "revision", "command", "checksum")}
    who |= {"table_name": "", "begun_at": utc_now()}
    return [
        {**who, "number": number, "statement": each.statement[:LONGEST_STATEMENT], "digest": each.digest}
        for number, each in enumerate(sent, last_number + 1)
    ]


def make_finish(sub_app: str, revision: str | None = None) -> sa.Delete:
    """The statement that closes a revision of a sub-app, or all of them."""
    which = (~OF_INIT,) if revision is None else (steps.c.revision == revision,)
    return sa.delete(steps).where(steps.c.sub_app == sub_app, *which)
