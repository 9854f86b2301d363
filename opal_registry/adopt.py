"""Taking a sub-app's tables over that are there already, by nobody's history: at which of its revisions are they?

    the tables as they are  ==  those that the history makes, revision by revision, in a scratch database

What fits is written down, and nothing is run. Tables are never taken for up to date only because they are there.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from opal_registry.contents import Aspects, Contents, read_contents
from opal_registry.engines.errors.failures import explained
from opal_registry.engines.url import describe_url
from opal_registry.errors import ConfigError, PluginError, Problem, SchemaError
from opal_registry.guard import Step, quiet_step
from opal_registry.migrations.history import History
from opal_registry.migrations.look import Target, find_history, look
from opal_registry.migrations.progress import check_has_its_name
from opal_registry.migrations.run import Announce
from opal_registry.migrations.stamp import stamp
from opal_registry.registry import Registry
from opal_registry.schema.looking import look_at
from opal_registry.scratch import make_scratch
from opal_registry.store.locks import ignore
from opal_registry.store.revisions import NOWHERE
from opal_registry.suite import LoadedSubApp
from opal_registry.upgrade import upgrade

LENGTH = re.compile(r"\(\d+\)")
MOST_TOLD = 12
"""So many differences are told at most."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was found out, and written down.

    Args:
        app: The sub-app.
        heads: The revisions that its tables are at.
        notes: What differs all the same, and does no harm.
    """

    app: str
    heads: tuple[str, ...]
    notes: tuple[str, ...] = ()


def adopt(registry: Registry, target: Target, *, announce: Announce = ignore, step: Step = quiet_step) -> Adopted:
    """Find out at which revision the tables of a sub-app are, and write it down.

    Args:
        registry: The registry of the suite.
        target: The sub-app; with a revision, only that one is compared.
        announce: Told what a person should know while it happens.
        step: Told what is being done.

    Raises:
        ConfigError: If there is no such sub-app, or it has no history, or the database knows already where it is.
        SchemaError: If the tables are at none of its revisions, or may be at several; with the differences.
        DatabaseError: If a database fails.
    """
    app, histories = find_history(registry, target.app)
    history = histories[app.name]
    _check_is_unknown(registry, app, history)
    if heads := _find_others_heads(registry, app, history):
        return Adopted(app.name, _write(registry, app, heads, announce))
    with step("comparing the tables with each revision"):
        matches, nearest = _compare_all(registry, app, history, target)
    where = describe_url(registry.migration_engine(app.sub_app.bind).url)
    if not matches:
        raise SchemaError(*_explain_none(app, nearest, where))
    if len(matches) > 1:
        ids = ", ".join(matches)
        mend = f"opal-db adopt {app.name}@REVISION: the last of which you know that it was run, data and all"
        raise SchemaError(Problem(f"the tables of {app.name!r} may be at any of: {ids}", where, mend))
    ((id_, notes),) = matches.items()
    return Adopted(app.name, _write(registry, app, (id_,), announce), tuple(notes))


def _check_is_unknown(registry: Registry, app: LoadedSubApp, history: History) -> None:
    found = look(registry, app.sub_app.bind, [app])
    where = describe_url(registry.migration_engine(app.sub_app.bind).url)
    check_has_its_name(app.name, found, where)
    if heads := found.standings.get(app.name, NOWHERE).heads:
        what = f"the database knows already that {app.name!r} is at {', '.join(heads)}"
        raise ConfigError(Problem(what, where, f"opal-db upgrade {app.name}, or opal-db stamp {app.name}@REVISION"))
    if not found.present[app.name] or not history.revisions:
        what = f"no table of {app.name!r} is there" if history.revisions else f"{app.name!r} has no revisions yet"
        raise ConfigError(Problem(f"{what}: there is nothing to adopt", where, "opal-db upgrade brings it up"))


def _find_others_heads(registry: Registry, app: LoadedSubApp, history: History) -> tuple[str, ...]:
    """What the version table of another tool says, if that is to be taken over."""
    name, engine = history.location.options.takes_over, registry.migration_engine(app.sub_app.bind)
    if name is None:
        return ()
    wait, role = registry.settings.locks.wait, registry.settings.databases[app.sub_app.bind].migration_role
    with explained(engine.url, doing=f"reading {name}"), look_at(engine, wait=wait, role=role) as connection:
        if not sa.inspect(connection).has_table(name):
            return ()
        heads: tuple[str, ...] = tuple(
            sorted(connection.scalars(sa.select(sa.column("version_num")).select_from(sa.table(name))))
        )
    if strangers := [head for head in heads if head not in history.revisions]:
        what = f"{name} says {', '.join(strangers)}, which the installed {app.name} {history.version} does not have"
        raise PluginError(Problem(what, describe_url(engine.url), "install the release that has it"))
    return heads


def _write(registry: Registry, app: LoadedSubApp, ids: Collection[str], announce: Announce) -> tuple[str, ...]:
    heads: tuple[str, ...] = ()
    for id_ in ids:
        heads = stamp(registry, Target(app.name, id_), command="adopt", announce=announce, keep=heads)
    return heads


Matches = Mapping[str, list[str]]


def _compare_all(
    registry: Registry, app: LoadedSubApp, history: History, target: Target
) -> tuple[Matches, tuple[str, list[str]]]:
    """The revisions that fit, with harmless differences, and the nearest one of those that do not, with its differences."""
    live = _read(registry, app.sub_app.bind)
    wanted = history.resolve(target.revision) if target.revision else tuple(history.revisions)
    matches: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    with make_scratch(registry, app.sub_app.bind) as scratch:
        foreign = {table.fullname for each in scratch.suite.sub_apps if each.name != app.name for table in each.tables}
        universe = {table.fullname for table in app.tables}
        for id_ in history.revisions:
            upgrade(scratch, Target(app.name, id_))
            made = _read(scratch, "default")
            universe |= made.keys() - foreign - {""}
            if id_ in wanted:
                hard, soft = _compare(live, made, universe, scratch.get_dialect())
                (others if hard else matches)[id_] = hard or soft
    best = min((len(notes) for notes in matches.values()), default=0)
    nearest = min(others.items(), key=lambda item: len(item[1]), default=("", []))
    return {id_: notes for id_, notes in matches.items() if len(notes) == best}, nearest


def _read(registry: Registry, bind: str) -> Contents:
    engine = registry.migration_engine(bind)
    with explained(engine.url, doing="reading the tables"), engine.connect() as connection:
        return read_contents(connection)


def _compare(live: Contents, made: Contents, universe: Collection[str], dialect: str) -> tuple[list[str], list[str]]:
    """How tables differ from those that a revision makes: what nobody could work with, and what does no harm."""
    hard: list[str] = []
    soft: list[str] = []
    for table in sorted(universe):
        if (table in live) != (table in made):
            hard.append(f"the table {table} is {'there' if table in live else 'not there'}")
        elif table in made:
            for is_hard, text in _compare_table(live[table], made[table], dialect):
                (hard if is_hard else soft).append(f"{table}: {text}")
    return hard, soft


def _compare_table(
    live: Mapping[str, Aspects], made: Mapping[str, Aspects], dialect: str
) -> Iterator[tuple[bool, str]]:
    keys = {f"column {name}" for name in made.get("primary key", {}).get("columns", "").split(", ")}
    for thing in sorted(live.keys() | made.keys()):
        is_column = thing.startswith("column ")
        if thing not in live or thing not in made:
            yield is_column, f"the {thing} is {'there' if thing in live else 'not there'}"
            continue
        for aspect, value in made[thing].items():
            if aspect == "nullability" and thing in keys:  # which is never NULL, whatever SQLite says of it
                continue
            is_, should = live[thing].get(aspect, "none"), value
            if is_ != should:
                is_hard = (
                    aspect == "columns"
                    if thing == "primary key"
                    else is_column and _is_hard(aspect, is_, should, dialect)
                )
                yield is_hard, f"the {aspect} of the {thing} is {is_}, not {should}"


def _is_hard(aspect: str, is_: str, should: str, dialect: str) -> bool:
    if aspect == "type" and dialect == "sqlite":  # which does not keep to lengths
        return LENGTH.sub("", is_) != LENGTH.sub("", should)
    return aspect in {"type", "nullability", "generation"}


def _explain_none(app: LoadedSubApp, nearest: tuple[str, list[str]], where: str) -> Iterator[Problem]:
    id_, differences = nearest
    mend = f"make them alike, and run opal-db adopt {app.name} again; or opal-db stamp {app.name}@{id_}, if you know better"
    yield Problem(f"the tables of {app.name!r} are at none of its revisions; {id_} is the nearest", where, mend)
    for text in differences[:MOST_TOLD]:
        yield Problem(text, f"compared with {app.name}@{id_}")
    if len(differences) > MOST_TOLD:
        yield Problem(f"and {len(differences) - MOST_TOLD} more differences", f"compared with {app.name}@{id_}")
