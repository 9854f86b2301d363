"""Settings from variables: ``OPAL_*`` and the legacy names, in the environment, in ``.env``, and as secret files."""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from opal_registry.errors import ConfigError, Problem
from opal_registry.secrets import REFERENCES, Secret
from opal_registry.settings.database import DatabaseSettings
from opal_registry.settings.layers import Key, Layer, Leaf, Reading
from opal_registry.settings.origin import PREFIX, Origin, dotted, variable_name
from opal_registry.settings.shape import iter_paths, keys_of, shape_at

TEST_PREFIX = "OPAL_TEST_"
SPECIAL = ("OPAL_CONFIG", "OPAL_ENV", "OPAL_SECRETS_DIR")
LEGACY = ("DATABASE_URL", "SQLALCHEMY_DATABASE_URL")
CLOSE = 0.88
MAX_JSON = 65_536


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that is set somewhere."""

    name: str
    value: str
    origin: Origin


def environment_variables(environ: Mapping[str, str]) -> list[Variable]:
    """The variables of an environment that may concern us."""
    return [
        Variable(name, value, Origin("variable" if name in LEGACY else "environment variable", name))
        for name, value in environ.items()
        if name in LEGACY or name.upper().startswith(PREFIX)
    ]


def dotenv_variables(path: Path, *, shown: str) -> list[Variable]:
    """All variables of a ``.env`` file, with their lines; ``$`` is not expanded.

    Raises:
        ConfigError: If the file cannot be read, or a line of ours in it.
    """
    if not path.is_file():
        return []
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigError(
            Problem(f"byte {exc.start} is not UTF-8", where=shown, mend="save the file as UTF-8")
        ) from None
    except OSError as exc:
        mend = "let this user read it, or remove it"
        raise ConfigError(Problem(f"the file cannot be read: {exc.strerror}", where=shown, mend=mend)) from None
    from dotenv.parser import parse_stream  # only where there is such a file

    found: dict[str, Variable] = {}
    for binding in parse_stream(StringIO(text, newline="")):
        source = binding.original.string
        line = binding.original.line + source[: len(source) - len(source.lstrip())].count("\n")
        if binding.error and (PREFIX in source or "DATABASE_URL" in source):
            mend = "write NAME='value'; inside single quotes only ' and \\ need a backslash before them"
            raise ConfigError(Problem("this line cannot be read", where=f"{shown}:{line}", mend=mend))
        if binding.key and binding.value is not None:
            found[binding.key] = Variable(binding.key, binding.value, Origin(".env", f"{shown}:{line}"))
    return list(found.values())


def secret_file_variables(directory: Path) -> Iterator[Variable]:
    """The files of a directory that are named like our variables, in whatever case.

    Raises:
        ConfigError: If one of them cannot be read.
    """
    for path in sorted(directory.iterdir()):
        name = path.name.upper()
        if (name in LEGACY or name.startswith(PREFIX)) and not path.is_dir():
            value = Secret(file=str(path), key=name).get_secret_value()
            yield Variable(name, value, Origin("secret file", str(path)))


class VariableReader:
    """Turns variables into layers, and collects what is wrong with them.

    Args:
        directory: What relative paths in them are relative to.
        environ: Where ``{env: NAME}`` is looked up.
        referenced: Variables that references name; they are not misspelt settings.
    """

    def __init__(self, directory: Path, environ: Mapping[str, str], referenced: frozenset[str] = frozenset()) -> None:
        self.directory = directory
        self.environ = environ
        self.referenced = referenced
        self.problems: list[Problem] = []

    def layers(self, variables: list[Variable]) -> list[Layer]:
        """The layer of the ``OPAL_*`` variables, then one for each legacy name."""
        ours = sorted((v for v in variables if v.name not in LEGACY), key=lambda v: (v.name.count("__"), v.name))
        layer = Layer()
        for variable in ours:
            self._add(layer, variable)
        return [layer, *(self._legacy(variables, name) for name in LEGACY)]

    def _legacy(self, variables: list[Variable], name: str) -> Layer:
        layer = Layer()
        for variable in variables:
            if variable.name == name:
                self._put(layer, ("database", "url"), variable.value, variable)
        return layer

    def _add(self, layer: Layer, variable: Variable) -> None:
        name = variable.name.upper()
        if not name.startswith(PREFIX) or name.startswith(TEST_PREFIX) or (name in SPECIAL and name != "OPAL_ENV"):
            return
        path = ("environment",) if name == "OPAL_ENV" else tuple(name.removeprefix(PREFIX).lower().split("__"))
        if path[-1] in REFERENCES and shape_at(path[:-1]) is Secret:
            self._put(layer, path[:-1], {path[-1]: variable.value}, variable)
        elif shape_at(path) is None:
            self._check_name(name, path, variable)
        else:
            self._put(layer, path, self._decoded(path, variable), variable)

    def _put(self, layer: Layer, path: Key, value: Any, variable: Variable) -> None:
        if value is None:
            return
        if value == "" and path[-1] == "url":
            what = f"{dotted(path)} is empty"
            mend = "set it to a database URL, or unset it to use what comes after it"
            self.problems.append(Problem(what, where=str(variable.origin), mend=mend))
            return
        reading = Reading(self.directory, self.environ, lambda _: variable.origin)
        made = Layer()
        reading.add(made, path, value)
        for leaf_path, leaf in made.leaves.items():
            for before_path, before in _overlapping(leaf_path, leaf, layer):
                where = f"{before.origin} and {leaf.origin}"
                what = f"{dotted(leaf_path if len(leaf_path) < len(before_path) else before_path)} is set twice"
                self.problems.append(Problem(what, where=where, mend="unset one of them"))
                del layer.leaves[before_path]
        layer.leaves |= made.leaves
        layer.places |= made.places

    def _decoded(self, path: Key, variable: Variable) -> Any:
        """Text as it is, but for sections and lists, which may be JSON, and lists of names, which may have commas."""
        shape, text = shape_at(path), variable.value
        holds = getattr(shape, "__origin__", None)
        if shape is Secret or not (keys_of(shape) or holds or text.startswith("[")):
            return text
        is_section = keys_of(shape) is not None or holds is dict
        if is_section or path[-1] == "replicas" or text.strip().startswith("["):
            return self._json(path, variable, dict if is_section else list)
        if path[-1] == "enabled" and "," not in text and text.strip().lower() == "all":
            return "all"
        is_names = path[-1] in ("enabled", "disabled") or path[:2] == ("sub_apps", "modules")
        return [item.strip() for item in text.split(",") if item.strip()] if is_names else text

    def _json(self, path: Key, variable: Variable, kind: type) -> Any:
        expected = 'an object, such as {"key": "value"}' if kind is dict else 'a list, such as ["one", "two"]'
        reason = f"it must be {expected}"
        try:
            value = json.loads(variable.value) if len(variable.value) <= MAX_JSON else None
        except ValueError as exc:
            reason = f"{getattr(exc, 'msg', 'not readable')} at character {getattr(exc, 'pos', 0) + 1}"
        except RecursionError:
            reason = "it is nested too deep"
        else:
            if isinstance(value, kind):
                return value
        what = f"{dotted(path)}: the text is not the JSON that is needed: {reason}"
        self.problems.append(Problem(what, where=str(variable.origin), mend=self._json_mend(path, expected)))
        return None

    def _json_mend(self, path: Key, expected: str) -> str:
        keys = keys_of(shape_at(path))
        names = [*path, keys[0] if keys else "name"]
        return (
            f"write {expected}, or set {variable_name(names)} and its like one by one" if keys else f"write {expected}"
        )

    def _check_name(self, name: str, path: Key, variable: Variable) -> None:
        known = _known_names(path)
        is_ours = len(path) > 1 and shape_at(path[:1]) is not None
        squeezed = {candidate.replace("__", "_"): candidate for candidate in known}
        near = squeezed.get(name.replace("__", "_")) or next(
            iter(difflib.get_close_matches(name, known, 1, 0.6 if is_ours else CLOSE)), None
        )
        sections = keys_of(shape_at(())) or []
        section = difflib.get_close_matches(path[0], sections, 1, 0.8) if len(path) > 1 and not is_ours else []
        if variable.name in self.referenced or not (is_ours or near or section):
            return
        near = near or (variable_name([section[0], *path[1:]]) if section else None)
        mend = f"write {near}" if near else self._mend_section(path)
        self.problems.append(Problem(f"{name} is not a setting", where=str(variable.origin), mend=mend))

    def _mend_section(self, path: Key) -> str:
        for length in range(len(path) - 1, 0, -1):
            if keys := keys_of(shape_at(path[:length])):
                return f"below {variable_name(path[:length])} there are: {', '.join(key.upper() for key in keys)}"
        return f"the sections are: {', '.join(key.upper() for key in keys_of(shape_at(())) or [])}"


def _overlapping(path: Key, leaf: Leaf, layer: Layer) -> list[tuple[Key, Leaf]]:
    """What a layer says already about the same key, or about one above or below it, if it is something else."""
    return [
        (known, before)
        for known, before in layer.leaves.items()
        if (known == path and before.value != leaf.value)
        or (known != path and {} not in (leaf.value, before.value) and known[: len(path)] == path[: len(known)])
    ]


def _known_names(path: Key) -> list[str]:
    paths = list(iter_paths())
    if path[0] == "binds" and len(path) > 2:
        paths += [(*path[:2], *inner) for inner in iter_paths(DatabaseSettings, ("database",)) for inner in [inner[1:]]]
    return [*SPECIAL, *(variable_name(known) for known in paths)]
