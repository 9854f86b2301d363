"""Whose table is it? One rule, applied to what was noted when the table was defined.

The innermost module body that was being imported decides; with none, the innermost frame of a declared package. The
longest declared package prefix wins. ``info={"opal_sub_app": ...}`` on a table overrides, an adopted ``MetaData``
belongs to whoever declares it, and a table without an owner is an error: nobody would create, check or migrate it.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from opal_registry.discovery import Fault, InstalledSubApp
from opal_registry.errors import OwnershipError, PluginError, Problem
from opal_registry.ownership.definitions import Addition, Definition, find_definition, get_additions, iter_tables

INFO_KEY = "opal_sub_app"
RESERVED = re.compile(r"opal_(sub_apps|steps|events|revisions|revision_.*)\Z", re.IGNORECASE)
"""The registry's own tables."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who owns which table.

    Args:
        owners: The name of the owning sub-app for each table.
        faults: What could not be decided, or must not be.
    """

    owners: Mapping[sa.Table, str]
    faults: Sequence[Fault]

    def tables_of(self, name: str) -> list[sa.Table]:
        """The tables of one sub-app, by name."""
        found = [table for table, owner in self.owners.items() if owner == name]
        return sorted(found, key=lambda table: table.key)


def assign_owners(
    apps: Sequence[InstalledSubApp],
    shared: sa.MetaData,
    *,
    adopted: Mapping[sa.MetaData, str] | None = None,
    ignore_strangers: bool = False,
) -> Ownership:
    """Decide for every table of the shared and the adopted ``MetaData`` whose it is.

    Args:
        apps: The sub-apps whose models were imported.
        shared: The ``MetaData`` of the shared ``Base``.
        adopted: Foreign ``MetaData``, each with the name of the sub-app that declares it.
        ignore_strangers: Pass over tables of nobody, as a process that loads only some of the sub-apps must.
    """
    claims = _claims(apps)
    names = {app.name: app for app in apps}
    owners: dict[sa.Table, str] = {}
    faults: list[Fault] = []
    for table in shared.tables.values():
        candidates = _candidates(table, claims)
        if len(candidates) == 1 and candidates[0] in names:
            owners[table] = candidates[0]
        elif candidates or not ignore_strangers:
            faults.append(_undecided(table, candidates, names))
    for metadata, name in (adopted or {}).items():
        owners |= dict.fromkeys(metadata.tables.values(), name)
    faults += _foreign_bases(apps, [shared, *(adopted or {})])
    faults += [fault for table, owner in owners.items() for fault in _trespasses(table, names[owner], claims, names)]
    faults += [fault for table, owner in owners.items() if (fault := _misnamed(table, names[owner]))]
    return Ownership(owners, faults)


def _claims(apps: Iterable[InstalledSubApp]) -> dict[str, set[str]]:
    """Each declared module and the packages around it, with the sub-apps that declare it."""
    claims: dict[str, set[str]] = {}
    for app in apps:
        for module in app.sub_app.models:
            parts = module.split(".")
            for length in range(1, len(parts) + 1):
                package = ".".join(parts[:length])
                if length == len(parts) or not _is_namespace(package):
                    claims.setdefault(package, set()).add(app.name)
    return claims


def _is_namespace(package: str) -> bool:
    """Whether several distributions may share the package, so that being in it says nothing."""
    return getattr(sys.modules.get(package), "__file__", None) is None


def _candidates(table: sa.Table, claims: Mapping[str, set[str]]) -> list[str]:
    if INFO_KEY in table.info:
        return [str(table.info[INFO_KEY])]
    definition = find_definition(table)
    return _who(definition, claims) if definition else []


def _who(definition: Definition, claims: Mapping[str, set[str]]) -> list[str]:
    for module in definition.modules:
        parts = module.split(".")
        for length in range(len(parts), 0, -1):
            if found := claims.get(".".join(parts[:length])):
                return sorted(found)
    return []


def _undecided(table: sa.Table, candidates: Sequence[str], names: Mapping[str, InstalledSubApp]) -> Fault:
    definition = find_definition(table)
    where = definition.place if definition else ""
    mend = f'declare its module in SubApp(models=...), or set info={{"{INFO_KEY}": "<name>"}} on the table'
    if INFO_KEY in table.info:
        what = f"table {table.fullname!r} names the sub-app {candidates[0]!r} as its owner, which is not loaded here"
        return Fault((), OwnershipError(Problem(what, where, mend)))
    if candidates:
        who = " and ".join(str(names[name]) for name in candidates)
        what = f"table {table.fullname!r} lies in a package that {who} declare both"
        return Fault(tuple(candidates), OwnershipError(Problem(what, where, mend)))
    module = definition.modules[0] if definition and definition.modules else "?"
    what = f"table {table.fullname!r} belongs to no sub-app: no loaded one declares the module {module!r}"
    return Fault((), OwnershipError(Problem(what, where, mend)))


def _foreign_bases(apps: Sequence[InstalledSubApp], known: Sequence[sa.MetaData]) -> list[Fault]:
    """Tables that a sub-app's models module defined on a ``MetaData`` that nobody collects."""
    faults = []
    strangers = [(table, found) for table, found in iter_tables() if table.metadata not in known]
    for app in apps:
        models = tuple(app.sub_app.models)
        for table, found in strangers:
            if found.importing and _is_inside(found.importing, models) and table.key in table.metadata.tables:
                what = f"{app}: table {table.fullname!r} is on a Base or MetaData of its own, so nobody creates it"
                mend = (
                    "inherit from opal_registry.database.Base, or adopt the other one: "
                    f'SubApp(metadata=("{found.importing}:Base",))'
                )
                faults.append(Fault((app.name,), PluginError(Problem(what, found.place, mend)), app.plugin))
    return faults


def _is_inside(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _trespasses(
    table: sa.Table, owner: InstalledSubApp, claims: Mapping[str, set[str]], names: Mapping[str, InstalledSubApp]
) -> list[Fault]:
    """What other sub-apps added to a table after it was complete."""
    faults = []
    for addition in get_additions(table):
        others = [name for name in _who(addition.definition, claims) if name != owner.name]
        if others and owner.name not in _who(addition.definition, claims):
            faults.append(_trespass(table, owner, addition, names[others[0]]))
    return faults


def _trespass(table: sa.Table, owner: InstalledSubApp, addition: Addition, other: InstalledSubApp) -> Fault:
    definition = find_definition(table)
    what = f"{other} adds the {addition.kind} {addition.name!r} to table {table.fullname!r} of {owner}"
    where = f"{addition.definition.place}; the table: {definition.place if definition else '?'}"
    mend = "put it into a table of its own that refers to the other, or into the release of the owner"
    return Fault((other.name,), OwnershipError(Problem(what, where, mend)), other.plugin)


def _misnamed(table: sa.Table, app: InstalledSubApp) -> Fault | None:
    definition = find_definition(table)
    where = definition.place if definition else str(app.plugin)
    prefix = app.sub_app.table_prefix
    if RESERVED.match(table.name) and table.schema is None:
        what = f"{app}: the name of table {table.fullname!r} is kept for the registry's own tables"
        return Fault((app.name,), OwnershipError(Problem(what, where, "rename the table")), app.plugin)
    if prefix and not table.name.startswith(prefix):
        what = f"{app}: table {table.fullname!r} does not start with the declared table_prefix {prefix!r}"
        return Fault((app.name,), PluginError(Problem(what, where, f"call it {prefix + table.name!r}")), app.plugin)
    return None
