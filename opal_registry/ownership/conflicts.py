"""Names that two sub-apps claim at once: tables, indexes, named constraints, sequences and enum types.

Judged for every database at once, whichever is configured: two sub-apps that only get along on SQLite are found on the
laptop. Names count as equal after folding case and after the cut that a server makes: PostgreSQL keeps 63 bytes of a
name ("Identifiers and Key Words" in its manual), MySQL 64 characters, which is never less.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.schema import conv

from opal_registry.discovery import OWN_DISTRIBUTION, Fault, InstalledSubApp
from opal_registry.errors import OwnershipError, PluginError, Problem
from opal_registry.guard import find_place
from opal_registry.ownership.definitions import find_definition

KEPT_BYTES = 63
REDEFINED = re.compile(r"Table '(?P<key>[^']+)' is already defined for this MetaData instance")
"""What SQLAlchemy says when a table is defined twice; its advice (extend_existing) is wrong between sub-apps."""

RENAME = "rename one of them; a prefix with the sub-app's name keeps them apart (SubApp.table_prefix)"


@dataclass(frozen=True, slots=True)
class Claim:
    """A name in one of the namespaces of a database.

    Args:
        space: Which namespace: ``relation`` (tables, indexes, sequences and unique constraints share one), ``constraint``
            or ``type``.
        kind: What is claimed, in words.
        schema: The schema it is in; empty for the default one.
        name: The name as written.
        owner: The sub-app that claims it.
        place: File and line of the definition.
        identity: What makes two claims of one name the same thing.
    """

    space: str
    kind: str
    schema: str
    name: str
    owner: str
    place: str
    identity: object

    @property
    def key(self) -> tuple[str, str, str]:
        """What two claims that collide have in common."""
        return self.space, self.schema.casefold(), fold(self.name)


def fold(name: str) -> str:
    """A name as the least careful database keeps it: 63 bytes, without case.

    Example:
        >>> fold("Builds") == fold("builds"), fold("x" * 63 + "a") == fold("x" * 63 + "b")
        (True, True)
    """
    if isinstance(name, conv):
        return name.casefold()
    return name.encode()[:KEPT_BYTES].decode(errors="ignore").casefold()


def find_conflicts(owners: Mapping[sa.Table, str], apps: Mapping[str, InstalledSubApp]) -> list[Fault]:
    """The names that more than one sub-app claims, or one sub-app twice for different things."""
    first: dict[tuple[str, str, str], Claim] = {}
    faults = []
    for claim in sorted(_iter_claims(owners), key=lambda claim: (claim.owner != "core", claim.owner, claim.key)):
        other = first.setdefault(claim.key, claim)
        if other.identity != claim.identity:
            faults.append(_conflict(other, claim, apps))
    return faults


def explain_redefinition(
    error: BaseException | None,
    owners: Mapping[sa.Table, str],
    apps: Mapping[str, InstalledSubApp],
    second: InstalledSubApp,
) -> Problem | None:
    """The problem behind SQLAlchemy's "already defined", in our words; None for any other error.

    Args:
        error: What importing the models of ``second`` raised.
        owners: The owner of each table that was defined so far.
        apps: The sub-apps, by name.
        second: The sub-app that came second.
    """
    found = REDEFINED.search(str(error)) if isinstance(error, sa.exc.InvalidRequestError) else None
    table = next((table for table in owners if found and table.key == found["key"]), None)
    if error is None or table is None:
        return None
    definition = find_definition(table)
    where = f"{definition.place if definition else '?'} and {find_place(error)}"
    first = owners[table]
    if first == second.name:
        return Problem(f"{second} defines table {table.key!r} twice", where, "define it once, and import it elsewhere")
    return Problem(f"the table {table.key!r} has two owners: {apps[first]} and {second}", where, RENAME)


def _conflict(first: Claim, second: Claim, apps: Mapping[str, InstalledSubApp]) -> Fault:
    kinds = first.kind if first.kind == second.kind else f"{first.kind} / {second.kind}"
    names = repr(first.name) if first.name == second.name else f"{first.name!r} / {second.name!r}, equal to a database,"
    where = f"{first.place} and {second.place}"
    if first.owner == second.owner:
        what = f"{apps[first.owner]} defines the {kinds} {names} twice, for different things"
        return Fault((first.owner,), PluginError(Problem(what, where, "rename one of them")))
    what = f"the {kinds} {names} has two owners: {apps[first.owner]} and {apps[second.owner]}"
    guilty = tuple(c.owner for c in (first, second) if apps[c.owner].plugin.distribution != OWN_DISTRIBUTION)
    return Fault(guilty or (second.owner,), OwnershipError(Problem(what, where, RENAME)))


def _iter_claims(owners: Mapping[sa.Table, str]) -> Iterator[Claim]:
    for table, owner in owners.items():
        definition = find_definition(table)
        place, schema = (definition.place if definition else "?"), table.schema or ""

        yield Claim("relation", "table", schema, table.name, owner, place, table)
        for index in table.indexes:
            if isinstance(index.name, str):
                yield Claim("relation", "index", schema, index.name, owner, place, index)
        yield from _iter_constraints(table, owner, place, schema)
        yield from _iter_sequences(table, owner, place, schema)
        yield from _iter_types(table, owner, place, schema)


def _iter_constraints(table: sa.Table, owner: str, place: str, schema: str) -> Iterator[Claim]:
    for constraint in table.constraints:
        if isinstance(constraint.name, str) and constraint.name:
            if isinstance(constraint, (sa.UniqueConstraint, sa.PrimaryKeyConstraint)):
                yield Claim("relation", "constraint", schema, constraint.name, owner, place, constraint)
            else:
                # PostgreSQL keeps these by table, MySQL by schema: one sub-app may know what it does
                yield Claim("constraint", "constraint", schema, constraint.name, owner, place, owner)


def _iter_sequences(table: sa.Table, owner: str, place: str, schema: str) -> Iterator[Claim]:
    for column in table.columns:
        if isinstance(column.default, sa.Sequence):
            sequence = column.default
            yield Claim("relation", "sequence", sequence.schema or schema, sequence.name, owner, place, ("seq", owner))


def _iter_types(table: sa.Table, owner: str, place: str, schema: str) -> Iterator[Claim]:
    for column in table.columns:
        kind = column.type
        if isinstance(kind, sa.ARRAY):
            kind = kind.item_type
        if isinstance(kind, sa.Enum) and kind.name and kind.native_enum:
            identity: object = kind.enum_class or (owner, tuple(kind.enums))
            yield Claim("type", "enum type", kind.schema or schema, kind.name, owner, place, identity)
