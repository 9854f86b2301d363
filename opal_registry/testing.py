"""For the tests of sub-apps: whether the models and the migrations of one make the same database.

def test_models_and_migrations_agree():
    with Registry(Settings(database={"url": "sqlite://"}), sub_apps=["standupbot"]) as registry:
        check_migrations(registry, "standupbot")
"""

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import sqlalchemy as sa

from opal_registry.contents import Aspects, Contents, read_contents, read_rows
from opal_registry.errors import OpalError, Problem
from opal_registry.migrations.history import load_histories
from opal_registry.migrations.look import Target, find_history
from opal_registry.mixins import utc_now
from opal_registry.plan import closure
from opal_registry.registry import Registry
from opal_registry.scratch import make_scratch
from opal_registry.suite import LoadedSubApp
from opal_registry.upgrade import find_needs, upgrade

MEND = (
    'write a revision that makes up for it, or create="migrations" into the SubApp: '
    "then its revisions make the tables of new databases too"
)
SLACK = dt.timedelta(seconds=5)
"""A server's clock may be behind, and may keep whole seconds only."""
MOST_ROWS = 3
"""So many rows are shown of those that differ in a table."""


class MigrationsDifferError(OpalError, AssertionError):
    """The migrations of a sub-app make another database than its models; pytest shows it as a failed assertion."""


def check_migrations(registry: Registry, *sub_apps: str) -> None:
    """See to it that a fresh database is the same whether the models or all migrations of sub-apps make it.

    Compared are tables, columns (in any order) with types, nullability, server defaults and comments, primary and foreign
    keys, unique constraints, indexes, checks (by name), views, triggers, functions, sequences, enum types with their values, and
    the rows that seeds and migrations leave. Two databases are made on the configured server for it (SQLite: files), and dropped.

    Args:
        registry: A registry whose settings lead to a server of the kind that counts.
        *sub_apps: The sub-apps; all that have migrations unless given.

    Raises:
        MigrationsDifferError: If they are not the same; every difference is one of its problems.
        ConfigError: If a sub-app is not installed here, or has no migrations.
        PluginError: If a migration fails.
        DatabaseError: If no database can be made, or one fails.

    Example:
        >>> from opal_registry.settings.model import Settings
        >>> with Registry(Settings(database={"url": "sqlite://"}), sub_apps=["core"]) as registry:
        ...     check_migrations(registry, "core")
    """
    problems = find_differences(registry, *sub_apps)
    if problems:
        raise MigrationsDifferError(*problems)


def find_differences(registry: Registry, *sub_apps: str) -> list[Problem]:
    """How the databases differ that the models and the migrations of sub-apps make; see :func:`check_migrations`.

    Example:
        >>> from opal_registry.settings.model import Settings
        >>> with Registry(Settings(database={"url": "sqlite://"}), sub_apps=["core"]) as registry:
        ...     find_differences(registry)
        []
    """
    histories = load_histories(registry.suite.sub_apps, registry.get_dialect)
    for name in sub_apps:
        find_history(registry, name)
    needs = find_needs(registry.suite, histories)
    chosen = [registry.suite.get(name) for name in sub_apps or histories]
    compared = [app for app in chosen if app.sub_app.create != "external"]
    return [
        problem
        for bind in registry.settings.databases
        if (apps := [app for app in compared if app.sub_app.bind == bind])
        for problem in _Comparison(registry, bind, apps, needs).find()
    ]


@dataclass(frozen=True, slots=True)
class _Made:
    """What was made in a database."""

    contents: Contents
    rows: Mapping[str, Counter[str]]


class _Comparison:
    """Of some sub-apps that live in one database."""

    def __init__(
        self, registry: Registry, bind: str, apps: Sequence[LoadedSubApp], needs: Mapping[str, Sequence[str]]
    ) -> None:
        self._registry, self._bind, self._apps = registry, bind, apps
        self._names = {app.name for app in apps}
        self._tables = {table.fullname: (app.name, table) for app in apps for table in app.tables}
        here = [app for app in registry.suite.sub_apps if app.sub_app.bind == bind]
        needed = {name for app in apps for name in closure(needs, app.name)}
        self._is_whole = self._names >= {app.name for app in here}
        self._needs = [app.name for app in here if app.name in needed - self._names]
        self._of_others = {table.fullname for app in here if app.name not in self._names for table in app.tables}
        self._schemas = {table.schema for app in here for table in app.tables} | {None}
        self._server = registry.migration_engine(bind).dialect.name
        self._since = utc_now() - SLACK

    def find(self) -> list[Problem]:
        models, migrations = self._make(()), self._make(None)
        found = list(_iter_schema(models.contents, migrations.contents, self._of_others))
        if self._needs and any(place not in self._tables for place, _, _ in found):
            others = [self._make(migrated, self._needs).contents for migrated in ((), None)]
            found = [each for each in found if not _is_in(others, *each[:2])]
        found += [(place, "", text) for place, text in _iter_rows(models.rows, migrations.rows)]
        return [self._problem(place, text) for place, _, text in found]

    def _make(self, migrated: Collection[str] | None, names: Collection[str] = ()) -> _Made:
        """Bring a database up, from the models or by migrations, and read it."""
        with make_scratch(self._registry, self._bind, migrated=migrated) as scratch:
            for target in self._iter_targets(names):
                upgrade(scratch, target)
            with scratch.migration_engine().connect() as connection:
                return self._read(connection)

    def _iter_targets(self, names: Collection[str]) -> Iterator[Target]:
        if not names and self._is_whole:
            yield Target()
        else:
            yield from map(Target, names or sorted(self._names))

    def _read(self, connection: sa.Connection) -> _Made:
        schemas = self._schemas if connection.dialect.name != "sqlite" else {None}
        contents = read_contents(connection, schemas)
        rows = {
            place: read_rows(connection, table, _columns(contents[place]), self._since)
            for place, (_, table) in self._tables.items()
            if place in contents and not table.is_view
        }
        return _Made(contents, rows)

    def _problem(self, place: str, text: str) -> Problem:
        owner = self._tables[place][0] if place in self._tables else ", ".join(sorted(self._names))
        return Problem(text, f"sub-app {owner} on {self._server}", MEND)


def _columns(things: Mapping[str, Aspects]) -> set[str]:
    return {thing.removeprefix("column ") for thing in things if thing.startswith("column ")}


def _is_in(others: Sequence[Contents], place: str, thing: str) -> bool:
    """Whether something is there without the sub-apps that are compared: then it is no matter of theirs."""
    return any(place in contents and (not thing or thing in contents[place]) for contents in others)


def _iter_schema(models: Contents, migrations: Contents, ignored: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """How two schemas differ, as place, thing and a sentence."""
    for place in sorted((models.keys() | migrations.keys()) - set(ignored)):
        if place not in models or place not in migrations:
            yield place, "", _one_makes(f"the table {place}", by_models=place in models)
            continue
        prefix = f"table {place}: " if place else ""
        for thing, text in _iter_things(models[place], migrations[place]):
            yield place, thing, prefix + text


def _iter_things(models: Mapping[str, Aspects], migrations: Mapping[str, Aspects]) -> Iterator[tuple[str, str]]:
    for thing in sorted(models.keys() | migrations.keys()):
        if thing not in models or thing not in migrations:
            yield thing, _one_makes(f"the {thing}", by_models=thing in models)
            continue
        there, wanted = migrations[thing], models[thing]
        for aspect in wanted:
            if wanted[aspect] != there.get(aspect):
                what = f"the {aspect} of the {thing}"
                yield thing, f"{what} is {wanted[aspect]} by the models, {there.get(aspect)} by the migrations"


def _one_makes(what: str, *, by_models: bool) -> str:
    makes, lacks = ("models", "migrations") if by_models else ("migrations", "models")
    return f"the {makes} make {what}, the {lacks} do not"


def _iter_rows(models: Mapping[str, Counter[str]], migrations: Mapping[str, Counter[str]]) -> Iterator[tuple[str, str]]:
    """How the rows of those tables differ that are on both sides."""
    for place in sorted(models.keys() & migrations.keys()):
        for has, lacks, which in (
            (models, migrations, "with the models"),
            (migrations, models, "with the migrations"),
        ):
            if more := has[place] - lacks[place]:
                shown = "; ".join(f"({row})" for row in islice(more, MOST_ROWS))
                rows = "1 row is" if more.total() == 1 else f"{more.total()} rows are"
                yield place, f"table {place}: {rows} there {which} only: {shown}"
