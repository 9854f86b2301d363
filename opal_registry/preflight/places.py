"""SQL that a database has words for, but not where it stands: subqueries, and functions whose value changes."""

import re
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import functions

from opal_registry.errors import Problem
from opal_registry.preflight.expressions import Expression
from opal_registry.preflight.functions import CHANGING, OF_INDEXES, REFUSE_CHANGE, WORDS, Clause
from opal_registry.preflight.target import DATABASES, MYSQL, Subject

SUBQUERY = re.compile(r"\(\s*SELECT\b", re.IGNORECASE)
CHANGE = re.compile(
    rf"(?<![\w.@$:])(?:(?P<word>{'|'.join(WORDS)})\b(?!\s*[(.])|(?P<name>{'|'.join(CHANGING)})\s*\(\s*\))",
    re.IGNORECASE,
)
"""A word or a call without arguments; neither a name with a table or a schema before it, nor a parameter."""

SQLITE = {
    "check": "CHECK constraints",
    "generated column": "generated columns",
    "stored column": "generated columns",
    "index": "index expressions",
    "condition": "partial index WHERE clauses",
}
POSTGRESQL = {
    "default": "DEFAULT expression",
    "check": "check constraint",
    "generated column": "column generation expression",
    "stored column": "column generation expression",
    "index": "index expression",
    "condition": "index predicate",
}
MARIADB = {
    "default": "DEFAULT",
    "check": "CHECK",
    "generated column": "GENERATED ALWAYS AS",
    "stored column": "GENERATED ALWAYS AS",
}
"""What each database calls the places."""

MARIADB_NAMES = {
    "current_date": "curdate",
    "current_time": "curtime",
    "localtime": "current_timestamp",
    "localtimestamp": "current_timestamp",
    "now": "current_timestamp",
}
"""By what names MariaDB speaks of functions that have several."""

MENDS: dict[Clause, str] = {
    "default": "let Python make the value (default= in place of server_default=)",
    "check": "check it in Python, or keep it out of this database: .ddl_if(dialect=...)",
    "generated column": "make it an ordinary column with a default, or compute it in Python",
    "stored column": "make it an ordinary column with a default, or compute it in Python",
    "index": "index columns of the table, and leave the rest to the query",
    "condition": "write the condition with columns of the table, and leave the rest to the query",
}


def find_misplaced(subject: Subject, expressions: list[Expression]) -> Iterator[Problem]:
    """Subqueries, and functions whose value changes, where the database wants neither."""
    for expression in expressions:
        if has_subquery(expression):
            yield from _refuse_subquery(subject, expression)
        for name, databases in iter_changing(expression):
            yield from _refuse_change(subject, expression, name, databases)


def has_subquery(expression: Expression) -> bool:
    """Whether a piece of SQL looks at rows of any table."""
    if any(SUBQUERY.search(text) for text in expression.texts):
        return True
    return any(isinstance(node, sa.SelectBase) for node in expression.nodes)


def iter_changing(expression: Expression) -> Iterator[tuple[str, frozenset[str]]]:
    """What has another value each time, as it is called, and which databases have it."""
    found = {}
    for node in expression.nodes:
        found.update(_read_function(node))
    for word, name in (match for text in expression.texts for match in CHANGE.findall(text)):
        found.update({word.upper(): WORDS[word.lower()]} if word else _call(name.lower()))
    yield from found.items()


def _read_function(node: Any) -> dict[str, frozenset[str]]:
    """The same of a function of SQLAlchemy's, which writes some for each database in that database's words."""
    if type(node) in (functions.now, functions.random):
        return {f"{node.name}()": DATABASES}
    if isinstance(node, functions.AnsiFunction) and node.name in WORDS:
        return {node.name.upper(): WORDS[node.name]}
    is_call = type(node) is functions.Function and not node.packagenames and len(node.clauses) == 0
    return _call(node.name.lower()) if is_call else {}


def _call(name: str) -> dict[str, frozenset[str]]:
    return {f"{name}()": CHANGING[name]} if name in CHANGING else {}


def _refuse_subquery(subject: Subject, expression: Expression) -> Iterator[Problem]:
    by = DATABASES - MYSQL if expression.clause in OF_INDEXES else DATABASES
    if subject.target.names <= by:
        what = f"{expression.part} has a subquery, which {subject.target.title} does not take there"
        says = _says_subquery(subject, expression)
        yield from subject.refuse(by, what, MENDS[expression.clause], says=says, unsure=MYSQL)


def _says_subquery(subject: Subject, expression: Expression) -> str:
    clause, is_bare = expression.clause, _is_bare(expression)
    if subject.target.names == {"sqlite"}:
        if clause == "default":
            column = expression.part.partition(" column ")[2].strip("'\"")
            return "syntax error" if is_bare else f"default value of column [{column}] is not constant"
        return f"subqueries prohibited in {SQLITE[clause]}"
    if subject.target.names == {"postgresql"}:
        return "syntax error" if is_bare and clause == "index" else f"cannot use subquery in {POSTGRESQL[clause]}"
    if subject.target.names == {"mariadb"}:
        if clause == "check":
            return "CHECK does not support subqueries or stored functions"
        return f"Function or expression 'select ...' cannot be used in the {MARIADB[clause]} clause"
    return ""


def _is_bare(expression: Expression) -> bool:
    """Whether a subquery is all there is, in parentheses that a database wants for itself."""
    if isinstance(expression.nodes[0], sa.TextClause):
        return any(SUBQUERY.match(text.lstrip()) for text in expression.texts)
    return isinstance(expression.nodes[0], (sa.SelectBase, sa.ScalarSelect))


def _refuse_change(subject: Subject, expression: Expression, name: str, databases: frozenset[str]) -> Iterator[Problem]:
    refusing = REFUSE_CHANGE.get(expression.clause, frozenset())
    if subject.target.names <= refusing & databases:
        what = f"{expression.part} says {name}, whose value changes"
        by, unsure = refusing | DATABASES - databases, MYSQL if expression.clause in OF_INDEXES else ()
        says = _says_change(subject, expression.clause, name)
        yield from subject.refuse(by, what, MENDS[expression.clause], says=says, unsure=unsure)


def _says_change(subject: Subject, clause: Clause, name: str) -> str:
    if subject.target.names == {"sqlite"}:
        return f"non-deterministic functions prohibited in {SQLITE[clause]}"
    if subject.target.names == {"postgresql"}:
        if clause in OF_INDEXES:
            return f"functions in {POSTGRESQL[clause]} must be marked IMMUTABLE"
        return "generation expression is not immutable"
    if subject.target.names == {"mariadb"}:
        plain = name.removesuffix("()").lower()
        called = "rand" if name == "random()" else MARIADB_NAMES.get(plain, plain)
        return f"Function or expression '{called}()' cannot be used in the {MARIADB[clause]} clause"
    return ""
