"""Tables that change hands without a word: what one sub-app would drop and another make again, and the rows with it."""

import ast
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from opal_registry.errors import ConfigError, PluginError, Problem
from opal_registry.migrations.history import History, load_history
from opal_registry.registry import Registry
from opal_registry.suite import LoadedSubApp


def refuse_to_take(everybody: Registry, app: LoadedSubApp, history: History, takes: Mapping[str, str]) -> None:
    """Refuse to make a table, or to go on with it, that another sub-app's history makes.

    Args:
        everybody: A registry of all sub-apps; only asked where models have tables that the history does not make.
        app: The sub-app that a revision is written for.
        history: Its history.
        takes: The tables that the new revision takes over, each with the sub-app that had it.

    Raises:
        ConfigError: If there are any; with the commands that let them change hands. If it does not require one that it
            takes a table from: that one's history has to come first.
    """
    if absent := [other for other in takes.values() if other not in app.needs]:
        what = f"sub-app {app.name!r} takes a table from {absent[0]!r}, and does not require it"
        raise ConfigError(Problem(what, str(app.plugin), f'write requires=("{absent[0]}",) into its SubApp'))
    new = {table.fullname for table in app.tables} - find_made(history) - {*history.taken, *takes}
    if not new:
        return
    theirs = {table: other for other in _load_others(everybody, app) for table in new & find_made(other)}
    if theirs:
        raise ConfigError(*(_let_change_hands(table, theirs[table], app.name, history) for table in sorted(theirs)))


def refuse_to_drop(
    everybody: Registry, app: LoadedSubApp, history: History, dropped: Collection[str], given: Collection[str]
) -> None:
    """Refuse to drop a table, or to forget about it, that is in another sub-app's models.

    Args:
        everybody: A registry of all sub-apps; only asked where there is such a table.
        app: The sub-app that a revision is written for.
        history: Its history.
        dropped: What the revision would drop; what its history makes and its models lack is looked at as well.
        given: The tables that the revision hands over.

    Raises:
        ConfigError: If there are any; with the commands that let them change hands.
    """
    own = {table.fullname for table in app.tables}
    gone = {*dropped, *find_made(history)} - own - {*history.given, *given}
    if not gone:
        return
    owners = {table.fullname: each for each in everybody.suite.sub_apps for table in each.tables}
    others = {table: owners[table] for table in sorted(gone) if table in owners and owners[table].name != app.name}
    problems = [
        Problem(
            f"the table {table!r} of {app.name!r} is in the models of {other.name!r} now",
            str(history.location.folder),
            f"let it change hands: {_gives(table, app.name, other.name)} and then {_takes(table, app.name, other.name)}",
        )
        for table, other in others.items()
        if other.sub_app.bind == app.sub_app.bind
    ]
    if problems:
        raise ConfigError(*problems)


def find_made(history: History) -> set[str]:
    """The tables that a history makes and does not drop again, as far as its files call Alembic's operations.

    Those that it gave away are among them, for as long as nobody looks at ``History.given``.
    """
    made: set[str] = set()
    for revision in history.revisions.values():
        for operation, names in _iter_calls(revision.path) if revision.path.is_file() else ():
            if operation == "create_table":
                made.add(names[0])
            else:
                made.discard(names[0])
                made.update(names[1:])
    return made


def _iter_calls(path: Path) -> Iterator[tuple[str, list[str]]]:
    """What ``upgrade`` does to whole tables: the operation, and the names of the tables in it."""
    functions = [each for each in ast.parse(path.read_text("utf-8")).body if isinstance(each, ast.FunctionDef)]
    upgrades = [each for each in functions if each.name == "upgrade"]
    calls = [node for each in upgrades for node in ast.walk(each) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda each: each.lineno):
        operation = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        count = {"create_table": 1, "drop_table": 1, "rename_table": 2}.get(operation, 0)
        schema = "".join(
            f"{_text(each.value)}." for each in call.keywords if each.arg == "schema" and _text(each.value)
        )
        names = [f"{schema}{name}" for each in call.args[:count] if (name := _text(each))]
        if names:
            yield operation, names


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _load_others(everybody: Registry, app: LoadedSubApp) -> Iterator[History]:
    """The histories of the others in its database; one that cannot be read is its author's concern."""
    for other in everybody.discovery.sub_apps:
        sub_app = other.sub_app
        if sub_app.migrations is not None and sub_app.name != app.name and sub_app.bind == app.sub_app.bind:
            with suppress(PluginError):
                yield load_history(other, everybody.get_dialect(sub_app.bind), may_be_missing=True)


def _let_change_hands(table: str, other: History, name: str, history: History) -> Problem:
    steps = [] if other.given.get(table) == name else [_gives(table, other.app, name)]
    steps.append(_takes(table, other.app, name))
    what = f"the table {table!r} in the models of {name!r} is made by the history of {other.app!r}"
    return Problem(what, str(history.location.folder), f"let it change hands: {' and then '.join(steps)}")


def _gives(table: str, giver: str, taker: str) -> str:
    return f"opal-db revision {giver} -m TEXT --gives {table}={taker}"


def _takes(table: str, giver: str, taker: str) -> str:
    return f"opal-db revision {taker} -m TEXT --takes {table}={giver}"
