"""Relationships that are given as text, and mean no class, or could mean two."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.discovery import Fault, InstalledSubApp
from opal_registry.errors import PluginError, Problem
from opal_registry.ownership.definitions import find_place, get_mappers

ONE_WORD = re.compile(r"""(?:.*[\[,]\s*)?["']?(\w+)["']?\]*""")
"""The target of a relationship that is one word, alone or in a collection: ``Task``, ``list[Task]``, ``dict[str, "Task"]``."""


def find_unclear_relationships(
    base: type[sa_orm.DeclarativeBase], owners: Mapping[sa.Table, str], apps: Mapping[str, InstalledSubApp]
) -> list[Fault]:
    """Relationships whose text means no class, or could mean two; SQLAlchemy would fail at the first query of anybody."""
    by_name: dict[str, list[type]] = {}
    for mapper in get_mappers(base):
        by_name.setdefault(mapper.class_.__name__, []).append(mapper.class_)
    faults = []
    for cls, table, name, text in _iter_relationships(base, owners):
        meant = sorted(by_name.get(text, ()), key=lambda other: (not _is_near(other, cls), _path(other)))
        if len(meant) != 1:
            what, mend = _unclear(text, meant, by_name)
            app = apps[owners[table]]
            what = f"{app}: the relationship {cls.__qualname__}.{name} says {text!r}, {what}"
            faults.append(Fault((app.name,), PluginError(Problem(what, find_place(table), mend)), app.plugin))
    return faults


def _unclear(text: str, classes: Sequence[type], known: Mapping[str, object]) -> tuple[str, str]:
    if classes:
        paths = [_path(cls) for cls in classes]
        return f"which could mean {' or '.join(paths)}", f"write the whole path, as in relationship({paths[0]!r})"
    near = difflib.get_close_matches(text, known, 1)
    correct = f"write {near[0]!r}" if near else "correct the name"
    return "which is the name of no model", f"{correct}, or install the sub-app that defines it"


def _is_near(cls: type, other: type) -> bool:
    return cls.__module__.partition(".")[0] == other.__module__.partition(".")[0]


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _iter_relationships(
    base: type[sa_orm.DeclarativeBase], owners: Mapping[sa.Table, str]
) -> Iterator[tuple[type, sa.Table, str, str]]:
    """Each relationship that names its target by one word: the class it is written on, its table, its name, the word."""
    for mapper in get_mappers(base):
        for name, attribute in sorted(vars(mapper.class_).items()):
            found = getattr(attribute, "prop", None) if isinstance(attribute, sa_orm.InstrumentedAttribute) else None
            if isinstance(found, sa_orm.RelationshipProperty) and found.parent is mapper:
                word, table = ONE_WORD.fullmatch(str(found.argument)), mapper.local_table
                if word and isinstance(found.argument, str) and isinstance(table, sa.Table) and table in owners:
                    yield mapper.class_, table, name, word[1]
