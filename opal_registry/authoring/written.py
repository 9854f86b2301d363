"""What the revisions of a history say of its enum types, read without executing them: SQLite keeps no values."""

import ast
from collections.abc import Iterator

from opal_registry.migrations.history import History


def find_enums(history: History) -> dict[str, list[str]]:
    """The enum types that the ``upgrade`` of any revision names, each with all values that they give it, in order."""
    found: dict[str, list[str]] = {}
    for revision in history.revisions.values():
        for name, values in _iter_enums(revision.path.read_text("utf-8")) if revision.path.is_file() else ():
            known = found.setdefault(name, [])
            known += [value for value in values if value not in known]
    return found


def _iter_enums(text: str) -> Iterator[tuple[str, list[str]]]:
    functions = [each for each in ast.parse(text).body if isinstance(each, ast.FunctionDef) and each.name == "upgrade"]
    for call in (node for each in functions for node in ast.walk(each) if isinstance(node, ast.Call)):
        kind = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        words = {each.arg: str(each.value.value) for each in call.keywords if isinstance(each.value, ast.Constant)}
        values = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        if kind in {"Enum", "ENUM"} and values and "name" in words:
            yield ".".join(words[word] for word in ("schema", "name") if word in words), values
