"""Asking preflight, and asking the database itself."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from opal_registry.discovery import Plugin
from opal_registry.preflight.checks import find_impossible
from opal_registry.schema.compiled import Compiler
from opal_registry.sub_app import SubApp
from opal_registry.suite import LoadedSubApp
from tests.databases import engine_of


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    """A connection to a database; what is created meanwhile is gone at the end."""
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            yield connection
            connection.rollback()
            if connection.dialect.name == "mysql":
                connection.exec_driver_sql("SET foreign_key_checks = 0")
                for name in connection.exec_driver_sql("SHOW TABLES").scalars().all():
                    connection.exec_driver_sql(f"DROP TABLE `{name}`")
    finally:
        engine.dispose()


def app_of(name: str, *tables: sa.Table) -> LoadedSubApp:
    return LoadedSubApp(SubApp(name=name), Plugin(name, f"{name}.opal", f"opal-{name}", "2.0"), tables, (), 0.0)


def look(
    tables: Sequence[sa.Table], connection: sa.Connection | None = None, dialect: sa.Dialect | None = None
) -> list[tuple[str, str]]:
    """What preflight says of tables of the sub-app ``shop``, and how it would mend it."""
    compiler = Compiler(dialect or connection.dialect)  # type: ignore[union-attr]
    problems = find_impossible(app_of("shop", *tables), tables, compiler, connection)
    start = "sub-app 'shop': table 'items': "
    return [(problem.what.removeprefix(start), problem.mend) for problem in problems]


def refusal(connection: sa.Connection, metadata: sa.MetaData, *, insert: bool = False) -> str:
    """What the database itself says when plain ``create_all`` meets the tables, or the first row; empty if it takes them."""
    notices: list[str] = []
    if connection.dialect.name == "postgresql":
        connection.connection.driver_connection.add_notice_handler(  # type: ignore[union-attr]
            lambda notice: notices.append(str(notice.message_primary))
        )
    try:
        metadata.create_all(connection)
        if insert:
            connection.execute(metadata.tables["items"].insert(), {"id": 1})
    except Exception as error:  # noqa: BLE001 -- compilers raise whatever they stumble over
        return str(getattr(error, "orig", None) or error)
    return "".join(notices)


@contextmanager
def counted(connection: sa.Connection) -> Iterator[list[str]]:
    """The queries that are sent meanwhile."""
    queries: list[str] = []

    def count(*arguments: Any) -> None:
        queries.append(arguments[2])

    sa.event.listen(connection, "before_cursor_execute", count)
    yield queries
    sa.event.remove(connection, "before_cursor_execute", count)


__all__ = ["app_of", "connected", "counted", "look", "refusal"]
