"""What cannot be created in the target database, found before the first statement.

A false alarm stops a deployment, and is worse than a database's own error: what is not certain is left to the database.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from opal_registry.engines.url import describe_url
from opal_registry.errors import Problem
from opal_registry.ownership.definitions import find_place
from opal_registry.preflight.defaults import find_wrong_defaults
from opal_registry.preflight.deferral import find_wrong_deferrals
from opal_registry.preflight.expressions import Expression, find_foreign_sql, iter_expressions
from opal_registry.preflight.extensions import find_missing, iter_wants
from opal_registry.preflight.foreign_keys import find_impossible_keys
from opal_registry.preflight.indexes import find_wrong_indexes
from opal_registry.preflight.keys import find_long_keys
from opal_registry.preflight.lengths import find_too_long, find_wrong_number
from opal_registry.preflight.names import find_equal_constraints, find_wrong_names
from opal_registry.preflight.places import find_misplaced
from opal_registry.preflight.target import MYSQL, Subject, Target, has_listeners
from opal_registry.preflight.translation import find_untranslatable
from opal_registry.schema.compiled import Compiler
from opal_registry.suite import LoadedSubApp


def find_impossible(
    app: LoadedSubApp,
    tables: Sequence[sa.Table],
    compiler: Compiler,
    connection: sa.Connection | None,
    *,
    is_prepared: bool = False,
) -> list[Problem]:
    """What in a sub-app's tables the database would refuse, or take and then fail on.

    Args:
        app: The sub-app, for the texts.
        tables: Those of its tables that are to be created.
        compiler: Of the target database; what it compiles here it need not compile again.
        connection: The database, which is asked only where something is out of the ordinary; None where it does not
            exist yet.
        is_prepared: Whether code of somebody's runs before; see :func:`find_prepared`.
    """
    target, made = Target(compiler, connection), frozenset(tables)
    subjects = [
        (subject, list(iter_expressions(subject))) for subject in (Subject(app, table, target) for table in tables)
    ]
    problems = [problem for subject, expressions in subjects for problem in _check(subject, expressions, made)]
    problems += find_equal_constraints([subject for subject, _ in subjects])
    if is_prepared or any(map(has_listeners, tables)):
        return problems
    wants = [want for subject, expressions in subjects for want in iter_wants(subject, expressions)]
    return [*problems, *find_missing(wants, connection)]


def find_prepared(
    apps: Sequence[LoadedSubApp],
    to_create: Mapping[str, Sequence[sa.Table]],
    has_hook: Callable[[LoadedSubApp], bool],
) -> set[str]:
    """The sub-apps before whose tables somebody else's code runs: it may make types, functions, whatever they want.

    Args:
        apps: Those that live in the database, each after those it needs.
        to_create: The tables that are to be created, by sub-app.
        has_hook: Whether a sub-app's plugin does something of its own once its tables are created.
    """
    prepared: set[str] = set()
    makers: set[str] = set()
    for app in apps:
        tables = to_create[app.name]
        if not makers.isdisjoint(app.needs):
            prepared.add(app.name)
        if app.name in prepared or any(map(has_listeners, tables)) or (tables and has_hook(app)):
            makers.add(app.name)
    return prepared


def _check(subject: Subject, expressions: list[Expression], made: frozenset[sa.Table]) -> Iterator[Problem]:
    if subject.table._creator_ddl is not None or not subject.table.columns:
        yield from find_wrong_number(subject)
        return
    yield from find_wrong_names(subject)
    yield from find_untranslatable(subject)
    yield from find_wrong_number(subject)
    yield from find_too_long(subject)
    yield from find_long_keys(subject)
    yield from find_wrong_indexes(subject)
    yield from find_impossible_keys(subject, made)
    yield from find_wrong_deferrals(subject)
    yield from find_foreign_sql(subject, expressions)
    yield from find_misplaced(subject, expressions)
    yield from find_wrong_defaults(subject, expressions)


@dataclass(frozen=True, slots=True)
class _Named:
    """A table, or an index of it, as it is called with its schema."""

    app: LoadedSubApp
    table: sa.Table
    kind: str
    name: str

    def __str__(self) -> str:
        name = f"{self.table.schema}.{self.name}" if self.table.schema else self.name
        return f"the {self.kind} {name!r} of sub-app {self.app.name!r} ({self.app.distribution} {self.app.version})"


def find_equal_names(apps: Sequence[LoadedSubApp], compiler: Compiler) -> list[Problem]:
    """Tables and indexes of different schemas that have one name where schemas are left out: on SQLite.

    Args:
        apps: The sub-apps that live in the database.
        compiler: Of the database.
    """
    tables = [(app, table) for app in apps for table in app.tables]
    if compiler.dialect.name != "sqlite" or not any(table.schema for _, table in tables):
        return []
    first: dict[str, _Named] = {}
    problems = []
    for named in sorted(_iter_named(tables), key=lambda named: named.kind != "table"):
        other = first.setdefault(named.name.lower(), named)
        if (other.table.schema or "") != (named.table.schema or ""):
            what = f"{other} and {named} have one name on SQLite, which has no schemas"
            where = f"{find_place(other.table)} and {find_place(named.table)}"
            problems.append(Problem(what, where, "rename one of them, or use a database that has schemas"))
    return problems


def _iter_named(tables: Sequence[tuple[LoadedSubApp, sa.Table]]) -> Iterator[_Named]:
    for app, table in tables:
        yield _Named(app, table, "table", table.name)
        yield from (_Named(app, table, "index", index.name) for index in table.indexes if isinstance(index.name, str))


def find_unfit_database(connection: sa.Connection) -> list[Problem]:
    """What of a database itself would keep it from holding every text, or from keeping its foreign keys.

    Args:
        connection: To the database, in which something is to be created; one query, none for SQLite.
    """
    where = describe_url(connection.engine.url)
    if connection.dialect.name == "postgresql":
        return list(_check_encoding(connection, where))
    return list(_check_defaults(connection, where)) if connection.dialect.name in MYSQL else []


def _check_encoding(connection: sa.Connection, where: str) -> Iterator[Problem]:
    driver: Any = connection.connection.driver_connection
    if connection.dialect.driver == "psycopg":
        encoding = driver.info.parameter_status("server_encoding")  # told at the start: no question
    else:
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        what = f"the database has the encoding {encoding}, which cannot hold every text"
        yield Problem(what, where, "make another one: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0")


def _check_defaults(connection: sa.Connection, where: str) -> Iterator[Problem]:
    query = "SELECT DATABASE(), @@character_set_database, @@default_storage_engine"
    database, charset, storage = connection.exec_driver_sql(query).one()
    if charset != "utf8mb4":
        what = f"the database has the character set {charset}, which cannot hold every text"
        quoted = connection.dialect.identifier_preparer.quote_identifier(database)
        yield Problem(what, where, f"ALTER DATABASE {quoted} CHARACTER SET utf8mb4")
    if storage.lower() != "innodb":
        what = f"the server makes tables with {storage} unless told otherwise, which keeps no foreign keys and takes nothing back"
        yield Problem(what, where, "set default_storage_engine=InnoDB in the server's configuration")
