"""Names that two sub-apps claim at once: tables, indexes, named constraints, sequences and enum types.

Judged for every database at once, whichever is configured: two sub-apps that only get along on SQLite are found on the
laptop. Names count as equal after folding case and after the cut that a server makes: PostgreSQL keeps 63 bytes of a
name ("Identifiers and Key Words" in its manual), MySQL 64 characters, which is never less.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import conv
from sqlalchemy.sql.functions import next_value

from opal_registry.discovery import Fault, InstalledSubApp
from opal_registry.errors import OwnershipError, PluginError, Problem
from opal_registry.guard import find_place as find_raised
from opal_registry.ownership.definitions import find_definition, find_place, find_query, iter_tables
from opal_registry.ownership.twins import find_differences

KEPT_BYTES = 63
REDEFINED = re.compile(r"Table '(?P<key>[^']+)' is already defined for this MetaData instance")
"""What SQLAlchemy says when a table is defined twice; its advice (extend_existing) is wrong between sub-apps."""

ALIGN = "make them equal, or rename one of them"
RENAME = "rename one of them; a prefix with the sub-app's name keeps them apart (SubApp.table_prefix)"
MOVE = ", or give one a database of its own (SubApp.bind)"


@dataclass(frozen=True, slots=True)
class Claim:
    """A name that a sub-app takes in a database, for a table or for something else.

    Args:
        kind: What is named, in words.
        schema: The schema it is in; empty for the default one.
        name: The name as written.
        owner: The sub-app that claims it.
        table: The table, or the one it belongs to; None for what belongs to no table.
        identity: What makes two claims of one name the same thing.
        content: What makes two claims of one sub-app the same thing, if something less does; said where they differ.
        spaces: The namespaces it is in: ``relation`` (tables, indexes, sequences, unique constraints), ``type`` (enum
            types, and tables, for PostgreSQL makes a type of each) or ``constraint``.
        kept: Of an enum type, the object.
    """

    kind: str
    schema: str
    name: str
    owner: str
    table: sa.Table | None
    identity: object
    content: str | None = None
    spaces: tuple[str, ...] = ("relation",)
    kept: Any = None

    def is_borrowed_from(self, other: "Claim") -> bool:
        """Whether this is an enum type that is the other one's: the same object, or one that says it is made elsewhere."""
        if self.kept is None or other.kept is None or self.keys != other.keys:
            return False
        is_made_elsewhere = getattr(self.kept, "create_type", True) is False
        return self.kept is other.kept or (is_made_elsewhere and self.content == other.content)

    def is_same(self, other: "Claim") -> bool:
        """Whether both claim the name for one thing."""
        alike = self.kind == other.kind and self.owner == other.owner and self.content == other.content
        return self.identity == other.identity or (alike and self.content is not None)

    @property
    def keys(self) -> list[tuple[str, str, str]]:
        """What two claims that collide have in common."""
        schema = "" if self.schema == "public" else self.schema.lower()
        return [(space, schema, fold(self.name)) for space in self.spaces]


def fold(name: str) -> str:
    """A name as the least careful database keeps it: 63 bytes, without case.

    Example:
        >>> fold("Builds") == fold("builds"), fold("x" * 63 + "a") == fold("x" * 63 + "b")
        (True, True)
    """
    if isinstance(name, conv):  # SQLAlchemy shortens these by itself, with a digest
        return name.lower()
    return name.encode()[:KEPT_BYTES].decode(errors="ignore").lower()


def find_conflicts(
    owners: Mapping[sa.Table, str],
    apps: Mapping[str, InstalledSubApp],
    *,
    twins: Collection[sa.Table] = (),
    spares: "Mapping[sa.Sequence | sa.Enum, str] | None" = None,
) -> list[Fault]:
    """The names that more than one sub-app claims in one bind, or one sub-app twice for different things.

    Where two tables collide, what belongs to them is not held against them as well.

    Args:
        owners: The owner of each table.
        apps: The sub-apps, by name.
        twins: Tables that are another one of the same owner defined again, and claim nothing.
        spares: The owners of sequences and enum types that no table uses.
    """
    first: dict[tuple[str, ...], Claim] = {}
    tables: set[frozenset[sa.Table | None]] = set()
    faults = []
    for claim in sorted(_without_borrowed(list(_iter_claims(owners, twins, spares or {})), apps), key=_rank):
        keys = [(apps[claim.owner].sub_app.bind, *key) for key in claim.keys]
        others = [other for key in keys if not (other := first.setdefault(key, claim)).is_same(claim)]
        for other in others[:1]:
            pair = frozenset((claim.table, other.table))
            if pair not in tables or None in pair:
                faults.append(_conflict(other, claim, apps))
            if claim.kind == other.kind == "table":
                tables.add(pair)
    return faults


def _without_borrowed(claims: Sequence[Claim], apps: Mapping[str, InstalledSubApp]) -> Iterator[Claim]:
    """Leave out the enum types that a sub-app uses which are those of one it requires."""
    by_owner: dict[str, list[Claim]] = {}
    for claim in claims:
        if claim.kept is not None:
            by_owner.setdefault(claim.owner, []).append(claim)
    for claim in claims:
        app = apps[claim.owner]
        lenders = [name for name in app.needs if name in apps and apps[name].sub_app.bind == app.sub_app.bind]
        if claim.kept is None or not any(
            claim.is_borrowed_from(other) for name in lenders for other in by_owner.get(name, ())
        ):
            yield claim


def _rank(claim: Claim) -> tuple[object, ...]:
    return claim.kind != "table", claim.owner != "core", claim.owner, claim.keys


def explain_redefinition(
    error: BaseException | None,
    owners: Mapping[sa.Table, str],
    apps: Mapping[str, InstalledSubApp],
    second: InstalledSubApp,
    *,
    failed: Collection[str],
) -> Fault | None:
    """The fault behind SQLAlchemy's "already defined", in our words; None for any other error.

    Args:
        error: What importing the models of ``second`` raised.
        owners: The owner of each table that was defined so far.
        apps: All sub-apps, by name.
        second: The sub-app that came second.
        failed: The names of those that cannot take part.
    """
    found = REDEFINED.search(str(error)) if isinstance(error, sa.exc.InvalidRequestError) else None
    if error is None or found is None:
        return None
    tables = [table for table in (*owners, *(table for table, _ in iter_tables())) if table.key == found["key"]]
    metadata = _find_metadata(error.__traceback__)
    table = next((table for table in tables if table.metadata is metadata), tables[0])
    first = apps.get(owners.get(table, ""))
    where = f"{find_place(table)} and {find_raised(error)}"
    definition, module = find_definition(table), _importing(error.__traceback__)
    again = definition is not None and definition.importing[:1] == (module,)
    if first and again and first.name in failed:
        what = f"{second} imports {module} of {first}, which failed before"
        mend = f"mend {first.name!r}, whose own fault is reported as well"
        return Fault((second.name,), PluginError(Problem(what, where, mend)), second.plugin, derived=True)
    if first and first != second and not again:
        return _two_owners(f"the table {table.key!r} has two owners: {first} and {second}", where, first, second)
    what = f"{second} defines table {table.key!r}, which is defined already"
    mend = "define it once, in a module that is imported under one name"
    return Fault((second.name,), OwnershipError(Problem(what, where, mend)), second.plugin)


def _importing(traceback: TracebackType | None) -> str:
    """The innermost module whose body was being imported when an error was raised."""
    module = ""
    while traceback is not None:
        if traceback.tb_frame.f_code.co_name == "<module>":
            module = str(traceback.tb_frame.f_globals.get("__name__"))
        traceback = traceback.tb_next
    return module


def _find_metadata(traceback: TracebackType | None) -> object:
    """The ``MetaData`` that SQLAlchemy was adding a table to when an error was raised: the error does not tell."""
    found: object = None
    while traceback is not None:
        found = traceback.tb_frame.f_locals.get("metadata") or found
        traceback = traceback.tb_next
    return found


def _two_owners(what: str, where: str, first: InstalledSubApp, second: InstalledSubApp) -> Fault:
    """Both are at fault, but for the built-in one: everybody knows its names."""
    guilty = [app for app in (first, second) if not app.plugin.is_builtin]
    mend = RENAME if len(guilty) > 1 else f"rename that of {guilty[0].name!r}, or use the one of 'core'"
    mend += MOVE if any(app.sub_app.metadata for app in guilty) else ""
    return Fault(tuple(app.name for app in guilty), OwnershipError(Problem(what, where, mend)))


def _conflict(first: Claim, second: Claim, apps: Mapping[str, InstalledSubApp]) -> Fault:
    a, b = apps[first.owner], apps[second.owner]
    places = (
        str(app.plugin) if claim.table is None else find_place(claim.table) for claim, app in ((first, a), (second, b))
    )
    where = " and ".join(places)
    alike = (first.kind, first.name) == (second.kind, second.name)
    if a == b:
        what, mend = (
            f"{a}: {_one_name(first, second, f'a {first.kind}', f'another {second.kind}')}",
            "rename one of them",
        )
        if alike:
            what, mend = f"{a} defines the {first.kind} {first.name!r} twice{_unlike(first, second)}", ALIGN
        return Fault((a.name,), PluginError(Problem(what, where, mend)), a.plugin)
    what = f"the {first.kind} {first.name!r} has two owners: {a} and {b}"
    if not alike:
        what = _one_name(first, second, f"the {first.kind} of {a}", f"the {second.kind} of {b}")
    return _two_owners(what, where, a, b)


def _unlike(first: Claim, second: Claim) -> str:
    """How two things of one kind, name and owner differ."""
    if first.table is None or second.table is None:
        return ", for different things"
    if first.kind == "table":
        return f", and not alike: {'; '.join(find_differences(first.table, second.table))}"
    one, other = f"table {first.table.fullname!r}", f"table {second.table.fullname!r}"
    if first.content is None:
        return f", for {one} and for {other}"
    return f", and not alike: {first.content} for {one}, and {second.content} for {other}"


def _one_name(first: Claim, second: Claim, one: str, other: str) -> str:
    if first.name == second.name:
        return f"{one} and {other} have one name, {first.name!r}"
    why = "regardless of case" if first.name.lower() == second.name.lower() else f"once cut to {KEPT_BYTES} bytes"
    return f"{one} and {other} have one name {why}: {first.name!r} and {second.name!r}"


def _iter_claims(
    owners: Mapping[sa.Table, str], twins: Collection[sa.Table], spares: "Mapping[sa.Sequence | sa.Enum, str]"
) -> Iterator[Claim]:
    for table, owner in owners.items():
        if table not in twins:
            yield from _iter_table_claims(table, owner)
    for item, owner in spares.items():
        yield from _iter_object_claims([item], owner, None)


def _iter_table_claims(table: sa.Table, owner: str) -> Iterator[Claim]:
    schema = table.schema or ""
    yield Claim("table", schema, table.name, owner, table, table, spaces=("relation", "type"))
    for index in table.indexes:
        if isinstance(index.name, str):
            yield Claim("index", schema, index.name, owner, table, index)
    yield from _iter_constraints(table, owner, schema)
    for column in table.columns if find_query(table) is None else ():
        yield from _iter_object_claims([*iter_sequences(column), *iter_types(column.type)], owner, table)


def _iter_constraints(table: sa.Table, owner: str, schema: str) -> Iterator[Claim]:
    for constraint in table.constraints:
        if isinstance(constraint.name, str) and constraint.name:
            if isinstance(constraint, (sa.UniqueConstraint, sa.PrimaryKeyConstraint)):
                yield Claim("constraint", schema, constraint.name, owner, table, constraint)
            else:
                # PostgreSQL keeps these by table, MySQL by schema: one sub-app may know what it does
                yield Claim("constraint", schema, constraint.name, owner, table, owner, spaces=("constraint",))


def iter_sequences(column: "sa.Column[object]") -> Iterator[sa.Sequence]:
    """The sequences that a column draws its values from."""
    drawn = getattr(column.server_default, "arg", None)
    for sequence in (column.default, drawn.sequence if isinstance(drawn, next_value) else None):
        if isinstance(sequence, sa.Sequence):
            yield sequence


def iter_types(kind: Any) -> Iterator[Any]:
    """The enum types and domains that a column's type needs in a database that has them."""
    for variant in kind._variant_mapping.values():
        yield from iter_types(variant)
    while isinstance(kind, (sa.TypeDecorator, sa.ARRAY)):
        kind = kind.impl_instance if isinstance(kind, sa.TypeDecorator) else kind.item_type
    native = isinstance(kind, sa.Enum) and kind.native_enum
    if (native or kind.__visit_name__ == "DOMAIN") and kind.name:
        yield kind


def _iter_object_claims(items: Iterable[Any], owner: str, table: sa.Table | None) -> Iterator[Claim]:
    for item in items:
        schema, name = item.schema or "", item.name or ""
        if isinstance(item, sa.Sequence):
            yield Claim("sequence", schema, name, owner, table, ("sequence", owner))
        else:
            content = ", ".join(map(repr, getattr(item, "enums", ()))) or repr(item)
            shared = getattr(item, "enum_class", None) or owner  # who has the class has it on purpose
            yield Claim("enum type", schema, name, owner, table, (shared, content), content, ("type",), item)
