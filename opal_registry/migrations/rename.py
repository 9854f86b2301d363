"""Renaming what a database knows of a sub-app that has another name from this release on; its tables stay as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import sqlalchemy as sa

from opal_registry.engines.errors.failures import explained
from opal_registry.engines.url import describe_url
from opal_registry.errors import OwnershipError, Problem
from opal_registry.migrations.run import Announce
from opal_registry.mixins import utc_now
from opal_registry.registry import Registry
from opal_registry.store import events, ledger
from opal_registry.store.locks import hold_run
from opal_registry.store.revisions import VERSION_TABLE
from opal_registry.store.tables import revisions, steps, sub_apps
from opal_registry.suite import LoadedSubApp
from opal_registry.survey import Survey, survey

Item = TypeVar("Item")


def rename_sub_apps(
    registry: Registry, bind: str, apps: Sequence[LoadedSubApp], found: Survey, *, announce: Announce
) -> dict[str, str]:
    """Let a database know sub-apps by the names that they have today.

    Args:
        registry: The registry of the suite.
        bind: The database.
        apps: The sub-apps that live there.
        found: What it holds.
        announce: Told what a person should know while it happens.

    Returns:
        The former names, each with the one of today; empty if there was nothing to do.

    Raises:
        OwnershipError: If it knows a sub-app by both names.
        DatabaseError: If it fails.
        LockTimeoutError: If another run does not end in time.
    """
    engine, wait = registry.migration_engine(bind), registry.settings.locks.wait
    where, started_at = describe_url(engine.url), utc_now()
    if not find_renames(apps, found, where):
        return {}
    with (
        explained(engine.url, doing="renaming what is known of sub-apps"),
        hold_run(engine, wait=wait, where=where, announce=announce),
        engine.begin() as connection,
    ):
        renames = find_renames(apps, survey(connection, apps, compare=False), where)
        for old, new in renames.items():
            _rename(connection, old, new)
        _rename_pins(connection, renames)
        event = events.make_event(events.RENAME, started_at, outcome=events.DONE, renamed=renames)
        connection.execute(events.make_insert(event))
    return renames


def find_renames(apps: Sequence[LoadedSubApp], found: Survey, where: str) -> dict[str, str]:
    """The former names that a database knows sub-apps by, each with the one of today.

    Raises:
        OwnershipError: If it knows a sub-app by both names.
    """
    known = _find_known(found)
    renames = {old: app.name for app in apps for old in app.sub_app.renamed_from if old in known}
    both = [
        Problem(f"the database knows {new!r} by its former name {old!r} as well", where, _mend(old))
        for old, new in renames.items()
        if new in known
    ]
    if both:
        raise OwnershipError(*both)
    return renames


def find_former_names(apps: Sequence[LoadedSubApp], found: Survey) -> dict[str, str]:
    """The same of those that it does not know by the name of today as well."""
    known = _find_known(found)
    unknown = [app for app in apps if app.name not in known]
    return {old: app.name for app in unknown for old in app.sub_app.renamed_from if old in known}


def _find_known(found: Survey) -> set[str]:
    return {*found.entries, *found.standings}


def as_renamed(found: Survey, renames: Mapping[str, str]) -> Survey:
    """What a database will hold once its sub-apps have the names of today."""

    def renamed(known: Mapping[str, Item]) -> dict[str, Item]:
        return {renames.get(name, name): item for name, item in known.items()}

    entries, standings, unfinished = renamed(found.entries), renamed(found.standings), renamed(found.unfinished)
    return replace(found, entries=entries, standings=standings, unfinished=unfinished)


def _mend(old: str) -> str:
    return f"take {old!r} out of renamed_from, or out of the database"


def _rename(connection: sa.Connection, old: str, new: str) -> None:
    quote = connection.dialect.identifier_preparer.quote
    if sa.inspect(connection).has_table(VERSION_TABLE + old):
        connection.exec_driver_sql(f"ALTER TABLE {quote(VERSION_TABLE + old)} RENAME TO {quote(VERSION_TABLE + new)}")
    for table, column in ((sub_apps, sub_apps.c.name), (revisions, revisions.c.sub_app), (steps, steps.c.sub_app)):
        connection.execute(sa.update(table).where(column == old).values({column.name: new}))
    connection.execute(ledger.make_forgetting([new]))


def _rename_pins(connection: sa.Connection, renames: dict[str, str]) -> None:
    key = (revisions.c.sub_app, revisions.c.revision)
    for app, id_, pins in connection.execute(sa.select(*key, revisions.c.pins)).all():
        if renames.keys() & (pins or {}).keys():
            renamed = {renames.get(name, name): ids for name, ids in pins.items()}
            mine = (revisions.c.sub_app == app, revisions.c.revision == id_)
            connection.execute(sa.update(revisions).where(*mine).values(pins=renamed))
