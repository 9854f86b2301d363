"""The one command of a deploy: run what is pending, bring up what is new to the database.

    bring up -> plan -> run, and again for as long as one makes room for the other

Sub-apps that are new come from their models, as in ``init``, as soon as what they need is there; all others, and new ones
that say so, are upgraded revision by revision.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from opal_registry.discovery import Fault
from opal_registry.engines.errors.failures import of_bind
from opal_registry.engines.url import describe_url
from opal_registry.errors import ConfigError, PluginError, Problem
from opal_registry.guard import Step, quiet_step
from opal_registry.init import InitReport, init
from opal_registry.migrations.environment import Ran
from opal_registry.migrations.history import History
from opal_registry.migrations.look import EVERYTHING, Target, find_app, find_history, look, read_histories
from opal_registry.migrations.offline import render_plan
from opal_registry.migrations.progress import seen_from
from opal_registry.migrations.rename import as_renamed, find_renames, rename_sub_apps
from opal_registry.migrations.revision_file import Phase, Revision
from opal_registry.migrations.run import MigrationRun
from opal_registry.migrations.steps import Plan, find_levels, make_plan
from opal_registry.plan import CycleError, closure, order
from opal_registry.registry import Registry
from opal_registry.store.journal import Unfinished
from opal_registry.store.revisions import NOWHERE, Standing
from opal_registry.suite import LoadedSubApp, Suite
from opal_registry.survey import Survey, survey
from opal_registry.withheld import Withholding

COMMAND = "upgrade"
TO_BE_RUN = {"behind", "diverged"}


@dataclass(frozen=True, slots=True)
class BindPlan:
    """What is to be done in one database.

    Args:
        bind: Which one.
        where: The same for people.
        plan: The revisions to run.
        new: The sub-apps to be brought up from their models, each with what hinders that now.
        blocked: Those that cannot be upgraded before somebody has done something, each with what.
        unfinished: Revisions that were begun, up or down, and not finished.
        renames: The former names of sub-apps that the database knows, each with the one of today.
    """

    bind: str
    where: str
    plan: Plan
    new: Mapping[str, str]
    blocked: Mapping[str, str] = field(default_factory=dict)
    unfinished: tuple[Unfinished, ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be done, by anybody."""
        return not (self.plan.steps or self.new or self.blocked or self.unfinished or self.renames)


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """What an upgrade found and did.

    Args:
        target: What was to be reached.
        ran: The revisions that were run, in order, each with its bind.
        held_back: Those that wait for the phase ``contract``.
        brought_up: What was done, and found, about all sub-apps that were asked for; in the end, tables included.
    """

    target: Target
    ran: tuple[tuple[str, Ran], ...]
    held_back: tuple[Revision, ...]
    brought_up: InitReport

    @property
    def exit_code(self) -> int:
        """1 if a sub-app needs attention for another reason than revisions that were not asked for."""
        if self.target.revision:
            return 0
        waiting = {revision.app for revision in self.held_back}
        return int(any(each.needs_attention and each.app.name not in waiting for each in self.brought_up.sub_apps))


def upgrade(
    registry: Registry,
    target: Target = EVERYTHING,
    *,
    phase: Phase | None = None,
    fingerprint: str = "",
    step: Step = quiet_step,
    announce: Callable[[str], None] = lambda _: None,
) -> UpgradeReport:
    """Bring every database to the heads of all histories, and bring up what is new.

    Safe to repeat, and safe to run from several processes at once.

    Args:
        registry: The registry of the suite.
        target: What is to be reached, if not everything.
        phase: ``expand`` runs only what earlier code can work with.
        fingerprint: Of this image, by whoever has it already.
        step: Told what is being done.
        announce: Told what a person should know while it happens.

    Raises:
        ConfigError: If there is no such target.
        PluginError: If a sub-app, a history or a revision is at fault.
        DatabaseError: If a database is unreachable, refuses, or fails.
        LockTimeoutError: If another run does not end in time.
    """
    work = _Upgrade(registry, target, phase, step, announce)
    work.rename()
    is_certain, before = False, None
    while True:
        report = work.bring_up(fingerprint)
        before = report.after(before) if before else report
        was_pending = work.run_pending()
        if not was_pending and (is_certain or not report.exit_code):
            break
        is_certain = not was_pending  # what was found pending may just have been done by another run
    return UpgradeReport(target, tuple(work.ran), work.held_back, before)


def make_plans(registry: Registry, target: Target = EVERYTHING, *, phase: Phase | None = None) -> list[BindPlan]:
    """Find out what :func:`upgrade` would do; nothing is changed, not even a SQLite file created.

    Raises:
        ConfigError: If there is no such target.
        PluginError: If a sub-app or a history is at fault.
        DatabaseError: If a database is unreachable or refuses.
    """
    work = _Upgrade(registry, target, phase, quiet_step, lambda _: None)
    return [work.make_plan(bind) for bind in work.binds]


def render_upgrade(registry: Registry, target: Target = EVERYTHING, *, phase: Phase | None = None) -> Iterator[str]:
    """What brings every history to its heads, as a script: what is new to a database comes from its revisions as well.

    Raises:
        ConfigError: If there is no such target, or a database is one that revisions have to look at.
        PluginError: If a sub-app or a history is at fault, or a revision cannot do without a database.
        DatabaseError: If a database is unreachable or refuses.
    """
    work = _Upgrade(registry, target, phase, quiet_step, lambda _: None)
    work.from_models = False
    for bind in work.binds:
        if registry.get_dialect(bind) == "sqlite":
            what = (
                f"{bind}: for SQLite there is no script: a table is rebuilt (batch mode) as it is found in the database"
            )
            raise ConfigError(Problem(what, describe_url(registry.engine(bind).url), "run opal-db upgrade itself"))
    for bind in work.binds:
        engine, found = registry.migration_engine(bind), work.look(bind)
        plan = work.plan(work.apps_of(bind), found)
        if plan.steps:
            yield f"-- {bind}: {describe_url(engine.url)}"
            yield from render_plan(plan, found.standings, found.columns, engine)


class _Upgrade:
    """One call of :func:`upgrade`, or of what only plans it."""

    def __init__(
        self, registry: Registry, target: Target, phase: Phase | None, step: Step, announce: Callable[[str], None]
    ) -> None:
        self.registry, self.target, self.phase, self.step, self.announce = registry, target, phase, step, announce
        self.histories = read_histories(registry, target.app)
        if target.app:
            find_app(registry, target.app)
        suite = registry.suite
        self.needs = needs = find_needs(suite, self.histories)
        wanted = closure(needs, target.app)
        self.apps = [app for app in suite.sub_apps if app.name in wanted]
        self.levels = find_levels(needs)
        self.ran: list[tuple[str, Ran]] = []
        self.held_back: tuple[Revision, ...] = ()
        self.from_models = True
        self.alone = target.app if target.revision else ""
        if self.alone:
            find_history(registry, self.alone)[1][self.alone].resolve(target.revision)

    def rename(self) -> None:
        """Let the databases know the sub-apps by the names they have today."""
        for bind in self.binds:
            apps = self.apps_of(bind)
            if any(app.sub_app.renamed_from for app in apps):
                rename_sub_apps(self.registry, bind, apps, self.look(bind), announce=self.announce)

    def bring_up(self, fingerprint: str) -> InitReport:
        """What is new, as far as it can be now; a sub-app of which one revision is asked for is left alone."""
        only = {app.name for app in self.apps} - {self.alone} if self.target.app else None
        return init(
            self.registry,
            fingerprint=fingerprint,
            command=COMMAND,
            only=only,
            histories=self.histories,
            step=self.step,
            announce=self.announce,
        )

    def run_pending(self) -> bool:
        """Run what is pending; returns whether anything was, even if another run was faster."""
        was_pending = False
        held_back: list[Revision] = []
        for bind in self.binds:
            plan = self.make_plan(bind).plan
            held_back += plan.held_back
            if plan.steps:
                was_pending = True
                self._run(bind)
        self.held_back = tuple(held_back)
        return was_pending

    @property
    def binds(self) -> list[str]:
        """The databases that the sub-apps live in."""
        used = {app.sub_app.bind for app in self.apps}
        return [bind for bind in self.registry.settings.databases if bind in used]

    def make_plan(self, bind: str) -> BindPlan:
        """Look at a database, and plan."""
        apps, found, where = self.apps_of(bind), self.look(bind), describe_url(self.registry.migration_engine(bind).url)
        renames = find_renames(apps, found, where)
        found = as_renamed(found, renames)
        withholding = Withholding(apps, found, self.histories)
        new = {name: withholding.reasons.get(name, "") for name in withholding.stamped if name != self.alone}
        there = {name: Standing(self.histories[name].heads) for name, waits in new.items() if not waits}
        found = replace(found, standings={**found.standings, **there})
        plan = self.plan(apps, found)
        kept = {app.name for app in self.apps} - plan.histories.keys()
        new = {name: waits for name, waits in new.items() if name in kept}
        blocked = {name: withholding.reasons.get(name, "") for name in withholding.blocked if name not in new}
        unfinished = tuple(each for app in apps for each in found.unfinished.get(app.name, ()))
        return BindPlan(bind, where, plan, new, blocked, unfinished, renames)

    def look(self, bind: str) -> Survey:
        """What a database holds of them."""
        return look(self.registry, bind, self.apps_of(bind))

    def apps_of(self, bind: str) -> list[LoadedSubApp]:
        """Those that live in a database."""
        return [app for app in self.apps if app.sub_app.bind == bind]

    def plan(self, apps: Sequence[LoadedSubApp], found: Survey) -> Plan:
        """What is to be run there; where faults are quarantined, without those whose history cannot go on there."""
        try:
            return self._plan(apps, found)
        except PluginError:
            faults = [fault for app in apps for fault in self._iter_faults(app, apps, found)]
            if self.target.app or self.registry.settings.sub_apps.on_error != "quarantine" or not faults:
                raise
            self.registry.leave_out(faults)
        kept = {app.name for app in self.registry.suite.sub_apps}
        self.apps = [app for app in self.apps if app.name in kept]
        return self.plan([app for app in apps if app.name in kept], found)

    def _iter_faults(self, app: LoadedSubApp, apps: Sequence[LoadedSubApp], found: Survey) -> Iterator[Fault]:
        """What hinders a sub-app's history, and those of the ones it needs, to go on."""
        needed = closure(self.needs, app.name)
        try:
            self._plan([each for each in apps if each.name in needed], found)
        except PluginError as error:
            yield Fault((app.name,), error, app.plugin)

    def _plan(self, apps: Sequence[LoadedSubApp], found: Survey) -> Plan:
        histories = {
            app.name: seen_from(self.histories[app.name], found.standings.get(app.name, NOWHERE))
            for app in apps
            if app.name in self.histories
        }
        withholding = Withholding(apps, found, self.histories)
        here = [app for app in apps if app.name not in found.renamed]
        wanted = dict(self._iter_wanted(here, withholding, histories))
        unknown = {name for name, origin in withholding.blocked.items() if name == origin}
        while True:
            plan = make_plan(histories, found.standings, wanted, levels=self.levels, phase=self.phase, unknown=unknown)
            begun = plan.histories.keys() - wanted.keys()
            if self.alone or not begun:
                return plan
            # begun by revisions, they do not come from the models
            wanted |= {name: histories[name].heads for name in sorted(begun)}

    def _iter_wanted(
        self, apps: Sequence[LoadedSubApp], withholding: Withholding, histories: Mapping[str, History]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The revisions to reach, by sub-app; those that are brought up from their models have none."""
        progress = withholding.progress
        for app in apps:
            state = progress[app.name].state if app.name in progress else ""
            if app.name == self.alone:
                yield app.name, histories[app.name].resolve(self.target.revision)
            elif self.alone or app.name in withholding.blocked:
                continue
            elif state in TO_BE_RUN or (state == "new" and self._comes_from_revisions(app, withholding)):
                yield app.name, histories[app.name].heads

    def _comes_from_revisions(self, app: LoadedSubApp, withholding: Withholding) -> bool:
        """Whether they make its tables, where it is new to a database."""
        return app.name in withholding.migrated or (app.is_created_here and not self.from_models)

    def _run(self, bind: str) -> None:
        apps = self.apps_of(bind)
        run = MigrationRun(
            self.registry.migration_engine(bind),
            lambda connection: self.plan(apps, survey(connection, apps, compare=False)),
            self.registry.settings.locks,
            command=COMMAND,
            announce=self.announce,
            show=self.step,
        )
        try:
            with of_bind(bind):
                run.run()
        finally:
            self.ran += [(bind, each) for each in run.done]


def find_needs(suite: Suite, histories: Mapping[str, History]) -> dict[str, tuple[str, ...]]:
    """What each sub-app needs, or once needed: its models and its revisions say so; each after what it needs."""
    now = {app.name: app.needs for app in suite.sub_apps}
    ever = {name: (*needs, *histories[name].pinned) if name in histories else needs for name, needs in now.items()}
    try:
        return {name: ever[name] for name in order(ever)}
    except CycleError:  # who needed whom has been turned round: today's way counts
        return {name: ever[name] for name in now}
