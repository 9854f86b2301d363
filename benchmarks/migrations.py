"""``python -m benchmarks.migrations``: histories side by side with Alembic's and Django's; writes docs/benchmarks-migrations.md."""

import argparse
import shutil
import signal
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contestants import clean_environ
from benchmarks.databases import Case, Databases, Target
from benchmarks.environments import (
    FOLDER,
    ROOT,
    SetUpError,
    find_versions,
    hold_folder,
    install_project,
    make_environment,
    make_site,
    run_quietly,
)
from benchmarks.generate import CORE, Distribution, Scale
from benchmarks.generate_histories import REVISIONS, make_alembic, make_django, make_opal
from benchmarks.machine import describe_machine
from benchmarks.measure import Run, run

PAGE = ROOT / "docs" / "benchmarks-migrations.md"
APPS = 50
TIMEOUT = 300.0


@dataclass(frozen=True, slots=True)
class Runner:
    """Who is compared: a title, what its environment holds, its suite, and its command."""

    key: str
    title: str
    requires: Sequence[str]
    make: Callable[[int], list[Distribution]]
    command: Sequence[str]
    versions: Sequence[str]


RUNNERS = (
    Runner("opal", "`opal-db upgrade`", (), make_opal, ("opal-db", "upgrade"), ("opal-registry", "alembic")),
    Runner(
        "alembic",
        "`alembic upgrade heads`",
        ("alembic>=1.20", "psycopg[binary]>=3.2"),
        make_alembic,
        ("alembic", "-c", "{site}/" + f"{CORE}/alembic.ini", "upgrade", "heads"),
        ("alembic", "SQLAlchemy"),
    ),
    Runner(
        "django_migrations",
        "Django `migrate`",
        ("Django>=5.2,<5.3", "psycopg[binary]>=3.2"),
        make_django,
        ("python", "-m", "django", "migrate", "--verbosity", "0"),
        ("Django",),
    ),
)


@dataclass(slots=True)
class Ready:
    """One of them, set up."""

    runner: Runner
    programs: Path
    site: Path

    def run(self, target: Target, cwd: Path, *words: str) -> Run:
        """Run its command, or another one of its programs."""
        command = [word.format(site=self.site) for word in words or self.runner.command]
        environ = clean_environ() | {
            "PYTHONPATH": str(self.site),
            "DATABASE_URL": target.url(),
            "DJANGO_SETTINGS_MODULE": f"{CORE}.settings",
        }
        done = run([self.programs / command[0], *command[1:]], environ=environ, cwd=cwd, timeout=TIMEOUT)
        if not done.succeeded:
            raise SetUpError(f"{self.runner.title} failed ({done.code}):\n{done.output}")
        return done


def set_up(runner: Runner, apps: int) -> Ready:
    """Install a contestant and its suite."""
    programs = make_environment(runner.key, runner.requires)
    if runner.key == "opal":
        install_project(programs, ROOT)
    site = make_site(
        f"{runner.key}-histories-{apps}", programs, runner.make(apps), lambda folder: _compile(programs, folder)
    )
    return Ready(runner, programs, site)


def _compile(programs: Path, folder: Path) -> None:
    run_quietly(programs / "python", "-m", "compileall", "-q", folder)


Results = dict[tuple[str, str, str], list[Run]]


def measure(databases: Databases, kinds: Sequence[str], ready: Sequence[Ready], rounds: int) -> Results:
    """Everybody in turn, in each round: all revisions in an empty database, and the same command again."""
    found: Results = defaultdict(list)
    for number in range(rounds):
        for kind in kinds:
            for each in [*ready[number % len(ready) :], *ready[: number % len(ready)]]:
                with databases.create(Case(Scale(apps=1), kind)) as target:  # type: ignore[arg-type]
                    for phase in ("fresh", "nothing to do"):
                        done = each.run(target, databases.folder)
                        found[kind, phase, each.runner.key].append(done)
                        _say(f"{kind}, {phase}: {each.runner.key}: {done.cpu:.2f} s CPU, {done.wall:.2f} s")
    return found


def measure_autogenerate(databases: Databases, rounds: int) -> dict[int, float]:
    """CPU seconds of writing a revision of one sub-app, by the number of sub-apps that are installed."""
    found: dict[int, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for apps in (3, APPS):
            each = set_up(RUNNERS[0], apps)
            source = _make_source(each.site, apps)
            with databases.create(Case(Scale(apps=1), "sqlite")) as target:
                done = Ready(each.runner, each.programs, source).run(
                    target, databases.folder, "opal-db", "revision", "app01", "-m", "x"
                )
            found[apps].append(done.cpu)
            _say(f"autogenerate, {apps} sub-apps: {done.cpu:.2f} s CPU")
    return {apps: statistics.median(seconds) for apps, seconds in found.items()}


def _make_source(site: Path, apps: int) -> Path:
    """A copy of the suite in a folder that is no ``site-packages``."""
    source = FOLDER / "sources" / f"{apps}"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(site, source)
    return source


def iter_page(results: Results, autogenerate: dict[int, float], ready: Sequence[Ready], rounds: int) -> Iterator[str]:
    """The page, line by line."""
    yield "# Benchmarks of migrations\n"
    yield f"`make bench-migrations` made this page: {APPS} sub-apps with {REVISIONS} revisions each (three tables, a column, an index),"
    yield "all of them run in an empty database, and the same command once more with nothing to do. Alembic has one history with the same"
    yield "operations in a row, and an `env.py` that imports the models, as one that autogenerates does; Django has the same applications and"
    yield "migrations. Whole processes,"
    yield f"medians of {rounds} rounds, everybody in turn. Seconds are this machine's; ratios hold elsewhere.\n"
    for kind in dict.fromkeys(key[0] for key in results):
        yield f"## {'SQLite' if kind == 'sqlite' else 'PostgreSQL'}\n"
        yield "|  | fresh CPU | ratio | fresh wall | ratio | nothing to do, CPU | ratio | wall | ratio |"
        yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
        yield from (_row(results, kind, each) for each in ready)
        yield ""
    yield "A ratio is to `alembic upgrade heads`.\n"
    yield "## Writing a revision of one sub-app\n"
    few, many = sorted(autogenerate)
    yield f"`opal-db revision app01` with {few} sub-apps installed: {autogenerate[few]:.2f} s CPU; with {many}: {autogenerate[many]:.2f} s,"
    yield f"{autogenerate[many] / autogenerate[few]:.2f} of that.\n"
    yield "## The machine\n"
    yield "|  |  |\n| --- | --- |"
    yield from (f"| {name} | {value} |" for name, value in describe_machine().items())
    yield from (f"| {each.runner.title} | {_versions(each)} |" for each in ready)


def _versions(each: Ready) -> str:
    return ", ".join(
        f"{name} {version}" for name, version in find_versions(each.programs, each.runner.versions).items()
    )


def _row(results: Results, kind: str, each: Ready) -> str:
    cells = [each.runner.title]
    for phase in ("fresh", "nothing to do"):
        for what in ("cpu", "wall"):
            own, other = (_median(results, kind, phase, key, what) for key in (each.runner.key, "alembic"))
            cells += [f"{own:.2f} s", f"{own / other:.2f}"]
    return f"| {' | '.join(cells)} |"


def _median(results: Results, kind: str, phase: str, key: str, what: str) -> float:
    found: list[float] = [getattr(done, what) for done in results[kind, phase, key]]
    return statistics.median(found)


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-migrations ARGS=...", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--databases", choices=["sqlite", "postgresql"], nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--output", type=Path, default=PAGE)
    chosen = parser.parse_args(argv)
    try:
        with hold_folder(), Databases() as databases:
            ready = [set_up(runner, APPS) for runner in RUNNERS]
            results = measure(databases, chosen.databases, ready, chosen.rounds)
            autogenerate = measure_autogenerate(databases, chosen.rounds)
            page = "\n".join(iter_page(results, autogenerate, ready, chosen.rounds)) + "\n"
    except SetUpError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    chosen.output.write_text(page)
    print(page)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and children end, too
    sys.exit(main(sys.argv[1:]))
