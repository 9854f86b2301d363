"""Strict YAML: plain data with the line of every key, or an error that names the line. Nothing is guessed.

Beyond what PyYAML checks: duplicate keys, keys and values that YAML 1.1 turns into something else (dates, octal and base
60 numbers), tags, several documents, size, depth, and aliases that grow without bounds. Values never appear in errors.
"""

import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from opal_registry.errors import ConfigError, Problem
from opal_registry.settings.origin import dotted

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_KNOWN_TAGS = {_TAG + name for name in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge")}
_CONTROL = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_LONG_QUOTATION = re.compile(r"'(?!<)[^']{2,}'|\"[^\"]{2,}\"")
_EXAMPLE = "write at least one setting, such as\n           database:\n             url: sqlite:///./opal_suite.db"
_QUOTE = "text that starts with one of @ % ` * & ! | > { [ or holds ': ' or ' #' must be in quotes; indent with spaces"

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """What a file holds.

    Args:
        data: Nested dicts, lists, text, numbers, truth values and None; all keys are text.
        lines: The line of each key and list item, by its path; an item's number is text, counted from 0.
    """

    data: dict[str, Any]
    lines: dict[Key, int]


def load_yaml(path: Path, *, shown: str = "") -> Document:
    """Read one YAML file, strictly.

    Args:
        path: The file; pipes are fine, devices and directories are not.
        shown: What to call it in errors, if not by its path.

    Raises:
        ConfigError: If it cannot be read or is not exactly one mapping; all problems that can be seen at once.
    """
    shown = shown or str(path)
    return parse_yaml(_decode(_read_bytes(path, shown), shown), shown=shown)


def parse_yaml(text: str, *, shown: str) -> Document:
    r"""Parse the text of a YAML file, strictly.

    Example:
        >>> document = parse_yaml("database:\n  url: sqlite://\n", shown="opal.yaml")
        >>> document.data, document.lines[("database", "url")]
        ({'database': {'url': 'sqlite://'}}, 2)
    """
    _check_characters(text, shown)
    try:
        _check_bounds(text, shown)
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as exc:
        raise _syntax_error(exc, text, shown) from None
    except yaml.YAMLError:
        raise ConfigError(Problem("the file is not YAML", where=shown, mend=_QUOTE)) from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(_root_problem(root, shown))
    walk = _Walk(shown)
    data = walk.mapping(root, ())
    if walk.problems:
        raise ConfigError(*walk.problems)
    return Document(data, walk.lines)


def _read_bytes(path: Path, shown: str) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ConfigError(Problem("this is a directory, not a file", where=shown, mend="name the file in it"))
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise ConfigError(Problem("this is a device, not a file", where=shown, mend="name a YAML file"))
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(Problem("the file does not exist", where=shown, mend="create it, or name another")) from None
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "not a path"
        mend = "let this user read it, or name another file"
        raise ConfigError(Problem(f"the file cannot be read: {reason}", where=shown, mend=mend)) from None
    if len(data) > MAX_BYTES:
        mend = "a configuration is a few dozen lines: is this the right file?"
        raise ConfigError(Problem("the file is larger than 1 MiB", where=shown, mend=mend))
    return data


def _decode(data: bytes, shown: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        what = f"the file is not UTF-8: byte {exc.start} cannot be read"
        raise ConfigError(Problem(what, where=f"{shown}:{line}", mend="save it as UTF-8")) from None


def _check_characters(text: str, shown: str) -> None:
    found = _CONTROL.search(text)
    if found is None:
        return
    what = f"a control character (U+{ord(found[0]):04X}) is not allowed"
    mend = 'remove it, or write it as an escape in double quotes, such as "\\x07"'
    raise ConfigError(Problem(what, where=f"{shown}:{_position(text, found.start())}", mend=mend))


def _position(text: str, offset: int) -> str:
    return f"{text.count(chr(10), 0, offset) + 1}:{offset - text.rfind(chr(10), 0, offset)}"


def _check_bounds(text: str, shown: str) -> None:
    """Go through the events, which needs no recursion, before anything is built of them."""
    depth = documents = nodes = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line = f"{shown}:{event.start_mark.line + 1 if event.start_mark else 1}"
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if depth > MAX_DEPTH:
            raise ConfigError(Problem(f"this is nested more than {MAX_DEPTH} deep", where=line, mend="flatten it"))
        if nodes > MAX_NODES:
            raise ConfigError(Problem(f"there are more than {MAX_NODES} values", where=line, mend="shorten the file"))
        if documents > 1:
            mend = "keep one document; remove the line ---"
            raise ConfigError(Problem("a second document starts here", where=line, mend=mend))


def _syntax_error(exc: yaml.MarkedYAMLError, text: str, shown: str) -> ConfigError:
    mark = exc.problem_mark or exc.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    where = f"{shown}:{line}:{column}"
    lines = text.splitlines()[line - 1 : line]
    if lines and "\t" in lines[0][: len(lines[0]) - len(lines[0].lstrip())]:
        return ConfigError(Problem("a tab is used for indentation", where=where, mend="indent with spaces"))
    if "undefined alias" in str(exc.problem):
        what = "an alias (*name) is used that no anchor (&name) defines"
        return ConfigError(Problem(what, where=where, mend="put text that starts with * in quotes"))
    reason = _LONG_QUOTATION.sub("...", str(exc.problem or exc.context))
    return ConfigError(Problem(f"the file is not YAML: {reason}", where=where, mend=_QUOTE))


def _root_problem(root: yaml.Node | None, shown: str) -> Problem:
    if root is None or root.tag == f"{_TAG}null":
        return Problem("the file is empty", where=shown, mend=_EXAMPLE)
    found = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
    where = f"{shown}:{root.start_mark.line + 1}"
    return Problem(f"the file holds {found}, not settings (key: value)", where=where, mend=_EXAMPLE)


@dataclass(slots=True)
class _Walk:
    """Builds plain data from nodes, and notes lines and problems on its way."""

    shown: str
    lines: dict[Key, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    open_nodes: set[int] = field(default_factory=set)
    built: int = 0

    def value(self, node: yaml.Node, path: Key) -> Any:
        self.built += 1
        if self.built > MAX_NODES:
            raise ConfigError(self.problem(node, "aliases make this file too large", "repeat less, or write it out"))
        if node.tag not in _KNOWN_TAGS:
            tag = node.tag.removeprefix(_TAG)
            name = f"!!{tag}" if tag.startswith("python/") else "of this kind"
            self.note(
                node, path, f"a tag {name} is not allowed", "remove it; text that starts with ! must be in quotes"
            )
            return None
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        if id(node) in self.open_nodes or len(path) > MAX_DEPTH:
            raise ConfigError(self.problem(node, f"{dotted(path)}: an alias leads back to itself", "write it out"))
        return self.mapping(node, path) if isinstance(node, yaml.MappingNode) else self.sequence(node, path)

    def sequence(self, node: yaml.Node, path: Key) -> list[Any]:
        self.open_nodes.add(id(node))
        items = []
        for index, item in enumerate(node.value):
            self.lines[(*path, str(index))] = item.start_mark.line + 1
            items.append(self.value(item, (*path, str(index))))
        self.open_nodes.discard(id(node))
        return items

    def mapping(self, node: yaml.Node, path: Key) -> dict[str, Any]:
        self.open_nodes.add(id(node))
        data: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            key = self.key(key_node, path)
            line = key_node.start_mark.line + 1
            if key in first:
                what = f"{dotted((*path, key))} is written twice, in lines {first[key]} and {line}"
                self.note(key_node, (), what, "remove one of them")
            first.setdefault(key, line)
            self.lines[(*path, key)] = line
            data[key] = self.value(value_node, (*path, key))
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                self.merge(value_node, path, data)
        self.open_nodes.discard(id(node))
        return data

    def merge(self, node: yaml.Node, path: Key, data: dict[str, Any]) -> None:
        """Add what ``<<: *anchor`` or ``<<: [*one, *two]`` brings; what is written out, or comes first, wins."""
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(source, yaml.MappingNode):
                self.note(source, path, "<< needs a section, such as *defaults", "name an anchored section after <<")
                continue
            lines, self.lines = self.lines, {}
            brought = {key: value for key, value in self.value(source, path).items() if key not in data}
            data |= brought
            lines |= {known: line for known, line in self.lines.items() if known[len(path)] in brought}
            self.lines = lines

    def key(self, node: yaml.Node, path: Key) -> str:
        if isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}str":
            return str(node.value)
        self.note(node, path, "a key must be text", "put the key in quotes")
        return f"line {node.start_mark.line + 1}"

    def scalar(self, node: yaml.ScalarNode, path: Key) -> Any:
        kind, text = node.tag.removeprefix(_TAG), node.value
        if kind in ("str", "merge"):
            return text
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in yaml.SafeLoader.bool_values:
            return yaml.SafeLoader.bool_values[text.lower()]
        if kind == "float" and ":" not in text and "_" not in text:
            return self.number(node, path, float)
        if kind == "int" and _DECIMAL.match(text) and len(text) < 30:
            return self.number(node, path, int)
        unusual = "a number that is not written in plain decimal digits"
        read_as = {"timestamp": "a date", "bool": "a truth value, which it is not"}.get(kind, unusual)
        self.note(node, path, f"YAML reads this as {read_as}", "put text in quotes; write numbers in decimal digits")
        return None

    def number(self, node: yaml.ScalarNode, path: Key, kind: type[int] | type[float]) -> int | float | None:
        text = node.value.lower().replace(".inf", "inf").replace(".nan", "nan")
        try:
            return kind(text)
        except ValueError:
            self.note(node, path, "this is not a number", "put text in quotes")
            return None

    def note(self, node: yaml.Node, path: Key, what: str, mend: str) -> None:
        self.problems.append(self.problem(node, f"{dotted(path)}: {what}" if path else what, mend))

    def problem(self, node: yaml.Node, what: str, mend: str) -> Problem:
        mark = node.start_mark
        return Problem(what, where=f"{self.shown}:{mark.line + 1}:{mark.column + 1}", mend=mend)
