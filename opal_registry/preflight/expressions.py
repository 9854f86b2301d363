"""SQL that models carry as text or as functions: defaults, checks, generated columns, indexes of expressions."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.sql import visitors
from sqlalchemy.sql.functions import Function, now

from opal_registry.errors import Problem
from opal_registry.preflight.target import DATABASES, MYSQL, Subject
from opal_registry.preflight.wants import Want

QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"")
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

NATIVE: dict[str, frozenset[str]] = {
    name: frozenset(databases.split())
    for names, databases in (
        ("array_length btrim cardinality clock_timestamp date_trunc gen_random_uuid json_build_object", "postgresql"),
        (
            "json_typeof jsonb_array_length jsonb_build_object jsonb_typeof num_nonnulls num_nulls split_part",
            "postgresql",
        ),
        ("statement_timestamp timezone to_timestamp to_tsvector transaction_timestamp uuidv4 uuidv7", "postgresql"),
        ("char_length greatest least md5 now", "postgresql mysql mariadb"),
        ("curdate unix_timestamp utc_timestamp uuid", "mysql mariadb"),
        ("hex ifnull instr json_extract json_valid", "sqlite mysql mariadb"),
        ("datetime julianday randomblob strftime unixepoch", "sqlite"),
    )
    for name in names.split()
}
"""Functions that some databases have and others have not, by the manuals."""

FROM_EXTENSIONS = {
    name: extension
    for names, extension in (
        ("uuid_generate_v1 uuid_generate_v1mc uuid_generate_v3 uuid_generate_v4 uuid_generate_v5", "uuid-ossp"),
        ("armor crypt digest gen_random_bytes gen_salt hmac pgp_sym_decrypt pgp_sym_encrypt", "pgcrypto"),
        ("similarity show_trgm strict_word_similarity word_similarity", "pg_trgm"),
        ("st_geogfromtext st_geomfromtext st_makepoint st_point st_setsrid st_transform", "postgis"),
        ("daitch_mokotoff dmetaphone levenshtein metaphone", "fuzzystrmatch"),
        ("earth_box earth_distance ll_to_earth", "earthdistance"),
        ("unaccent", "unaccent"),
    )
    for name in names.split()
}
"""Functions that extensions of PostgreSQL bring; no other database has them."""

Clause = Literal["default", "check", "generated column", "index"]


@dataclass(frozen=True, slots=True)
class Expression:
    """A piece of SQL in a model.

    Args:
        clause: What it is for.
        part: The part of the table that it belongs to, in words.
        texts: What is written by hand, without literals and quoted names.
        functions: The functions that are called, each after the schema it is said to be in; in lower case.
        columns: The columns that it looks at, those apart that are written by hand.
    """

    clause: Clause
    part: str
    texts: tuple[str, ...]
    functions: tuple[tuple[str, str], ...]
    columns: tuple[sa.Column[Any], ...]


def make_expression(clause: Clause, part: str, element: Any) -> Expression:
    """Take a piece of SQL apart.

    Example:
        >>> make_expression("check", "the check constraint", sa.text("char_length(name) > ' ('")).functions
        (('', 'char_length'),)
    """
    nodes = list(visitors.iterate(element))
    texts = tuple(QUOTED.sub(_empty, text) for node in nodes if (text := _written(node)))
    called = [(".".join(node.packagenames), node.name) for node in nodes if type(node) is Function]
    called += [call for text in texts for call in CALL.findall(text)]
    functions = tuple(dict.fromkeys((schema.lower(), name.lower()) for schema, name in called))
    return Expression(clause, part, texts, functions, tuple(node for node in nodes if isinstance(node, sa.Column)))


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
            yield make_expression("generated column", f"the generated column {column.name!r}", default.sqltext)
        elif isinstance(default, sa.DefaultClause) and not isinstance(default.arg, (str, now)):
            yield make_expression("default", f"the default of column {column.name!r}", default.arg)
    for constraint in filter(subject.target.is_created, table.constraints):
        if isinstance(constraint, sa.CheckConstraint) and not constraint._type_bound:
            name = f" {constraint.name!r}" if isinstance(constraint.name, str) else ""
            yield make_expression("check", f"the check constraint{name}", constraint.sqltext)
    for index in subject.indexes:
        yield from _iter_index(index, index.kwargs.get(f"{subject.target.dialect.name}_where"))


def _iter_index(index: sa.Index, where: Any) -> Iterator[Expression]:
    for element in (*index.expressions, where):
        if isinstance(element, sa.ClauseElement) and not isinstance(element, sa.Column):
            yield make_expression("index", f"the index {index.name!r}", element)


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
                    yield Want(subject, expression.part, "function", name, schema)


def lacks_function(name: str) -> frozenset[str]:
    """The databases that do not have a function by themselves."""
    return DATABASES - NATIVE.get(name, frozenset())


def _find_foreign_functions(subject: Subject, expression: Expression) -> Iterator[Problem]:
    """In MySQL these places take no functions but its own."""
    for schema, name in expression.functions:
        if not schema and (name in FROM_EXTENSIONS or name in NATIVE):
            what = f"{expression.part} calls {name}(), which {subject.target.title} does not have"
            yield from subject.refuse(lacks_function(name), what, mend_expression(expression.part))


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
    return "''" if found[0].startswith("'") else '""'
