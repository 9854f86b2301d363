"""Whose table is it? One rule, applied to what was noted when the table was defined.

The innermost module body that was being imported decides; with none, the innermost frame of a declared package. The
longest declared package prefix wins. ``info={"opal_sub_app": ...}`` on a table overrides. What strangers define on an
adopted ``MetaData`` belongs to whoever adopts that. A table without an owner is an error: nobody would create, check or
migrate it.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from opal_registry.discovery import Fault, InstalledSubApp
from opal_registry.errors import OwnershipError, PluginError, Problem
from opal_registry.ownership.definitions import (
    Definition,
    find_definition,
    find_name,
    find_place,
    find_query,
    get_additions,
    iter_tables,
)
from opal_registry.ownership.twins import find_twins

INFO_KEY = "opal_sub_app"
OWN_PACKAGE = "opal_registry"
RESERVED = re.compile(r"opal_(sub_apps|steps|events|revisions|revision_.*)\Z", re.IGNORECASE)
"""The registry's own tables."""

MOST_NAMED = 5
"""So many tables are named in one sentence; the others are counted."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who owns which table.

    Args:
        owners: The name of the owning sub-app for each table.
        twins: Those of these tables that are another one of the same owner defined again, each with that one.
        faults: What could not be decided, or must not be.
    """

    owners: Mapping[sa.Table, str]
    twins: Mapping[sa.Table, sa.Table]
    faults: Sequence[Fault]


def assign_owners(
    apps: Sequence[InstalledSubApp],
    shared: sa.MetaData,
    *,
    adopters: Mapping[sa.MetaData, str] | None = None,
    left_out: Sequence[InstalledSubApp] = (),
    ignore_strangers: bool = False,
) -> Ownership:
    """Decide for every table of the shared and the adopted ``MetaData`` whose it is.

    Args:
        apps: The sub-apps whose models were imported.
        shared: The ``MetaData`` of the shared ``Base``.
        adopters: Foreign ``MetaData``, each with the name of the sub-app that adopts it.
        left_out: Sub-apps that cannot take part; what is theirs on an adopted ``MetaData`` is passed over.
        ignore_strangers: Pass over tables of nobody, as a process that loads only some of the sub-apps must.
    """
    declared, everybody, adopters = Declared(apps), Declared([*apps, *left_out]), adopters or {}
    owners: dict[sa.Table, str] = {}
    faults: list[Fault] = []
    for table in shared.tables.values():
        candidates = _candidates(table, declared)
        if len(candidates) == 1 and candidates[0] in declared.apps:
            owners[table] = candidates[0]
        elif candidates or not ignore_strangers:
            faults.append(_undecided(table, candidates, declared))
    for table, adopter in ((table, name) for metadata, name in adopters.items() for table in metadata.tables.values()):
        name = _definer(table, everybody) or adopter
        if name in declared.apps:
            owners[table] = name
        elif name not in everybody.apps:
            faults.append(_undecided(table, [name], everybody))
    faults += _foreign_bases(apps, [shared, *adopters])
    for table, name in owners.items():
        faults += [*_trespasses(table, declared.apps[name], declared), *_misnamed(table, declared.apps[name])]
    return Ownership(owners, find_twins(owners), faults)


class Declared:
    """Which sub-app declares which package.

    Args:
        apps: The sub-apps.

    Attributes:
        apps: The same, by name.
    """

    def __init__(self, apps: Iterable[InstalledSubApp]) -> None:
        self.apps = {app.name: app for app in apps}
        self._packages: dict[str, set[str]] = {}
        self._around: dict[str, set[str]] = {}
        for app in self.apps.values():
            for module in app.sub_app.models:
                self._packages.setdefault(module, set()).add(app.name)
                for package in _iter_around(module):
                    self._around.setdefault(package, set()).add(app.name)

    def who(self, modules: Iterable[str]) -> list[str]:
        """The sub-apps that the first module which anybody declares belongs to; more than one if they share it."""
        for module in modules:
            parts = module.split(".")
            for length in range(len(parts), 0, -1):
                package = ".".join(parts[:length])
                if found := self._packages.get(package) or self._around.get(package):
                    return sorted(found)
        return []


def _iter_around(module: str) -> Iterator[str]:
    """The packages around a declared module that are the sub-app's own."""
    parts = module.split(".")
    if parts[0] != OWN_PACKAGE:
        packages = (".".join(parts[:length]) for length in range(1, len(parts)))
        yield from (package for package in packages if not _is_namespace(package))


def _is_namespace(package: str) -> bool:
    """Whether several distributions may share the package, so that being in it says nothing."""
    return getattr(sys.modules.get(package), "__file__", None) is None


def _candidates(table: sa.Table, declared: Declared) -> list[str]:
    if INFO_KEY in table.info:
        return [str(table.info[INFO_KEY])]
    definition = find_definition(table)
    return declared.who(definition.modules) if definition else []


def _definer(table: sa.Table, declared: Declared) -> str:
    """The sub-app whose own module defines a table on an adopted ``MetaData``; empty for the code of strangers."""
    if INFO_KEY in table.info:
        return str(table.info[INFO_KEY])
    definition = find_definition(table)
    who = declared.who(definition.importing[:1]) if definition else []
    return who[0] if len(who) == 1 else ""


def _undecided(table: sa.Table, candidates: Sequence[str], declared: Declared) -> Fault:
    definition = find_definition(table) or Definition((), (), "")
    mend = f'declare its module in SubApp(models=...), or set info={{"{INFO_KEY}": "<name>"}} on the table'
    guilty: Sequence[str] = candidates
    if INFO_KEY in table.info:
        what = f"table {table.fullname!r} names the sub-app {candidates[0]!r} as its owner, which is not loaded here"
        guilty = declared.who(definition.modules)
    elif candidates:
        who = " and ".join(str(declared.apps[name]) for name in candidates)
        what = f"table {table.fullname!r} lies in a package that {who} declare both"
    else:
        guilty = declared.who(definition.importers)
        module = definition.modules[0] if definition.modules else "?"
        what = f"table {table.fullname!r} belongs to no sub-app: no loaded one declares the module {module!r}"
        what += f", which {declared.apps[guilty[0]]} imports" if guilty else ""
    return Fault(tuple(guilty), OwnershipError(Problem(what, definition.place, mend)))


def _foreign_bases(apps: Sequence[InstalledSubApp], known: Sequence[sa.MetaData]) -> list[Fault]:
    """Tables that a sub-app's models module defined on a ``MetaData`` that nobody collects."""
    strays: dict[tuple[InstalledSubApp, sa.MetaData], list[sa.Table]] = {}
    for table, definition in iter_tables():
        if table.metadata not in known and table.metadata.tables.get(table.key) is table and not _is_by_hand(table):
            for app in apps:
                if any(_is_inside(module, app.sub_app.models) for module in definition.importing[:1]):
                    strays.setdefault((app, table.metadata), []).append(table)
    return [_foreign_base(app, metadata, tables) for (app, metadata), tables in strays.items()]


def _is_by_hand(table: sa.Table) -> bool:
    """Whether it is a view without a ``MetaData``: SQLAlchemy gives it one of its own, and the author executes it."""
    return find_query(table) is not None and len(table.metadata.tables) == 1


def _foreign_base(app: InstalledSubApp, metadata: sa.MetaData, tables: Sequence[sa.Table]) -> Fault:
    names = sorted(repr(table.fullname) for table in tables)
    subject, them = (f"table {names[0]} is", "it") if len(names) == 1 else (f"tables {_listed(names)} are", "them")
    what = f"{app}: {subject} on a Base or MetaData that the registry does not know, so nobody would create {them}"
    mend = "inherit from opal_registry.database.Base"
    definition = find_definition(tables[0])
    for module in definition.importing[:1] if definition else ():
        if name := find_name(metadata, module):
            mend += f', or adopt that one: SubApp(metadata=("{module}:{name}",))'
    return Fault((app.name,), PluginError(Problem(what, find_place(tables[0]), mend)), app.plugin)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _is_inside(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _trespasses(table: sa.Table, owner: InstalledSubApp, declared: Declared) -> Iterator[Fault]:
    """What other sub-apps added to a table after it was complete."""
    added: dict[tuple[str, str], list[str]] = {}
    for addition in get_additions(table):
        who = declared.who(addition.definition.modules)
        if who and owner.name not in who:
            parts = added.setdefault((who[0], addition.definition.place), [])
            parts.append(f"the {addition.kind} {addition.name!r}" if addition.name else f"a {addition.kind}")
    for (name, place), parts in added.items():
        what = f"{declared.apps[name]} adds {', '.join(parts)} to table {table.fullname!r} of {owner}"
        mend = "put it into a table of its own that refers to the other, or into the release of the owner"
        problem = Problem(what, f"{place}; the table: {find_place(table)}", mend)
        yield Fault((name,), OwnershipError(problem), declared.apps[name].plugin)


def _misnamed(table: sa.Table, app: InstalledSubApp) -> Iterator[Fault]:
    prefix, schema, where = app.sub_app.table_prefix, app.sub_app.schema, find_place(table)
    if schema and table.schema != schema:
        what = f"{app}: table {table.fullname!r} is not in the declared schema {schema!r}"
        mend = f'write __table_args__ = {{"schema": {schema!r}}}, or leave SubApp(schema=...) out'
        yield Fault((app.name,), PluginError(Problem(what, where, mend)), app.plugin)
    if RESERVED.match(table.name) and table.schema is None:
        what = f"{app}: the name of table {table.fullname!r} is kept for the registry's own tables"
        yield Fault((app.name,), OwnershipError(Problem(what, where, "rename the table")), app.plugin)
    if prefix and not table.name.startswith(prefix):
        what = f"{app}: table {table.fullname!r} does not start with the declared table_prefix {prefix!r}"
        yield Fault((app.name,), PluginError(Problem(what, where, f"call it {prefix + table.name!r}")), app.plugin)
