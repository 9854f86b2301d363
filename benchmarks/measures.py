"""The measures to reach, and whether a run reached them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from benchmarks.databases import Case, Kind
from benchmarks.generate import Scale
from benchmarks.measure import Run
from benchmarks.rounds import Phase, Results

SMALL, LARGE = Scale(apps=5), Scale(apps=50)
"""100 and 1,000 tables."""

TITLES: dict[Kind, str] = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
COLD_CPU: dict[Kind, tuple[float, float]] = {"sqlite": (0.42, 0.35), "postgresql": (0.40, 0.30)}
WARM_CPU: dict[Kind, float] = {"sqlite": 0.30, "postgresql": 0.36}
FAR = 5.0
TRIPS_PER_500 = 8


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure.

    Args:
        what: What is measured.
        limit: What it must not exceed.
        value: What was measured; None if it was not, or a run that it needs was stopped or failed.
        unit: What both numbers are.
        strict: Whether it must stay below the limit.
        stretch: What would be better still, if that was said.
    """

    what: str
    limit: float
    value: float | None
    unit: Literal["s", "times", "round trips"] = "times"
    strict: bool = False
    stretch: float | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether it is met; None if it was not measured."""
        if self.value is None:
            return None
        return self.value < self.limit if self.strict else self.value <= self.limit


def iter_measures(results: Results) -> Iterator[Measure]:
    """The measures, in the order in which they are reported."""
    near: dict[Kind, tuple[Case, Case]] = {kind: (Case(SMALL, kind), Case(LARGE, kind)) for kind in TITLES}
    for kind, (_, large) in near.items():
        ratio = _ratio(_cpu(results, large, "cold", "opal"), _cpu(results, large, "cold", "create_all"))
        limit, stretch = COLD_CPU[kind]
        yield Measure(f"cold, 1,000 tables, {TITLES[kind]}: CPU, to `create_all`", limit, ratio, stretch=stretch)
    yield from _far_measures(results)
    for kind, (small, _) in near.items():
        opal = _cpu(results, small, "warm", "opal")
        yield Measure(f"warm, 100 tables, {TITLES[kind]}: CPU", WARM_CPU[kind], opal, "s")
        ratio = _ratio(opal, _cpu(results, small, "warm", "django"))
        yield Measure(f"warm, 100 tables, {TITLES[kind]}: CPU, to Django", 0.45, ratio)
    for kind, (small, large) in near.items():
        opal = _cpu(results, large, "warm", "opal")
        ratio = _ratio(opal, _cpu(results, small, "warm", "opal"))
        yield Measure(f"warm, 1,000 tables, {TITLES[kind]}: CPU, to 100 tables", 1.20, ratio)
        ratio = _ratio(opal, _cpu(results, large, "warm", "create_all"))
        yield Measure(f"warm, 1,000 tables, {TITLES[kind]}: CPU, to `create_all`", 0.07, ratio)
    helped = results.find_help("opal")
    yield Measure("`opal-db --help`: CPU", 0.20, helped.cpu if helped and helped.succeeded else None, "s")


def _far_measures(results: Results) -> Iterator[Measure]:
    far = Case(SMALL, "postgresql", FAR)
    opal = _wall(results, far, "opal")
    text = "cold, 100 tables, PostgreSQL at 5 ms: wall, to "
    yield Measure(text + "`create_all`", 0.45, _ratio(opal, _wall(results, far, "create_all")))
    yield Measure(text + "`psql -f`", 1.0, _ratio(opal, _wall(results, far, "script")), strict=True)
    for scale in (SMALL, LARGE):
        done = _find(results, Case(scale, "postgresql", FAR), "cold", "opal")
        limit = TRIPS_PER_500 * math.ceil(scale.tables / 500)
        trips = done.trips if done else None
        what = f"cold, {scale.tables:,} tables, PostgreSQL at 5 ms: round trips"
        yield Measure(f"{what}, connecting included", limit, trips.total if trips else None, "round trips")
        yield Measure(f"{what} after connecting", limit, trips.after_start if trips else None, "round trips")


def _find(results: Results, case: Case, phase: Phase, key: str) -> Run | None:
    done = results.find(case, phase, key)
    return done if done and done.succeeded else None


def _cpu(results: Results, case: Case, phase: Phase, key: str) -> float | None:
    done = _find(results, case, phase, key)
    return done.cpu if done else None


def _wall(results: Results, case: Case, key: str) -> float | None:
    done = _find(results, case, "cold", key)
    return done.wall if done else None


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None
