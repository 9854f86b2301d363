"""What sub-apps refer to in each other: foreign keys, and relationships given as text."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.discovery import Fault, InstalledSubApp
from opal_registry.errors import OwnershipError, PluginError, Problem
from opal_registry.ownership.definitions import find_place, get_mappers

ONE_WORD = re.compile(r"""(?:.*[\[,]\s*)?["']?(\w+)["']?\]*""")
"""The target of a relationship that is one word, alone or in a collection: ``Task``, ``list[Task]``, ``dict[str, "Task"]``."""


def find_target(key: sa.ForeignKey) -> sa.Table | None:
    """The table that a foreign key points to; None if there is none in its ``MetaData``."""
    column = key.target_column
    if column is not None:
        return column.table if isinstance(column.table, sa.Table) else None
    found: sa.Table | None = key.parent.table.metadata.tables.get(key.target_table_key or "")
    return found


def _find_owner(key: sa.ForeignKey, owners: Mapping[sa.Table, str]) -> str | None:
    target = find_target(key)
    return owners.get(target) if target is not None else None


def needs_by_foreign_key(owners: Mapping[sa.Table, str]) -> dict[str, set[str]]:
    """For each owner the other owners whose tables its foreign keys point to."""
    needs: dict[str, set[str]] = {name: set() for name in owners.values()}
    for table, owner in owners.items():
        needs[owner] |= {found for key in table.foreign_keys if (found := _find_owner(key, owners))}
    return {owner: found - {owner} for owner, found in needs.items()}


def explain_need(app: InstalledSubApp, need: str, owners: Mapping[sa.Table, str]) -> str:
    """Why a sub-app needs another: it requires it, or a foreign key of its points there."""
    if need in app.needs:
        return f"{app.name} requires {need}"
    keys = [key for table, owner in owners.items() if owner == app.name for key in table.foreign_keys]
    names = sorted(_column(key) for key in keys if _find_owner(key, owners) == need)
    return f"{app.name} refers to {need} by {names[0]}"


def find_dangling(
    owners: Mapping[sa.Table, str],
    apps: Mapping[str, InstalledSubApp],
    left_out: Mapping[sa.Table, str],
) -> list[Fault]:
    """Foreign keys to tables that no loaded sub-app owns, or to columns that are not there.

    Args:
        owners: The owner of each table.
        apps: The loaded sub-apps, by name.
        left_out: The tables of sub-apps that cannot take part: who points there has no fault of its own.
    """
    faults = []
    for table, owner in owners.items():
        for constraint in sorted(table.foreign_key_constraints, key=lambda constraint: tuple(constraint.column_keys)):
            target = find_target(constraint.elements[0])
            if target is None or target not in owners:
                absent = left_out.get(target, "") if target is not None else ""
                faults.append(_dangling(constraint, apps[owner], absent, owners, apps))
            elif apps[owner].sub_app.bind != apps[owners[target]].sub_app.bind:
                faults.append(_between_binds(constraint, apps[owner], apps[owners[target]], target))
            else:
                faults += [_no_column(key, apps[owner], target) for key in constraint.elements if _misses(key, target)]
    return faults


def _between_binds(
    constraint: sa.ForeignKeyConstraint, app: InstalledSubApp, other: InstalledSubApp, target: sa.Table
) -> Fault:
    column = f"{constraint.table.fullname}.{constraint.column_keys[0]}"
    what = f"{app}: the foreign key of {column} points to table {target.fullname!r} of {other}, which lives in another "
    what += f"database: bind {app.sub_app.bind!r} and bind {other.sub_app.bind!r}"
    mend = "keep both in one bind, or keep the value without a foreign key"
    return Fault((app.name,), OwnershipError(Problem(what, find_place(constraint.table), mend)), app.plugin)


def _misses(key: sa.ForeignKey, target: sa.Table) -> bool:
    there = {column.name for column in target.columns} if key.link_to_name else target.columns.keys()
    return (key.target_tokens.column_name or key.parent.key) not in there


def _dangling(
    constraint: sa.ForeignKeyConstraint,
    app: InstalledSubApp,
    absent: str,
    owners: Mapping[sa.Table, str],
    apps: Mapping[str, InstalledSubApp],
) -> Fault:
    columns = ", ".join(sorted(_column(key) for key in constraint.elements))
    wanted = constraint.elements[0].target_table_key
    what = f"{app}: the foreign key of {columns} points to table {wanted!r}"
    if absent:
        what += f" of sub-app {absent!r}, which is left out"
        mend = f"mend {absent!r}, whose own fault is reported as well"
    else:
        what += ", which no loaded sub-app owns"
        mend = _supplier(app, apps) or _nearest(str(wanted), owners)
    problem = Problem(what, find_place(constraint.table), mend)
    return Fault((app.name,), OwnershipError(problem), app.plugin, derived=bool(absent))


def _supplier(app: InstalledSubApp, apps: Mapping[str, InstalledSubApp]) -> str:
    """Who would bring the table, if the sub-app's own requirements say so."""
    absent = [repr(need) for need in app.needs if need not in apps]
    return f"install the sub-app that brings it: {app.name!r} requires {' and '.join(absent)}" if absent else ""


def _nearest(wanted: str, owners: Mapping[sa.Table, str]) -> str:
    near = difflib.get_close_matches(wanted, [table.key for table in owners], 1)
    correct = f"write {near[0]!r}" if near else "correct the name"
    return f"{correct}, or install the sub-app that owns the table and name it in requires"


def _no_column(key: sa.ForeignKey, app: InstalledSubApp, target: sa.Table) -> Fault:
    wanted = key.target_tokens.column_name or key.parent.key
    what = f"{app}: the foreign key of {_column(key)} points to {target.fullname}.{wanted}, "
    what += f"but {target.fullname!r} has no such column"
    mend = f"its columns are: {', '.join(target.columns.keys())}"
    return Fault((app.name,), OwnershipError(Problem(what, find_place(key.parent.table), mend)), app.plugin)


def _column(key: sa.ForeignKey) -> str:
    return f"{key.parent.table.fullname}.{key.parent.name}"


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
