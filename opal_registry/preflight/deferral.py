"""Constraints that are to wait for the end of the transaction, where a database knows no such thing."""

import re
from collections.abc import Iterator

import sqlalchemy as sa

from opal_registry.errors import Problem
from opal_registry.preflight.target import DATABASES, FAILURES, MYSQL, Subject

WRITTEN = re.compile(r"(?:DEFERRABLE|INITIALLY \w+)$")
MEND = "leave deferrable= and initially= out, or make a constraint for each database: .ddl_if(dialect=...)"


def find_deferrable(subject: Subject) -> Iterator[Problem]:
    """Constraints that say ``DEFERRABLE`` or ``INITIALLY`` to a database that does not understand it."""
    found = [item for item in subject.table.constraints if item.deferrable is not None or item.initially is not None]
    for constraint in sorted(filter(subject.target.is_created, found), key=_describe):
        if _is_written(subject, constraint):
            what = (
                f"{_describe(constraint)} says {_words(constraint)}, which {subject.target.title} does not take there"
            )
            by = _refusers(constraint)
            unsure = {"postgresql"} if isinstance(constraint, sa.CheckConstraint) else ()
            yield from subject.refuse(by, what, MEND, says=_says(subject), unsure=unsure)


def _is_written(subject: Subject, constraint: sa.Constraint) -> bool:
    """Whether the words reach the database: people have rules that leave them out, as SQLAlchemy's manual proposes.

    The checks of columns are left to the databases.
    """
    if isinstance(constraint, sa.CheckConstraint) and constraint.is_column_level:
        return False
    dialect = subject.target.dialect
    try:
        text = dialect.ddl_compiler(dialect, None).process(constraint)  # type: ignore[arg-type]
    except FAILURES:
        return False
    return WRITTEN.search(text or "") is not None


def _refusers(constraint: sa.Constraint) -> frozenset[str]:
    if isinstance(constraint, sa.ForeignKeyConstraint):
        return MYSQL | {"sqlite"} if constraint.deferrable is None else MYSQL
    if isinstance(constraint, sa.CheckConstraint) and constraint.deferrable:
        return DATABASES
    if isinstance(constraint, (sa.CheckConstraint, sa.UniqueConstraint, sa.PrimaryKeyConstraint)):
        return MYSQL | {"sqlite"}
    return frozenset()


def _words(constraint: sa.Constraint) -> str:
    if constraint.deferrable is None:
        return f"INITIALLY {constraint.initially}"
    return "DEFERRABLE" if constraint.deferrable else "NOT DEFERRABLE"


def _says(subject: Subject) -> str:
    if "postgresql" in subject.target.names:
        return "CHECK constraints cannot be marked DEFERRABLE"
    return "You have an error in your SQL syntax" if subject.target.is_mysql else "syntax error"


def _describe(constraint: sa.Constraint) -> str:
    kind = constraint.__visit_name__.removesuffix("_constraint").replace("_", " ")
    if isinstance(constraint, sa.CheckConstraint):
        name = f" {constraint.name!r}" if isinstance(constraint.name, str) else ""
        return f"the check constraint{name}"
    words = {"foreign key": "foreign key", "primary key": "primary key"}.get(kind, f"{kind} constraint")
    columns = ", ".join(repr(column.name) for column in getattr(constraint, "columns", ()))
    return f"the {words} of {columns}"
