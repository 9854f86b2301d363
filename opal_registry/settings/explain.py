"""Settings for people and editors: what is wrong with them, what they are and where from, which there may be."""

import ast
import difflib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from opal_registry.errors import Problem
from opal_registry.secrets import MASK, REFERENCES, Secret, mask_url, type_name
from opal_registry.settings import database, model
from opal_registry.settings.database import DatabaseSettings
from opal_registry.settings.kinds import SECONDS
from opal_registry.settings.layers import Key, Merged
from opal_registry.settings.model import Settings
from opal_registry.settings.origin import dotted, variable_name
from opal_registry.settings.shape import keys_of, shape_at

_LATER = {"shards": "shards come with a later release"}
_SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"


def problem_of(error: ErrorDetails, merged: Merged) -> Problem:
    """Say what pydantic found in our words; never with the value of a secret or of an unknown key."""
    path = tuple(str(key) for key in error["loc"])
    context: dict[str, Any] = error.get("ctx") or {}
    if error["type"] == "extra_forbidden":
        return unknown_key(path, merged)
    if error["type"] == "missing":
        what, mend = "is missing", f"add it to {dotted(path[:-1])}"
    elif _is_reference(error["input"]) and shape_at(path) is not Secret:
        what, mend = "is no secret, and cannot be a reference", f"write its value, or set {variable_name(path)}"
    elif error["type"] == "opal":
        what, mend = context["what"], context["mend"]
    else:
        what, mend = _type_problem(error["type"], error["input"], context, path)
    if context.get("parts"):
        mend += _set_aside(path, merged)
    places = [(*path, key) for key in context.get("at", ())] or [path[:-1] if error["type"] == "missing" else path]
    where = " and ".join(dict.fromkeys(where_is(place, merged) for place in places))
    return Problem(f"{dotted(path)} {what}", where=where, mend=mend)


def _is_reference(value: object) -> bool:
    return isinstance(value, Mapping) and len(value) == 1 and value.keys() <= set(REFERENCES)


def _type_problem(kind: str, value: Any, context: Mapping[str, Any], path: Key) -> tuple[str, str]:
    found = type_name(value)
    if kind == "literal_error":
        return _choice_problem(value, context["expected"])
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return f"cannot be {value!s:.30}", f"write a number that is {bound}"
    keys = keys_of(shape_at(path))
    section = (f"must be a section, not {found}", f"write keys below it{': ' + ', '.join(keys) if keys else ''}")
    truth = (f"cannot be {found}", "write true or false")
    texts = {
        "string_type": (f"must be text, but it is read as {found}", "put the value in quotes"),
        "string_too_short": ("is empty", "write a text, or leave the key out"),
        "string_too_long": ("is too long", "shorten it"),
        "string_pattern_mismatch": (f"cannot be {value!r:.60}", "write it as project:region:name"),
        "list_type": (f"must be a list, not {found}", "write items in [ ], or one a line after a dash"),
        "bool_parsing": truth,
        "bool_type": truth,
        "model_type": section,
        "model_attributes_type": section,
        "dict_type": section,
    }
    return texts.get(kind, ("is not what is needed", "see docs/configuration.md"))


def _choice_problem(value: object, expected: str) -> tuple[str, str]:
    choices = [choice.strip(" '") for choice in expected.replace(" or ", ",").split(",")]
    near = difflib.get_close_matches(value, choices, 1, 0.5) if isinstance(value, str) else []
    shown = repr(value)[:40] if isinstance(value, str) else type_name(value)
    hint = f"; did you mean {near[0]}?" if near else ""
    quotes = "; put it in quotes" if isinstance(value, bool) else ""
    return f"cannot be {shown}", f"choose one of {', '.join(choices)}{hint}{quotes}"


def unknown_key(path: Key, merged: Merged) -> Problem:
    """Say that there is no such key, and which there are."""
    keys = keys_of(shape_at(path[:-1])) or []
    near = difflib.get_close_matches(path[-1], keys, 1, 0.6)
    mend = "" if len(path) > 1 or near else _top_level_mend(path[0])
    mend = mend or f"{f'write {near[0]}; ' if near else ''}allowed here: {', '.join(keys)}"
    place = f"in {dotted(path[:-1])}" if len(path) > 1 else "at the top level"
    shown = mask_url(path[-1]) if "://" in path[-1] else path[-1]
    return Problem(f"there is no key {shown!r:.60} {place}", where=where_is(path, merged), mend=mend)


def _top_level_mend(key: str) -> str:
    near = difflib.get_close_matches(key, keys_of(DatabaseSettings) or [], 1, 0.8)
    return f"write {near[0]} below database" if near else _LATER.get(key, "")


def where_is(path: Key, merged: Merged) -> str:
    """The origins of a value; for a section, of what is in it."""
    if path in merged.leaves:
        return str(merged.leaves[path].origin)
    inside = [leaf.origin for known, leaf in merged.leaves.items() if known[: len(path)] == path]
    if inside:
        return " and ".join(dict.fromkeys(str(origin) for origin in inside[:3]))
    while path:
        if path in merged.leaves:
            return str(merged.leaves[path].origin)
        if path in merged.places:
            return str(merged.places[path])
        path = path[:-1]
    return ""


def _set_aside(path: Key, merged: Merged) -> str:
    overruled = [f"{dotted(key)} ({origin})" for key, origin in merged.set_aside.items() if key[: len(path)] == path]
    return f"; set aside because of it: {', '.join(overruled[:3])}" if overruled else ""


def describe(settings: Settings) -> list[tuple[str, str, str]]:
    """Every setting that has a value: its key, its value without secrets, its origin.

    Example:
        >>> describe(Settings(database={"url": "postgresql://app:hunter2@db/suite"}))[1]
        ('database.url', 'postgresql://app:********@db/suite', 'default')
    """
    return [(dotted(path), text, str(settings.origin(*path))) for path, text in _leaves(settings, ())]


def _leaves(value: Any, path: Key, unit: str = "") -> Iterator[tuple[Key, str]]:
    if isinstance(value, BaseModel):
        for key, info in type(value).model_fields.items():
            yield from _leaves(getattr(value, key), (*path, key), SECONDS if SECONDS in info.metadata else "")
    elif isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    elif isinstance(value, list) and any(isinstance(item, BaseModel) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, str(index)))
    elif value is not None:
        yield path, _shown(value, path, unit)


def _shown(value: Any, path: Key, unit: str) -> str:
    if isinstance(value, Secret):
        if value.is_reference:
            return value.reference
        return mask_url(value.get_secret_value()) if path[-1] in ("url", "migration_url") else MASK
    if unit == SECONDS:
        return f"{value:g}s" if value >= 1 or value == 0 else f"{value * 1000:g}ms"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return "{}" if value == {} else str(value)


def reserved_in_use(settings: Settings) -> list[str]:
    """The keys that are set but that this release does not act upon yet.

    Example:
        >>> reserved_in_use(Settings(database={"url": "postgresql://db/suite", "routing": {"reads": "replica"}}))
        ['database.routing']
    """
    return [dotted(path) for path in _reserved(settings, ())]


def _reserved(section: BaseModel, path: Key) -> Iterator[Key]:
    for key, info in type(section).model_fields.items():
        value = getattr(section, key)
        if key not in section.model_fields_set or value is None:
            continue
        if _extra(info).get("reserved"):
            yield (*path, key)
        elif isinstance(value, BaseModel):
            yield from _reserved(value, (*path, key))
        elif isinstance(value, Mapping):
            for name, inner in value.items():
                if isinstance(inner, BaseModel):
                    yield from _reserved(inner, (*path, key, name))


def _extra(info: FieldInfo) -> dict[str, Any]:
    return info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}


def settings_schema() -> dict[str, Any]:
    """The JSON Schema of the YAML file, for editors.

    Example:
        >>> sorted(settings_schema()["properties"])
        ['binds', 'checks', 'database', 'deployment', 'environment', 'locks', 'observe', 'sub_apps']
    """
    schema = _without_nulls(Settings.model_json_schema())
    schema["title"] = "opal_registry"
    texts = _docstrings()
    for name, section in {**schema["$defs"], "Settings": schema}.items():
        for key, part in section["properties"].items():
            part.setdefault("description", texts[name][key])
    schema["properties"]["binds"]["propertyNames"] = {"pattern": "^[a-z][a-z0-9_]*$", "not": {"const": "default"}}
    return {"$schema": _SCHEMA_ID, **schema}


def _docstrings() -> dict[str, dict[str, str]]:
    """The text below each key of each section; pydantic could collect it, but would do so at every start."""
    found: dict[str, dict[str, str]] = {}
    for section in (*ast.parse(inspect.getsource(database)).body, *ast.parse(inspect.getsource(model)).body):
        if isinstance(section, ast.ClassDef):
            inherited = [text for base in section.bases for text in found.get(ast.unparse(base), {}).items()]
            found[section.name] = dict(inherited) | dict(_docstrings_in(section.body))
    return found


def _docstrings_in(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for line, text in pairwise(body):
        if isinstance(line, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            yield ast.unparse(line.target), str(text.value.value)


def _without_nulls(schema: Any) -> Any:
    """Take out the choice of null, which the file must not hold, and the defaults of sections, which repeat their keys'."""
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return [_without_nulls(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: value
        for key, value in schema.items()
        if key != "default" or not (value is None or isinstance(value, dict))
    }
    cleaned = {key: _without_nulls(value) for key, value in kept.items()}
    choices = [choice for choice in cleaned.get("anyOf", ()) if choice != {"type": "null"}]
    if "anyOf" in cleaned and len(choices) == 1:
        del cleaned["anyOf"]
        return {**choices[0], **cleaned}
    return {**cleaned, "anyOf": choices} if choices else cleaned
