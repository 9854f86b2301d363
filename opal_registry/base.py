"""``Base``: what every model of the suite inherits from. Needs no database and no configuration."""

from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

import opal_registry.ownership.definitions  # noqa: F401 -- notes where each table is defined, from the first one on


def _name_or_digest(constraint: sa.Constraint, _table: sa.Table) -> str:
    """The name that a CHECK was given; for one without a name, a digest of its text, the same on every run."""
    if isinstance(constraint.name, str) and constraint.name:
        return constraint.name
    text = str(getattr(constraint, "sqltext", "")) or ",".join(
        sorted(c.name for c in getattr(constraint, "columns", ()))
    )
    return sha256(text.encode()).hexdigest()[:8]


NAMING_CONVENTION: dict[str, Any] = {
    "constraint_name_or_digest": _name_or_digest,
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name_or_digest)s",
}
"""A predictable name for each kind of constraint, so that a migration can drop what the models created.

The shape is the one that Alembic's documentation recommends ("The Importance of Naming Constraints"); a CHECK without a
name, for which that convention raises, gets a digest of its text.
"""


def make_base(*, schema: str | None = None) -> type[sa_orm.DeclarativeBase]:
    """Make a declarative base with a registry, a ``MetaData`` and the naming convention of its own.

    Tests use it to define models that nobody else sees.

    Args:
        schema: The default database schema of its tables.

    Example:
        >>> Mine = make_base()
        >>> class Thing(Mine):
        ...     __tablename__ = "things"
        ...     id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
        >>> sorted(Mine.metadata.tables), "things" in Base.metadata.tables
        (['things'], False)
    """
    metadata = sa.MetaData(naming_convention=NAMING_CONVENTION, schema=schema)
    return type("Base", (sa_orm.DeclarativeBase,), {"__module__": __name__, "metadata": metadata})


class Base(sa_orm.DeclarativeBase):
    """The shared declarative base of the suite."""

    metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)


__all__ = ["NAMING_CONVENTION", "Base", "make_base"]
