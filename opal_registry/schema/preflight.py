"""What cannot be created in the target database, found before the first statement."""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable, conv

from opal_registry.errors import Problem
from opal_registry.ownership.definitions import find_definition
from opal_registry.suite import LoadedSubApp

NAME_LIMITS = {"postgresql": (63, "bytes"), "mysql": (64, "characters"), "mariadb": (64, "characters")}
"""How long a name may be: PostgreSQL would cut it silently, MySQL refuse it."""


def find_impossible(app: LoadedSubApp, tables: Sequence[sa.Table], dialect: sa.Dialect) -> list[Problem]:
    """What in a sub-app's tables the database would refuse.

    Args:
        app: The sub-app, for the texts.
        tables: Those of its tables that are to be created.
        dialect: The target database's dialect.
    """
    return [problem for table in tables for problem in _check_table(app, table, dialect)]


def _check_table(app: LoadedSubApp, table: sa.Table, dialect: sa.Dialect) -> Iterator[Problem]:
    definition = find_definition(table)
    where = definition.place if definition else ""
    subject = f"sub-app {app.name!r}: table {table.fullname!r}"
    if table.schema and dialect.name == "sqlite":
        yield Problem(
            f"{subject} is in the schema {table.schema!r}, and SQLite has no schemas", where, "leave the schema out"
        )
        return
    if not table.columns:
        yield Problem(f"{subject} has no columns", where, "give it one, or take the table out")
        return
    yield from _check_names(subject, table, dialect, where)
    found = list(_check_columns(subject, table, dialect, where))
    yield from found or _check_ddl(subject, table, dialect, where)


def _check_names(subject: str, table: sa.Table, dialect: sa.Dialect, where: str) -> Iterator[Problem]:
    limit, unit = NAME_LIMITS.get(dialect.name, (0, ""))
    for kind, name in _iter_names(table):
        length = len(name.encode()) if unit == "bytes" else len(name)
        if limit and length > limit and not isinstance(name, conv):
            what = f"{subject}: the {kind} name {name!r} is {length} {unit} long, {dialect.name} allows {limit}"
            yield Problem(what, where, "give it a shorter name")


def _iter_names(table: sa.Table) -> Iterator[tuple[str, str]]:
    yield "table", table.name
    for column in table.columns:
        yield "column", column.name
    for kind, items in (("index", table.indexes), ("constraint", table.constraints)):
        yield from ((kind, item.name) for item in items if isinstance(item.name, str))


def _check_columns(subject: str, table: sa.Table, dialect: sa.Dialect, where: str) -> Iterator[Problem]:
    for column in table.columns:
        try:
            dialect.type_compiler_instance.process(column.type, type_expression=column)
        except (sa.exc.SQLAlchemyError, NotImplementedError) as error:
            what = (
                f"{subject}: the type of column {column.name!r} does not exist in {dialect.name}: {_first_line(error)}"
            )
            yield Problem(what, where, "use a type that every database has, or with_variant() for this one")


def _check_ddl(subject: str, table: sa.Table, dialect: sa.Dialect, where: str) -> Iterator[Problem]:
    statements: list[CreateTable | CreateIndex] = [CreateTable(table), *(CreateIndex(index) for index in table.indexes)]
    for statement in statements:
        try:
            statement.compile(dialect=dialect)
        except (sa.exc.SQLAlchemyError, NotImplementedError) as error:
            what = f"{subject} cannot be created in {dialect.name}: {_first_line(error)}"
            yield Problem(what, where, "change the model so that this database can hold it")


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]
