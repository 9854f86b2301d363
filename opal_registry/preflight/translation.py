"""Whether a database has words for a table: its types and the rest of its DDL."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex

from opal_registry.errors import Problem
from opal_registry.preflight.target import DATABASES, FAILURES, MYSQL, Subject
from opal_registry.preflight.vocabulary import (
    EXTENSIONS,
    iter_default_takers,
    iter_takers,
    refusers,
    split_name,
    word_default,
)
from opal_registry.schema.compiled import make_creation

TOLD = (sa.exc.SQLAlchemyError, NotImplementedError)
"""What SQLAlchemy raises on purpose, with words for people."""

INSTEAD = {
    "ARRAY": "JSON()",
    "BYTEA": "LargeBinary()",
    "CIDR": "String(43)",
    "CITEXT": "String(255)",
    "CLOB": "Text()",
    "HSTORE": "JSON()",
    "INET": "String(43)",
    "INTERVAL": "Interval()",
    "JSONB": "JSON()",
    "LONGTEXT": "Text()",
    "MACADDR": "String(17)",
    "MEDIUMTEXT": "Text()",
    "TINYINT": "SmallInteger()",
    "UUID": "Uuid()",
}
"""Types of SQLAlchemy's that every database has, and that hold the same."""


def find_untranslatable(subject: Subject) -> Iterator[Problem]:
    """What a database has no words for, column by column, or else the statement that cannot be made."""
    found = [problem for column, text in subject.columns for problem in _check_type(subject, column, text)]
    yield from found or _check_statements(subject)


def _check_type(subject: Subject, column: sa.Column[Any], text: str) -> Iterator[Problem]:
    if not text:
        yield from _explain(subject, column)
    elif subject.target.is_mysql and (by := refusers(text) & MYSQL):
        yield from _refuse_type(subject, column, text, DATABASES - set(iter_takers(column.type)) | by)


def _explain(subject: Subject, column: sa.Column[Any]) -> Iterator[Problem]:
    """Why SQLAlchemy has no words for a type."""
    try:
        subject.target.dialect.type_compiler_instance.process(column.type, type_expression=column)
    except sa.exc.UnsupportedCompilationError:
        by = DATABASES - set(iter_takers(column.type))
        yield from _refuse_type(subject, column, _name(column.type), by)
    except TOLD as error:
        by = DATABASES - set(iter_takers(column.type))
        if isinstance(column.type, sa.String) and not column.type.length and subject.target.is_mysql:
            what = f"column {column.name!r} is a VARCHAR without a length, which {subject.target.title} needs"
            yield from subject.refuse(by, what, "give it a length, such as String(255), or make it a Text")
        else:
            what = (
                f"column {column.name!r} has a type that {subject.target.title} has no words for: {_first_line(error)}"
            )
            yield from subject.refuse(by, what, "correct the type, or give it a variant for this database")
    except FAILURES:  # the words of another database for a type of that name
        yield from _refuse_type(subject, column, repr(column.type), DATABASES - set(iter_takers(column.type)))


def _refuse_type(
    subject: Subject, column: sa.Column[Any], text: str, by: frozenset[str] | set[str]
) -> Iterator[Problem]:
    what = f"column {column.name!r} has the type {text}, which {subject.target.title} does not have"
    if extension := EXTENSIONS.get(split_name(text)[1]):
        what += f" (it comes from PostgreSQL's extension {extension!r})"
    instead = INSTEAD.get(text.partition("(")[0].upper())
    database = subject.target.dialect.name
    mend = f'add .with_variant({instead}, "{database}") to its type' if instead else ""
    mend = mend or f'use a type that every database has, or add .with_variant(..., "{database}") to this one'
    yield from subject.refuse(by, what, mend)


def _name(kind: sa.types.TypeEngine[Any]) -> str:
    """What a type is called that the database cannot say."""
    if isinstance(kind, sa.TypeDecorator):
        kind = kind.impl_instance
    return kind.__visit_name__.upper()


def _check_statements(subject: Subject) -> Iterator[Problem]:
    statements = [make_creation(subject.table)]
    if subject.table._creator_ddl is None:
        statements += map(CreateIndex, subject.indexes)
    for statement in statements:
        try:
            subject.target.compiler.text(statement)
        except sa.exc.IdentifierError:
            continue  # the names are looked at by themselves
        except FAILURES as error:
            yield from list(_check_defaults(subject)) or _refuse_statement(subject, statement, error)


def _check_defaults(subject: Subject) -> Iterator[Problem]:
    for column in subject.table.columns:
        try:
            word_default(subject.target.dialect, column)
        except FAILURES as error:
            name, by = subject.target.title, DATABASES - set(iter_default_takers(column))
            what = f"column {column.name!r} has a default that {name} has no words for: {_first_line(error)}"
            yield from subject.refuse(by, what, "let Python make the value (default= in place of server_default=)")


def _refuse_statement(subject: Subject, statement: Any, error: Exception) -> Iterator[Problem]:
    what = f"{subject.target.title} has no words for {_part(statement)}: {_first_line(error)}"
    yield from subject.refuse(DATABASES, what, "change the model so that this database can hold it")


def _part(statement: Any) -> str:
    return f"the index {statement.element.name!r}" if isinstance(statement, CreateIndex) else "it"


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].removesuffix(".")
