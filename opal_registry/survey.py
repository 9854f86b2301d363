"""What a database holds of the suite: which tables are there, how they differ, what the ledger says. Changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from opal_registry.engines.errors.failures import check_sqlite_file, explained
from opal_registry.engines.url import get_sqlite_path
from opal_registry.schema.catalog import Catalog, make_catalog, read_catalog
from opal_registry.schema.compiled import Compiler
from opal_registry.schema.ddl import describe_tables
from opal_registry.schema.live import Difference, Live
from opal_registry.schema.looking import look_at
from opal_registry.store import events, journal, ledger, tables
from opal_registry.store.holder import Holder
from opal_registry.store.journal import OpenStep, Unfinished
from opal_registry.store.ledger import Entry
from opal_registry.store.locks import find_run
from opal_registry.store.revisions import Standing, read_standings
from opal_registry.suite import LoadedSubApp


@dataclass(frozen=True, slots=True)
class Survey:
    """What one database holds of the sub-apps that live in it.

    Args:
        catalog: The names it holds.
        columns: The columns of the registry's own tables.
        entries: The ledger, also of sub-apps that are not installed here.
        steps: The open steps of a run of ``init`` that did not end, by sub-app.
        missing: For each sub-app its tables that are not there, in order of creation.
        present: For each sub-app those that are there.
        differences: For each sub-app how those that are there differ from their models.
        run: The run that is at work; only looked for where there are open steps.
        standings: For each sub-app with a history how far it has come, also of those that are not installed here.
        unfinished: For each sub-app the revisions that were begun and not finished.
        renamed: The sub-apps installed here that have a later name in the database, each with its entry there; they stand
            where that one does.
    """

    catalog: Catalog
    columns: tables.Columns
    entries: Mapping[str, Entry]
    steps: Mapping[str, list[OpenStep]]
    missing: Mapping[str, list[sa.Table]]
    present: Mapping[str, list[sa.Table]]
    differences: Mapping[str, list[Difference]] = field(default_factory=dict)
    standings: Mapping[str, Standing] = field(default_factory=dict)
    unfinished: Mapping[str, list[Unfinished]] = field(default_factory=dict)
    renamed: Mapping[str, Entry] = field(default_factory=dict)
    run: Holder | None = None

    @property
    def is_up_to_date(self) -> bool:
        """Whether the registry's own tables are all there, with all their columns."""
        return all(set(columns) <= set(self.columns.get(name, ())) for name, columns in tables.COMPLETE.items())


def survey(
    connection: sa.Connection, apps: Sequence[LoadedSubApp], *, before: Survey | None = None, compare: bool = True
) -> Survey:
    """Read what a database holds of some sub-apps; nothing is changed.

    Args:
        connection: The database.
        apps: The sub-apps that live in it.
        before: An earlier survey: tables that were there already are not compared with their models again.
        compare: Whether tables are compared with their models at all.
    """
    catalog = read_catalog(connection)
    columns = read_own_columns(connection, catalog)
    entries = ledger.read_ledger(connection, columns)
    renamed = _find_renamed(connection, apps, entries, columns)
    standings = read_standings(connection, [name for schema, name in catalog.relations if schema is None], columns)
    begun = journal.read_journal(connection, columns)
    return Survey(
        catalog=catalog,
        columns=columns,
        entries=entries,
        steps=begun.steps,
        missing={app.name: [table for table in app.tables if not catalog.find(table)] for app in apps},
        present={app.name: [table for table in app.tables if catalog.find(table)] for app in apps},
        differences=_compare(connection, apps, catalog, before) if compare else {},
        standings=standings | {old: standings[new.name] for old, new in renamed.items() if new.name in standings},
        unfinished=begun.unfinished,
        renamed=renamed,
    )


def _find_renamed(
    connection: sa.Connection, apps: Sequence[LoadedSubApp], entries: Mapping[str, Entry], there: tables.Columns
) -> dict[str, Entry]:
    """Sub-apps that are not known, whose tables one has that had their name before: another release's."""
    owners = {table: entry for entry in entries.values() for table in entry.tables}
    unknown = [app for app in apps if app.name not in entries]
    claimed = {app.name for app in unknown if any(table.fullname in owners for table in app.tables)}
    names = events.read_renames(connection, there) if claimed else {}
    return {old: entries[new] for old, new in names.items() if old in claimed and new in entries}


def read_own_columns(connection: sa.Connection, catalog: Catalog) -> tables.Columns:
    """The columns of those of the registry's own tables that are there.

    Raises:
        DatabaseError: If a table only has the name of one of ours.
    """
    return tables.read_columns(connection, [own for own in tables.metadata.sorted_tables if catalog.find(own)])


def survey_nothing(apps: Sequence[LoadedSubApp], dialect: sa.Dialect) -> Survey:
    """What a database holds that does not exist yet."""
    missing = {app.name: list(app.tables) for app in apps}
    return Survey(make_catalog(dialect.name), {}, {}, {}, missing, {app.name: [] for app in apps})


def survey_engine(engine: sa.Engine, apps: Sequence[LoadedSubApp], *, wait: float) -> Survey:
    """The same on a connection of its own; a SQLite file that does not exist is not created, and holds nothing.

    Args:
        engine: The database.
        apps: The sub-apps that live in it.
        wait: For how many seconds to wait for a table that somebody has locked.
    """
    if is_missing_file(engine):
        return survey_nothing(apps, engine.dialect)
    with explained(engine.url, doing="looking at the tables"), look_at(engine, wait=wait) as connection:
        found = survey(connection, apps)
        return replace(found, run=find_run(connection)) if found.steps else found


def is_missing_file(engine: sa.Engine) -> bool:
    """Whether an engine's database is a SQLite file that is not there yet, so that looking would create it.

    Raises:
        DatabaseError: If there could never be one.
    """
    check_sqlite_file(engine.url)
    path = get_sqlite_path(engine.url)
    return path is not None and not path.exists()


def make_entry(app: LoadedSubApp, compiler: Compiler) -> Entry:
    """What the ledger should say about a sub-app once it is complete."""
    needed = {
        f"{key.column.table.fullname}.{key.column.name}"
        for table in app.tables
        for key in table.foreign_keys
        if not app.owns(key.column.table)
    }
    return Entry(
        name=app.name,
        distribution=ledger.as_kept(app.distribution, "distribution"),
        version=ledger.as_kept(app.version, "version"),
        bind=app.sub_app.bind,
        schema=app.sub_app.schema,
        fingerprint=ledger.make_fingerprint(describe_tables(app.tables, compiler)),
        tables=tuple(sorted(table.fullname for table in app.tables)),
        foreign_columns=tuple(sorted(needed)),
        seeded=ledger.as_kept(app.version, "seeded"),
    )


def _compare(
    connection: sa.Connection, apps: Sequence[LoadedSubApp], catalog: Catalog, before: Survey | None
) -> dict[str, list[Difference]]:
    known = {table for found in before.present.values() for table in found} if before else set()
    fresh = {app.name: [t for t in app.tables if t not in known and catalog.find(t)] for app in apps}
    live = Live(connection, [table for found in fresh.values() for table in found], catalog)
    old = before.differences if before else {}
    return {name: [*old.get(name, ()), *live.differences(found)] for name, found in fresh.items()}
