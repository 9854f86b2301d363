"""Where each table was defined, noted at the moment it attaches to its ``MetaData``.

A Core table carries no module, and a mapper's module is wrong as soon as a base class, a helper or a re-export is
involved; the call stack at that moment is not. What is noted here are facts only; who owns what is decided in
:mod:`opal_registry.ownership.owners`, when it is known which sub-apps there are.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm
from sqlalchemy.sql.base import SchemaVisitable


@dataclass(frozen=True, slots=True)
class Definition:
    """The code that defined a table or a part of one.

    Args:
        importing: The modules whose bodies were being imported, the innermost first; empty if none was.
        frames: The modules of the frames on the stack, innermost first; only where nothing was being imported.
        place: File and line.
    """

    importing: tuple[str, ...]
    frames: tuple[str, ...]
    place: str

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that may say whose it is, the most telling first."""
        return self.importing[:1] or self.frames

    @property
    def importers(self) -> tuple[str, ...]:
        """The modules that had the defining one imported, the nearest first."""
        return self.importing[1:]


@dataclass(frozen=True, slots=True)
class Addition:
    """A column, constraint or index that was added to a table after the table was complete."""

    kind: str
    name: str
    definition: Definition


_is_noting = ContextVar("opal_noting_definitions", default=True)
_tables: WeakKeyDictionary[sa.Table, Definition] = WeakKeyDictionary()
_additions: WeakKeyDictionary[sa.Table, list[Addition]] = WeakKeyDictionary()
_mappers: WeakSet[sa_orm.Mapper[object]] = WeakSet()
"""Facts about objects that live as long as the process does, kept beside them: ``Table.info`` would be rendered into
migrations."""


def find_definition(table: sa.Table) -> Definition | None:
    """Where a table was defined; None if that was before this module was imported."""
    return _tables.get(table)


def find_place(table: sa.Table) -> str:
    """File and line of a table's definition; ``?`` if they are not known."""
    definition = find_definition(table)
    return definition.place if definition else "?"


def get_additions(table: sa.Table) -> list[Addition]:
    """What was added to a table after it was complete, in order."""
    return _additions.get(table, [])


def find_query(table: sa.Table) -> Any | None:
    """The DDL of a view, or of another table that is made from a query (its ``selectable``); None for any other table."""
    created_by: Any = table._creator_ddl
    return created_by if hasattr(created_by, "selectable") else None


def find_name(metadata: sa.MetaData, module: str) -> str:
    """What a ``MetaData``, or the declarative base that holds it, is called in a module; empty if nothing is."""
    for name, value in list(vars(sys.modules.get(module, object)).items()):
        if isinstance(value, type):
            value = value.__dict__.get("metadata")
        if value is metadata:
            return name
    return ""


def iter_tables() -> Iterator[tuple[sa.Table, Definition]]:
    """Every table of the process that was noted, whatever its ``MetaData``."""
    yield from list(_tables.items())


def get_mappers(base: type[sa_orm.DeclarativeBase]) -> list[sa_orm.Mapper[object]]:
    """The complete mappers of a base, by name: ``registry.mappers`` fails where a class statement has failed."""
    found = [mapper for mapper in _mappers if mapper.registry is base.registry]
    return sorted(found, key=lambda mapper: (mapper.class_.__module__, mapper.class_.__qualname__))


def find_mapper(table: sa.Table) -> sa_orm.Mapper[object] | None:
    """The mapper of the class that stands for a table; None for a table without a class."""
    return next((mapper for mapper in _mappers if mapper.local_table is table and not mapper.single), None)


@contextmanager
def not_noted() -> Iterator[None]:
    """Note nothing for the length of a block: what revisions define are no models, and nobody's."""
    token = _is_noting.set(False)
    try:
        yield
    finally:
        _is_noting.reset(token)


def capture_definition() -> Definition:
    """The definition that is happening now, read from the call stack."""
    frames = list(_iter_frames(sys._getframe(1)))
    bodies = [frame for frame in frames if frame.f_code.co_name == "<module>" and _module(frame) != "__main__"]
    modules = tuple(dict.fromkeys(_module(frame) for frame in bodies or frames))
    place = _place((bodies or frames)[0]) if frames else "?"
    return Definition(modules, (), place) if bodies else Definition((), modules, place)


def _iter_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames that tell something: SQLAlchemy's count only where a module of its own is being imported."""
    while frame is not None:
        passing = _module(frame).partition(".")[0] in {"sqlalchemy", "importlib"} or _module(frame) == __name__
        if not passing or frame.f_code.co_name == "<module>":
            yield frame
        frame = frame.f_back


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "?"))


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


@sa.event.listens_for(sa.Table, "after_parent_attach")
def _note_table(table: sa.Table, _metadata: SchemaVisitable) -> None:
    if _is_noting.get():
        _tables[table] = capture_definition()


@sa.event.listens_for(sa.Column, "after_parent_attach")
@sa.event.listens_for(sa.Constraint, "after_parent_attach", propagate=True)
@sa.event.listens_for(sa.Index, "after_parent_attach")
def _note_addition(item: SchemaVisitable, parent: SchemaVisitable) -> None:
    if isinstance(parent, sa.Table) and parent in _tables:
        addition = Addition(name_kind(item), str(getattr(item, "name", None) or ""), capture_definition())
        _additions.setdefault(parent, []).append(addition)


@sa.event.listens_for(sa_orm.Mapper, "after_mapper_constructed")
def _note_mapper(mapper: sa_orm.Mapper[object], _cls: type) -> None:
    _mappers.add(mapper)


def name_kind(item: SchemaVisitable) -> str:
    """What a part of a table is called: the name that SQLAlchemy visits it by, in words."""
    words = {"foreign_key_constraint": "foreign key", "column_or_constraint": "constraint"}
    return words.get(item.__visit_name__, item.__visit_name__.replace("_", " "))
