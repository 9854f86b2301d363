"""Indexes that a database cannot make."""

import re
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.operators import asc_op, desc_op, json_getitem_op, json_path_getitem_op

from opal_registry.errors import Problem
from opal_registry.preflight.expressions import strip_quoted
from opal_registry.preflight.target import DATABASES, Subject
from opal_registry.preflight.vocabulary import split_name
from opal_registry.preflight.wants import Want

METHODS = {"brin", "btree", "gin", "gist", "hash", "spgist"}
"""The access methods that every PostgreSQL has."""

NOT_UNIQUE = METHODS - {"btree"}
SINGLE = {"hash"}
NOT_INCLUDING = {"brin", "gin", "hash"}

OPERATOR_CLASSES = {
    "array_ops",
    "bpchar_pattern_ops",
    "inet_ops",
    "int4_ops",
    "int8_ops",
    "jsonb_ops",
    "jsonb_path_ops",
    "network_ops",
    "range_ops",
    "text_ops",
    "text_pattern_ops",
    "timestamptz_ops",
    "tsvector_ops",
    "uuid_ops",
    "varchar_ops",
    "varchar_pattern_ops",
}
"""Some that every PostgreSQL has."""

NAMES = {
    "bigint": "bigint",
    "boolean": "boolean",
    "bytea": "bytea",
    "char": "character",
    "date": "date",
    "integer": "integer",
    "json": "json",
    "numeric": "numeric",
    "smallint": "smallint",
    "text": "text",
    "uuid": "uuid",
    "varchar": "character varying",
    "xml": "xml",
}
"""Types without an operator class for some methods, in PostgreSQL's words."""

UNSORTED = {"json", "xml"}
WRITTEN_CLASS = re.compile(r"[\w\")]\s+(?:(\w+)\.)?(\w+_ops)\s*(?:\(|$|\b(?:ASC|DESC|NULLS)\b)", re.IGNORECASE)
"""An operator class that follows a column or an expression in text."""


def find_wrong_indexes(subject: Subject) -> Iterator[Problem]:
    """Indexes that are never possible."""
    for index in subject.indexes:
        if not index.expressions:
            what = f"the index {index.name!r} has no columns"
            yield from subject.refuse(DATABASES, what, "name its columns, or take it out", says=_says_empty(subject))
        if "postgresql" in subject.target.names:
            yield from _check_method(subject, index, get_method(index))
        if any(map(is_computed, index.expressions)):
            what = f"the index {index.name!r} is of an expression, which MariaDB cannot have"
            mend = 'index a generated column (Computed), or write .ddl_if(dialect=("postgresql", "sqlite"))'
            unsure = DATABASES if any(map(_is_json, index.expressions)) else {"mysql"}
            says = "You have an error in your SQL syntax"
            yield from subject.refuse({"mariadb"}, what, mend, says=says, unsure=unsure)


def _says_empty(subject: Subject) -> str:
    return "You have an error in your SQL syntax" if subject.target.is_mysql else "syntax error"


def get_method(index: sa.Index) -> str:
    """How PostgreSQL is to make an index."""
    return str(index.kwargs.get("postgresql_using") or "btree").lower()


def is_computed(part: Any) -> bool:
    """Whether a part of an index is an expression for sure: text may be anything."""
    if isinstance(part, sa.UnaryExpression) and part.modifier in (asc_op, desc_op):
        return is_computed(part.element)
    return isinstance(part, (sa.BinaryExpression, sa.FunctionElement))


def _check_method(subject: Subject, index: sa.Index, method: str) -> Iterator[Problem]:
    by = DATABASES - {"sqlite"}
    name = f"the index {index.name!r} is made with {method}"
    if index.unique and method in NOT_UNIQUE:
        says = f'access method "{method}" does not support unique indexes'
        yield from subject.refuse(by, f"{name}, and cannot be unique", "leave postgresql_using out", says=says)
    if method in SINGLE and len(index.expressions) > 1:
        says = f'access method "{method}" does not support multicolumn indexes'
        yield from subject.refuse(by, f"{name}, and cannot have several columns", "make one for each", says=says)
    if method in NOT_INCLUDING and index.kwargs.get("postgresql_include"):
        says = f'access method "{method}" does not support included columns'
        yield from subject.refuse(by, f"{name}, and cannot include columns", "leave postgresql_include out", says=says)


def iter_wanted_operators(subject: Subject) -> Iterator[Want]:
    """The access methods and operator classes that a PostgreSQL may lack."""
    for index in subject.indexes:
        part, method = f"the index {index.name!r}", get_method(index)
        if method not in METHODS:
            yield Want(subject, part, "access method", method)
        yield from _want_of_parts(subject, part, index, method)
    for constraint in subject.table.constraints:
        if isinstance(constraint, (sa.UniqueConstraint, sa.PrimaryKeyConstraint)):
            words = "the primary key" if isinstance(constraint, sa.PrimaryKeyConstraint) else "the unique constraint"
            for column in constraint.columns:
                yield from _want_default(subject, words, "btree", column)
        elif constraint.__visit_name__ == "exclude_constraint":
            yield from _want_to_exclude(subject, constraint)


def _want_of_parts(subject: Subject, part: str, index: sa.Index, method: str) -> Iterator[Want]:
    operators = index.kwargs.get("postgresql_ops") or {}
    for name in operators.values():
        yield from _want_class(subject, part, str(name).partition("(")[0].strip())
    for expression in index.expressions:
        yield from _want_for(subject, part, method, expression, operators)


def _want_for(subject: Subject, part: str, method: str, expression: Any, operators: Any) -> Iterator[Want]:
    if isinstance(expression, sa.UnaryExpression):
        expression = expression.element
    if isinstance(expression, sa.TextClause):
        for schema, name in WRITTEN_CLASS.findall(strip_quoted(expression.text)):
            yield from _want_class(subject, part, name, schema)
    elif isinstance(expression, sa.Column):
        if expression.key not in operators and expression.name not in operators:
            yield from _want_default(subject, part, method, expression)
    elif _is_json(expression) and method == "btree" and expression.type.__visit_name__ == "JSON" and not operators:
        yield Want(subject, part, "default operator class", "json", method)


def _is_json(expression: Any) -> bool:
    """Whether an expression takes a part of a JSON column, as JSON."""
    operators = (json_getitem_op, json_path_getitem_op)
    return isinstance(expression, sa.BinaryExpression) and expression.operator in operators


def _want_class(subject: Subject, part: str, name: str, schema: str = "") -> Iterator[Want]:
    if "." in name:
        schema, _, name = name.rpartition(".")
    if name.lower() not in OPERATOR_CLASSES:
        yield Want(subject, part, "operator class", name.lower(), schema.lower())


def _want_default(subject: Subject, part: str, method: str, column: sa.Column[Any]) -> Iterator[Want]:
    text = subject.target.type_text(column)
    word = split_name(text)[1]
    if "[" not in text and _lacks_class(method, word):
        yield Want(subject, part, "default operator class", NAMES[word], method)


def _lacks_class(method: str, word: str) -> bool:
    """Whether a method has no operator class of its own for a type."""
    if method == "spgist" and word in {"char", "text", "varchar"}:
        return False
    return word in (NAMES if method in {"gin", "gist", "spgist"} else UNSORTED if method in METHODS else ())


def _want_to_exclude(subject: Subject, constraint: Any) -> Iterator[Want]:
    name = f" {constraint.name!r}" if isinstance(constraint.name, str) else ""
    for expression, key, _ in constraint._render_exprs:
        if isinstance(expression, sa.Column) and key not in constraint.ops:
            yield from _want_default(subject, f"the exclude constraint{name}", constraint.using, expression)
