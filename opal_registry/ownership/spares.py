"""Sequences and enum types on a ``MetaData`` that no column uses: ``create_all`` makes them, so they need an owner too."""

import sys
from collections.abc import Iterator, Mapping

import sqlalchemy as sa

from opal_registry.ownership.conflicts import iter_sequences, iter_types
from opal_registry.ownership.owners import Declared

Spare = sa.Sequence | sa.Enum


def assign_spares(
    declared: Declared, shared: sa.MetaData, adopters: Mapping[sa.MetaData, str], brought: Mapping[Spare, str]
) -> dict[Spare, str]:
    """Decide whose the unused sequences and enum types are.

    What lies on an adopted ``MetaData`` belongs to whoever adopts that. On the shared one it belongs to the sub-app whose
    module holds it under a name (SQLAlchemy tells nobody when one is made), else to the one whose import brought it.

    Args:
        declared: The sub-apps that take part.
        shared: The ``MetaData`` of the shared ``Base``.
        adopters: Foreign ``MetaData``, each with the name of the sub-app that adopts it.
        brought: After the import of which sub-app's models each of those on the shared one was first seen.
    """
    owners = {item: name for metadata, name in adopters.items() for item in iter_spares(metadata)}
    for item in iter_spares(shared):
        owners[item] = _find_holder(item, declared) or brought.get(item, "")
    return {item: name for item, name in owners.items() if name in declared.apps}


def iter_spares(metadata: sa.MetaData) -> Iterator[Spare]:
    """The sequences and named enum types of a ``MetaData`` that none of its columns uses, by name."""
    made = get_objects(metadata)
    if made:
        columns = [column for table in metadata.tables.values() for column in table.columns]
        used = {_key(item) for column in columns for item in (*iter_sequences(column), *iter_types(column.type))}
        yield from sorted((item for item in made if _key(item) not in used), key=_key)


def get_objects(metadata: sa.MetaData) -> list[Spare]:
    """The sequences and named enum types of a ``MetaData``, used or not."""
    found: list[Spare] = []
    for schema in {None, *metadata.schemas}:
        found += metadata.get_schema_objects(sa.Sequence, schema=schema)
        found += [
            kind for kind in metadata.get_schema_objects(sa.Enum, schema=schema) if kind.native_enum and kind.name
        ]
    return found


def _key(item: Spare) -> tuple[str, str, str]:
    return "sequence" if isinstance(item, sa.Sequence) else "type", item.schema or "", item.name or ""


def _find_holder(item: Spare, declared: Declared) -> str:
    """The one sub-app that has it in a module of its own, or of several the first, which the others may need."""
    holders = {
        who[0]
        for module, loaded in list(sys.modules.items())
        if len(who := declared.who([module])) == 1 and any(value is item for value in list(vars(loaded).values()))
    }
    return next((name for name in declared.apps if name in holders), "")
