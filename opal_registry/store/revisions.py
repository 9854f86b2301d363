"""Which revisions a database is at: Alembic's version table of each sub-app, and what is recorded about each revision."""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from opal_registry.mixins import utc_now
from opal_registry.store.ledger import signature
from opal_registry.store.tables import Columns, revisions, select_known

VERSION_TABLE = "opal_revision_"
"""How the name of each sub-app's version table begins."""

LONGEST_ID = 32
"""So many characters of an identifier Alembic's version table holds."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A revision that is applied.

    Args:
        sub_app: Whose it is.
        revision: Its identifier.
        checksum: A digest of its file, as it was then.
        pins: The revisions of other sub-apps that it needs, by sub-app.
        phase: Whether earlier code can work with what it left behind.
        version: Of the distribution that brought it.
        seconds: How long it took; None where its tables came from the models, or it was stamped.
        applied_at: When.
    """

    sub_app: str
    revision: str
    checksum: str | None
    pins: Mapping[str, tuple[str, ...]]
    phase: str | None
    version: str
    seconds: float | None = None
    applied_at: dt.datetime | None = None

    def __str__(self) -> str:
        return f"{self.sub_app}@{self.revision}"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one sub-app's history has come in one database.

    Args:
        heads: What its version table says; sorted.
        applied: What is recorded about the revisions that are applied, by identifier.
    """

    heads: tuple[str, ...] = ()
    applied: Mapping[str, Applied] = field(default_factory=dict)


NOWHERE = Standing()

RECORD = sa.insert(revisions)
"""Records revisions, of which :func:`make_row` makes rows."""


def read_standings(connection: sa.Connection, tables: Collection[str], there: Columns) -> dict[str, Standing]:
    """How far each sub-app has come, also those that are not installed here; nothing for those without a history.

    Args:
        connection: The database.
        tables: The names of the tables that it holds.
        there: The columns of the registry's own tables.
    """
    names = sorted(name.removeprefix(VERSION_TABLE) for name in tables if name.startswith(VERSION_TABLE))
    heads = _read_heads(connection, names)
    applied = _read_applied(connection, there)
    return {name: Standing(heads.get(name, ()), applied.get(name, {})) for name in sorted({*names, *applied})}


def make_version_table(app: str, metadata: sa.MetaData | None = None) -> sa.Table:
    """The version table of a sub-app, as Alembic makes it."""
    column = sa.Column("version_num", sa.String(LONGEST_ID), nullable=False)
    name = VERSION_TABLE + app
    return sa.Table(name, metadata or sa.MetaData(), column, sa.PrimaryKeyConstraint(column, name=f"{name}_pkc"))


def make_head(app: str, revision: str) -> sa.Insert:
    """The statement that writes a head into a version table."""
    return sa.insert(make_version_table(app)).values(version_num=revision)


def make_row(applied: Applied) -> dict[str, object]:
    """What :data:`RECORD` needs to record a revision as applied now."""
    names = ("sub_app", "revision", "checksum", "phase", "version", "seconds")
    pins = {app: list(ids) for app, ids in applied.pins.items()}
    known = {name: getattr(applied, name) for name in names}
    return known | {"pins": pins, "written_by": signature(), "applied_at": utc_now()}


def make_record(applied: Applied) -> sa.Insert:
    """The same as a statement by itself."""
    return RECORD.values(make_row(applied))


def make_removal(app: str, ids: Iterable[str] | None = None) -> sa.Delete:
    """The statement that records revisions as not applied any more; all of a sub-app unless some are given."""
    gone = sa.delete(revisions).where(revisions.c.sub_app == app)
    return gone if ids is None else gone.where(revisions.c.revision.in_(list(ids)))


def _read_heads(connection: sa.Connection, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    number = sa.column("version_num", sa.String)
    queries = [
        sa.select(sa.literal(name).label("app"), number).select_from(sa.table(VERSION_TABLE + name)) for name in names
    ]
    if not queries:
        return {}
    found: dict[str, list[str]] = {}
    for app, head in connection.execute(sa.union_all(*queries)):
        found.setdefault(app, []).append(head)
    return {app: tuple(sorted(heads)) for app, heads in found.items()}


def _read_applied(connection: sa.Connection, there: Columns) -> dict[str, dict[str, Applied]]:
    if revisions.name not in there:
        return {}
    found: dict[str, dict[str, Applied]] = {}
    query = select_known(revisions, there).order_by(revisions.c.sub_app, revisions.c.applied_at, revisions.c.revision)
    for row in connection.execute(query).mappings():
        applied = _applied(row)
        found.setdefault(applied.sub_app, {})[applied.revision] = applied
    return found


def _applied(row: Mapping[Any, Any]) -> Applied:
    pins = {str(app): tuple(map(str, ids)) for app, ids in (row["pins"] or {}).items()}
    names = ("sub_app", "revision", "checksum", "phase", "version", "seconds", "applied_at")
    return Applied(pins=pins, **{name: row[name] for name in names})
