"""Writing revisions: what the models of a sub-app have that its history has not, pinned to what it rests on."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from alembic.util import CommandError, rev_id

from opal_registry.authoring.differences import Drawn, draw_differences
from opal_registry.authoring.moves import refuse_to_drop, refuse_to_take
from opal_registry.engines.url import describe_url
from opal_registry.errors import ConfigError, PluginError, Problem
from opal_registry.guard import Step, quiet_step
from opal_registry.migrations.history import History, load_histories, load_history
from opal_registry.migrations.location import find_location
from opal_registry.migrations.look import Target, find_app, look
from opal_registry.migrations.progress import find_progress
from opal_registry.registry import Registry
from opal_registry.schema.catalog import read_catalog
from opal_registry.scratch import make_scratch
from opal_registry.store.revisions import NOWHERE
from opal_registry.suite import LoadedSubApp
from opal_registry.upgrade import upgrade

NOBODY: Mapping[str, str] = {}
PHASES_OF = {None: None, False: "expand", True: "contract"}

NOTHING = Drawn("", "", (), is_contract=None)


@dataclass(frozen=True, slots=True)
class Written:
    """A revision file that was written.

    Args:
        app: The sub-app.
        id: The revision.
        path: The file.
        pins: The revisions of other sub-apps that it needs.
    """

    app: str
    id: str
    path: Path
    pins: dict[str, list[str]]


def write_revision(
    registry: Registry,
    name: str,
    message: str,
    *,
    live: bool = False,
    is_empty: bool = False,
    head: str = "head",
    branch_label: str | None = None,
    gives: Mapping[str, str] = NOBODY,
    takes: Mapping[str, str] = NOBODY,
    everybody: Registry | None = None,
    step: Step = quiet_step,
) -> Written | None:
    """Write a revision that brings the history of a sub-app up to its models.

    Args:
        registry: The registry of the suite, or of the sub-app and what it needs.
        name: The sub-app.
        message: What the revision is about.
        live: Compare with the configured database instead of one that is made for the purpose.
        is_empty: Compare nothing, and write a revision to be filled in.
        head: What it follows: ``head``, ``base`` for a branch of its own, or any other symbol.
        branch_label: A name for the branch that begins with it.
        gives: Tables that belong to another sub-app from here on, each with that one.
        takes: Tables that belonged to another sub-app before, each with that one.
        everybody: A registry of all sub-apps, asked whose a table is that this one would make or drop; the first one
            unless given.
        step: Told what is being done.

    Returns:
        What was written; None if the models and the history say the same.

    Raises:
        ConfigError: If the sub-app is not one whose source is at hand, its history has more than one head, or a table
            would change hands without a word.
        PluginError: If a sub-app or a history is at fault.
        DatabaseError: If a database is unreachable, refuses, or fails.
    """
    app = _find_source(registry, name)
    history = load_history(app, registry.get_dialect(app.sub_app.bind), may_be_missing=True)
    if taken := [str(each) for each in history.revisions.values() if branch_label in each.labels]:
        what = f"there is a branch {branch_label!r} already: it begins with {taken[0]}"
        raise ConfigError(Problem(what, str(history.location.folder), "choose another name for --branch-label"))
    with _folder(history.location.folder):
        drawn: Drawn | None = NOTHING
        if not is_empty:
            refuse_to_take(everybody or registry, app, history, takes)
            given = {*history.given, *gives}
            with step("comparing the models with the history"):
                drawn = (
                    _compare_live(registry, app, history, given) if live else _compare(registry, app, history, given)
                )
            refuse_to_drop(everybody or registry, app, history, drawn.dropped if drawn else (), gives)
        if drawn is None and not (gives or takes):
            return None
        moves = {"opal_gives": dict(gives), "opal_takes": dict(takes)}
        return _write(registry, app, history, message, drawn or NOTHING, head, branch_label, **moves)


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """The folder of a history, for as long as there is something in it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()  # refused where it is not empty


def merge_heads(registry: Registry, name: str, message: str) -> Written:
    """Write a revision that makes one head of all heads of a sub-app's history.

    Raises:
        ConfigError: If the sub-app is not one whose source is at hand, or there is nothing to merge.
        PluginError: If a history is at fault.
    """
    app = _find_source(registry, name)
    history = load_history(app, registry.get_dialect(app.sub_app.bind))
    if len(history.heads) < 2:
        what = f"the history of {name!r} has {'one head' if history.heads else 'no revisions'}"
        raise ConfigError(Problem(what, str(history.location.folder), "there is nothing to merge"))
    return _write(registry, app, history, message, NOTHING, "heads", None)


def squash_history(registry: Registry, name: str, message: str, *, step: Step = quiet_step) -> Written:
    """Write one revision that stands for all of a sub-app's history, made from its models.

    Databases that have all of that history cross to it without running anything; those in the midst of it go the old way
    first, for as long as its files are there. What the old revisions did beside making tables is not in it.

    Raises:
        ConfigError: If the sub-app is not one whose source is at hand, or its models are ahead of its history.
        PluginError: If a sub-app or a history is at fault.
        DatabaseError: If a database is unreachable, refuses, or fails.
    """
    app = _find_source(registry, name)
    history = load_history(app, registry.get_dialect(app.sub_app.bind))
    with step("comparing the models with the history"):
        if _compare(registry, app, history) is not None:
            what, mend = f"the models of {name!r} are not what its history makes", f"opal-db revision {name} -m TEXT"
            raise ConfigError(Problem(what, str(history.location.folder), mend))
        drawn = _compare_with_nothing(registry, app, history) or NOTHING
    replaces = (*history.replaced, *history.revisions)
    return _write(registry, app, history, message, drawn, "base", None, opal_replaces=replaces)


def _compare_with_nothing(registry: Registry, app: LoadedSubApp, history: History) -> Drawn | None:
    with make_scratch(registry, app.sub_app.bind) as scratch:
        for need in app.needs:
            upgrade(scratch, Target(need))
        with scratch.migration_engine().connect() as connection:
            return draw_differences(connection, scratch.suite.get(app.name), history, ())


def _find_source(registry: Registry, name: str) -> LoadedSubApp:
    app = find_app(registry, name)
    if app.sub_app.migrations is None:
        mend = f'write migrations="{name}:migrations" into its SubApp'
        raise ConfigError(Problem(f"sub-app {name!r} does not say where its revisions are", str(app.plugin), mend))
    location = load_history(app, registry.get_dialect(app.sub_app.bind), may_be_missing=True).location
    if location.is_installed:
        what = f"the revisions of {name!r} are a copy that was installed: {location.folder}"
        mend = "work on its source, installed with: pip install -e FOLDER"
        raise ConfigError(Problem(what, str(app.plugin), mend))
    return app


def _compare(registry: Registry, app: LoadedSubApp, history: History, given: Collection[str] = ()) -> Drawn | None:
    """Compare with a database that everything up to the history's heads was run in."""
    with make_scratch(registry, app.sub_app.bind) as scratch:
        upgrade(scratch, Target(app.name))
        schemas = {None, *(table.schema for table in app.tables), app.sub_app.schema}
        unknown = _find_tables(scratch, schemas) - _known(scratch) - set(given)
        if unknown:  # tables that no model knows any more: whose are they?
            unknown -= _made_by_others(registry, app)
        with scratch.migration_engine().connect() as connection:
            return draw_differences(connection, scratch.suite.get(app.name), history, unknown)


def _find_tables(registry: Registry, schemas: Collection[str | None]) -> set[str]:
    """The names of all tables that some schemas of a database hold, but for the registry's own."""
    with registry.migration_engine().connect() as connection:
        relations = read_catalog(connection).relations
    found = {
        f"{schema}.{relation.name}" if schema else relation.name
        for (schema, _), relation in relations.items()
        if schema in schemas and relation.kind == "table"
    }
    return {name for name in found if not name.startswith("opal_")}


def _known(registry: Registry) -> set[str]:
    """The names of all tables that a model knows."""
    return {table.fullname for app in registry.suite.sub_apps for table in app.tables}


def _made_by_others(registry: Registry, app: LoadedSubApp) -> set[str]:
    with make_scratch(registry, app.sub_app.bind) as scratch:
        for need in app.needs:
            upgrade(scratch, Target(need))
        return _find_tables(scratch, {None})


def _compare_live(registry: Registry, app: LoadedSubApp, history: History, given: Collection[str]) -> Drawn | None:
    engine = registry.migration_engine(app.sub_app.bind)
    found = look(registry, app.sub_app.bind, [app])
    progress = find_progress(history, found.standings.get(app.name, NOWHERE), has_tables=False)
    if progress.state != "current":
        what = f"the database is not at the heads of {app.name!r}, but {progress.state}"
        mend = f"opal-db upgrade {app.name} first, or compare without --live"
        raise ConfigError(Problem(what, describe_url(engine.url), mend))
    entry = found.entries.get(app.name)
    with engine.connect() as connection:
        return draw_differences(connection, app, history, set(entry.tables if entry else ()) - set(given))


def _write(
    registry: Registry,
    app: LoadedSubApp,
    history: History,
    message: str,
    drawn: Drawn,
    head: str,
    branch_label: str | None,
    **more: object,
) -> Written:
    pins = dict(_iter_pins(registry, app))
    id_ = rev_id()
    try:
        script = history.script.generate_revision(
            id_,
            message,
            docstring=_escape(message),
            head=head if history.revisions else "base",
            branch_labels=branch_label,
            upgrades=drawn.upgrade,
            downgrades=drawn.downgrade,
            imports="\n".join(drawn.imports),
            opal_depends_on=repr(pins),
            opal_phase=PHASES_OF[drawn.is_contract],
            more={name: value for name, value in more.items() if value},
        )
    except CommandError as error:
        mend = f"opal-db merge {app.name}, or name one with --head: {', '.join(history.heads)}"
        raise ConfigError(Problem(str(error), str(history.location.folder), mend)) from error
    if script is None:
        raise PluginError(Problem("the revision that was written cannot be read", str(history.location.folder)))
    return Written(app.name, id_, Path(script.path), pins)


def _escape(message: str) -> str:
    """A message as it stands in a docstring, whatever it is made of."""
    text = " ".join(message.split()) or "A revision"
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _iter_pins(registry: Registry, app: LoadedSubApp) -> Iterator[tuple[str, list[str]]]:
    """The heads of those that it needs in its database: what its revisions were written for."""
    histories = load_histories(registry.suite.sub_apps, registry.get_dialect)
    for need in app.needs:
        is_here = registry.suite.get(need).sub_app.bind == app.sub_app.bind
        if is_here and need in histories and histories[need].heads:
            yield need, list(histories[need].heads)


def find_absent(registry: Registry) -> list[str]:
    """The sub-apps that revisions pin and a registry lacks: those that models needed once, and need no more."""
    histories = load_histories([app for app in registry.suite.sub_apps if _is_there(app)])
    here = {app.name for app in registry.suite.sub_apps}
    return sorted({pinned for history in histories.values() for pinned in history.pinned} - here)


def _is_there(app: LoadedSubApp) -> bool:
    return app.sub_app.migrations is not None and find_location(app).folder.is_dir()
