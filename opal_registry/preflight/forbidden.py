"""SQL that a database has words for, but does not take in this place: subqueries, and what is not the same each time."""

import re
from collections.abc import Iterator

from opal_registry.errors import Problem
from opal_registry.preflight.expressions import QUOTED, Clause, Expression
from opal_registry.preflight.target import DATABASES, FAILURES, MYSQL, Subject

POSTGRESQL_AND_MYSQL = MYSQL | {"postgresql"}

VOLATILE: tuple[tuple[str, frozenset[str]], ...] = (
    (r"(CURRENT_(?:DATE|TIME|TIMESTAMP))\b", DATABASES),
    (r"(LOCALTIME(?:STAMP)?)\b", POSTGRESQL_AND_MYSQL),
    (r"(now\s*\(\s*\))", POSTGRESQL_AND_MYSQL),
    (r"(random\s*\(\s*\))", DATABASES - MYSQL),
    (r"((?:clock|statement|transaction)_timestamp\s*\(\s*\)|gen_random_uuid\s*\(\s*\))", frozenset({"postgresql"})),
    (r"((?:connection_id|curdate|curtime|rand|sysdate|unix_timestamp|utc_timestamp|uuid)\s*\(\s*\))", MYSQL),
    (r"(last_insert_rowid\s*\(\s*\)|randomblob\s*\(\s*\d+\s*\))", frozenset({"sqlite"})),
)
"""What gives another value each time, and the databases that have it; functions with arguments may be somebody's own."""

COMMENT = re.compile(r"--|/\*|#")
BACKTICKS = re.compile(r"`[^`]*`")

PLACES: dict[tuple[Clause, str], str] = {
    ("check", "sqlite"): "CHECK constraints",
    ("check", "postgresql"): "check constraint",
    ("generated column", "sqlite"): "generated columns",
    ("generated column", "postgresql"): "column generation expression",
    ("generated column", "mariadb"): "GENERATED ALWAYS AS clause",
    ("default", "postgresql"): "DEFAULT expression",
    ("default", "mariadb"): "DEFAULT clause",
}
"""What databases call the place in their errors."""

MENDS: dict[Clause, str] = {
    "check": "check it in Python, or for other databases only: .ddl_if(dialect=...)",
    "default": "let Python make the value: default= in place of server_default=",
    "generated column": "let Python make the value: default= or onupdate= in place of Computed()",
    "index": "take it out of the index",
}


def find_forbidden(subject: Subject, expressions: list[Expression]) -> Iterator[Problem]:
    """Subqueries, and values that are not the same each time, where a database is certain to refuse them."""
    for expression in expressions:
        if expression.has_subquery:
            yield from _refuse_subquery(subject, expression)
        elif expression.clause != "default" and (expression.clause != "check" or subject.target.is_mysql):
            yield from _check_volatile(subject, expression)


def _refuse_subquery(subject: Subject, expression: Expression) -> Iterator[Problem]:
    """No database takes one; of an index another database may have another part."""
    is_index = expression.clause == "index"
    by = DATABASES - MYSQL if is_index else DATABASES
    what = f"{expression.part} holds a subquery, which {subject.target.title} does not allow there"
    says = _says_subquery(subject, expression.clause)
    mend = MENDS[expression.clause].partition(", or")[0]
    yield from subject.refuse(by, what, mend, says=says, unsure=DATABASES)


def _says_subquery(subject: Subject, clause: Clause) -> str:
    database = "".join(subject.target.names) if len(subject.target.names) == 1 else ""
    place = PLACES.get((clause, database), "")
    start = {
        "sqlite": "subqueries prohibited in",
        "postgresql": "cannot use subquery in",
        "mariadb": "Function or expression 'select ...' cannot be used in the",
    }
    return f"{start[database]} {place}" if place else ""


def _check_volatile(subject: Subject, expression: Expression) -> Iterator[Problem]:
    text = _compiled(subject, expression)
    for pattern, has in VOLATILE:
        if found := re.search(rf"(?<![\w.\"`]){pattern}", text, re.IGNORECASE):
            by = _refusers(expression, has)
            what = f"{expression.part} holds {found[1]}, which is not the same each time"
            says = _says_volatile(subject, expression.clause)
            unsure = DATABASES if expression.clause == "index" else DATABASES - has
            yield from subject.refuse(by, what, MENDS[expression.clause], says=says, unsure=unsure)


def _compiled(subject: Subject, expression: Expression) -> str:
    """The expression in the words of the database, without literals and quoted names; empty where it has none."""
    try:
        text = subject.target.compiler.text(expression.element)
    except FAILURES:
        return ""
    text = BACKTICKS.sub("``", QUOTED.sub("''", text))
    return "" if COMMENT.search(text) else text


def _refusers(expression: Expression, has: frozenset[str]) -> frozenset[str]:
    """MariaDB computes a column that is not stored whenever it is read, and so takes anything there."""
    if expression.clause == "check":
        return has & MYSQL
    if expression.clause == "index":
        return has - MYSQL
    return has if expression.is_stored else has - {"mariadb"}


def _says_volatile(subject: Subject, clause: Clause) -> str:
    if clause == "index":
        return ""
    says = {
        "sqlite": "non-deterministic functions prohibited in generated columns",
        "postgresql": "generation expression is not immutable",
        "mariadb": f"cannot be used in the {'CHECK' if clause == 'check' else 'GENERATED ALWAYS AS'} clause",
    }
    return says.get("".join(subject.target.names), "")
