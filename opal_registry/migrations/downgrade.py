"""Taking revisions back: never from under another sub-app, installed here or not, that needs them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from opal_registry.errors import ConfigError, PluginError, Problem
from opal_registry.guard import Step as Show
from opal_registry.guard import quiet_step
from opal_registry.migrations.environment import Ran
from opal_registry.migrations.history import History
from opal_registry.migrations.look import Home, Target, find_history, look_at_homes
from opal_registry.migrations.progress import find_applied
from opal_registry.migrations.revision_file import Revision
from opal_registry.migrations.run import Announce, MigrationRun
from opal_registry.migrations.steps import Plan, Step, complete, iter_needs
from opal_registry.plan import order
from opal_registry.registry import Registry
from opal_registry.store.locks import ignore
from opal_registry.store.revisions import NOWHERE, Applied


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
    look = _Look(home, histories)
    look.take_back(histories[app.name], target)
    if look.problems:
        raise PluginError(*look.problems)
    removed = look.removed
    others = tuple(each for each in removed.values() if each.app != app.name)
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
        DatabaseError: If the database fails.
        LockTimeoutError: If another run does not end in time.
    """
    planned = plan_downgrade(registry, target)
    if planned.cascade and not cascade:
        raise PluginError(*(_refusal(each, planned.home, target) for each in planned.cascade))
    if not planned.steps:
        return ()
    _, histories = find_history(registry, target.app)
    run = MigrationRun(
        registry.migration_engine(planned.home.bind),
        lambda _: complete(Plan(planned.steps), histories, planned.home.found.standings),
        registry.settings.locks,
        command="downgrade",
        downgrade=True,
        announce=announce,
        show=show,
    )
    run.run()
    return tuple(run.done)


def _refusal(needing: Revision, home: Home, target: Target) -> Problem:
    pinned = ", ".join(f"{app}@{each}" for app, ids in needing.pins.items() for each in ids)
    what = f"{needing} is applied, and needs {pinned or needing.app}"
    mend = f"opal-db downgrade {target} --cascade takes it back as well"
    return Problem(what, home.where, mend)


@dataclass
class _Look:
    home: Home
    histories: Mapping[str, History]
    removed: dict[str, Revision] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def take_back(self, history: History, target: Target) -> None:
        """Put on the list what is to be taken back, and whatever needs any of it."""
        standing = self.home.found.standings.get(history.app, NOWHERE)
        applied = find_applied(history, standing)
        beyond = sorted(applied - history.revisions.keys() - history.replaced.keys())
        if beyond:
            what = f"the database has revisions of {history.app!r} that the installed {history.version} lacks"
            mend = "take those back first, with the release that has them"
            raise ConfigError(Problem(f"{what}: {', '.join(beyond)}", self.home.where, mend))
        self._remove(
            history,
            history.find_undone(target.revision, history.find_heads(applied & history.revisions.keys())),
            why=f"back to {target}",
        )
        removed = {each.id for each in self.removed.values() if each.app == history.app}
        if not (applied & history.revisions.keys()) - removed:
            self.problems += self._find_users(history.app)

    def _remove(self, history: History, ids: Iterable[str], *, why: str) -> None:
        new = [each for each in ids if f"{history.app}@{each}" not in self.removed]
        for each in new:
            self.removed[f"{history.app}@{each}"] = history.revisions[each]
            self.why[f"{history.app}@{each}"] = why
        for applied in self._iter_needing(history.app, set(new)):
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
        there = find_applied(history, self.home.found.standings[applied.sub_app])
        undone = [each for each in history.descendants([applied.revision]) if each in there]
        self._remove(history, undone, why=f"{applied} needs what is taken away")

    def _find_users(self, app: str) -> Iterator[Problem]:
        """Sub-apps without a history whose tables refer to those of one that is taken back altogether."""
        entries = self.home.found.entries
        own = set(entries[app].tables) if app in entries else set()
        gone = {each.app for each in self.removed.values()}
        for entry in entries.values():
            used = sorted({column.rpartition(".")[0] for column in entry.foreign_columns} & own)
            if used and entry.name not in gone:
                what = f"tables of {entry.name} ({entry.distribution} {entry.version}) refer to {', '.join(used)}"
                yield Problem(what, self.home.where, f"take {entry.name!r} out of the database first")

    def steps(self) -> Iterator[Step]:
        """What is taken back, each before what it needs."""
        needs = {name: [need for need, _ in iter_needs(each)] for name, each in self.removed.items()}
        for name in reversed(order(needs)):
            yield Step(self.removed[name], self.why[name])
