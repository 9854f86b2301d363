"""Foreign ``MetaData`` that sub-apps adopt: found, never copied, and held against each other once all imports are done."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from opal_registry.discovery import Fault, InstalledSubApp
from opal_registry.entry_point import load_object
from opal_registry.errors import OwnershipError, PluginError, Problem
from opal_registry.guard import Step, guarded, quiet_step
from opal_registry.ownership.definitions import find_name, iter_tables

TAKE_OUT = "take it out of SubApp(metadata=...)"


@dataclass(frozen=True, slots=True)
class Adopted:
    """A ``MetaData``, and who adopts it under which name.

    Args:
        metadata: The object itself, as it is.
        location: ``package.module:attribute``, as the sub-app wrote it.
        app: The sub-app.
    """

    metadata: sa.MetaData
    location: str
    app: InstalledSubApp


def load_adopted(app: InstalledSubApp, *, step: Step = quiet_step) -> Iterator[Adopted]:
    """Import what a sub-app adopts; what is a function is called, once.

    Raises:
        PluginError: If a location cannot be imported, or holds neither a ``MetaData`` nor anything that leads to one.
    """
    for location in app.sub_app.metadata:
        where, module = str(app.plugin), location.partition(":")[0]
        with step(f"importing {location} of {app}"), guarded(f"importing {location}", where=where, own=module):
            value = load_object(location)
            metadata = find_metadata(value)
        if metadata is None and callable(value) and not isinstance(value, type):
            with step(f"calling {location} of {app}"), guarded(f"calling {location}", where=where):
                value = value()
                metadata = find_metadata(value)
                location = f"{location}()"
        if metadata is None:
            mend = "name a MetaData, a declarative base, or a function without arguments that returns one of them"
            raise PluginError(Problem(f"{app} adopts {location}, which is {_a(value)}", where, mend))
        yield Adopted(metadata, location, app)


def find_metadata(value: object) -> sa.MetaData | None:
    """The ``MetaData`` that an object is or holds: a declarative base, a ``registry``, anything with ``.metadata``.

    Example:
        >>> from sqlalchemy import orm
        >>> mapped = orm.registry()
        >>> find_metadata(mapped) is mapped.metadata, find_metadata("metadata")
        (True, None)
    """
    metadata = value if isinstance(value, sa.MetaData) else getattr(value, "metadata", None)
    return metadata if isinstance(metadata, sa.MetaData) else None


def find_adopters(adopted: Iterable[Adopted], shared: sa.MetaData) -> dict[sa.MetaData, str]:
    """Who owns what is on each foreign ``MetaData``: the first sub-app that adopts it; nobody may adopt the shared one."""
    adopters: dict[sa.MetaData, str] = {}
    for item in adopted:
        if item.metadata is not shared:
            adopters.setdefault(item.metadata, item.app.name)
    return adopters


def find_unfit(adopted: Sequence[Adopted], apps: Mapping[str, InstalledSubApp], shared: sa.MetaData) -> Iterator[Fault]:
    """What is adopted though it belongs to somebody else, or though there is nothing on it.

    Args:
        adopted: What all sub-apps adopt.
        apps: The sub-apps that take part, by name.
        shared: The ``MetaData`` of the shared ``Base``.
    """
    first: dict[sa.MetaData, Adopted] = {}
    for item in adopted:
        if item.app.name not in apps:
            continue
        if item.metadata is shared:
            yield _shared(item)
        elif first.setdefault(item.metadata, item).app != item.app:
            yield _adopted_twice(first[item.metadata], item)
        elif first[item.metadata] is item and not _holds_anything(item.metadata):
            yield _empty(item, {shared, *(other.metadata for other in adopted)})


def _shared(item: Adopted) -> Fault:
    what = f"{item.app} adopts {item.location}, which is the shared Base of the suite"
    mend = f"{TAKE_OUT}: a table on it belongs to the sub-app whose module defines it"
    return Fault((item.app.name,), OwnershipError(Problem(what, str(item.app.plugin), mend)), item.app.plugin)


def _adopted_twice(first: Adopted, second: Adopted) -> Fault:
    what = f"{first.app} and {second.app} both adopt {first.location}"
    if second.location != first.location:
        what = f"{first.app} adopts {first.location}, and {second.app} adopts {second.location}: they are one MetaData"
    mend = "let one of the two adopt it, and the other name that one in requires"
    problem = Problem(what, f"{first.app.plugin} and {second.app.plugin}", mend)
    return Fault((first.app.name, second.app.name), OwnershipError(problem))


def _holds_anything(metadata: sa.MetaData) -> bool:
    return bool(metadata.tables or metadata.get_schema_objects(sa.Sequence) or metadata.get_schema_objects(sa.Enum))


def _empty(item: Adopted, known: Iterable[sa.MetaData]) -> Fault:
    what = f"{item.app} adopts {item.location}, which holds no table after all imports, so nothing would be created"
    mend = "name the modules that define its tables in SubApp(models=...), or adopt a function that imports them first"
    other = _find_fuller(item.location, known)
    if other:
        mend = f"adopt {other} in its place; or {mend}"
    return Fault((item.app.name,), PluginError(Problem(what, str(item.app.plugin), mend)), item.app.plugin)


def _find_fuller(location: str, known: Iterable[sa.MetaData]) -> str:
    """Another ``MetaData`` of the same package that holds tables, in words; empty if there is none that has a name."""
    package, others = location.partition(":")[0].partition(".")[0], set(known)
    for table, definition in iter_tables():
        module = (definition.modules or ("",))[0]
        is_near = module.partition(".")[0] == package and table.metadata not in others
        if is_near and (name := find_name(table.metadata, module)):
            return f'"{module}:{name}" (it holds table {table.fullname!r})'
    return ""


def _a(value: object) -> str:
    if value is None:
        return "nothing (None)"
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
