"""Which revisions are to be run, over all sub-apps, in which order, and why: judged without touching anything.

Each comes after what it follows in its own history and after what it pins in others'. Among those that could come next,
the one whose sub-app stands highest does: so it runs as close as can be to the state that it was written for, before the
sub-apps below it go on. That is the order of a database that was upgraded release by release.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from opal_registry.errors import PluginError, Problem
from opal_registry.migrations.history import History
from opal_registry.migrations.progress import cross, find_applied
from opal_registry.migrations.revision_file import Phase, Revision
from opal_registry.plan import CycleError, order
from opal_registry.store.revisions import NOWHERE, Standing

EXPAND: Phase = "expand"


@dataclass(frozen=True, slots=True)
class Step:
    """One revision that is to be run.

    Args:
        revision: The revision.
        why: Why it is run, and comes where it does.
    """

    revision: Revision
    why: str

    @property
    def app(self) -> str:
        """Whose it is."""
        return self.revision.app


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run, and what is held back.

    Args:
        steps: In order.
        held_back: Revisions that have to wait for the phase ``contract``.
        histories: The histories as the database goes through them, of the sub-apps that have steps.
        crossings: What has to be executed before, where revisions stand for others that the database has.
        recorded: What is recorded of these histories by then, as ``app@revision``.
    """

    steps: tuple[Step, ...] = ()
    held_back: tuple[Revision, ...] = ()
    histories: Mapping[str, History] = field(default_factory=dict)
    crossings: tuple[sa.Insert | sa.Delete, ...] = ()
    recorded: frozenset[str] = frozenset()


def make_plan(
    histories: Mapping[str, History],
    standings: Mapping[str, Standing],
    wanted: Mapping[str, Iterable[str]],
    *,
    levels: Mapping[str, int],
    phase: Phase | None = None,
    unknown: Collection[str] = (),
) -> Plan:
    """Plan how to reach some revisions.

    Args:
        histories: Those of the sub-apps that are installed here.
        standings: How far each sub-app has come in the database, also of those that are not installed here.
        wanted: The revisions to reach, by sub-app; what they need comes with them.
        levels: How high each sub-app stands: above all that it needs.
        phase: ``expand`` holds back whatever earlier code cannot work with, and what follows it.
        unknown: Sub-apps whose tables are there, while nobody knows which of their revisions the database has.

    Raises:
        PluginError: If a revision needs one that is neither here nor in the database, or some need each other in a circle.
    """
    look = _Look(histories, standings, unknown)
    for app, ids in wanted.items():
        look.want(app, ids, by="")
    if look.problems:
        raise PluginError(*dict.fromkeys(look.problems))
    ordered = look.order(levels)
    held_back = tuple(look.iter_held_back(ordered)) if phase == EXPAND else ()
    steps = tuple(look.step(each) for each in ordered if each not in held_back)
    return complete(Plan(steps, held_back), histories, standings)


def complete(plan: Plan, histories: Mapping[str, History], standings: Mapping[str, Standing]) -> Plan:
    """The same plan with the histories of those that have steps, and what has to be executed before."""
    concerned = {step.app: histories[step.app] for step in plan.steps}
    crossings = [each for app, history in concerned.items() for each in cross(history, standings.get(app, NOWHERE))]
    recorded = frozenset(str(each) for app in concerned for each in standings.get(app, NOWHERE).applied.values())
    return replace(plan, histories=concerned, crossings=tuple(crossings), recorded=recorded)


@dataclass
class _Look:
    histories: Mapping[str, History]
    standings: Mapping[str, Standing]
    unknown: Collection[str] = ()
    pending: dict[str, Revision] = field(default_factory=dict)
    wanted_by: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def want(self, app: str, ids: Iterable[str], *, by: str) -> None:
        """Put revisions on the list that are not applied yet, and whatever they need."""
        history = self.histories[app]
        if app in self.unknown:
            what = f"the tables of {app!r} are there, but nobody knows which of its revisions the database has"
            mend = f"let it be found out: opal-db adopt {app}"
            self.problems.append(Problem(what, f"needed by {by}" if by else "", mend))
            return
        for each in history.ancestors(ids) - self._applied(app):
            revision = history.revisions[each]
            if str(revision) not in self.pending:
                self.pending[str(revision)] = revision
                self.wanted_by[str(revision)] = by
                self._want_pins(revision)

    def _want_pins(self, revision: Revision) -> None:
        for app, ids in revision.pins.items():
            for each in ids:
                if each in self._applied(app):
                    continue
                wanted = self.histories[app].replaced.get(each, each) if app in self.histories else each
                if app in self.histories and wanted in self.histories[app].revisions:
                    self.want(app, [wanted], by=str(revision))
                else:
                    self.problems.append(self._unmet(revision, app, each))

    def _unmet(self, revision: Revision, app: str, needed: str) -> Problem:
        here = self.histories.get(app)
        if here is None:
            what = f"{revision} needs {app}@{needed}, which the database lacks, and {app!r} has no migrations here"
            return Problem(what, str(revision.path), f"upgrade {app!r} first, from an image that has it")
        what = f"{revision} needs {app}@{needed}, which neither the database nor the installed {app} {here.version} has"
        mend = f"install a release of {app!r} that has it, or correct opal_depends_on"
        return Problem(what, str(revision.path), mend)

    def _applied(self, app: str) -> set[str]:
        return find_applied(self.histories.get(app), self.standings.get(app, NOWHERE))

    def order(self, levels: Mapping[str, int]) -> list[Revision]:
        places = {
            f"{app}@{each}": n for app, history in self.histories.items() for n, each in enumerate(history.revisions)
        }

        def key(name: str) -> tuple[int, str, int]:
            app = self.pending[name].app
            return -levels.get(app, 0), app, places[name]

        needs = {name: [need for need, _ in self._iter_needs(each)] for name, each in self.pending.items()}
        try:
            return [self.pending[name] for name in order(needs, key)]
        except CycleError as error:
            what = f"revisions need each other in a circle: {' -> '.join(error.path)}"
            where = ", ".join(dict.fromkeys(str(self.pending[name].path) for name in error.path))
            raise PluginError(Problem(what, where, "take one of the pins (opal_depends_on) out")) from None

    def _iter_needs(self, revision: Revision) -> Iterator[tuple[str, str]]:
        """What it comes after, by what stands for it today."""
        for need, word in iter_needs(revision):
            app, _, id_ = need.partition("@")
            current = self.histories[app].replaced.get(id_, id_) if app in self.histories else id_
            yield f"{app}@{current}", word

    def step(self, revision: Revision) -> Step:
        reasons = [f"{word} {need}" for need, word in self._iter_needs(revision) if need in self.pending]
        if by := self.wanted_by[str(revision)]:
            reasons.append(f"wanted by {by}")
        return Step(revision, ", ".join(reasons) or "nothing before it is pending")

    def iter_held_back(self, ordered: Sequence[Revision]) -> Iterator[Revision]:
        """Those that take something away, and whatever comes after one of them."""
        held: set[str] = set()
        for each in ordered:
            if each.phase != EXPAND or any(need in held for need, _ in self._iter_needs(each)):
                held.add(str(each))
                yield each


def iter_needs(revision: Revision) -> Iterator[tuple[str, str]]:
    """What a revision comes after, as ``app@revision``, with the word for how it does."""
    yield from ((f"{revision.app}@{each}", "follows") for each in revision.parents)
    yield from ((f"{revision.app}@{each}", "needs") for each in revision.depends_on)
    yield from ((f"{app}@{each}", "needs") for app, ids in revision.pins.items() for each in ids)


def find_levels(needs: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """How high each sub-app stands above all that it needs; those that need nobody stand at 0.

    Args:
        needs: For each sub-app, in order, the ones it needs.

    Example:
        >>> find_levels({"core": [], "standupbot": ["core"], "reports": ["standupbot", "core"]})
        {'core': 0, 'standupbot': 1, 'reports': 2}
    """
    levels: dict[str, int] = {}
    for app, wanted in needs.items():
        levels[app] = max((levels[need] + 1 for need in wanted if need in levels), default=0)
    return levels
