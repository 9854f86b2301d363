"""Layers of settings: what one source says, each value with its origin; and how layers become one.

A layer holds leaves by path. The highest layer that sets a path decides it. How a database is reached is decided as a
whole: the highest layer that says it wins, and what lower layers say in another form is set aside.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os.path import normpath
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from opal_registry.errors import Problem
from opal_registry.secrets import REFERENCES, Secret
from opal_registry.settings.database import FORMS
from opal_registry.settings.origin import Origin, dotted
from opal_registry.settings.shape import shape_at

Key = tuple[str, ...]
MIGRATION = "migration_url"
URL_KEYS = ("url", MIGRATION)
PATH_KEYS = ("root_cert", "cert", "key")
CREDENTIALS = ("user", "password", "ssl")
_SAFE_IN_PATH = "/ :@!$&'()*+,;=~\\"
_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]*)(\?.*)?\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value, where it comes from, and what a relative path in it is relative to."""

    value: Any
    origin: Origin
    directory: Path = Path()


@dataclass(slots=True)
class Layer:
    """What one source says.

    Args:
        leaves: Its values by path; a list is one value.
        places: The origins of what lies inside lists, and of sections.
    """

    leaves: dict[Key, Leaf] = field(default_factory=dict)
    places: dict[Key, Origin] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """How the values of one source are to be read.

    Args:
        directory: What relative paths in it are relative to.
        environ: Where ``{env: NAME}`` is looked up.
        origin_of: The origin of each path.
    """

    directory: Path
    environ: Mapping[str, str]
    origin_of: Callable[[Key], Origin]

    def layer(self, data: Mapping[str, Any]) -> Layer:
        """Make a layer of nested data."""
        layer = Layer()
        for key, value in data.items():
            self.add(layer, (str(key),), value)
        return layer

    def add(self, layer: Layer, path: Key, value: Any) -> None:
        """Add one value, or the values below it, to a layer."""
        if isinstance(value, Mapping) and value and shape_at(path) is not Secret:
            layer.places[path] = self.origin_of(path)
            for key, inner in value.items():
                self.add(layer, (*path, str(key)), inner)
        else:
            layer.leaves[path] = Leaf(self.prepared(path, value, layer), self.origin_of(path), self.directory)

    def prepared(self, path: Key, value: Any, layer: Layer) -> Any:
        """A value as pydantic should see it: paths absolute, references knowing their key and their place."""
        if isinstance(value, list) and shape_at(path) is not Secret:
            return [self._item((*path, str(index)), item, layer) for index, item in enumerate(value)]
        if shape_at(path) is Secret:
            return self._secret(path, value)
        is_file = path[-2:-1] == ("ssl",) and path[-1] in PATH_KEYS
        return anchor_path(value, self.directory) if is_file and isinstance(value, str) else value

    def _item(self, path: Key, value: Any, layer: Layer) -> Any:
        layer.places[path] = self.origin_of(path)
        if isinstance(value, Mapping) and shape_at(path) is not Secret:
            return {key: self._item((*path, key), inner, layer) for key, inner in value.items()}
        return self.prepared(path, value, layer)

    def _secret(self, path: Key, value: Any) -> Any:
        about: dict[str, Any] = {"key": dotted(path), "where": str(self.origin_of(path)), "environ": self.environ}
        if isinstance(value, str) and value:
            return Secret(anchor_url(value, self.directory) if path[-1] in URL_KEYS else value, **about)
        if isinstance(value, Mapping) and len(value) == 1:
            ((kind, target),) = value.items()
            if isinstance(target, str) and target and "\0" not in target and kind in REFERENCES:
                return Secret(**about | {kind: anchor_path(target, self.directory) if kind == "file" else target})
        return value


def anchor_path(text: str, directory: Path) -> str:
    """Make a relative path absolute, without following links; an empty one is left for the checks to find."""
    return normpath(directory / Path(text).expanduser()) if text else text


def anchor_url(text: str, directory: Path) -> str:
    """Make the path in a SQLite URL absolute; every other URL is left as it is.

    Example:
        >>> anchor_url("sqlite:///../opal_suite.db?timeout=5", Path("/srv/config"))
        'sqlite:////srv/opal_suite.db?timeout=5'
        >>> anchor_url("sqlite:///:memory:", Path("/srv")), anchor_url("postgresql://db/suite", Path("/srv"))
        ('sqlite:///:memory:', 'postgresql://db/suite')
    """
    match = _SQLITE.match(text)
    if match is None:
        return text
    scheme, name, query = match[1], unquote(match[2]), match[3] or ""
    is_uri = name.startswith("file:") and re.search(r"[?&]uri=(true|1|yes|on)", query, re.IGNORECASE) is not None
    path = name.removeprefix("file:") if is_uri else name
    if path in ("", ":memory:") or path.startswith("/") or "://" in path or "mode=memory" in query:
        return text
    absolute = normpath(directory / Path(path).expanduser())
    return f"{scheme}{'file:' if is_uri else ''}{quote(absolute, safe=_SAFE_IN_PATH)}{query}"


def sqlite_path(url: str) -> str | None:
    """The path of the file that a SQLite URL names; None for other URLs and databases in memory."""
    match = _SQLITE.match(url)
    path = unquote(match[2]).removeprefix("file:") if match else ""
    return path if path not in ("", ":memory:") else None


@dataclass(slots=True)
class Merged:
    """All layers as one.

    Args:
        leaves: The values that count, by path.
        places: The origins of what lies inside lists, and of sections.
        set_aside: The connection forms that a higher layer's form has overruled.
        conflicts: The databases that one layer reaches in several ways.
        problems: The same, in words.
    """

    leaves: dict[Key, Leaf] = field(default_factory=dict)
    places: dict[Key, Origin] = field(default_factory=dict)
    set_aside: dict[Key, Origin] = field(default_factory=dict)
    conflicts: set[Key] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def tree(self) -> dict[str, Any]:
        """The values as nested dicts."""
        tree: dict[str, Any] = {}
        for path, leaf in self.leaves.items():
            section = tree
            for key in path[:-1]:
                section = section.setdefault(key, {})
            section[path[-1]] = leaf.value
        return tree

    def origins(self) -> dict[Key, Origin]:
        """The origin of each value, of the items of lists too."""
        inside = {path: origin for path, origin in self.places.items() if self._is_inside_list(path)}
        return inside | {path: leaf.origin for path, leaf in self.leaves.items()}

    def _is_inside_list(self, path: Key) -> bool:
        return any(path[:length] in self.leaves for length in range(1, len(path)))


def merge(layers: list[Layer]) -> Merged:
    """Merge layers, the highest first."""
    merged = Merged()
    for prefix in sorted({prefix for layer in layers for path in layer.leaves if (prefix := _database(path))}):
        _settle(prefix, layers, merged)
    sections: set[Key] = set()
    for layer in layers:
        taken = {path: leaf for path, leaf in layer.leaves.items() if not _is_decided(path, merged.leaves, sections)}
        merged.leaves |= taken
        sections |= {path[:length] for path in taken for length in range(1, len(path))}
        for path, origin in layer.places.items():
            merged.places.setdefault(path, origin)
    empty = [path for path, leaf in merged.leaves.items() if leaf.value == {} and path in sections]
    for path in empty:
        del merged.leaves[path]
    _anchor_sqlite_names(merged.leaves)
    return merged


def _anchor_sqlite_names(leaves: dict[Key, Leaf]) -> None:
    """Make ``name`` absolute where ``driver`` is SQLite: only now is it known that it is a path."""
    for path, leaf in list(leaves.items()):
        name = leaves.get((*path[:-1], "name"))
        if path[-1] != "driver" or not str(leaf.value).startswith("sqlite") or not name or not _database(path):
            continue
        if isinstance(name.value, str) and name.value not in ("", ":memory:") and not name.value.startswith("file:"):
            absolute = anchor_path(name.value, name.directory)
            leaves[(*path[:-1], "name")] = Leaf(absolute, name.origin, name.directory)


def _is_decided(path: Key, leaves: Mapping[Key, Leaf], sections: set[Key]) -> bool:
    above = (leaves.get(path[:length]) for length in range(1, len(path) + 1))
    return path in sections or any(leaf is not None and leaf.value != {} for leaf in above)


def _database(path: Key) -> Key | None:
    if path[0] == "database" and len(path) > 1:
        return path[:1]
    return path[:2] if path[0] == "binds" and len(path) > 2 else None


def _settle(prefix: Key, layers: list[Layer], merged: Merged) -> None:
    """Let the highest layer that says how to connect decide the form; take the other forms out of all lower ones.

    What those say of a direct connection for DDL goes with them: it would lead to another database.
    """
    chosen = ""
    credentials_fit = True
    for layer in layers:
        found = _forms(prefix, layer)
        if len(found) > 1:
            merged.conflicts.add(prefix)
            merged.problems.append(_conflict(prefix, layer, found))
        if chosen:
            _set_aside(layer, [path for form, paths in found.items() if form != chosen for path in paths], merged)
            _set_aside(layer, [(*prefix, MIGRATION)] if found else [], merged)
        if not credentials_fit:
            for path in [path for path in layer.leaves if _is_credential(prefix, path)]:
                del layer.leaves[path]
        if not chosen and found:
            chosen = next(iter(found))
            credentials_fit = chosen != "cloud_sql" and not _is_sqlite(layer.leaves.get((*prefix, "url")))


def _set_aside(layer: Layer, paths: list[Key], merged: Merged) -> None:
    for path in paths:
        if path in layer.leaves:
            merged.set_aside[path] = layer.leaves.pop(path).origin


def _key_below(prefix: Key, path: Key) -> str:
    return path[len(prefix)] if len(path) > len(prefix) and path[: len(prefix)] == prefix else ""


def _forms(prefix: Key, layer: Layer) -> dict[str, list[Key]]:
    form_of = {key: form for form, keys in FORMS.items() for key in keys}
    found: dict[str, list[Key]] = {}
    for path in layer.leaves:
        if form := form_of.get(_key_below(prefix, path)):
            found.setdefault(form, []).append(path)
    return found


def _conflict(prefix: Key, layer: Layer, found: dict[str, list[Key]]) -> Problem:
    firsts = [paths[0] for paths in found.values()]
    keys = " and ".join(path[len(prefix)] for path in firsts)
    where = " and ".join(dict.fromkeys(str(layer.leaves[path].origin) for path in firsts))
    what = f"{dotted(prefix)} says in several ways how to connect: {keys}"
    return Problem(what, where=where, mend="keep url, or the parts (driver, host, port, name), or cloud_sql")


def _is_credential(prefix: Key, path: Key) -> bool:
    return _key_below(prefix, path) in CREDENTIALS


def _is_sqlite(leaf: Leaf | None) -> bool:
    value = leaf.value if leaf else None
    return isinstance(value, Secret) and not value.is_reference and value.get_secret_value().startswith("sqlite")
