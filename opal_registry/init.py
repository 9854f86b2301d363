"""Bringing the schema up: create what is missing, record it, seed it, and alter nothing.

    suite -> survey (what is there?) -> preflight (can it be?) -> one transaction: tables, hooks, seeds, ledger

The survey takes no lock. Where it finds something to do, it is repeated under the lock: another process may have been
faster.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from opal_registry.discovery import Discovery
from opal_registry.engines.failures import explained
from opal_registry.engines.url import describe_url
from opal_registry.errors import PluginError, SchemaError
from opal_registry.guard import Step, guarded, quiet_step
from opal_registry.registry import Registry
from opal_registry.schema.ddl import create_database, create_tables, render_ddl
from opal_registry.schema.live import Difference
from opal_registry.schema.preflight import find_impossible
from opal_registry.sessions import OpalSession
from opal_registry.store import ledger
from opal_registry.store.locks import hold_lock
from opal_registry.suite import LoadedSubApp, Quarantined
from opal_registry.survey import Survey, make_entry, survey, survey_engine


@dataclass(frozen=True, slots=True)
class SubAppReport:
    """What a run found and did for one sub-app.

    Args:
        app: The sub-app.
        created: The tables that were created, or would be, in order.
        present: Those that were there already.
        differences: How those that were there differ from their models.
        statements: The statements that create what is missing; only in a dry run.
        seeded: Whether its first rows were put in.
        seconds: How long creating and seeding took.
    """

    app: LoadedSubApp
    created: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    statements: tuple[str, ...] = ()
    seeded: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class InitReport:
    """What a run of ``init`` found and did.

    Args:
        databases: For each bind that was looked at, where its database is.
        sub_apps: One report per sub-app, in order.
        quarantined: The sub-apps that were left out, and why.
        bookkeeping: The statements for the registry's own tables; only in a dry run.
        dry_run: Whether nothing was changed on purpose.
        seconds: How long everything took, imports included.
    """

    databases: dict[str, str]
    sub_apps: tuple[SubAppReport, ...]
    quarantined: tuple[Quarantined, ...]
    bookkeeping: tuple[str, ...]
    dry_run: bool
    seconds: float

    @property
    def exit_code(self) -> int:
        """1 if an existing table cannot be used as it is, else 0."""
        return int(any(difference.harmful for report in self.sub_apps for difference in report.differences))


def init(
    registry: Registry, *, dry_run: bool = False, create_missing_database: bool = False, step: Step = quiet_step
) -> InitReport:
    """Create every missing table of every sub-app, in every database that is configured for one.

    Safe to repeat, and safe to run from several processes at once. What exists is never altered. Where the database has
    transactional DDL (SQLite, PostgreSQL) a failure leaves nothing behind.

    Args:
        registry: The registry of the suite.
        dry_run: Find out and render what would be done, and change nothing.
        create_missing_database: Make the database itself where it is missing (PostgreSQL, MySQL).
        step: Told what is being done.

    Raises:
        PluginError: If a sub-app cannot be loaded, or its models cannot exist in its database.
        DatabaseError: If the database is unreachable, refuses, or fails.

    Example:
        >>> from opal_registry.settings.model import Settings
        >>> with Registry(Settings(database={"url": "sqlite://"}), sub_apps=["core"]) as registry:
        ...     report = init(registry)
        >>> report.sub_apps[0].created, report.exit_code
        (('users',), 0)
    """
    started = time.perf_counter()
    suite = registry.suite
    runs = [
        _Run(registry, bind, [app for app in suite.sub_apps if app.sub_app.bind == bind]) for bind in _binds(registry)
    ]
    for run in runs:
        if create_missing_database and not dry_run:
            with explained(run.engine.url, doing="creating the database"):
                create_database(run.engine.url)
        with step(f"looking at {run}"):
            run.survey()
    _preflight(runs)
    for run in runs:
        if not dry_run:
            run.apply(suite.discovery, wait=registry.settings.locks.wait, step=step)
    return InitReport(
        databases={run.bind: str(run) for run in runs},
        sub_apps=tuple(
            report for app in suite.sub_apps for run in runs for report in run.reports(app, dry_run=dry_run)
        ),
        quarantined=suite.quarantined,
        bookkeeping=tuple(statement for run in runs for statement in run.bookkeeping()) if dry_run else (),
        dry_run=dry_run,
        seconds=time.perf_counter() - started,
    )


class _Run:
    """One run in one database."""

    def __init__(self, registry: Registry, bind: str, apps: Sequence[LoadedSubApp]) -> None:
        self.bind, self.apps = bind, apps
        self.engine = registry.engine(bind)
        self.found: Survey
        self.done: dict[str, SubAppReport] = {}

    def __str__(self) -> str:
        return describe_url(self.engine.url)

    def survey(self) -> None:
        self.found = survey_engine(self.engine, self.apps)

    def impossible(self) -> list[PluginError]:
        found = [find_impossible(app, self.found.missing[app.name], self.engine.dialect) for app in self.apps]
        return [SchemaError(*problems) for problems in found if problems]

    def apply(self, discovery: Discovery, *, wait: float, step: Step) -> None:
        if not any(self._has_work(app, discovery) for app in self.apps):
            return
        with (
            explained(self.engine.url),
            self.engine.begin() as connection,
            hold_lock(connection, wait=wait),
        ):
            self.found = survey(connection, self.apps)
            ledger.metadata.create_all(connection)
            for app in self.apps:
                with step(f"creating {len(self.found.missing[app.name])} tables of {app.name}"):
                    self.done[app.name] = self._bring_up(connection, app, discovery)

    def reports(self, app: LoadedSubApp, *, dry_run: bool) -> Iterator[SubAppReport]:
        if app not in self.apps:
            return
        missing = self.found.missing[app.name]
        report = replace(
            self.done.get(app.name, SubAppReport(app)),
            created=_names(missing),
            present=_names(self.found.present.get(app.name, ())),
            differences=tuple(self.found.differences.get(app.name, ())),
        )
        yield replace(report, statements=tuple(self._render(missing))) if dry_run else report

    def bookkeeping(self) -> list[str]:
        return [] if self.found.has_ledger else self._render([ledger.sub_apps])

    def _bring_up(self, connection: sa.Connection, app: LoadedSubApp, discovery: Discovery) -> SubAppReport:
        started = time.perf_counter()
        missing = self.found.missing[app.name]
        if missing:
            with explained(self.engine.url, doing=f"creating the tables of sub-app {app.name!r}"):
                create_tables(connection, missing)
            with guarded("calling opal_tables_created", where=str(app.plugin)):
                hook = discovery.hook("opal_tables_created", app.plugin)
                hook(connection=connection, sub_app=app.sub_app, tables=missing)
        seeded = self._needs_seed(app, discovery)
        if seeded:
            _seed(connection, app, discovery)
        entry = make_entry(app, self.engine.dialect)
        ledger.write_entry(connection, entry, self.found.entries.get(app.name))
        return SubAppReport(app, seeded=seeded, seconds=time.perf_counter() - started)

    def _has_work(self, app: LoadedSubApp, discovery: Discovery) -> bool:
        if self.found.missing[app.name] or self._needs_seed(app, discovery):
            return True
        return ledger.needs_writing(make_entry(app, self.engine.dialect), self.found.entries.get(app.name))

    def _needs_seed(self, app: LoadedSubApp, discovery: Discovery) -> bool:
        """Whether tables are new, or the version is not the one that was seeded (a later one's seeds are left alone)."""
        if not discovery.implements("opal_seed", app.plugin):
            return False
        entry = self.found.entries.get(app.name)
        if self.found.missing[app.name] or entry is None:
            return True
        return entry.seeded != app.version and not entry.is_newer_than(app.distribution, app.version)

    def _render(self, tables: Sequence[sa.Table]) -> list[str]:
        return render_ddl(tables, self.engine.dialect, existing=self.found.type_names)


def _seed(connection: sa.Connection, app: LoadedSubApp, discovery: Discovery) -> None:
    with (
        OpalSession(bind=connection, join_transaction_mode="create_savepoint") as session,
        guarded("calling opal_seed", where=str(app.plugin)),
    ):
        discovery.hook("opal_seed", app.plugin)(session=session, sub_app=app.sub_app)
        session.commit()


def _binds(registry: Registry) -> list[str]:
    used = {app.sub_app.bind for app in registry.suite.sub_apps}
    return [bind for bind in registry.settings.databases if bind in used]


def _preflight(runs: Sequence[_Run]) -> None:
    problems = [problem for run in runs for error in run.impossible() for problem in error.problems]
    if problems:
        raise SchemaError(*problems)


def _names(tables: Sequence[sa.Table]) -> tuple[str, ...]:
    return tuple(table.fullname for table in tables)
