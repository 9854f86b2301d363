"""Bringing the schema up: create what is missing, record it, seed it, and alter nothing.

    suite -> survey (what is there?) -> preflight (can it be?) -> one transaction: tables, hooks, seeds, ledger

The survey takes no lock. Where it finds something to do, it is repeated under the lock: another process may have been
faster.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import sqlalchemy as sa

from opal_registry.engines.factory import make_server_engines
from opal_registry.engines.failures import explain, explained, is_outage
from opal_registry.engines.url import describe_url
from opal_registry.errors import LockTimeoutError, OwnershipError, PluginError, Problem, SchemaError
from opal_registry.guard import Step, guarded, quiet_step
from opal_registry.registry import Registry
from opal_registry.schema.ddl import create_database, create_tables, render_ddl
from opal_registry.schema.live import Difference
from opal_registry.schema.preflight import find_impossible
from opal_registry.sessions import OpalSession
from opal_registry.store import ledger
from opal_registry.store.locks import AnotherRunError, hold_lock, kept_open, retry_pauses
from opal_registry.suite import LoadedSubApp, Quarantined, Suite
from opal_registry.survey import make_entry, survey, survey_engine, survey_nothing


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
    transactional DDL (SQLite, PostgreSQL) a failure leaves nothing behind in it; each database is a run of its own.

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
    runs = [_Run(registry, bind) for bind in _binds(registry)]
    for run in runs:
        with step(f"looking at {run}"):
            run.look(create_missing_database=create_missing_database, dry_run=dry_run)
    if problems := [problem for run in runs for problem in run.find_taken()]:
        raise OwnershipError(*problems)
    if problems := [problem for run in runs for problem in run.find_impossible()]:
        raise SchemaError(*problems)
    for run in runs:
        if not dry_run:
            run.apply(step)
    return InitReport(
        databases={run.bind: str(run) for run in runs},
        sub_apps=_in_order(suite, [report for run in runs for report in run.reports(dry_run=dry_run)]),
        quarantined=suite.quarantined,
        bookkeeping=tuple(statement for run in runs for statement in run.bookkeeping()) if dry_run else (),
        dry_run=dry_run,
        seconds=time.perf_counter() - started,
    )


class _Run:
    """One run in one database."""

    def __init__(self, registry: Registry, bind: str) -> None:
        self.bind, self.registry = bind, registry
        self.engine, self.discovery = registry.engine(bind), registry.suite.discovery
        self.apps = [app for app in registry.suite.sub_apps if app.sub_app.bind == bind]
        self.found = survey_nothing(self.apps)
        self.done: dict[str, SubAppReport] = {}
        self.database_is_missing = False

    def __str__(self) -> str:
        return describe_url(self.engine.url) + (" (does not exist yet)" if self.database_is_missing else "")

    def look(self, *, create_missing_database: bool, dry_run: bool) -> None:
        """Find out what is there, in a database that is made before if it shall be."""
        if create_missing_database:
            servers = make_server_engines(self.registry.settings.databases[self.bind])
            with explained(self.engine.url, doing="creating the database"):
                self.database_is_missing = create_database(self.engine, servers, dry_run=dry_run) and dry_run
        if not self.database_is_missing:
            self.found = survey_engine(self.engine, self.apps)

    def find_taken(self) -> Iterator[Problem]:
        """Tables that the ledger gives to a sub-app that is not installed here: another image's."""
        here = {app.name for app in self.registry.suite.sub_apps}
        absent = [entry for name, entry in self.found.entries.items() if name not in here]
        owned = {table: entry for entry in absent for table in entry.tables}
        for app in self.apps:
            for name in sorted(owned.keys() & {table.fullname for table in app.tables}):
                entry = owned[name]
                what = f"the table {name!r} has two owners: sub-app {entry.name!r} ({entry.distribution} {entry.version}), "
                what += f"which the ledger knows from another image, and sub-app {app.name!r} ({app.distribution} {app.version})"
                yield Problem(what, str(self), "rename one of them, or use a database that the other never used")

    def find_impossible(self) -> Iterator[Problem]:
        for app in self.apps:
            yield from find_impossible(app, self.found.missing[app.name], self.engine.dialect)

    def apply(self, step: Step) -> None:
        """Bring up every sub-app, all or nothing; again where a table was in use for too long."""
        pauses = retry_pauses(self.registry.settings.locks.retries)
        while any(self._has_work(app) for app in self.apps):
            try:
                self._bring_up_all(step)
                break
            except AnotherRunError:
                raise
            except LockTimeoutError:
                pause = next(pauses, None)
                if pause is None:
                    raise
                time.sleep(pause)

    def reports(self, *, dry_run: bool) -> Iterator[SubAppReport]:
        known = set(self.found.type_names)
        for app in self.apps:
            missing = self.found.missing[app.name]
            statements = render_ddl(missing, self.engine.dialect, known=known) if dry_run else ()
            yield replace(
                self.done.get(app.name, SubAppReport(app)),
                created=_names(missing),
                present=_names(self.found.present[app.name]),
                differences=tuple(self.found.differences[app.name]),
                statements=tuple(statements),
            )

    def bookkeeping(self) -> list[str]:
        return [] if self.found.has_ledger else render_ddl([ledger.sub_apps], self.engine.dialect, known=set())

    def _bring_up_all(self, step: Step) -> None:
        locks = self.registry.settings.locks
        with (
            explained(self.engine.url),
            self.engine.begin() as connection,
            hold_lock(connection, wait=locks.wait, statement_wait=locks.ddl_lock_timeout, where=str(self)),
        ):
            self.found = survey(connection, self.apps)
            ledger.metadata.create_all(connection)
            known = set(self.found.type_names)
            for app in self.apps:
                with step(f"bringing up {app.name}"):
                    self.done[app.name] = self._bring_up(connection, app, known)

    def _bring_up(self, connection: sa.Connection, app: LoadedSubApp, known: set[str]) -> SubAppReport:
        started = time.perf_counter()
        missing = self.found.missing[app.name]
        if missing:
            with explained(self.engine.url, doing=f"creating the tables of sub-app {app.name!r}"):
                create_tables(connection, missing, known=known)
            with self._hook(connection, "opal_tables_created", app) as call:
                call(connection=connection, sub_app=app.sub_app, tables=missing)
        seeded = self._needs_seed(app)
        if seeded:
            with self._hook(connection, "opal_seed", app) as call, _make_session(connection) as session:
                call(session=session, sub_app=app.sub_app)
                session.commit()
        entry = make_entry(app, self.engine.dialect)
        ledger.write_entry(connection, entry, self.found.entries.get(app.name))
        return SubAppReport(app, seeded=seeded, seconds=time.perf_counter() - started)

    @contextmanager
    def _hook(self, connection: sa.Connection, name: str, app: LoadedSubApp) -> Iterator[Callable[..., object]]:
        """A hook of the sub-app's own plugin: what it raises names the plugin, unless the database let it down."""
        doing = f"calling {name} of sub-app {app.name!r}"
        try:
            with kept_open(connection), guarded(f"calling {name}", where=str(app.plugin)):
                yield self.discovery.hook(name, app.plugin)
        except PluginError as error:
            if error.__cause__ and is_outage(error.__cause__):
                raise explain(error.__cause__, self.engine.url, doing=doing) from error
            raise

    def _has_work(self, app: LoadedSubApp) -> bool:
        if self.found.missing[app.name] or self._needs_seed(app):
            return True
        return ledger.needs_writing(make_entry(app, self.engine.dialect), self.found.entries.get(app.name))

    def _needs_seed(self, app: LoadedSubApp) -> bool:
        """Whether tables are new, or the version is not the one that was seeded (a later one's seeds are left alone)."""
        if not self.discovery.implements("opal_seed", app.plugin):
            return False
        entry = self.found.entries.get(app.name)
        if self.found.missing[app.name] or entry is None:
            return True
        return entry.seeded != app.version and not entry.is_newer_than(app.distribution, app.version)


def _make_session(connection: sa.Connection) -> OpalSession:
    return OpalSession(bind=connection, join_transaction_mode="create_savepoint")


def _binds(registry: Registry) -> list[str]:
    used = {app.sub_app.bind for app in registry.suite.sub_apps}
    return [bind for bind in registry.settings.databases if bind in used]


def _in_order(suite: Suite, reports: Sequence[SubAppReport]) -> tuple[SubAppReport, ...]:
    by_name = {report.app.name: report for report in reports}
    return tuple(by_name[app.name] for app in suite.sub_apps)


def _names(tables: Sequence[sa.Table]) -> tuple[str, ...]:
    return tuple(table.fullname for table in tables)
