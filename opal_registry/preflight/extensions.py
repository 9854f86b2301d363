"""What a server lacks of what tables want: mostly extensions of PostgreSQL, named with the statement that installs them."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from opal_registry.errors import Problem
from opal_registry.ownership.conflicts import iter_types
from opal_registry.preflight.expressions import Expression, iter_wanted_functions, mend_expression
from opal_registry.preflight.functions import FROM_EXTENSIONS
from opal_registry.preflight.indexes import iter_wanted_operators
from opal_registry.preflight.inventory import Inventory, read_inventory
from opal_registry.preflight.target import DATABASES, Subject
from opal_registry.preflight.vocabulary import EXTENSIONS, is_ordinary, iter_takers, split_name
from opal_registry.preflight.wants import Want

OPERATOR_CLASSES = (
    (r"g(in|ist)_trgm_ops", "pg_trgm"),
    (r"(bit|halfvec|sparsevec|vector)_\w+_ops", "vector"),
    (r"\w+_hstore_ops", "hstore"),
    (r"(gist__?|hash_)?ltree_ops", "ltree"),
    (r"(gist_geo\w+|spgist_geo\w+|brin_geo\w+|btree_geo\w+)_ops\w*", "postgis"),
    (r"gi(n|st)__int(big)?_ops", "intarray"),
    (r"citext_\w*ops", "citext"),
    (
        r"gist_(bool|bytea|date|float4|float8|int2|int4|int8|interval|numeric|text|time|timestamp|uuid)_ops",
        "btree_gist",
    ),
)
METHODS = {"bloom": "bloom", "hnsw": "vector", "ivfflat": "vector", "rum": "rum"}
DEFAULTS = {"gin": "btree_gin", "gist": "btree_gist"}
"""The extensions that bring operator classes, access methods, and an operator class for each plain type."""

COLLATION = re.compile(r'\bCOLLATE (?:"([^"]+)"|(\w+))')
COLLATIONS = {
    "sqlite": {"binary", "nocase", "rtrim"},
    "postgresql": {"C", "POSIX", "default", "ucs_basic"},
    "mysql": {"utf8mb4_bin", "utf8mb4_general_ci", "utf8mb4_unicode_ci"},
}
"""Collations that every such database has."""


def iter_wants(subject: Subject, expressions: list[Expression]) -> Iterator[Want]:
    """What a table wants that not every server of its kind has."""
    yield from _iter_wanted_collations(subject)
    yield from iter_wanted_functions(subject, expressions)
    if "postgresql" in subject.target.names:
        yield from _iter_wanted_types(subject)
        yield from iter_wanted_operators(subject)


def find_missing(wants: Sequence[Want], connection: sa.Connection | None) -> Iterator[Problem]:
    """What is wanted and not there.

    Args:
        wants: What is wanted.
        connection: The server; None where the database does not exist yet, and thus holds no extension.
    """
    inventory = Inventory(())
    if wants and connection is not None:
        inventory = read_inventory(connection, wants, {find_extension(want) for want in wants} - {""})
    for want in wants:
        if not inventory.has(want) and (connection is not None or find_extension(want)) and not _is_made(want):
            yield from _EXPLAIN[want.kind](want, inventory if connection is not None else None)


def find_extension(want: Want) -> str:
    """The extension of PostgreSQL that brings something; empty if none is known.

    A default operator class of a plain type for ``gin`` comes from ``btree_gin``, a few functions from ``pgcrypto``.
    """
    if want.kind == "operator class":
        return next((name for pattern, name in OPERATOR_CLASSES if re.fullmatch(pattern, want.name)), "")
    if want.kind == "default operator class":
        return DEFAULTS.get(want.schema, "") if want.name not in {"json", "xml"} else ""
    known = {"type": EXTENSIONS, "function": FROM_EXTENSIONS, "access method": METHODS}
    return known.get(want.kind, {}).get(want.name, "") if "postgresql" in want.subject.target.names else ""


def _iter_wanted_types(subject: Subject) -> Iterator[Want]:
    for column, text in subject.columns:
        if text and not is_ordinary(text) and not any(iter_types(column.type)):
            schema, name, _ = split_name(text)
            yield Want(subject, f"column {column.name!r}", "type", name, schema)


def _iter_wanted_collations(subject: Subject) -> Iterator[Want]:
    database = "mysql" if subject.target.is_mysql else subject.target.dialect.name
    for column, text in subject.columns:
        if "COLLATE" in text and (found := COLLATION.search(text)):
            name = found[1] or found[2]
            if (name if database == "postgresql" else name.lower()) not in COLLATIONS[database]:
                yield Want(subject, f"column {column.name!r}", "collation", name)


def _is_made(want: Want) -> bool:
    """Whether a type comes to be with the tables: as an enum, or as the type of a table's rows."""
    if want.kind != "type":
        return False
    metadata = want.subject.table.metadata
    made = {
        kind.name for table in metadata.tables.values() for column in table.columns for kind in iter_types(column.type)
    }
    return want.name in made | {table.name for table in metadata.tables.values()} | _listening(metadata)


def _listening(metadata: sa.MetaData) -> set[str]:
    """The types that a ``MetaData`` makes though no table of it uses them."""
    owners = (getattr(listener, "__self__", None) for listener in metadata.dispatch.before_create)
    return {str(kind.name) for kind in owners if isinstance(kind, sa.types.SchemaType)}


def _explain_type(want: Want, inventory: Inventory | None) -> Iterator[Problem]:
    column = next(item for item, _ in want.subject.columns if f"column {item.name!r}" == want.part)
    what = f"{want.part} has the type {want.subject.target.type_text(column)}{_lack(want, inventory)}"
    mend = "use a type that every database has, or make this one first: CREATE TYPE, or a before_create listener"
    by = DATABASES - set(iter_takers(column.type)) | {"postgresql"}
    says = "" if want.schema else f'type "{want}" does not exist'
    yield from want.subject.refuse(by, what, _mend(want, inventory) or mend, says=says)


def _explain_function(want: Want, inventory: Inventory | None) -> Iterator[Problem]:
    names = want.subject.target.names
    says = f"function {want}(...) does not exist"
    if names == {"sqlite"}:
        is_late = want.part.startswith("the default")
        says = f"unknown function: {want}(), at the first INSERT" if is_late else f"no such function: {want}"
    by = DATABASES - want.takers | names
    mend = _mend(want, inventory) or mend_expression(want.part)
    yield from want.subject.refuse(by, f"{want.part} calls {want}(){_lack(want, inventory)}", mend, says=says)


def _explain_collation(want: Want, _: Inventory | None) -> Iterator[Problem]:
    target = want.subject.target
    says = {
        "sqlite": f"no such collation sequence: {want}",
        "postgresql": f'collation "{want}" for encoding "UTF8" does not exist',
    }
    what = f"{want.part} has the collation {want.name!r}, which this database does not have"
    mend = "leave it out, or give the column a variant for this database"
    yield from want.subject.refuse(
        DATABASES, what, mend, says=says.get(target.dialect.name, f"Unknown collation: '{want}'")
    )


def _explain_operator_class(want: Want, inventory: Inventory | None) -> Iterator[Problem]:
    what = f"{want.part} has the {want.kind} {want}{_lack(want, inventory)}"
    says = f'{want.kind} "{want}" does not exist'
    yield from want.subject.refuse(DATABASES, what, _mend(want, inventory) or "correct the name", says=says)


def _explain_default(want: Want, inventory: Inventory | None) -> Iterator[Problem]:
    says = f'data type {want.name} has no default operator class for access method "{want.schema}"'
    what = f"{want.part} needs an operator class of {want.schema} for the type {want.name}"
    extension = find_extension(want)
    what += f", which the extension {extension!r} brings: it is not installed" if extension else ", and there is none"
    mend = (
        "make the column a JSONB, or take it out" if want.name == "json" else "name an operator class in postgresql_ops"
    )
    yield from want.subject.refuse(DATABASES, what, _mend(want, inventory) or mend, says=says)


_EXPLAIN: Any = {
    "type": _explain_type,
    "function": _explain_function,
    "collation": _explain_collation,
    "operator class": _explain_operator_class,
    "access method": _explain_operator_class,
    "default operator class": _explain_default,
}


def _lack(want: Want, inventory: Inventory | None) -> str:
    """What to say of a thing that is not there."""
    extension = find_extension(want)
    if not extension:
        return ", which does not exist in this database"
    if inventory and (schema := inventory.schema_of(extension)):
        return f" of the extension {extension!r}, which is installed in the schema {schema!r}, and that is not searched"
    return f" of the extension {extension!r}, which is not installed in this database"


def _mend(want: Want, inventory: Inventory | None) -> str:
    extension = find_extension(want)
    if not extension:
        return ""
    quoted = extension if extension.isidentifier() else f'"{extension}"'
    if inventory and (schema := inventory.schema_of(extension)):
        return f"put {schema!r} on the search_path, or run ALTER EXTENSION {quoted} SET SCHEMA public;"
    create = f"run CREATE EXTENSION IF NOT EXISTS {quoted}; in the database"
    if inventory is None:
        return f"make the database first (opal-db init --create-database), then {create}"
    return (
        create
        if inventory.offers(extension)
        else f"install {extension} on the server, which does not offer it yet, then {create}"
    )
