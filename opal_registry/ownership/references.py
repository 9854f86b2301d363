"""What sub-apps refer to in each other: by foreign keys, and by views."""

import difflib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.sql import visitors

from opal_registry.discovery import Fault, InstalledSubApp
from opal_registry.errors import OwnershipError, Problem
from opal_registry.ownership.definitions import find_definition, find_mapper, find_name, find_place, find_query


def find_target(key: sa.ForeignKey) -> sa.Table | None:
    """The table that a foreign key points to; None if there is none in its ``MetaData``."""
    column = key.target_column
    if column is not None:
        return column.table if isinstance(column.table, sa.Table) else None
    found: sa.Table | None = key.parent.table.metadata.tables.get(_wanted(key))
    return found


def _wanted(key: sa.ForeignKey) -> str:
    """The table that a foreign key names, in the schema where SQLAlchemy looks for it."""
    schema = key.target_tokens.schema
    if schema is None and key.target_column is None:
        schema = key.parent.table.metadata.schema
    return f"{schema}.{key.target_tokens.table_name}" if schema else str(key.target_tokens.table_name)


def iter_sources(table: sa.Table) -> Iterator[sa.Table]:
    """The tables that a view selects from; nothing for any other table."""
    query = find_query(table)
    found = visitors.iterate(query.selectable) if query is not None else ()
    yield from dict.fromkeys(item for item in found if isinstance(item, sa.Table))


def iter_needed(table: sa.Table) -> Iterator[tuple[sa.Table, str]]:
    """The tables that must be there before another one, with the column that refers to it; empty for a view's."""
    for key in table.foreign_keys:
        target = find_target(key)
        if target is not None:
            yield target, _column(key)
    yield from ((source, "") for source in iter_sources(table))


def find_needs(owners: Mapping[sa.Table, str]) -> dict[str, set[str]]:
    """For each owner the other owners whose tables its foreign keys point to, and its views select from."""
    needs: dict[str, set[str]] = {name: set() for name in owners.values()}
    for table, owner in owners.items():
        needs[owner] |= {owners[target] for target, _ in iter_needed(table) if target in owners}
    return {owner: found - {owner} for owner, found in needs.items()}


def explain_need(app: InstalledSubApp, need: str, owners: Mapping[sa.Table, str]) -> str:
    """Why a sub-app needs another: it requires it, or a foreign key or a view of its leads there."""
    if need in app.needs:
        return f"{app.name} requires {need}"
    own = [table for table, owner in owners.items() if owner == app.name]
    columns = [
        column or f"the view {table.fullname}"
        for table in own
        for target, column in iter_needed(table)
        if owners.get(target) == need
    ]
    return f"{app.name} refers to {need} by {min(columns)}"


def find_dangling(
    owners: Mapping[sa.Table, str],
    apps: Mapping[str, InstalledSubApp],
    left_out: Mapping[sa.Table, str],
) -> list[Fault]:
    """Foreign keys and views that lead to tables which no loaded sub-app owns, or to columns that are not there.

    Args:
        owners: The owner of each table.
        apps: The loaded sub-apps, by name.
        left_out: The tables of sub-apps that cannot take part: who points there has no fault of its own.
    """
    look = _Look(owners, apps, left_out)
    return [fault for table in owners for fault in look.faults_of(table)]


@dataclass(frozen=True, slots=True)
class _Look:
    """What is wrong with the references of tables; the fields are the arguments of :func:`find_dangling`."""

    owners: Mapping[sa.Table, str]
    apps: Mapping[str, InstalledSubApp]
    left_out: Mapping[sa.Table, str]

    def faults_of(self, table: sa.Table) -> Iterator[Fault]:
        for constraint in sorted(table.foreign_key_constraints, key=lambda constraint: tuple(constraint.column_keys)):
            yield from self._faults_of_key(constraint)
        for source in iter_sources(table):
            if source not in self.owners or self._is_elsewhere(table, source):
                yield self._fault(table, f"the view {table.fullname!r} selects from", source.fullname, source)

    def _faults_of_key(self, constraint: sa.ForeignKeyConstraint) -> Iterator[Fault]:
        key, table = constraint.elements[0], constraint.table
        target, wanted = find_target(key), _wanted(key)
        if target is None and (other := self._find_on_another_metadata(key)) is not None:
            if other in self.owners:
                yield self._as_text(constraint, other)
                return
            target = other
        if target is None or target not in self.owners or self._is_elsewhere(table, target):
            columns = ", ".join(sorted(_column(key) for key in constraint.elements))
            yield self._fault(table, f"the foreign key of {columns} points to", wanted, target)
        else:
            app = self.apps[self.owners[table]]
            yield from (_no_column(key, app, target) for key in constraint.elements if _misses(key, target))

    def _find_on_another_metadata(self, key: sa.ForeignKey) -> sa.Table | None:
        names, own = [_wanted(key), key.target_table_key], key.parent.table.metadata
        found = (table for table in (*self.owners, *self.left_out) if table.key in names and table.metadata is not own)
        return next(found, None) if key.target_column is None else None

    def _is_elsewhere(self, table: sa.Table, target: sa.Table) -> bool:
        return self._bind(table) != self._bind(target)

    def _bind(self, table: sa.Table) -> str:
        return self.apps[self.owners[table]].sub_app.bind

    def _as_text(self, constraint: sa.ForeignKeyConstraint, target: sa.Table) -> Fault:
        """SQLAlchemy looks text up in the key's own ``MetaData`` only; a column it takes from anywhere."""
        app, other = self.apps[self.owners[constraint.table]], self.apps[self.owners[target]]
        columns = ", ".join(sorted(_column(key) for key in constraint.elements))
        what = f"{app}: the foreign key of {columns} names table {target.fullname!r} as text, but that one, "
        what += (
            f"of {'the same sub-app' if other == app else other}, is on another MetaData, where text is not looked up"
        )
        problem = Problem(what, find_place(constraint.table), f"write {_as_columns(constraint, target)}")
        return Fault((app.name,), OwnershipError(problem), app.plugin)

    def _fault(self, table: sa.Table, subject: str, wanted: str, target: sa.Table | None) -> Fault:
        app = self.apps[self.owners[table]]
        absent = self.left_out.get(target, "") if target is not None else ""
        if target is not None and target in self.owners:
            other = self.apps[self.owners[target]]
            what = f"{subject} table {wanted!r} of {other}, which lives in another "
            what += f"database: bind {app.sub_app.bind!r} and bind {other.sub_app.bind!r}"
            mend = "keep both in one bind; a value may be kept without a foreign key"
        elif absent:
            what = f"{subject} table {wanted!r} of sub-app {absent!r}, which is left out"
            mend = f"mend {absent!r}, whose own fault is reported as well"
        else:
            what = f"{subject} table {wanted!r}, which no loaded sub-app owns"
            mend = _supplier(app, self.apps) or _adoption(target, self.owners) or _nearest(wanted, self.owners)
        problem = Problem(f"{app}: {what}", find_place(table), mend)
        return Fault((app.name,), OwnershipError(problem), app.plugin, derived=bool(absent))


def _as_columns(constraint: sa.ForeignKeyConstraint, target: sa.Table) -> str:
    """The foreign key as it must be written, with what must be imported for it."""
    module, name = _find_import(target)
    columns = [_attribute(key, name, target) for key in constraint.elements]
    written = f"ForeignKey({columns[0]})"
    if len(columns) > 1:
        written = f"ForeignKeyConstraint({list(constraint.column_keys)}, [{', '.join(columns)}])"
    return f"{written}, with: from {module} import {name}" if module else written


def _find_import(table: sa.Table) -> tuple[str, str]:
    """The module that defines a table, and what its class or the table itself is called there."""
    mapper = find_mapper(table)
    if mapper is not None:
        return mapper.class_.__module__, mapper.class_.__qualname__
    definition = find_definition(table)
    for module in definition.importing[:1] if definition else ():
        for name, value in list(vars(sys.modules.get(module, object)).items()):
            if value is table:
                return module, name
    return "", table.name


def _attribute(key: sa.ForeignKey, name: str, target: sa.Table) -> str:
    """The column that a foreign key means, as an attribute of the class or the table of that name."""
    column, mapper = target.columns.get(_column_key(key)), find_mapper(target)
    if mapper is not None:
        return f"{name}.{mapper.get_property_by_column(column).key if column is not None else _column_key(key)}"
    return f"{name}.c.{_column_key(key)}"


def _misses(key: sa.ForeignKey, target: sa.Table) -> bool:
    there = {column.name for column in target.columns} if key.link_to_name else target.columns.keys()
    return _column_key(key) not in there


def _column_key(key: sa.ForeignKey) -> str:
    """The column that a foreign key names; without a name it means the one that is called like its own."""
    return str(key.target_tokens.column_name or key.parent.key)


def _supplier(app: InstalledSubApp, apps: Mapping[str, InstalledSubApp]) -> str:
    """Who would bring the table, if the sub-app's own requirements say so."""
    absent = [repr(need) for need in app.needs if need not in apps]
    return f"install the sub-app that brings it: {app.name!r} requires {' and '.join(absent)}" if absent else ""


def _adoption(target: sa.Table | None, owners: Mapping[sa.Table, str]) -> str:
    """How to make a table known whose ``MetaData`` nobody collects."""
    if target is None or any(table.metadata is target.metadata for table in owners):
        return ""
    definition = find_definition(target)
    module = (*(definition.modules if definition else ()), "package.module")[0]
    name = find_name(target.metadata, module)
    if not name:
        return "give its MetaData a name, and let the sub-app that brings it adopt that: SubApp(metadata=...)"
    return f'let the sub-app that brings it adopt its MetaData: SubApp(metadata=("{module}:{name}",))'


def _nearest(wanted: str, owners: Mapping[sa.Table, str]) -> str:
    near = difflib.get_close_matches(wanted, [table.key for table in owners], 1)
    correct = f"write {near[0]!r}" if near else "correct the name"
    return f"{correct}, or install the sub-app that owns the table and name it in requires"


def _no_column(key: sa.ForeignKey, app: InstalledSubApp, target: sa.Table) -> Fault:
    wanted = _column_key(key)
    what = f"{app}: the foreign key of {_column(key)} points to {target.fullname}.{wanted}, "
    what += f"but {target.fullname!r} has no such column"
    mend = f"its columns are: {', '.join(target.columns.keys())}"
    return Fault((app.name,), OwnershipError(Problem(what, find_place(key.parent.table), mend)), app.plugin)


def _column(key: sa.ForeignKey) -> str:
    return f"{key.parent.table.fullname}.{key.parent.name}"
