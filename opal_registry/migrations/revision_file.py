"""One revision file, read without executing it: who it is, what it follows, what it needs of others.

What Alembic takes from an imported module is read from the text, so that a plan costs no import, and a file that fails
when it is imported is a matter of whoever runs it.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from opal_registry.errors import PluginError, Problem
from opal_registry.store.revisions import LONGEST_ID, Applied

Phase = Literal["expand", "contract"]
"""Whether the code that was there before can work with what a revision leaves behind."""

PHASES = ("expand", "contract")
RENAMES = {"rename_table", "rename_column"}
CONTRACTS = {"drop_table", "drop_column", *RENAMES}
"""Operations that take away what earlier code still uses."""
MAKES = {"create_table", "add_column", "change_column", *RENAMES}
"""Operations that make what the code of their own release may need."""

FIELDS = (
    *("revision", "down_revision", "branch_labels", "depends_on"),
    *("opal_depends_on", "opal_phase", "opal_replaces", "opal_gives", "opal_takes"),
)


@dataclass(frozen=True, slots=True)
class Revision:
    """One step in the history of a sub-app.

    Args:
        app: The sub-app.
        id: Its identifier, unique in that history.
        parents: Those that it follows; none for a base.
        depends_on: Others of the same history that it needs, as the file says them: identifiers or labels.
        pins: Revisions of other sub-apps that it needs, by sub-app.
        labels: Names of the branch that begins with it.
        phase: Whether earlier code can work with what it leaves behind.
        can_wait: Whether the code of its own release can work before it was run.
        replaces: Revisions of the same history that it stands for, where it squashes them.
        gives: Tables that belong to another sub-app from here on, each with that one; nothing is done to them.
        takes: Tables that belonged to another sub-app before, each with that one.
        title: The first line of its docstring.
        checksum: A digest of its text (SHA-256), whatever its line ends.
        path: Its file.
    """

    app: str
    id: str
    parents: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    pins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    phase: Phase = "expand"
    can_wait: bool = False
    replaces: tuple[str, ...] = ()
    gives: Mapping[str, str] = field(default_factory=dict)
    takes: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    checksum: str = ""
    path: Path = Path()

    @property
    def needs(self) -> tuple[str, ...]:
        """Those of the same history that come before it."""
        return (*self.parents, *self.depends_on)

    @property
    def ids(self) -> tuple[str, ...]:
        """Its own identifier, and those of the revisions that it stands for."""
        return (self.id, *self.replaces)

    def iter_applied(self, version: str, seconds: float | None = None) -> Iterator[Applied]:
        """What is recorded once it is applied: itself, and what it stands for.

        Args:
            version: Of the distribution that brings it.
            seconds: How long it took; None if it was not run.
        """
        yield from (Applied(self.app, old, None, {}, self.phase, version) for old in self.replaces)
        yield Applied(self.app, self.id, self.checksum, self.pins, self.phase, version, seconds)

    def __str__(self) -> str:
        return f"{self.app}@{self.id}"


def read_revision(app: str, path: Path) -> Revision:
    """Read a revision from its file.

    Args:
        app: Whose it is.
        path: The file.

    Raises:
        PluginError: If it cannot be read, or does not say what it is.
    """
    try:
        text = path.read_text("utf-8")
        tree = ast.parse(text, str(path))
    except (OSError, ValueError) as error:
        raise PluginError(Problem(f"a revision of {app!r} cannot be read: {error}", str(path))) from error
    except SyntaxError as error:
        what, where = f"a revision of {app!r} cannot be read: {error.msg}", f"{path}:{error.lineno}"
        raise PluginError(Problem(what, where, "mend the syntax")) from error
    values = dict(_iter_values(tree, app, path))
    _check_id(app, path, values.get("revision"))
    return _make_revision(app, path, values, tree, text)


def _check_id(app: str, path: Path, value: object) -> None:
    if not isinstance(value, str) or not value:
        mend = 'write revision = "..." into it, or move it elsewhere: in this folder every file is a revision'
        raise PluginError(
            Problem(f"a file among the revisions of {app!r} does not say which one it is", str(path), mend)
        )
    if len(value) > LONGEST_ID:
        what = f"the revision {app}@{value} has too long an identifier"
        raise PluginError(Problem(what, str(path), f"give it one of at most {LONGEST_ID} characters"))


def _make_revision(app: str, path: Path, values: Mapping[str, Any], tree: ast.Module, text: str) -> Revision:
    operations = {name for call in _iter_calls(tree) if (name := _name_operation(call))}
    phase: Any = values.get("opal_phase") or ("contract" if operations & CONTRACTS else "expand")
    if phase not in PHASES:
        mend = f"choose one of {', '.join(PHASES)}"
        raise PluginError(Problem(f"opal_phase of {app}@{values['revision']} cannot be {phase!r}", str(path), mend))
    return Revision(
        app=app,
        id=values["revision"],
        parents=_texts("down_revision", values, app, path),
        depends_on=_texts("depends_on", values, app, path),
        pins=_pins(values, app, path),
        labels=_texts("branch_labels", values, app, path),
        phase=phase,
        can_wait=phase == "contract" and not operations & MAKES,
        replaces=_texts("opal_replaces", values, app, path),
        gives=_moves("opal_gives", values, app, path),
        takes=_moves("opal_takes", values, app, path),
        title=(ast.get_docstring(tree) or "").partition("\n")[0].strip(),
        checksum=make_checksum(text),
        path=path,
    )


def make_checksum(text: str) -> str:
    r"""A digest of a revision's text; neither line ends nor blanks before them count.

    Example:
        >>> make_checksum("a = 1\r\n") == make_checksum("a = 1  \n")
        True
    """
    return sha256("\n".join(line.rstrip() for line in text.splitlines()).encode()).hexdigest()


def _iter_values(tree: ast.Module, app: str, path: Path) -> Iterator[tuple[str, Any]]:
    """What the names that say who a revision is are given, at the top of its file."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and target.id in FIELDS:
                yield target.id, _literal(target.id, value, app, path)


def _literal(name: str, value: ast.expr, app: str, path: Path) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        what = f"{name} of a revision of {app!r} is computed: {ast.unparse(value):.60}"
        mend = "write its value there, so that it can be read without executing the file"
        raise PluginError(Problem(what, f"{path}:{value.lineno}", mend)) from None


def _texts(name: str, values: Mapping[str, Any], app: str, path: Path) -> tuple[str, ...]:
    """A value that is one text, or several, or none."""
    value = values.get(name) or ()
    found = (value,) if isinstance(value, str) else value
    if not isinstance(found, (list, tuple, set)) or not all(isinstance(each, str) and each for each in found):
        mend = f'write it like {name} = "1a2b", or {name} = ("1a2b", "3c4d")'
        raise PluginError(Problem(f"{name} of {app}@{values['revision']} cannot be {value!r}", str(path), mend))
    return tuple(sorted(found)) if isinstance(found, set) else tuple(found)


def _pins(values: Mapping[str, Any], app: str, path: Path) -> dict[str, tuple[str, ...]]:
    pins = values.get("opal_depends_on") or {}
    if not isinstance(pins, dict) or not all(map(_is_pin, pins.items())) or app in pins:
        what = f"opal_depends_on of {app}@{values['revision']} cannot be {pins!r}"
        mend = 'write it like opal_depends_on = {"core": ["1a2b"]}; for revisions of its own there is depends_on'
        raise PluginError(Problem(what, str(path), mend))
    wanted = {f"opal_depends_on[{name!r}]": ids for name, ids in pins.items()}
    return {
        name: _texts(f"opal_depends_on[{name!r}]", {"revision": values["revision"], **wanted}, app, path)
        for name in sorted(pins)
    }


def _is_pin(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], (list, tuple, set))


def _moves(name: str, values: Mapping[str, Any], app: str, path: Path) -> dict[str, str]:
    moves = values.get(name) or {}
    if not isinstance(moves, dict) or not all(
        isinstance(each, str) and each for item in moves.items() for each in item
    ):
        mend = f'write the tables, each with the other sub-app: {name} = {{"labels": "tags"}}'
        raise PluginError(Problem(f"{name} of {app}@{values['revision']} cannot be {moves!r}", str(path), mend))
    return moves


def _iter_calls(tree: ast.Module) -> Iterator[ast.Call]:
    """What its ``upgrade`` calls."""
    upgrade = [item for item in tree.body if isinstance(item, ast.FunctionDef) and item.name == "upgrade"]
    yield from (node for function in upgrade for node in ast.walk(function) if isinstance(node, ast.Call))


def _name_operation(call: ast.Call) -> str:
    """The operation that is called; ``alter_column`` by what it alters, if that is more than ``nullable``."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    given = {keyword.arg for keyword in call.keywords} if name == "alter_column" else set()
    if "new_column_name" in given:
        return "rename_column"
    return "change_column" if given & {"type_", "server_default"} else name
