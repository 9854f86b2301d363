"""Constraints that are to be checked at the end of a transaction: ``deferrable=`` and ``initially=``."""

import re
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.schema import AddConstraint

from opal_registry.errors import Problem
from opal_registry.preflight.expressions import describe_check, strip_quoted
from opal_registry.preflight.target import FAILURES, MYSQL, Subject
from opal_registry.schema.compiled import make_creation

Deferrable = sa.CheckConstraint | sa.ForeignKeyConstraint | sa.PrimaryKeyConstraint | sa.UniqueConstraint

KINDS = {
    sa.ForeignKeyConstraint: "foreign key",
    sa.PrimaryKeyConstraint: "primary key",
    sa.UniqueConstraint: "unique constraint",
}
"""What constraints are called, checks apart."""

WORDS = re.compile(r"\b(?:DEFERRABLE|INITIALLY)\b")


def find_wrong_deferrals(subject: Subject) -> Iterator[Problem]:
    """Constraints that a database checks at once, whatever they say, and will not hear of anything else."""
    found = [item for item in subject.constraints if isinstance(item, Deferrable) and _words(item)]
    for constraint in sorted(found, key=_describe):
        by = _refusers(constraint)
        if subject.target.names <= by and _is_said(subject, constraint):
            words = _words(constraint)
            what = f"{_describe(constraint)} says {words}, which {subject.target.title} does not take there"
            says = _says(subject, constraint, words)
            yield from subject.refuse(by, what, _mend(subject, constraint), says=says)


def _words(constraint: sa.Constraint) -> str:
    """What SQLAlchemy writes behind a constraint; empty if its words are none that databases know."""
    first = {None: "", True: "DEFERRABLE", False: "NOT DEFERRABLE"}[constraint.deferrable]
    second = (constraint.initially or "").upper()
    if second not in {"", "DEFERRED", "IMMEDIATE"}:
        return ""
    return f"{first} INITIALLY {second}".strip() if second else first


def _refusers(constraint: Deferrable) -> frozenset[str]:
    is_check, is_of_column = isinstance(constraint, sa.CheckConstraint), _is_of_column(constraint)
    by = set(MYSQL)
    if constraint.deferrable is None or not (is_of_column or isinstance(constraint, sa.ForeignKeyConstraint)):
        by.add("sqlite")
    if is_of_column or (is_check and (constraint.deferrable or _is_late(constraint))) or _contradicts(constraint):
        by.add("postgresql")
    return frozenset(by)


def _is_of_column(constraint: sa.Constraint) -> bool:
    """Whether it stands behind a column, where every word must be for that column."""
    return isinstance(constraint, sa.CheckConstraint) and constraint.is_column_level


def _is_late(constraint: sa.Constraint) -> bool:
    return (constraint.initially or "").upper() == "DEFERRED"


def _contradicts(constraint: sa.Constraint) -> bool:
    return constraint.deferrable is False and _is_late(constraint)


def _is_said(subject: Subject, constraint: Deferrable) -> bool:
    """Whether the words get into the DDL: models may have a compiler of their own that leaves them out."""
    is_of_column = _is_of_column(constraint)
    ddl = make_creation(subject.table) if is_of_column else AddConstraint(constraint, isolate_from_table=False)
    try:
        text = subject.target.compiler.text(ddl)
    except FAILURES:
        return False
    return WORDS.search(strip_quoted(text)) is not None


def _says(subject: Subject, constraint: Deferrable, words: str) -> str:
    if subject.target.names == {"sqlite"}:
        return f'near "{words.split()[0]}": syntax error'
    if subject.target.names == {"mariadb"}:
        return "You have an error in your SQL syntax"
    if subject.target.names != {"postgresql"}:
        return ""
    if _is_of_column(constraint):
        return f"misplaced {words.split(' INITIALLY')[0]} clause"
    if _contradicts(constraint):
        return "constraint declared INITIALLY DEFERRED must be DEFERRABLE"
    return "CHECK constraints cannot be marked DEFERRABLE"


def _mend(subject: Subject, constraint: Deferrable) -> str:
    if isinstance(constraint, sa.ForeignKeyConstraint) and subject.target.names == {"sqlite"}:
        return "write deferrable=True too, or leave initially= out"
    if not isinstance(constraint, sa.CheckConstraint) and subject.target.names == {"postgresql"}:
        return "write deferrable=True, or leave initially= out"
    return "leave deferrable= and initially= out, or declare one constraint for each database: .ddl_if(dialect=...)"


def _describe(constraint: Deferrable) -> str:
    if isinstance(constraint, sa.CheckConstraint):
        return describe_check(constraint)
    if isinstance(constraint, sa.UniqueConstraint) and isinstance(constraint.name, str):
        return f"the unique constraint {constraint.name!r}"
    kind = next(kind for type_, kind in KINDS.items() if isinstance(constraint, type_))
    return f"the {kind} of {', '.join(repr(column.name) for column in constraint.columns)}"
