"""SQL that models carry as text or as functions: defaults, checks, generated columns, indexes of expressions."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import visitors
from sqlalchemy.sql.functions import Function, now

from opal_registry.errors import Problem
from opal_registry.preflight.functions import FROM_EXTENSIONS, NATIVE, Clause, list_takers
from opal_registry.preflight.target import DATABASES, MYSQL, Subject
from opal_registry.preflight.wants import Want

QUOTED = re.compile(
    r"""'(?:[^']|'')*'|"[^"]*"|`[^`]*`|(?<![\w)\]"])(?<!ARRAY )\[[^\[\]]*\]|--[^\n]*|/\*.*?\*/""",
    re.IGNORECASE | re.DOTALL,
)
"""Literals, names in any kind of quotes, and comments, whichever begins first."""

ESCAPED = re.compile(r"\\['\"`]")
UNCLEAR = re.compile(r"\$\w*\$|#(?![>-])|/\*|\*/")
"""What not every database reads in one way: quotes by dollars, comments of MySQL, comments within comments."""

CALL = re.compile(r"(?:(\w+)\.)?(\w+)\s*\(")

SYNTAX = (
    ("::", "::", MYSQL | {"sqlite"}),
    ("AT TIME ZONE", r"\A(?!.*\bCAST\b).*\bAT\s+TIME\s+ZONE\b", MYSQL | {"sqlite"}),
    ("ILIKE", r"\bILIKE\b", MYSQL | {"sqlite"}),
    ("SIMILAR TO", r"\bSIMILAR\s+TO\b", MYSQL | {"sqlite"}),
    ("ARRAY[", r"\bARRAY\s*\[", MYSQL | {"sqlite"}),
    ("~", r"(?<!\bAND)(?<!\bOR)(?<!\bNOT)(?<=[\w\")])\s*!?~\*?\s*''", MYSQL | {"sqlite"}),
    ("->", r"[\w\")]\s*->", {"mariadb"}),
    ("GLOB", r"\bGLOB\s+''", MYSQL | {"postgresql"}),
    ("REGEXP", r"\bREGEXP\s+''", {"postgresql"}),
    ("`", "`", {"postgresql"}),
)
"""What is written, a pattern for it once literals are taken out, and the databases that refuse it."""

ON_UPDATE = ("ON UPDATE", r"\bON\s+UPDATE\b", {"sqlite", "postgresql"})
"""Only what follows a default may say so, and only in MySQL."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A piece of SQL in a model.

    Args:
        clause: What it is for.
        part: The part of the table that it belongs to, in words.
        nodes: The SQL and everything in it, the whole first.
        texts: What is written by hand, without literals, quoted names and comments.
        functions: The functions that are called, each after the schema it is said to be in; in lower case.
        columns: The columns that it looks at, those apart that are written by hand.
    """

    clause: Clause
    part: str
    nodes: tuple[Any, ...]
    texts: tuple[str, ...]
    functions: tuple[tuple[str, str], ...]
    columns: tuple[sa.Column[Any], ...]


def make_expression(clause: Clause, part: str, element: Any) -> Expression:
    """Take a piece of SQL apart.

    Example:
        >>> make_expression("check", "the check constraint", sa.text("char_length(name) > ' ('")).functions
        (('', 'char_length'),)
    """
    nodes = tuple(visitors.iterate(element))
    texts = tuple(text for node in nodes if (text := strip_quoted(_written(node))))
    called = [(".".join(node.packagenames), node.name) for node in nodes if type(node) is Function]
    called += [call for text in texts for call in CALL.findall(text)]
    functions = tuple(dict.fromkeys((schema.lower(), name.lower()) for schema, name in called))
    columns = tuple(node for node in nodes if isinstance(node, sa.Column))
    return Expression(clause, part, nodes, texts, functions, columns)


def strip_quoted(text: str) -> str:
    """SQL without what is in quotes and in comments; empty where it is not certain what that is.

    Example:
        >>> strip_quoted("x <> 'it''s (select' /* now() */ AND `random()` > 0")
        "x <> ''  AND `` > 0"
    """
    plain = QUOTED.sub(_empty, text)
    is_unclear = ESCAPED.search(text) or UNCLEAR.search(plain) or any(plain.count(quote) % 2 for quote in "'\"`")
    return "" if is_unclear else plain


def _written(node: Any) -> str:
    if isinstance(node, sa.TextClause):
        return node.text
    return str(node.name) if isinstance(node, sa.ColumnClause) and node.is_literal else ""


def iter_expressions(subject: Subject) -> Iterator[Expression]:
    """The SQL that a table carries; defaults that are plain values have none."""
    table = subject.table
    for column in table.columns:
        default = column.server_default
        if isinstance(default, sa.Computed):
            clause: Clause = "stored column" if default.persisted else "generated column"
            yield make_expression(clause, f"the generated column {column.name!r}", default.sqltext)
        elif isinstance(default, sa.DefaultClause) and not isinstance(default.arg, (str, now)):
            yield make_expression("default", f"the default of column {column.name!r}", default.arg)
    for constraint in subject.constraints:
        if isinstance(constraint, sa.CheckConstraint) and not constraint._type_bound:
            yield make_expression("check", describe_check(constraint), constraint.sqltext)
    for index in subject.indexes:
        yield from _iter_index(index, index.kwargs.get(f"{subject.target.dialect.name}_where"))


def describe_check(constraint: sa.CheckConstraint) -> str:
    """A check in words."""
    if isinstance(constraint.name, str):
        return f"the check constraint {constraint.name!r}"
    is_of_column = isinstance(constraint.parent, sa.Column)
    return f"the check constraint of {constraint.parent.name!r}" if is_of_column else "the check constraint"


def _iter_index(index: sa.Index, where: Any) -> Iterator[Expression]:
    part = f"the index {index.name!r}"
    for element in index.expressions:
        if isinstance(element, sa.ClauseElement) and not isinstance(element, sa.Column):
            yield make_expression("index", part, element)
    if isinstance(where, sa.ClauseElement):
        yield make_expression("condition", part, where)


def find_foreign_sql(subject: Subject, expressions: list[Expression]) -> Iterator[Problem]:
    """SQL in the words of another database."""
    for expression in expressions:
        patterns = (*SYNTAX, ON_UPDATE) if expression.clause == "default" else SYNTAX
        for text in expression.texts:
            for written, pattern, by in patterns:
                if subject.target.names <= by and re.search(pattern, text, re.IGNORECASE):
                    what = f"{expression.part} says {written}, which {subject.target.title} does not understand"
                    unsure = DATABASES if written == "->" else ()
                    yield from subject.refuse(
                        by, what, mend_expression(expression.part), says=_says(subject, written), unsure=unsure
                    )
        if subject.target.is_mysql:
            yield from _find_foreign_functions(subject, expression)


def iter_wanted_functions(subject: Subject, expressions: list[Expression]) -> Iterator[Want]:
    """The functions that SQLite or PostgreSQL may lack: these can be asked."""
    if not subject.target.is_mysql:
        for expression in expressions:
            for schema, name in expression.functions:
                if name in FROM_EXTENSIONS or not subject.target.names <= NATIVE.get(name, DATABASES):
                    takers = list_takers(name, expression.clause)
                    yield Want(subject, expression.part, "function", name, schema, takers)


def _find_foreign_functions(subject: Subject, expression: Expression) -> Iterator[Problem]:
    """In MySQL these places take no functions but its own."""
    for schema, name in expression.functions:
        is_known = not schema and (name in FROM_EXTENSIONS or name in NATIVE)
        if is_known and not subject.target.names & NATIVE.get(name, frozenset()):
            by = DATABASES - list_takers(name, expression.clause)
            what = f"{expression.part} calls {name}(), which {subject.target.title} does not have"
            yield from subject.refuse(by, what, mend_expression(expression.part))


def _says(subject: Subject, written: str) -> str:
    if subject.target.is_mysql:
        return "You have an error in your SQL syntax"
    return 'unrecognized token: ":"' if (written, subject.target.dialect.name) == ("::", "sqlite") else "syntax error"


def mend_expression(part: str) -> str:
    """How to mend SQL that a database does not understand."""
    if part.startswith("the default"):
        return (
            "let Python make the value (default= in place of server_default=), or write what every database understands"
        )
    return "write it with SQLAlchemy's functions, or for one database only: .ddl_if(dialect=...)"


def _empty(found: re.Match[str]) -> str:
    first = found[0][0]
    return "" if first in "-/" else first + ("]" if first == "[" else first)
