"""The ledger: what the database knows about its sub-apps, also about those that this image lacks."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import sqlalchemy as sa
from packaging.version import InvalidVersion, Version

from opal_registry.errors import DatabaseError, Problem
from opal_registry.mixins import utc_now
from opal_registry.store.tables import Columns, select_known, sub_apps
from opal_registry.warm import READS

WRITES = 1
"""The ``min_reader`` that rows of this release ask for."""

MOST_SOURCES = 16
"""So many images are remembered for one sub-app: those that were seen last."""

Place = list[int | str]
"""Of a sub-app in an image: which of how many it is, and its version."""

OWN_DISTRIBUTION = "opal-registry"


@dataclass(frozen=True, slots=True)
class Image:
    """An image for which a database is complete, as a later run without work recognises it.

    Args:
        fingerprint: Of everything that is installed and configured in it.
        versions: Its sub-apps, over all binds, in order, each with its version.
    """

    fingerprint: str
    versions: Mapping[str, str]

    def place_of(self, name: str) -> Place:
        """Which of how many sub-apps one is, counted from 0, and its version."""
        return [list(self.versions).index(name), len(self.versions), self.versions[name]]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger says about one sub-app.

    Args:
        name: The sub-app.
        distribution: The distribution that brought it, :func:`as_kept`; empty if none was known.
        version: The version of that distribution when the row was written, :func:`as_kept`.
        bind: The bind key it was written for.
        schema: The schema that it declares.
        fingerprint: A digest of the definitions of its tables, as the image words them that wrote the row.
        tables: The full names of its tables, sorted.
        foreign_columns: The columns of other sub-apps that its foreign keys refer to, as ``table.column``, sorted.
        seeded: The version whose first rows were put in.
        sources: The images it is known to be complete for, by fingerprint.
        written_by: The release of this package that wrote the row.
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
    sources: Mapping[str, Place] = field(default_factory=dict)
    written_by: str = ""
    installed_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None

    def says_the_same(self, other: "Entry") -> bool:
        """Whether two entries differ in nothing but their times, their writers, and what each image knows for itself.

        The fingerprint is such a thing: images with different releases of SQLAlchemy word the same definitions differently,
        and would take turns in writing the row. An image whose own models have changed looks for itself anyway.
        """
        return self._facts() == other._facts()

    def is_newer_than(self, distribution: str, version: str) -> bool:
        """Whether this was written by a later release of the same distribution, or for the same one by a later registry."""
        distribution, version = as_kept(distribution, "distribution"), as_kept(version, "version")
        theirs, ours = _find_version(self.version), _find_version(version)
        if self.distribution != distribution or theirs is None or ours is None:
            return False
        if theirs != ours:
            return theirs > ours
        writer, own = _find_version(self.written_by.rpartition(" ")[2]), _find_version(own_version())
        return writer is not None and own is not None and writer > own

    def known_to(self, image: Image) -> "Entry":
        """The same entry, complete for one more image."""
        others = {key: place for key, place in self.sources.items() if key != image.fingerprint}
        kept = dict(list(others.items())[1 - MOST_SOURCES :])
        return replace(self, sources=kept | {image.fingerprint: image.place_of(self.name)})

    def unknown_to(self, image: Image) -> "Entry":
        """The same entry, not complete for an image."""
        return replace(self, sources={key: place for key, place in self.sources.items() if key != image.fingerprint})

    def knows(self, image: Image) -> bool:
        """Whether it is known to be complete for an image."""
        return self.sources.get(image.fingerprint) == image.place_of(self.name)

    def _facts(self) -> tuple[object, ...]:
        left = (self.name, self.distribution, self.version, self.bind, self.schema)
        return (*left, self.tables, self.foreign_columns, self.seeded)


@cache
def own_version() -> str:
    """The version of this package."""
    return version(OWN_DISTRIBUTION)


def signature() -> str:
    """What this package signs its rows with."""
    return f"{OWN_DISTRIBUTION} {own_version()}"


def as_kept(text: str, column: str) -> str:
    """A text as a column of the ledger keeps it: one that is too long is cut, and told from others by a digest.

    Of a version with a long local part that is still a version, as late as it was.

    Example:
        >>> as_kept("1.4", "version"), as_kept("1.4+" + "a" * 200, "version")[78:]
        ('1.4', 'aaaaa.d9f2f5ad3a0f0167')
    """
    longest: int = sub_apps.c[column].type.length  # type: ignore[attr-defined]
    if len(text) <= longest:
        return text
    end = "." + sha256(text.encode()).hexdigest()[:16]
    return text[: longest - len(end)].rstrip("._-+") + end


def make_fingerprint(statements: list[str]) -> str:
    """A digest of the statements that create a sub-app's tables; their order does not count, indexes have none."""
    return sha256("\n".join(sorted(statements)).encode()).hexdigest()


def read_ledger(connection: sa.Connection, there: Columns) -> dict[str, Entry]:
    """The entries by name.

    Args:
        connection: The database.
        there: The columns of the registry's own tables; nothing is read where the ledger is not there.

    Raises:
        DatabaseError: If the ledger asks for a newer release of this package, or cannot be read.
    """
    if sub_apps.name not in there:
        return {}
    try:
        rows = connection.execute(select_known(sub_apps, there).order_by(sub_apps.c.name)).mappings().all()
        _check_rows(rows)
        return {row["name"]: _entry(row) for row in rows}
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        what = f"the ledger is damaged: {type(error).__name__}: {error}"
        mend = "restore opal_sub_apps, or drop it: opal-db init makes it anew from the tables that are there"
        raise DatabaseError(Problem(what, "opal_sub_apps", mend)) from error


def needs_writing(entry: Entry, old: Entry | None) -> bool:
    """Whether an entry says anything new; what a later release wrote is left alone."""
    if old is None:
        return True
    return not old.says_the_same(entry) and not old.is_newer_than(entry.distribution, entry.version)


def remembering(entry: Entry, old: Entry | None, image: Image | None) -> Entry:
    """The entry with the images that it is complete for: those that were, unless its tables have changed, and one more."""
    kept = old.sources if old and old.fingerprint == entry.fingerprint else {}
    entry = replace(entry, sources=kept)
    return entry.known_to(image) if image else entry


def make_write(entry: Entry, old: Entry | None) -> sa.Insert | sa.Update:
    """The statement that records a sub-app which :func:`needs_writing`."""
    now = utc_now()
    values = {
        "distribution": entry.distribution,
        "version": entry.version,
        "bind": entry.bind,
        "schema": entry.schema,
        "fingerprint": entry.fingerprint,
        "tables": list(entry.tables),
        "foreign_columns": list(entry.foreign_columns),
        "seeded": entry.seeded,
        "sources": dict(entry.sources),
        "min_reader": WRITES,
        "written_by": signature(),
        "updated_at": now,
    }
    if old is None:
        return sa.insert(sub_apps).values(values | {"name": entry.name, "installed_at": now})
    return sa.update(sub_apps).where(sub_apps.c.name == entry.name).values(values)


def make_note(entry: Entry) -> sa.Update:
    """The statement that records nothing but the images that an entry is complete for."""
    return sa.update(sub_apps).where(sub_apps.c.name == entry.name).values(sources=dict(entry.sources))


def make_forgetting(names: Sequence[str]) -> sa.Update:
    """The statement by which no image takes some sub-apps for complete any more."""
    return sa.update(sub_apps).where(sub_apps.c.name.in_(list(names))).values(sources={})


def _check_rows(rows: Any) -> None:
    for row in rows:
        if empty := [column.name for column in sub_apps.columns if not column.nullable and row[column.name] is None]:
            raise ValueError(f"row {row['name']!r} has no {', '.join(empty)}")
        if row["min_reader"] > READS:
            what = f"the ledger was written by {row['written_by']}, which this release does not understand"
            where, mend = f"opal_sub_apps, row {row['name']!r}", "install that release, or a later one"
            raise DatabaseError(Problem(what, where, mend))


def is_later(version: str, other: str) -> bool:
    """Whether one version is later than another; not if one of them is none.

    Example:
        >>> is_later("1.10", "1.9"), is_later("1.9", "1.10"), is_later("spring", "1.9")
        (True, False, False)
    """
    first, second = _find_version(version), _find_version(other)
    return first is not None and second is not None and first > second


def _find_version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _entry(row: Mapping[Any, Any]) -> Entry:
    return Entry(
        name=row["name"],
        distribution=row["distribution"],
        version=row["version"],
        bind=row["bind"],
        schema=row["schema"],
        fingerprint=row["fingerprint"],
        tables=_texts(row["tables"]),
        foreign_columns=_texts(row.get("foreign_columns")),
        seeded=row.get("seeded"),
        sources=dict(row.get("sources") or {}),
        written_by=row["written_by"],
        installed_at=row["installed_at"],
        updated_at=row["updated_at"],
    )


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, type(None))):
        raise TypeError(f"{value!r:.40} is no list")
    return tuple(map(str, value or ()))
