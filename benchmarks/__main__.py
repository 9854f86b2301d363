"""``python -m benchmarks``: choose, set up, run, and write the page. ``make bench`` calls it."""

import argparse
import signal
import sqlite3
import sys
from pathlib import Path

from benchmarks.contestants import KEYS, RECIPES, SCRIPT, Contestant, Installed, install, make_script
from benchmarks.databases import Case, Databases
from benchmarks.environments import ROOT, SetUpError, hold_folder
from benchmarks.generate import Scale
from benchmarks.machine import describe_machine, find_program_version
from benchmarks.report import make_report
from benchmarks.rounds import Results, Rounds, UnequalError

PAGE = ROOT / "docs" / "benchmarks.md"
TABLES, DATABASES, ROUND_TRIPS = [100, 1000], ["sqlite", "postgresql"], [0.0, 1.0, 5.0]


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 tables, one round")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--tables", type=_whole, nargs="+", metavar="N", help="multiples of 20; default: 100 1000")
    parser.add_argument("--databases", choices=DATABASES, nargs="+", default=DATABASES)
    parser.add_argument("--round-trips", type=float, nargs="+", default=ROUND_TRIPS, metavar="MS")
    parser.add_argument("--only", choices=KEYS, nargs="+", default=list(KEYS), help="contestants")
    parser.add_argument("--timeout", type=float, default=120.0, metavar="S", help="stop a run after; default: 120")
    parser.add_argument("--output", type=Path, help="where the page goes; default: docs/benchmarks.md if it is whole")
    parser.add_argument("--project", type=Path, default=ROOT, help="another checkout of opal_registry to measure")
    chosen = parser.parse_args(argv)
    chosen.tables = chosen.tables or ([100] if chosen.quick else TABLES)
    chosen.rounds = 1 if chosen.quick else chosen.rounds
    return chosen


def _whole(text: str) -> int:
    number = int(text)
    if number <= 0 or number % 20:
        raise argparse.ArgumentTypeError(f"{number} is not a multiple of 20")
    return number


def make_cases(tables: list[int], databases: list[str], round_trips: list[float]) -> list[Case]:
    """The cases that a choice means: SQLite has no round trips."""
    scales = [Scale(apps=number // 20) for number in tables]
    near = [Case(scale, "sqlite") for scale in scales if "sqlite" in databases]
    far = [Case(scale, "postgresql", delay) for scale in scales for delay in round_trips if "postgresql" in databases]
    return near + far


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit code."""
    chosen = parse(argv)
    cases = make_cases(chosen.tables, chosen.databases, chosen.round_trips)
    output = chosen.output or (PAGE if _is_whole(cases, chosen.only) else None)
    try:
        with hold_folder(), Databases() as databases:
            results = _measure(chosen, cases, databases, output)
    except (SetUpError, UnequalError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return int(results.has_failures)


def _is_whole(cases: list[Case], only: list[str]) -> bool:
    return set(cases) == set(make_cases(TABLES, DATABASES, ROUND_TRIPS)) and set(only) == set(KEYS)


def _measure(chosen: argparse.Namespace, cases: list[Case], databases: Databases, output: Path | None) -> Results:
    scales = list(dict.fromkeys(case.scale for case in cases))
    _say("setting up the contestants (minutes, the first time)")
    needed = {*chosen.only, "create_all"} if SCRIPT in chosen.only else {*chosen.only}
    installed = [install(recipe, scales, chosen.project) for recipe in RECIPES if recipe.key in needed]
    contestants: list[Contestant] = [each for each in installed if each.key in chosen.only]
    psql = databases.cluster.binaries / "psql" if "postgresql" in chosen.databases else None
    if SCRIPT in chosen.only:
        (create_all,) = (each for each in installed if each.key == "create_all")
        contestants.append(make_script(create_all, scales, databases.folder, psql))
    rounds = Rounds(databases, cases, contestants, timeout=chosen.timeout, say=_say)
    machine = describe_machine() | _describe_databases(psql)
    versions = {each.title: each.find_versions() for each in contestants if isinstance(each, Installed)}
    titles = {each.key: each.title for each in contestants}
    for number in range(chosen.rounds):
        rounds.run(number)
        page = make_report(rounds.results, cases, titles, machine=machine, versions=versions, rounds=number + 1)
        if output:  # after every round, so that an interrupted run leaves what it has
            output.write_text(page)
    print(page)
    return rounds.results


def _describe_databases(psql: Path | None) -> dict[str, str]:
    of_python, of_program = sqlite3.sqlite_version, find_program_version("sqlite3")
    described = {"SQLite": f"{of_python} (Python), {of_program} (`sqlite3`)"}
    if psql:
        described["PostgreSQL"] = f"{find_program_version(psql)} (the server and `psql`)"
    return described


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and children end, too
    sys.exit(main(sys.argv[1:]))
