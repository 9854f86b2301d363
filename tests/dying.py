"""An ``opal-db`` that kills itself at a step of its own; a script, run with the number of the step and the arguments.

A step is before each DDL statement, and before and after each commit: what lies between two of them leaves nothing in
the database. A run that needs fewer steps lives.
"""

import os
import re
import signal
import sys
from itertools import count
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

from opal_registry.cli.main import main

PASSING = ("SELECT", "SHOW", "PRAGMA", "SET", "START", "BEGIN", "INSERT", "UPDATE", "DELETE", "SAVEPOINT")
"""How statements begin after which nothing is there that was not there before, unless a commit follows."""

NO_STEP = re.compile(rf"\s*({'|'.join(PASSING)}) (?!opal_batch)", re.IGNORECASE)


def die_at(last: int) -> None:
    """Have this process killed at a step, counted from 1."""
    steps = count(1)

    def step() -> None:
        if next(steps) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def execute(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not NO_STEP.match(statement):
            step()

    def commit(dialect: DefaultDialect, connection: Any) -> None:
        step()
        do_commit(dialect, connection)  # type: ignore[no-untyped-call]
        step()

    do_commit = DefaultDialect.do_commit
    DefaultDialect.do_commit = commit  # type: ignore[method-assign]
    sa.event.listen(sa.Engine, "before_cursor_execute", execute)


if __name__ == "__main__":
    number, *arguments = sys.argv[1:]
    die_at(int(number))
    sys.exit(main(arguments))
