"""Writing down that a database is at a revision, without running anything."""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from opal_registry.engines.errors.failures import explained
from opal_registry.engines.url import describe_url
from opal_registry.errors import PluginError, Problem
from opal_registry.migrations.history import History
from opal_registry.migrations.look import Target, find_history
from opal_registry.migrations.progress import check_has_its_name, find_applied
from opal_registry.migrations.run import Announce
from opal_registry.mixins import utc_now
from opal_registry.registry import Registry
from opal_registry.schema.compiled import Compiler
from opal_registry.store import events, journal, ledger, tables
from opal_registry.store.locks import hold_run, ignore
from opal_registry.store.revisions import (
    NOWHERE,
    Standing,
    make_head,
    make_record,
    make_removal,
    make_version_table,
)
from opal_registry.survey import Survey, survey


def stamp(
    registry: Registry, target: Target, *, command: str = "stamp", keep: Sequence[str] = (), announce: Announce = ignore
) -> tuple[str, ...]:
    """Write down that a sub-app is at a revision: everything up to it counts as applied, everything else as not.

    Revisions of it that were begun and not finished are taken to be what is written down.

    Args:
        registry: The registry of the suite.
        target: The sub-app, and the revision; its heads if none is given, ``base`` for none.
        command: What is recorded as run.
        keep: Revisions that count as applied besides, with all that they need.
        announce: Told what a person should know while it happens.

    Returns:
        The heads that its version table has now.

    Raises:
        ConfigError: If there is no such revision, or the database knows the sub-app by a later name.
        PluginError: If it needs revisions of other sub-apps that the database lacks, or others need what would not count
            as applied any more.
        DatabaseError: If the database fails.
        LockTimeoutError: If another run does not end in time.
    """
    app, histories = find_history(registry, target.app)
    history = histories[app.name]
    ids = history.ancestors((*history.resolve(target.revision or "heads"), *keep))
    engine, wait = registry.migration_engine(app.sub_app.bind), registry.settings.locks.wait
    where, started_at = describe_url(engine.url), utc_now()
    with (
        explained(engine.url, doing=f"stamping {app.name!r}"),
        hold_run(engine, wait=wait, where=where, announce=announce),
        engine.begin() as connection,
    ):
        found = survey(connection, [app], compare=False)
        check_has_its_name(app.name, found, where)
        _check_pins(history, ids, histories, found, where)
        _make_tables(connection, history, found)
        _write(connection, history, ids, found.standings.get(app.name, NOWHERE))
        for each in found.unfinished.get(app.name, ()):
            number = len(each.sent)
            journaled = "1 statement" if number == 1 else f"{number} statements"
            announce(f"{each}; the journal of {journaled} is cleared: what it left behind is taken to be seen to")
        connection.execute(journal.make_finish(app.name))
        connection.execute(ledger.make_forgetting([app.name]))
        detail = {"revisions": sorted(ids)}
        connection.execute(events.make_insert(events.make_event(command, started_at, outcome=events.DONE, **detail)))
    return history.find_heads(ids)


def _check_pins(history: History, ids: set[str], histories: dict[str, History], found: Survey, where: str) -> None:
    applied = {name: find_applied(histories.get(name), standing) for name, standing in found.standings.items()}
    problems = [
        Problem(
            f"{history.revisions[each]} needs {app}@{need}, which the database lacks", where, f"upgrade {app!r} first"
        )
        for each in sorted(ids)
        for app, needs in history.revisions[each].pins.items()
        for need in needs
        if need not in applied.get(app, ())
    ]
    problems += _iter_needing(history.app, applied.get(history.app, set()) - ids, found, where)
    if problems:
        raise PluginError(*problems)


def _iter_needing(app: str, gone: set[str], found: Survey, where: str) -> Iterator[Problem]:
    for standing in found.standings.values():
        for each in standing.applied.values():
            if needed := sorted(gone.intersection(each.pins.get(app, ()))):
                what = f"{each} is applied, and needs {', '.join(f'{app}@{id_}' for id_ in needed)}"
                yield Problem(what, where, f"take {each} back first, or stamp {each.sub_app!r} first")


def _make_tables(connection: sa.Connection, history: History, found: Survey) -> None:
    compiler = Compiler(connection.dialect)
    for ddl in tables.iter_upgrade(found.columns, compiler.dialect):
        connection.exec_driver_sql(compiler.text(ddl), execution_options={"no_parameters": True})
    make_version_table(history.app).create(connection, checkfirst=True)


def _write(connection: sa.Connection, history: History, ids: set[str], standing: Standing) -> None:
    connection.execute(sa.delete(make_version_table(history.app)))
    for head in history.find_heads(ids):
        connection.execute(make_head(history.app, head))
    kept = ids | {old for old, new in history.replaced.items() if new in ids}
    gone: Sequence[str] = sorted(standing.applied.keys() - kept)
    if gone:
        connection.execute(make_removal(history.app, gone))
    for id_, each in history.revisions.items():
        if id_ in ids - standing.applied.keys():
            connection.execute(make_removal(history.app, [id_, *each.replaces]))
            for applied in each.iter_applied(history.version):
                connection.execute(make_record(applied))
