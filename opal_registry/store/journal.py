"""The journal of a run that is not one transaction, so that the next run knows what it had begun.

Where each DDL statement commits by itself (MySQL), every statement is written down before it is sent: all but the last
one of a sub-app are known to be done. Where a run is cut into several transactions (PostgreSQL, many tables), what is
still to come is written down with the first.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from opal_registry.mixins import utc_now
from opal_registry.store.tables import Columns, steps


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


def read_journal(connection: sa.Connection, there: Columns) -> dict[str, list[OpenStep]]:
    """The open steps by sub-app, in order; nothing where there is no journal."""
    if steps.name not in there:
        return {}
    found: dict[str, list[OpenStep]] = {}
    columns = (steps.c.sub_app, steps.c.number, steps.c.table_name, steps.c.statement)
    for row in connection.execute(sa.select(*columns).order_by(steps.c.sub_app, steps.c.number)):
        found.setdefault(row.sub_app, []).append(OpenStep(*row))
    return found


def make_step(step: OpenStep) -> sa.Insert:
    """The statement that writes a step down."""
    begun_at = utc_now() if step.number else None
    values = {"sub_app": step.sub_app, "number": step.number, "table_name": step.table, "statement": step.statement}
    return sa.insert(steps).values(values | {"begun_at": begun_at})


def make_end(sub_app: str) -> sa.Delete:
    """The statement that closes all steps of a sub-app."""
    return sa.delete(steps).where(steps.c.sub_app == sub_app)
