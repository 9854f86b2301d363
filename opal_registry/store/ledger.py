"""The ledger: what the database knows about its sub-apps, also about those that this image lacks."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import sqlalchemy as sa
from packaging.version import InvalidVersion, Version

from opal_registry.errors import DatabaseError, Problem
from opal_registry.mixins import UtcDateTime, utc_now

READS = 1
"""The highest ``min_reader`` that this release understands."""

WRITES = 1
"""The ``min_reader`` that rows of this release ask for."""

metadata = sa.MetaData()

sub_apps = sa.Table(
    "opal_sub_apps",
    metadata,
    sa.Column("name", sa.String(30), primary_key=True),
    sa.Column("distribution", sa.String(200), nullable=False),
    sa.Column("version", sa.String(100), nullable=False),
    sa.Column("bind", sa.String(63), nullable=False),
    sa.Column("schema", sa.String(63)),
    sa.Column("fingerprint", sa.String(64)),
    sa.Column("heads", sa.JSON),
    sa.Column("tables", sa.JSON, nullable=False),
    sa.Column("pins", sa.JSON),
    sa.Column("foreign_columns", sa.JSON),
    sa.Column("seeded", sa.String(100)),
    sa.Column("min_reader", sa.Integer, nullable=False),
    sa.Column("written_by", sa.String(100), nullable=False),
    sa.Column("installed_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    mysql_charset="utf8mb4",
)
"""One row per sub-app."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger says about one sub-app.

    Args:
        name: The sub-app.
        distribution: The distribution that brought it; empty if none was known.
        version: The version of that distribution when the row was written.
        bind: The bind key it was written for.
        schema: The schema that it declares.
        fingerprint: A digest of the definitions of its tables.
        tables: The full names of its tables, sorted.
        foreign_columns: The columns of other sub-apps that its foreign keys refer to, as ``table.column``, sorted.
        seeded: The version whose first rows were put in.
    """

    name: str
    distribution: str
    version: str
    bind: str
    schema: str | None
    fingerprint: str | None
    tables: tuple[str, ...]
    foreign_columns: tuple[str, ...]
    seeded: str | None
    installed_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None

    def says_the_same(self, other: "Entry") -> bool:
        """Whether two entries differ in nothing but their times."""
        return self._facts() == other._facts()

    def is_newer_than(self, distribution: str, version: str) -> bool:
        """Whether this was written by a later release of the same distribution."""
        try:
            return self.distribution == distribution and Version(self.version) > Version(version)
        except InvalidVersion:
            return False

    def _facts(self) -> tuple[object, ...]:
        left = (self.name, self.distribution, self.version, self.bind, self.schema, self.fingerprint)
        return (*left, self.tables, self.foreign_columns, self.seeded)


def make_fingerprint(statements: list[str]) -> str:
    """A digest of the statements that create a sub-app's tables; their order does not count, indexes have none."""
    return sha256("\n".join(sorted(statements)).encode()).hexdigest()


def read_ledger(connection: sa.Connection) -> dict[str, Entry]:
    """The entries by name; the ledger's table must be there.

    Raises:
        DatabaseError: If the ledger asks for a newer release of this package.
    """
    rows = connection.execute(sa.select(sub_apps).order_by(sub_apps.c.name)).mappings().all()
    for row in rows:
        if row["min_reader"] > READS:
            what = f"the ledger was written by {row['written_by']}, which this release does not understand"
            raise DatabaseError(
                Problem(what, f"opal_sub_apps, row {row['name']!r}", "install that release, or a later one")
            )
    return {row["name"]: _entry(row) for row in rows}


def needs_writing(entry: Entry, old: Entry | None) -> bool:
    """Whether an entry says anything new; what a later release wrote is left alone."""
    if old is None:
        return True
    return not old.says_the_same(entry) and not old.is_newer_than(entry.distribution, entry.version)


def write_entry(connection: sa.Connection, entry: Entry, old: Entry | None) -> None:
    """Record a sub-app, if :func:`needs_writing`."""
    if not needs_writing(entry, old):
        return
    values = {
        "distribution": entry.distribution,
        "version": entry.version,
        "bind": entry.bind,
        "schema": entry.schema,
        "fingerprint": entry.fingerprint,
        "tables": list(entry.tables),
        "foreign_columns": list(entry.foreign_columns),
        "seeded": entry.seeded,
        "min_reader": WRITES,
        "written_by": f"opal-registry {version('opal-registry')}",
        "updated_at": utc_now(),
    }
    if old is None:
        values |= {"name": entry.name, "installed_at": values["updated_at"]}
        connection.execute(sa.insert(sub_apps).values(values))
    else:
        connection.execute(sa.update(sub_apps).where(sub_apps.c.name == entry.name).values(values))


def _entry(row: Mapping[Any, Any]) -> Entry:
    return Entry(
        name=row["name"],
        distribution=row["distribution"],
        version=row["version"],
        bind=row["bind"],
        schema=row["schema"],
        fingerprint=row["fingerprint"],
        tables=tuple(row["tables"] or ()),
        foreign_columns=tuple(row["foreign_columns"] or ()),
        seeded=row["seeded"],
        installed_at=row["installed_at"],
        updated_at=row["updated_at"],
    )
