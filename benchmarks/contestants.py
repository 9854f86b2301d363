"""Who is compared, and how each of them brings a schema up."""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.databases import Kind, Target
from benchmarks.environments import find_versions, install_project, make_environment, make_site, run_quietly
from benchmarks.generate import (
    CORE,
    Distribution,
    Scale,
    make_advanced_alchemy_suite,
    make_create_all_suite,
    make_invenio_suite,
    make_opal_suite,
)
from benchmarks.generate_django import make_django_suite

Argv = list[str | Path]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one contestant is set up and called.

    Args:
        key: Its short name.
        title: Its name in the tables.
        requires: What its virtual environment holds (PEP 508).
        suite: Makes its suite.
        command: Brings the schema up; the first word is a program of the environment.
        driver: The PostgreSQL driver in its URL.
        pretend: Arguments that make the command record everything as done; empty if it has none.
        help: Prints its help.
        versions: The distributions whose versions are reported.
    """

    key: str
    title: str
    requires: Sequence[str]
    suite: Callable[[Scale], list[Distribution]]
    command: Sequence[str]
    driver: str = "psycopg"
    pretend: Sequence[str] = ()
    help: Sequence[str] = ()
    versions: Sequence[str] = ()


RECIPES = (
    Recipe(
        "create_all",
        "SQLAlchemy `create_all`",
        ("SQLAlchemy>=2.1", "psycopg[binary]>=3.2"),
        make_create_all_suite,
        ("python", "-m", f"{CORE}.create"),
        versions=("SQLAlchemy", "psycopg"),
    ),
    Recipe(
        "opal",
        "`opal-db init`",
        (),
        make_opal_suite,
        ("opal-db", "init"),
        help=("opal-db", "--help"),
        versions=("opal-registry", "SQLAlchemy", "psycopg"),
    ),
    Recipe(
        "django",
        "Django `migrate`",
        ("Django>=5.2,<5.3", "psycopg[binary]>=3.2"),
        make_django_suite,
        ("python", "-m", "django", "migrate"),
        pretend=("--fake",),
        help=("django-admin", "help"),
        versions=("Django", "psycopg"),
    ),
    Recipe(
        "invenio",
        "Invenio-DB `db create`",
        ("invenio-db[postgresql]",),
        make_invenio_suite,
        ("flask", "--app", f"{CORE}.app", "db", "create"),
        driver="psycopg2",
        help=("flask", "--help"),
        versions=("invenio-db", "SQLAlchemy", "psycopg2-binary"),
    ),
    Recipe(
        "advanced_alchemy",
        "Advanced Alchemy `create_all=True`",
        ("advanced-alchemy[cli]", "psycopg[binary]>=3.2"),
        make_advanced_alchemy_suite,
        ("python", "-m", f"{CORE}.create"),
        help=("alchemy", "--help"),
        versions=("advanced-alchemy", "SQLAlchemy", "psycopg"),
    ),
)

SCRIPT = "script"
KEYS = (*(recipe.key for recipe in RECIPES), SCRIPT)


class Contestant(Protocol):
    """What the rounds need to know of a contestant."""

    @property
    def key(self) -> str: ...
    @property
    def title(self) -> str: ...
    def argv(self, scale: Scale, target: Target, *, warm: bool) -> Argv: ...
    def environ(self, scale: Scale, target: Target) -> Mapping[str, str]: ...
    def pretend(self, scale: Scale, target: Target) -> Argv: ...


@dataclass(frozen=True, slots=True)
class Installed:
    """A contestant in Python, set up.

    Args:
        recipe: How it is called.
        programs: The programs of its virtual environment.
        sites: The installed suite of each scale.
    """

    recipe: Recipe
    programs: Path
    sites: dict[Scale, Path] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.recipe.key

    @property
    def title(self) -> str:
        return self.recipe.title

    def argv(self, _scale: Scale, _target: Target, *, warm: bool) -> Argv:  # noqa: ARG002 -- the same command
        return self._command(self.recipe.command)

    def pretend(self, _scale: Scale, _target: Target) -> Argv:
        return self._command((*self.recipe.command, *self.recipe.pretend)) if self.recipe.pretend else []

    def environ(self, scale: Scale, target: Target) -> dict[str, str]:
        url = target.url(self.recipe.driver)
        return clean_environ() | {"PYTHONPATH": str(self.sites[scale]), "DATABASE_URL": url} | DJANGO

    def help_argv(self) -> Argv:
        """The command that prints its help; empty if it has none."""
        return self._command(self.recipe.help) if self.recipe.help else []

    def find_versions(self) -> dict[str, str]:
        """The versions of what it consists of."""
        return find_versions(self.programs, self.recipe.versions)

    def _command(self, words: Sequence[str]) -> Argv:
        return [self.programs / words[0], *words[1:]]


DJANGO = {"DJANGO_SETTINGS_MODULE": f"{CORE}.settings"}


@dataclass(frozen=True, slots=True)
class Script:
    """The floor: the same DDL from a file, through ``psql -f`` or ``sqlite3``.

    Args:
        psql: The program.
        files: The DDL for an empty database, by kind and scale; ``.warm`` beside it, with IF NOT EXISTS.
    """

    psql: Path | None
    files: dict[tuple[Kind, Scale], Path]
    key: str = SCRIPT
    title: str = "the DDL, by `psql -f` or `sqlite3`"

    def argv(self, scale: Scale, target: Target, *, warm: bool) -> Argv:
        file = self.files[target.kind, scale]
        file = file.with_suffix(".warm") if warm else file
        if target.kind == "sqlite":
            program = shutil.which("sqlite3")
            return [program, "-bail", target.name, f".read {file}"] if program else [*PYTHON_SQLITE, target.name, file]
        assert self.psql
        server = ("-h", "127.0.0.1", "-p", str(target.port), "-U", "postgres", "-d", target.name)
        return [self.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", *server, "-f", file]

    def pretend(self, _scale: Scale, _target: Target) -> Argv:
        return []

    def environ(self, _scale: Scale, _target: Target) -> dict[str, str]:
        return clean_environ() | {"PGOPTIONS": "-c client_min_messages=warning"}


READ_SCRIPT = (
    "import pathlib, sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(pathlib.Path(sys.argv[2]).read_text())"
)
PYTHON_SQLITE = (sys.executable, "-I", "-S", "-c", READ_SCRIPT)
"""What stands in for ``sqlite3`` where there is none."""


def clean_environ() -> dict[str, str]:
    """Variables for every program that is measured: none of ours."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def install(recipe: Recipe, scales: Sequence[Scale], project: Path) -> Installed:
    """Set a contestant up.

    Args:
        recipe: Who it is.
        scales: How much is generated for it.
        project: The checkout of opal_registry to measure.

    Raises:
        SetUpError: If something cannot be installed.
    """
    programs = make_environment(recipe.key, recipe.requires)
    if recipe.key == "opal":
        install_project(programs, project)
    made = Installed(recipe, programs)
    for scale in scales:

        def finish(folder: Path, scale: Scale = scale) -> None:
            if recipe.key == "django":
                _write_migrations(programs, folder, scale)

        name = f"{recipe.key}-{scale.tables}"
        made.sites[scale] = make_site(name, programs, recipe.suite(scale), finish)
    return made


def make_script(create_all: Installed, scales: Sequence[Scale], folder: Path, psql: Path | None) -> Script:
    """Write the DDL that ``create_all`` sends to files."""
    files: dict[tuple[Kind, Scale], Path] = {}
    kinds: tuple[Kind, ...] = ("sqlite", "postgresql")
    for kind in kinds:
        for scale in scales:
            environ = create_all.environ(scale, Target(kind, ""))
            ddl = run_quietly(create_all.programs / "python", "-m", f"{CORE}.print_ddl", kind, **environ)
            if kind == "sqlite":
                ddl = f"BEGIN;\n{ddl}COMMIT;\n"
            file = files[kind, scale] = folder / f"{kind}-{scale.tables}.sql"
            file.write_text(ddl)
            again = ddl.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")
            file.with_suffix(".warm").write_text(again.replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS"))
    return Script(psql, files)


def _write_migrations(programs: Path, folder: Path, scale: Scale) -> None:
    environ = clean_environ() | DJANGO | {"PYTHONPATH": str(folder), "DATABASE_URL": "sqlite:///:memory:"}
    labels = (CORE, *scale.app_names)
    run_quietly(programs / "python", "-m", "django", "makemigrations", *labels, **environ)
    run_quietly(programs / "python", "-m", "compileall", "-q", folder)
