"""The rounds: in each, every case, and in each case every contestant, one after the other."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from benchmarks.contestants import Argv, Contestant, Installed, clean_environ
from benchmarks.databases import Case, Databases, Target
from benchmarks.measure import Run, run
from benchmarks.shape import get_shape, make_shape

Phase = Literal["cold", "warm"]
HELP_RUNS = 5
"""Per round: they are short."""

START = "start"
"""The key under which the start of a bare Python is found among the helps."""


class UnequalError(Exception):
    """A contestant did not make what everybody has to make; comparing its times would be wrong."""


@dataclass(slots=True)
class Results:
    """All runs so far.

    Args:
        runs: By case, phase and key of the contestant.
        helps: Those of printing a help, by key of the contestant.
    """

    runs: dict[tuple[Case, Phase, str], list[Run]] = field(default_factory=lambda: defaultdict(list))
    helps: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))

    @property
    def has_failures(self) -> bool:
        """Whether anybody failed; who was stopped did not."""
        return any(run.code and not run.stopped for runs in self.runs.values() for run in runs)

    def find(self, case: Case, phase: Phase, key: str) -> Run | None:
        """The median run: medians of the times, and the most round trips; the one that failed if one did; None if none."""
        return _median(self.runs.get((case, phase, key), []))

    def find_help(self, key: str) -> Run | None:
        """The median run of printing a help."""
        return _median(self.helps.get(key, []))


def _median(runs: Sequence[Run]) -> Run | None:
    for each in runs:
        if not each.succeeded:
            return each
    if not runs:
        return None
    trips = max((each.trips for each in runs if each.trips), key=lambda found: found.total, default=None)
    wall, cpu = (statistics.median(getattr(each, name) for each in runs) for name in ("wall", "cpu"))
    return replace(runs[0], wall=wall, cpu=cpu, trips=trips)


class Rounds:
    """Runs everything, interleaved; what was stopped once is not tried again.

    Args:
        databases: Makes empty databases.
        cases: What is measured, in order.
        contestants: Who takes part.
        timeout: After how many seconds a run is stopped.
        say: Told what was measured.
    """

    def __init__(
        self,
        databases: Databases,
        cases: Sequence[Case],
        contestants: Sequence[Contestant],
        *,
        timeout: float,
        say: Callable[[str], None],
    ) -> None:
        self.results = Results()
        self.cases = cases
        self.contestants = contestants
        self._databases = databases
        self._timeout = timeout
        self._say = say

    def run(self, number: int) -> None:
        """One round; each starts with another contestant.

        Raises:
            UnequalError: If somebody made less, or more, than the generated suite.
        """
        self._helps()
        for case in self.cases:
            for contestant in _rotated(self.contestants, number):
                with self._databases.create(case) as target:
                    self._both_phases(case, contestant, target)

    def _both_phases(self, case: Case, contestant: Contestant, target: Target) -> None:
        before = self.results.find(case, "cold", contestant.key)
        cold = None if before and before.stopped else self._measure(case, "cold", contestant, target)
        if not cold or not cold.succeeded:
            self._pretended_warm(case, contestant)
            return
        if before is None:
            self._compare(case, contestant, target)
        self._measure(case, "warm", contestant, target)

    def _measure(self, case: Case, phase: Phase, contestant: Contestant, target: Target) -> Run:
        argv = contestant.argv(case.scale, target, warm=phase == "warm")
        before = self._databases.trips(case)
        done = self._run(argv, case, contestant, target)
        after = self._databases.trips(case)
        if before and after:
            done = replace(done, trips=after - before)
        self.results.runs[case, phase, contestant.key].append(done)
        self._say(f"{case}, {phase}: {contestant.key}: " + _describe(done))
        return done

    def _pretended_warm(self, case: Case, contestant: Contestant) -> None:
        """Where there is no cold run to follow: after one that only records everything as done, if there is such a thing."""
        with self._databases.create(case) as target:
            argv = contestant.pretend(case.scale, target)
            if argv and self._run(argv, case, contestant, target).succeeded:
                self._measure(case, "warm", contestant, target)

    def _run(self, argv: Argv, case: Case, contestant: Contestant, target: Target) -> Run:
        environ = contestant.environ(case.scale, target)
        return run(argv, environ=environ, cwd=self._databases.folder, timeout=self._timeout)

    def _compare(self, case: Case, contestant: Contestant, target: Target) -> None:
        engine = self._databases.connect(target)
        found, wanted = get_shape(engine), make_shape(case.scale)
        if found != wanted:
            raise UnequalError(f"{contestant.title} made {found}, not {wanted} ({case})")

    def _helps(self) -> None:
        for _ in range(HELP_RUNS):
            for key, argv in self._iter_helps():
                done = run(argv, environ=clean_environ(), cwd=self._databases.folder, timeout=self._timeout)
                self.results.helps[key].append(done)

    def _iter_helps(self) -> Iterator[tuple[str, Argv]]:
        for contestant in self.contestants:
            if isinstance(contestant, Installed):
                if contestant.key == "create_all":
                    yield START, [contestant.programs / "python", "-c", "pass"]
                elif argv := contestant.help_argv():
                    yield contestant.key, argv


def _rotated(contestants: Sequence[Contestant], number: int) -> list[Contestant]:
    first = number % len(contestants)
    return [*contestants[first:], *contestants[:first]]


def _describe(done: Run) -> str:
    if done.stopped:
        return f"stopped after {done.wall:.0f} s"
    if done.code:
        return f"failed ({done.code}):\n{done.output}"
    trips = f", {done.trips.total} round trips ({done.trips.after_start} after start-up)" if done.trips else ""
    return f"{done.wall:.2f} s, CPU {done.cpu:.2f} s{trips}"
