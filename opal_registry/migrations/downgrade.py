"""Taking revisions back: never from under another sub-app, installed here or not, that needs them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from opal_registry.engines.errors.failures import of_bind
from opal_registry.errors import ConfigError, DatabaseError, PluginError, Problem
from opal_registry.guard import Step as Show
from opal_registry.guard import quiet_step
from opal_registry.migrations.environment import Ran
from opal_registry.migrations.history import History
from opal_registry.migrations.look import Home, Target, find_history, look_at_homes
from opal_registry.migrations.progress import check_has_its_name, find_applied
from opal_registry.migrations.revision_file import Revision
from opal_registry.migrations.run import Announce, MigrationRun
from opal_registry.migrations.steps import Plan, Step, complete, iter_needs
from opal_registry.plan import order
from opal_registry.registry import Registry
from opal_registry.store.locks import ignore
from opal_registry.store.revisions import NOWHERE, Applied
from opal_registry.survey import survey


@dataclass(frozen=True, slots=True)
class DowngradePlan:
    """What a downgrade would take back.

    Args:
        home: The database.
        steps: The revisions, in the order in which they are taken back.
        cascade: Those among them that are other sub-apps', which need what is taken away.
    """

    home: Home
    steps: tuple[Step, ...]
    cascade: tuple[Revision, ...]


def plan_downgrade(registry: Registry, target: Target) -> DowngradePlan:
    """Find out what a downgrade would take back; nothing is changed.

    Args:
        registry: The registry of the suite.
        target: The sub-app, and the revision to go back to: ``base`` for none, ``-1`` for one step.

    Raises:
        ConfigError: If there is no such revision to go back to.
        PluginError: If a sub-app that is not installed here needs what would be taken away.
        DatabaseError: If the database is unreachable or refuses.
    """
    app, histories = find_history(registry, target.app)
    bind = app.sub_app.bind
    (home,) = (home for home in look_at_homes(registry) if home.bind == bind)
    return _plan(home, histories, target)


def _plan(home: Home, histories: Mapping[str, History], target: Target) -> DowngradePlan:
    check_has_its_name(target.app, home.found, home.where)
    look = _Look(home, histories)
    look.take_back(histories[target.app], target)
    if look.problems:
        raise PluginError(*look.problems)
    others = tuple(each for each in look.removed.values() if each.app != target.app)
    return DowngradePlan(home, tuple(look.steps()), others)


def downgrade(
    registry: Registry,
    target: Target,
    *,
    cascade: bool = False,
    announce: Announce = ignore,
    show: Show = quiet_step,
) -> tuple[Ran, ...]:
    """Take revisions back.

    Args:
        registry: The registry of the suite.
        target: The sub-app, and the revision to go back to.
        cascade: Whether revisions of other sub-apps that need them are taken back as well.
        announce: Told what a person should know while it happens.
        show: Told what is being done.

    Returns:
        What was taken back, in order.

    Raises:
        ConfigError: If there is no such revision to go back to.
        PluginError: If others need what would be taken away, or a revision fails.
        DatabaseError: If the database fails, or was changed by somebody else meanwhile.
        LockTimeoutError: If another run does not end in time.
    """
    planned = plan_downgrade(registry, target)
    if planned.cascade and not cascade:
        raise PluginError(_refusal(planned, target))
    if not planned.steps:
        return ()
    _, histories = find_history(registry, target.app)
    run = MigrationRun(
        registry.migration_engine(planned.home.bind),
        lambda connection: _plan_again(connection, planned, histories, target),
        registry.settings.locks,
        command="downgrade",
        downgrade=True,
        announce=announce,
        show=show,
    )
    with of_bind(planned.home.bind):
        run.run()
    return tuple(run.done)


def _plan_again(
    connection: sa.Connection, planned: DowngradePlan, histories: Mapping[str, History], target: Target
) -> Plan:
    """The same under the lock: nothing is taken back but what was planned, and perhaps agreed to."""
    home = replace(planned.home, found=survey(connection, planned.home.apps, compare=False))
    steps = _plan(home, histories, target).steps
    if steps != planned.steps:
        what = "somebody else ran revisions, or took some back, since this was planned"
        raise DatabaseError(Problem(what, home.where, "run the command again"))
    return complete(Plan(steps), histories, home.found.standings)


def _refusal(planned: DowngradePlan, target: Target) -> Problem:
    names = ", ".join(f"{step.revision} ({step.why})" for step in planned.steps if step.app != target.app)
    mend = f"opal-db downgrade {target} --cascade takes them back as well"
    return Problem(f"others are applied that need what would be taken back: {names}", planned.home.where, mend)


@dataclass
class _Look:
    home: Home
    histories: Mapping[str, History]
    removed: dict[str, Revision] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def take_back(self, history: History, target: Target) -> None:
        """Put on the list what is to be taken back, and whatever needs any of it."""
        if problem := self._find_beyond(history):
            raise ConfigError(problem)
        heads = history.find_heads(self._find_applied(history.app) & history.revisions.keys())
        self._remove(history, history.find_undone(target.revision, heads), why=f"back to {target}")
        for app in sorted({each.app for each in self.removed.values()}):
            if not self._find_applied(app) - {
                id_ for each in self.removed.values() if each.app == app for id_ in each.ids
            }:
                self.problems += self._find_users(app)

    def _find_applied(self, app: str) -> set[str]:
        return find_applied(self.histories.get(app), self.home.found.standings.get(app, NOWHERE))

    def _find_beyond(self, history: History) -> Problem | None:
        """That a later release was here, whose revisions nobody here can take back."""
        beyond = sorted(self._find_applied(history.app) - history.revisions.keys() - history.replaced.keys())
        if not beyond:
            return None
        applied = self.home.found.standings[history.app].applied
        releases = sorted({applied[each].version for each in beyond if each in applied})
        names = ", ".join(beyond) + (f" (of {', '.join(releases)})" if releases else "")
        what = f"the database has revisions of {history.app!r} that the installed {history.version} lacks: {names}"
        return Problem(what, self.home.where, "take those back first, with the release that has them")

    def _remove(self, history: History, ids: Iterable[str], *, why: str) -> None:
        new = [each for each in ids if f"{history.app}@{each}" not in self.removed]
        for each in new:
            self.removed[f"{history.app}@{each}"] = history.revisions[each]
            self.why[f"{history.app}@{each}"] = why
        for applied in self._iter_needing(history.app, {id_ for each in new for id_ in history.revisions[each].ids}):
            self._remove_other(applied)

    def _iter_needing(self, app: str, ids: set[str]) -> Iterator[Applied]:
        for standing in self.home.found.standings.values():
            for applied in standing.applied.values():
                if ids.intersection(applied.pins.get(app, ())) and str(applied) not in self.removed:
                    yield applied

    def _remove_other(self, applied: Applied) -> None:
        history = self.histories.get(applied.sub_app)
        if history is None or applied.revision not in history.revisions:
            pinned = ", ".join(f"{app}@{each}" for app, ids in applied.pins.items() for each in ids)
            what = f"{applied} ({applied.version}) is applied, needs {pinned}, and is not installed here"
            mend = f"take it back first, from an image that has {applied.sub_app!r}"
            self.problems.append(Problem(what, self.home.where, mend))
            return
        if (problem := self._find_beyond(history)) and problem not in self.problems:
            self.problems.append(problem)
        there = self._find_applied(applied.sub_app)
        undone = [each for each in history.descendants([applied.revision]) if each in there]
        needed = [
            f"{app}@{each}" for app, ids in applied.pins.items() for each in ids if f"{app}@{each}" in self.removed
        ]
        self._remove(history, undone, why=f"comes after {applied}")
        self.why[str(applied)] = f"needs {', '.join(needed)}"

    def _find_users(self, app: str) -> Iterator[Problem]:
        """Sub-apps without a history whose tables refer to those of one that is taken back altogether."""
        entries = self.home.found.entries
        own = set(entries[app].tables) if app in entries else set()
        gone = {each.app for each in self.removed.values()} | self._taken_back()
        for entry in entries.values():
            used = sorted({column.rpartition(".")[0] for column in entry.foreign_columns} & own)
            if used and entry.name not in gone:
                what = f"tables of {entry.name} ({entry.distribution} {entry.version}) refer to {', '.join(used)}"
                yield Problem(what, self.home.where, f"take {entry.name!r} out of the database first")

    def _taken_back(self) -> set[str]:
        """Sub-apps that have a history, and nothing of it applied: their tables are gone, the ledger keeps their names."""
        return {
            name for name, standing in self.home.found.standings.items() if not (standing.heads or standing.applied)
        }

    def steps(self) -> Iterator[Step]:
        """What is taken back, each before what it needs."""
        needs = {name: [need for need, _ in iter_needs(each)] for name, each in self.removed.items()}
        for name in reversed(order(needs)):
            yield Step(self.removed[name], self.why[name])
