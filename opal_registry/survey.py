"""What a database holds of the suite: which tables are there, how they differ, what the ledger says. Changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from opal_registry.engines.factory import with_intent
from opal_registry.engines.failures import check_sqlite_file, explained
from opal_registry.engines.url import get_sqlite_path
from opal_registry.schema.ddl import describe_tables
from opal_registry.schema.live import Difference, Live
from opal_registry.store import ledger
from opal_registry.suite import LoadedSubApp


@dataclass(frozen=True, slots=True)
class Survey:
    """What one database holds of the sub-apps that live in it.

    Args:
        missing: For each sub-app its tables that are not there, in order of creation.
        present: For each sub-app those that are there.
        differences: For each sub-app how those that are there differ from their models.
        entries: The ledger, also of sub-apps that are not installed here.
        has_ledger: Whether the ledger's table is there.
        type_names: Schemas, enum types and sequences that are there.
    """

    missing: dict[str, list[sa.Table]]
    present: dict[str, list[sa.Table]]
    differences: dict[str, list[Difference]]
    entries: dict[str, ledger.Entry]
    has_ledger: bool
    type_names: frozenset[str]


def survey(connection: sa.Connection, apps: Sequence[LoadedSubApp]) -> Survey:
    """Read what a database holds of some sub-apps; nothing is changed."""
    live = Live(connection, [ledger.sub_apps, *(table for app in apps for table in app.tables)])
    present = {app.name: [table for table in app.tables if live.has(table)] for app in apps}
    has_ledger = live.has(ledger.sub_apps)
    return Survey(
        missing={app.name: [table for table in app.tables if not live.has(table)] for app in apps},
        present=present,
        differences={name: live.differences(tables) for name, tables in present.items()},
        entries=ledger.read_ledger(connection) if has_ledger else {},
        has_ledger=has_ledger,
        type_names=live.type_names(),
    )


def survey_nothing(apps: Sequence[LoadedSubApp]) -> Survey:
    """What a database holds that does not exist yet."""
    missing = {app.name: list(app.tables) for app in apps}
    nothing: dict[str, list[Any]] = {app.name: [] for app in apps}
    return Survey(missing, nothing, nothing, {}, has_ledger=False, type_names=frozenset())


def survey_engine(engine: sa.Engine, apps: Sequence[LoadedSubApp]) -> Survey:
    """The same, in a read-only transaction; a SQLite file that does not exist is not created, and holds nothing."""
    path = get_sqlite_path(engine.url)
    check_sqlite_file(engine.url)
    if path is not None and not path.exists():
        return survey_nothing(apps)
    with explained(engine.url, doing="looking at the tables"), with_intent(engine, "read_only").connect() as connection:
        return survey(connection, apps)


def make_entry(app: LoadedSubApp, dialect: sa.Dialect) -> ledger.Entry:
    """What the ledger should say about a sub-app once it is complete."""
    keys = [key for table in app.tables for key in table.foreign_keys if key.column.table not in app.tables]
    return ledger.Entry(
        name=app.name,
        distribution=app.distribution,
        version=app.version,
        bind=app.sub_app.bind,
        schema=app.sub_app.schema,
        fingerprint=ledger.make_fingerprint(describe_tables(app.tables, dialect)),
        tables=tuple(sorted(table.fullname for table in app.tables)),
        foreign_columns=tuple(sorted({f"{key.column.table.fullname}.{key.column.name}" for key in keys})),
        seeded=app.version,
    )
