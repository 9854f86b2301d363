"""Defaults whose type a column cannot take, and checks of what is not there yet."""

import re
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from opal_registry.errors import Problem
from opal_registry.preflight.expressions import Expression
from opal_registry.preflight.functions import Clause
from opal_registry.preflight.keys import LARGE
from opal_registry.preflight.target import MYSQL, Subject

NUMBER = re.compile(r"[( ]*[01][) ]*")
BOOLEAN = re.compile(r"[( ]*(true|false)[) ]*", re.IGNORECASE)

COMPUTE = "compute it where it is read, or in Python"
INCREMENT: dict[Clause, tuple[str, str]] = {
    "check": ("CHECK", "take the constraint out: the server counts from 1"),
    "generated column": ("GENERATED ALWAYS AS", COMPUTE),
    "stored column": ("GENERATED ALWAYS AS", COMPUTE),
}
"""Where MySQL takes no AUTO_INCREMENT column, what MariaDB calls it, and what to do."""

TAKES_INCREMENT: dict[Clause, frozenset[str]] = {"generated column": frozenset({"mariadb"})}
"""Who takes one there all the same."""


def find_wrong_defaults(subject: Subject, expressions: list[Expression]) -> Iterator[Problem]:
    """Defaults that the database refuses for the type of their column."""
    for column in subject.table.columns:
        default = column.server_default
        if isinstance(default, sa.DefaultClause):
            yield from _check_kind(subject, column, default)
            yield from _check_large(subject, column, default)
    if subject.target.is_mysql:
        yield from _check_increment(subject, expressions)


def _check_kind(subject: Subject, column: sa.Column[Any], default: sa.DefaultClause) -> Iterator[Problem]:
    """PostgreSQL takes no number for a truth value, and no truth value for a number."""
    text = default.arg.text if isinstance(default.arg, sa.TextClause) else ""
    kind = subject.target.type_text(column)
    for wanted, found, pattern, mend in (
        ("BOOLEAN", "integer", NUMBER, "write server_default=sa.false() or sa.true()"),
        ("INTEGER", "boolean", BOOLEAN, "write a number"),
    ):
        if kind == wanted and pattern.fullmatch(text):
            what = f"column {column.name!r} is of the type {kind} and has the default {text}"
            says = f'column "{column.name}" is of type {wanted.lower()} but default expression is of type {found}'
            yield from subject.refuse({"postgresql"}, what, mend, says=says)


def _check_large(subject: Subject, column: sa.Column[Any], default: sa.DefaultClause) -> Iterator[Problem]:
    """MySQL takes a default for what it keeps beside the row only in parentheses; MariaDB takes any."""
    literal = default.arg if isinstance(default.arg, str) else getattr(default.arg, "text", "(")
    is_literal = isinstance(default.arg, str) or re.match(r"\s*'", literal) is not None
    if is_literal and LARGE.match(subject.target.type_text(column)):
        what = f"column {column.name!r} is of the type {subject.target.type_text(column)} and has a default"
        says = f"BLOB, TEXT, GEOMETRY or JSON column '{column.name}' can't have a default value"
        mend = "put it in parentheses: server_default=sa.text(\"('...')\")"
        yield from subject.refuse({"mysql"}, what, mend, says=says)


def _check_increment(subject: Subject, expressions: list[Expression]) -> Iterator[Problem]:
    """Neither a check nor a generated column can look at a number that the server gives only afterwards."""
    column = subject.table.autoincrement_column
    if column is None or column.server_default is not None or column.default is not None:
        return
    for expression in expressions:
        if expression.clause in INCREMENT and _mentions(expression, column):
            place, mend = INCREMENT[expression.clause]
            what = f"{expression.part} looks at {column.name!r}, which the server counts up"
            says = f"Function or expression 'AUTO_INCREMENT' cannot be used in the {place} clause"
            by = MYSQL - TAKES_INCREMENT.get(expression.clause, frozenset())
            yield from subject.refuse(by, what, mend, says=says if subject.target.names == {"mariadb"} else "")


def _mentions(expression: Expression, column: sa.Column[Any]) -> bool:
    pattern = re.compile(rf"(?<![\w.\"`]){re.escape(column.name)}(?![\w.\"`]|\s*\()", re.IGNORECASE)
    return column in set(expression.columns) or any(pattern.search(text) for text in expression.texts)
