"""Bringing the schema up: create what is missing, record it, seed it, and alter nothing.

    suite -> survey (what is there?) -> preflight (can it be?) -> bring up: tables, hooks, seeds, ledger

The survey takes no lock. Where it finds something to do, it is repeated under the lock: another process may have been
faster.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from opal_registry.bring_up import TRANSACTIONAL, Announce, BringUp, Deed, record_end, remember
from opal_registry.engines.errors.failures import explained, of_bind
from opal_registry.engines.factory import make_server_engines
from opal_registry.engines.url import describe_url
from opal_registry.errors import LockTimeoutError, OpalError, OwnershipError, Problem, SchemaError
from opal_registry.fingerprint import make_image_fingerprint
from opal_registry.guard import Step, quiet_step
from opal_registry.migrations.history import History
from opal_registry.migrations.look import read_histories
from opal_registry.mixins import utc_now
from opal_registry.preflight.checks import find_equal_names, find_impossible, find_prepared, find_unfit_database
from opal_registry.registry import Registry
from opal_registry.schema.compiled import Compiler
from opal_registry.schema.ddl import render_ddl
from opal_registry.schema.live import Difference
from opal_registry.schema.looking import look_at
from opal_registry.schema.server import create_database
from opal_registry.store import tables
from opal_registry.store.ledger import Image
from opal_registry.store.locks import AnotherRunError, retry_pauses
from opal_registry.suite import LoadedSubApp, Quarantined
from opal_registry.survey import Survey, is_missing_file, make_entry, survey, survey_nothing
from opal_registry.work import Work


@dataclass(frozen=True, slots=True)
class SubAppReport:
    """What a run found and did for one sub-app.

    Args:
        app: The sub-app.
        created: The tables that were created, or would be, in order.
        present: Those that were there already.
        differences: How those that were there differ from their models.
        statements: The statements that create what is missing, and record its history as applied; only in a dry run.
        withheld: Why its missing tables were not created; empty if they were, or if a later release took them away.
        ahead: What a later release wrote that this one lacks; empty if none did.
        seeded: Whether its first rows were put in.
        seconds: How long creating and seeding took.
    """

    app: LoadedSubApp
    created: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    statements: tuple[str, ...] = ()
    withheld: str = ""
    ahead: str = ""
    seeded: bool = False
    seconds: float = 0.0

    @property
    def needs_attention(self) -> bool:
        """Whether tables are missing on purpose, or one that exists cannot be used as it is."""
        return bool(self.withheld) or any(difference.harmful for difference in self.differences)

    def after(self, before: "SubAppReport") -> "SubAppReport":
        """The same of several rounds of one command: how it stands now, and what was done in all of them."""
        return replace(
            self,
            created=tuple(dict.fromkeys((*before.created, *self.created))),
            present=tuple(name for name in self.present if name not in before.created),
            seeded=before.seeded or self.seeded,
            seconds=before.seconds + self.seconds,
        )


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
        """1 if a table that exists cannot be used as it is, or one is withheld; else 0."""
        return int(any(report.needs_attention for report in self.sub_apps))

    def after(self, before: "InitReport") -> "InitReport":
        """The same of several rounds of one command: how it stands now, and what was done in all of them."""
        earlier = {report.app.name: report for report in before.sub_apps}
        sub_apps = (each.after(earlier[each.app.name]) if each.app.name in earlier else each for each in self.sub_apps)
        return replace(self, sub_apps=tuple(sub_apps), seconds=before.seconds + self.seconds)


def init(
    registry: Registry,
    *,
    dry_run: bool = False,
    create_missing_database: bool = False,
    fingerprint: str = "",
    command: str = "init",
    only: Collection[str] | None = None,
    histories: Mapping[str, History] | None = None,
    step: Step = quiet_step,
    announce: Announce = lambda _: None,
) -> InitReport:
    """Create every missing table of every sub-app, in every database that is configured for one.

    Safe to repeat, and safe to run from several processes at once. What exists is never altered. Where the database has
    transactional DDL (SQLite, PostgreSQL) a failure leaves nothing behind in it; each database is a run of its own.

    Args:
        registry: The registry of the suite.
        dry_run: Find out and render what would be done, and change nothing.
        create_missing_database: Make the database itself where it is missing (PostgreSQL, MySQL).
        fingerprint: Of this image, by whoever has it already.
        command: What is recorded as run.
        only: The sub-apps to look at, if not all.
        histories: Those of the sub-apps, by whoever has read them already.
        step: Told what is being done.
        announce: Told what a person should know while it happens, such as who holds the lock.

    Raises:
        PluginError: If a sub-app cannot be loaded, or its models cannot exist in its database.
        DatabaseError: If the database is unreachable, refuses, or fails.
        LockTimeoutError: If another run does not end in time, or somebody does not let go of a table.

    Example:
        >>> from opal_registry.settings.model import Settings
        >>> with Registry(Settings(database={"url": "sqlite://"}), sub_apps=["core"]) as registry:
        ...     report = init(registry)
        >>> report.sub_apps[0].created, report.exit_code
        (('users',), 0)
    """
    started = time.perf_counter()
    if not (fingerprint or dry_run):  # before plugins are imported: they may change what is found
        fingerprint = make_image_fingerprint(registry.settings)
    if histories is None:
        histories = read_histories(registry)
    suite = registry.suite
    apps = [app for app in suite.sub_apps if only is None or app.name in only]
    runs = [_Run(registry, bind, apps, histories, command) for bind in _binds(registry, apps)]
    for run in runs:
        with step(f"looking at {run}"), of_bind(run.bind):
            run.look(create_missing_database=create_missing_database, dry_run=dry_run)
    _refuse_impossible(runs)
    if not dry_run:
        image = _find_image(registry, fingerprint) if only is None else None
        for run in runs:
            with of_bind(run.bind):
                run.apply(image, step, announce)
    sub_apps = _in_order(apps, [report for run in runs for report in run.reports(dry_run=dry_run)])
    databases, seconds = {run.bind: str(run) for run in runs}, time.perf_counter() - started
    bookkeeping = tuple(statement for run in runs for statement in run.bookkeeping()) if dry_run else ()
    return InitReport(databases, sub_apps, suite.quarantined, bookkeeping, dry_run=dry_run, seconds=seconds)


class _Run:
    """One run in one database."""

    work: Work
    compiler: Compiler

    def __init__(
        self,
        registry: Registry,
        bind: str,
        apps: Sequence[LoadedSubApp],
        histories: Mapping[str, History],
        command: str,
    ) -> None:
        self.histories, self.command = histories, command
        self.bind, self.registry, self.settings = bind, registry, registry.settings.databases[bind]
        self.engine, self.discovery = registry.migration_engine(bind), registry.suite.discovery
        self.apps = [app for app in apps if app.sub_app.bind == bind]
        self.problems: list[Problem] = []
        self.taken: list[Problem] = []
        self.deeds: dict[str, Deed] = {}
        self.database_is_missing = False

    def __str__(self) -> str:
        return describe_url(self.engine.url) + (" (does not exist yet)" if self.database_is_missing else "")

    def look(self, *, create_missing_database: bool, dry_run: bool) -> None:
        """Find out what is there and what cannot be, in a database that is made before if it shall be."""
        if create_missing_database:
            servers, role = make_server_engines(self.settings), self.settings.migration_role
            with explained(self.engine.url, doing="creating the database"):
                was_missing = create_database(self.engine, servers, owner=role, dry_run=dry_run)
            self.database_is_missing = was_missing and dry_run
        if self.database_is_missing or is_missing_file(self.engine):
            self._judge(survey_nothing(self.apps, self.engine.dialect), None)
            return
        wait, role = self.registry.settings.locks.wait, self.settings.migration_role
        with (
            explained(self.engine.url, doing="looking at the tables"),
            look_at(self.engine, wait=wait, role=role) as connection,
        ):
            self._judge(survey(connection, self.apps), connection)

    def apply(self, image: Image | None, step: Step, announce: Announce) -> None:
        """Bring up every sub-app, all or nothing; again where a table was in use for too long."""
        self.work = replace(self.work, image=image)
        locks = self.registry.settings.locks
        pauses, started_at = retry_pauses(locks.retries), utc_now()
        while not self.work.is_done or self._may_be_half_seen:
            attempt = BringUp(
                self.engine, self.compiler, self.work, self.discovery, locks, announce, step, self.command
            )
            try:
                attempt.run()
            except OpalError as error:
                pause = next(pauses, None) if self._is_worth_repeating(error) else None
                if pause is None:
                    record_end(self.engine, started_at, error, command=self.command, wait=locks.ddl_lock_timeout)
                    raise
                time.sleep(pause)
            except KeyboardInterrupt:
                record_end(self.engine, started_at, None, command=self.command, wait=locks.ddl_lock_timeout)
                raise
            else:
                self.work, self.deeds = attempt.work, attempt.deeds
                break
        if not (self.deeds and self.work.is_fine):
            remember(self.engine, self.work, wait=locks.ddl_lock_timeout)

    @property
    def _may_be_half_seen(self) -> bool:
        """Whether what keeps a sub-app from being brought up may be another run in its middle, which only its lock tells."""
        if self.engine.dialect.name in TRANSACTIONAL:
            return False
        return any(app.name in self.work.withheld and not self.work.find_ahead(app) for app in self.apps)

    def _is_worth_repeating(self, error: OpalError) -> bool:
        """Whether somebody only used a table for too long; on SQLite that can only have been the run itself."""
        is_ours = self.engine.dialect.name == "sqlite" or isinstance(error, AnotherRunError)
        return isinstance(error, LockTimeoutError) and not is_ours

    def reports(self, *, dry_run: bool) -> Iterator[SubAppReport]:
        """What was found and done, by sub-app."""
        known = set(self.work.found.catalog.known)
        for app in self.apps:
            deed, ahead = self.deeds.get(app.name, Deed((), seeded=False, seconds=0.0)), self.work.find_ahead(app)
            yield SubAppReport(
                app,
                created=_names(self._missing(app)) if dry_run else deed.created,
                present=tuple(name for name in _names(self.work.found.present[app.name]) if name not in deed.created),
                differences=tuple(self.work.find_differences(app)),
                statements=tuple(self._render(app, known)) if dry_run else (),
                withheld="" if ahead else self.work.withheld.get(app.name, ""),
                ahead=ahead,
                seeded=deed.seeded,
                seconds=deed.seconds,
            )

    def _render(self, app: LoadedSubApp, known: set[str]) -> list[str]:
        missing, stamps = self._missing(app), list(self.work.iter_stamps(app))
        ddl = render_ddl(missing, self.compiler, known=known, spares=app.spares) if missing else []
        return [*ddl, *map(self.compiler.text, () if app.name in self.work.withheld else stamps)]

    def _missing(self, app: LoadedSubApp) -> list[sa.Table]:
        """What is to be created, without what a run that ended had begun."""
        return [table for table in self.work.to_create[app.name] if table in self.work.found.missing[app.name]]

    def bookkeeping(self) -> list[str]:
        """The statements for the registry's own tables."""
        columns = self.work.found.columns
        return [self.compiler.text(ddl) for ddl in tables.iter_upgrade(columns, self.compiler.dialect)]

    def _judge(self, found: Survey, connection: sa.Connection | None) -> None:
        """Decide what is to be done, and whether it can be; by now the dialect knows its server's version."""
        self.compiler = Compiler(self.engine.dialect)
        entries = {app.name: make_entry(app, self.compiler) for app in self.apps}
        self.work = Work(self.apps, found, entries, self._has_seed, histories=self.histories)
        self.taken = list(self.work.find_taken(str(self)))
        if not self.work.number_of_tables:
            return
        self.taken += find_equal_names(self.apps, self.compiler)
        if connection is not None:
            self.problems += find_unfit_database(connection)
        prepared = find_prepared(self.apps, self.work.to_create, self._has_finish)
        for app in self.apps:
            tables, is_prepared = self.work.to_create[app.name], app.name in prepared
            self.problems += find_impossible(app, tables, self.compiler, connection, is_prepared=is_prepared)

    def _has_seed(self, app: LoadedSubApp) -> bool:
        return self.discovery.implements("opal_seed", app.plugin)

    def _has_finish(self, app: LoadedSubApp) -> bool:
        return self.discovery.implements("opal_tables_created", app.plugin)


def _refuse_impossible(runs: Sequence[_Run]) -> None:
    if problems := [problem for run in runs for problem in run.taken]:
        raise OwnershipError(*problems)
    if problems := [problem for run in runs for problem in run.problems]:
        raise SchemaError(*problems)


def _find_image(registry: Registry, fingerprint: str) -> Image | None:
    """The image that this process is; None if only a part of its sub-apps is loaded."""
    suite, settings = registry.suite, registry.settings
    is_whole = registry.choice.enabled == settings.sub_apps.enabled and not suite.quarantined
    return Image(fingerprint, {app.name: app.version for app in suite.sub_apps}) if is_whole else None


def _binds(registry: Registry, apps: Sequence[LoadedSubApp]) -> list[str]:
    used = {app.sub_app.bind for app in apps}
    return [bind for bind in registry.settings.databases if bind in used]


def _names(found: Sequence[sa.Table]) -> tuple[str, ...]:
    return tuple(table.fullname for table in found)


def _in_order(apps: Sequence[LoadedSubApp], reports: Sequence[SubAppReport]) -> tuple[SubAppReport, ...]:
    by_name = {report.app.name: report for report in reports}
    return tuple(by_name[app.name] for app in apps)
