"""What sub-apps refer to in each other: foreign keys, and relationships given as text."""

from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.discovery import Fault, InstalledSubApp
from opal_registry.errors import OwnershipError, PluginError, Problem
from opal_registry.ownership.definitions import find_definition


def find_target(key: sa.ForeignKey) -> sa.Table | None:
    """The table that a foreign key points to; None if there is none in its ``MetaData``."""
    column = key.target_column
    if column is not None:
        return column.table if isinstance(column.table, sa.Table) else None
    metadata, tokens = key.parent.table.metadata, key.target_tokens
    found: sa.Table | None = metadata.tables.get(_dotted(tokens.schema or metadata.schema, tokens.table_name))
    return found


def _dotted(schema: str | None, name: str) -> str:
    return f"{schema}.{name}" if schema else name


def needs_by_foreign_key(owners: Mapping[sa.Table, str]) -> dict[str, set[str]]:
    """For each owner the other owners whose tables its foreign keys point to."""
    needs: dict[str, set[str]] = {name: set() for name in owners.values()}
    for table, owner in owners.items():
        for key in table.foreign_keys:
            target = find_target(key)
            if target is not None and target in owners:
                needs[owner].add(owners[target])
    return {owner: found - {owner} for owner, found in needs.items()}


def explain_need(app: InstalledSubApp, need: str, owners: Mapping[sa.Table, str]) -> str:
    """Why a sub-app needs another: it requires it, or a foreign key of its points there."""
    if need in app.needs:
        return f"{app.name} requires {need}"
    keys = [key for table, owner in owners.items() if owner == app.name for key in table.foreign_keys]
    names = sorted(f"{key.parent.table.fullname}.{key.parent.name}" for key in keys if _owner(key, owners) == need)
    return f"{app.name} refers to {need} by {names[0]}"


def _owner(key: sa.ForeignKey, owners: Mapping[sa.Table, str]) -> str | None:
    target = find_target(key)
    return owners.get(target) if target is not None else None


def find_dangling(owners: Mapping[sa.Table, str], apps: Mapping[str, InstalledSubApp]) -> list[Fault]:
    """Foreign keys to tables that no loaded sub-app owns."""
    faults = []
    for table, owner in owners.items():
        for key in sorted(table.foreign_keys, key=lambda key: key.parent.name):
            target = find_target(key)
            if target is None or target not in owners:
                faults.append(_dangling(key, table, apps[owner], apps))
            elif (wanted := key.target_tokens.column_name or key.parent.key) not in target.columns:
                faults.append(_no_column(key, table, apps[owner], target, wanted))
    return faults


def find_ambiguous_relationships(
    base: type[sa_orm.DeclarativeBase], owners: Mapping[sa.Table, str], apps: Mapping[str, InstalledSubApp]
) -> list[Fault]:
    """Relationships whose text could mean either of two classes; SQLAlchemy would fail at the first query of anybody."""
    by_name: dict[str, list[type]] = {}
    for mapper in base.registry.mappers:
        by_name.setdefault(mapper.class_.__name__, []).append(mapper.class_)
    faults = []
    for cls, name, text in _iter_relationships(base, owners):
        classes = sorted(f"{other.__module__}.{other.__qualname__}" for other in by_name.get(text, ()))
        if len(classes) > 1:
            owner = apps[owners[sa.inspect(cls).local_table]]
            what = f"{owner}: the relationship {cls.__qualname__}.{name} says {text!r}, "
            what += f"which could mean {' or '.join(classes)}"
            mend = f"write the whole path, as in relationship({classes[0]!r})"
            faults.append(Fault((owner.name,), PluginError(Problem(what, cls.__module__, mend)), owner.plugin))
    return faults


def _iter_relationships(
    base: type[sa_orm.DeclarativeBase], owners: Mapping[sa.Table, str]
) -> Iterator[tuple[type, str, str]]:
    mappers = [mapper for mapper in base.registry.mappers if mapper.local_table in owners]
    for mapper in sorted(mappers, key=lambda mapper: (mapper.class_.__module__, mapper.class_.__name__)):
        for name, attribute in sorted(vars(mapper.class_).items()):
            found = getattr(attribute, "prop", None) if isinstance(attribute, sa_orm.InstrumentedAttribute) else None
            if isinstance(found, sa_orm.RelationshipProperty):
                text = getattr(found.argument, "__forward_arg__", found.argument)
                if isinstance(text, str):
                    yield mapper.class_, name, text


def _dangling(key: sa.ForeignKey, table: sa.Table, app: InstalledSubApp, apps: Mapping[str, InstalledSubApp]) -> Fault:
    column = f"{table.fullname}.{key.parent.name}"
    wanted = _dotted(key.target_tokens.schema, key.target_tokens.table_name)
    what = f"{app}: the foreign key of {column} points to table {wanted!r}, which no loaded sub-app owns"
    absent = [need for need in app.needs if need not in apps]
    mend = f"install the sub-app that brings it: {app.name!r} requires {_list(absent)}, not loaded here"
    if not absent:
        mend = "correct the name, or install the sub-app that owns the table and name it in requires"
    definition = find_definition(table)
    return Fault((app.name,), OwnershipError(Problem(what, definition.place if definition else "", mend)), app.plugin)


def _no_column(key: sa.ForeignKey, table: sa.Table, app: InstalledSubApp, target: sa.Table, wanted: str) -> Fault:
    what = f"{app}: the foreign key of {table.fullname}.{key.parent.name} points to {target.fullname}.{wanted}, "
    what += f"but {target.fullname!r} has no such column"
    mend = f"its columns are: {', '.join(target.columns.keys())}"
    definition = find_definition(table)
    return Fault((app.name,), OwnershipError(Problem(what, definition.place if definition else "", mend)), app.plugin)


def _list(names: Sequence[str]) -> str:
    return " and ".join(repr(name) for name in names)
