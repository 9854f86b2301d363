"""The report: a Markdown page with the machine, the measures to reach, and a table for every case."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.contestants import RECIPES
from benchmarks.databases import Case
from benchmarks.measure import Run
from benchmarks.measures import Measure, iter_measures
from benchmarks.rounds import START, Phase, Results

INTRODUCTION = """\
# Benchmarks

`make bench` made this page: one run on one machine, everybody in turn. It sets up a virtual environment for each
contestant, builds wheels of the same generated sub-apps for each, checks that all of them made the same tables, columns,
indexes and foreign keys, and measures whole processes, from the shell's point of view.

    make bench                                      all of it, three rounds; about an hour
    make bench ARGS=--quick                         100 tables, one round; minutes
    make bench ARGS="--only opal create_all --tables 1000 --databases sqlite --rounds 5"

Only a run with all cases and contestants replaces this page; others print theirs (`--output FILE` writes it).
"""

HOW_TO_READ = """\
## How to read it

- **Cold**: an empty database. **Warm**: the same command again, with nothing to do.
- **CPU** is the processor time of the process and its children, user and system, of the client only: what the
  PostgreSQL server itself needs is not in it, but is part of **wall**, the time until the process has ended.
- A **ratio** is that of the number on its left to `create_all` in the same case. Ratios hold on other machines, seconds do not.
- Numbers are medians of the rounds. In each round every contestant has its turn in every case, so that a machine that
  is slow for a while is slow for all of them.
- A **round trip** is something that the client sent and the server answered; in brackets without those that open the
  connections (the TCP handshake counts in neither). A proxy of the benchmark's own delays each direction by half of the
  time; at 0 ms there is no proxy, and nobody counts.
- A table has 8 columns, 2 indexes, 1 foreign key to a table of the same sub-app and 1 to `users`; a sub-app has 20 tables.
- `create_all` is one program that imports all models on one base and calls `metadata.create_all(engine)`. Advanced
  Alchemy does through its configuration what `create_all=True` does. Invenio-DB is `flask db create`, models behind its
  entry points. Django's migrations were made by `makemigrations`, and it has no other applications.
- The script is the floor: the statements of `create_all`, in a file, for `psql -f` (each statement a transaction of its
  own) or for `sqlite3` (all in one); warm, the same with `IF NOT EXISTS`.
- "stopped": it took longer than it may, once, and was not tried again. Its warm run follows `migrate --fake`.
- PostgreSQL runs on the same machine, with its default settings, and shares its cores with the client.
"""

COLUMNS = ("CPU", "ratio", "wall", "ratio", "round trips")


def make_report(
    results: Results,
    cases: Sequence[Case],
    titles: Mapping[str, str],
    *,
    machine: Mapping[str, str],
    versions: Mapping[str, Mapping[str, str]],
    rounds: int,
) -> str:
    """The page.

    Args:
        results: All runs.
        cases: Those that were run, in order.
        titles: The contestants by key, in order.
        machine: What it ran on.
        versions: Of each contestant by title: the distributions and their versions.
        rounds: How many rounds there were.
    """
    parts = [
        INTRODUCTION,
        "## The machine\n",
        _table(("", ""), machine.items()),
        _table(
            ("contestant", "versions"),
            ((title, ", ".join(f"{name} {version}" for name, version in v.items())) for title, v in versions.items()),
        ),
        f"Rounds: {rounds}.\n",
        "## The measures to reach\n",
        _table(("measure", "target", "measured", "met"), map(_measure_row, iter_measures(results))),
        HOW_TO_READ,
        *(part for case in cases for part in _case_parts(results, case, titles)),
        "## Printing a help\n",
        _table(("", "CPU", "wall"), _help_rows(results)),
    ]
    return "\n".join(parts)


def _measure_row(measure: Measure) -> tuple[str, ...]:
    target = f"{'<' if measure.strict else '<='} {_number(measure.limit, measure.unit)}"
    if measure.stretch is not None:
        target += f" (stretch {_number(measure.stretch, measure.unit)})"
    measured = _number(measure.value, measure.unit) if measure.value is not None else "not measured"
    met = {True: "met", False: "**not met**", None: ""}[measure.is_met]
    return measure.what, target, measured, met


def _number(value: float, unit: str) -> str:
    times = f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
    return {"s": f"{value:.2f} s", "times": times, "round trips": f"{value:.0f}"}[unit]


def _case_parts(results: Results, case: Case, titles: Mapping[str, str]) -> Iterator[str]:
    yield f"## {case}\n"
    columns = COLUMNS if case.delay else COLUMNS[:-1]
    head = [column if column == "ratio" else f"{phase} {column}" for phase in ("cold", "warm") for column in columns]
    yield _table(("", *head), ((title, *_cells(results, case, key)) for key, title in titles.items()))


def _cells(results: Results, case: Case, key: str) -> Iterator[str]:
    phases: tuple[Phase, ...] = ("cold", "warm")
    for phase in phases:
        cells = _run_cells(results.find(case, phase, key), results.find(case, phase, "create_all"))
        yield from cells if case.delay else cells[:-1]


def _run_cells(done: Run | None, base: Run | None) -> tuple[str, ...]:
    if done is None:
        return ("",) * len(COLUMNS)
    if not done.succeeded:
        why = f"stopped after {done.wall:.0f} s" if done.stopped else f"failed ({done.code})"
        return (why, *("",) * (len(COLUMNS) - 1))
    cpu, wall = (f"{done.cpu / base.cpu:.2f}", f"{done.wall / base.wall:.2f}") if base and base.succeeded else ("", "")
    trips = f"{done.trips.total} ({done.trips.after_start})" if done.trips else ""
    return f"{done.cpu:.2f} s", cpu, f"{done.wall:.2f} s", wall, trips


def _help_rows(results: Results) -> Iterator[tuple[str, ...]]:
    helps = {recipe.key: f"`{' '.join(recipe.help)}`" for recipe in RECIPES}
    for key, title in {START: "Python that does nothing", **helps}.items():
        done = results.find_help(key)
        if done:
            yield (title, f"{done.cpu:.2f} s", f"{done.wall:.2f} s") if done.succeeded else (title, "failed", "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1) if len(head) > 2 else ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
