"""Columns that many models share. Importing this module registers no table."""

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm
from sqlalchemy.ext.compiler import compiles

MYSQL = ("mysql", "mariadb")


class UtcDateTime(sa.TypeDecorator[dt.datetime]):
    """A moment in time to the microsecond: aware of its zone on the way in, UTC on the way out, on every database.

    SQLite and MySQL keep no zone; what they return is given the one it was stored in. On MySQL it is ``DATETIME(6)``: a mere
    ``DATETIME`` would round to whole seconds.

    Raises:
        ValueError: When a value without a zone is bound: nobody can say which moment it means.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The database's type."""
        if dialect.name not in MYSQL:
            return super().load_dialect_impl(dialect)
        from sqlalchemy.dialects.mysql import DATETIME

        return dialect.type_descriptor(DATETIME(fsp=6))

    def process_bind_param(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        """Convert to UTC, and drop the zone where the database cannot keep one."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone: use datetime.now(timezone.utc) or give it a tzinfo")
        utc = value.astimezone(dt.UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:  # noqa: ARG002 -- SQLAlchemy's signature
        """Return it in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


def utc_now() -> dt.datetime:
    """The current moment, aware of its zone (UTC)."""
    return dt.datetime.now(dt.UTC)


class ServerNow(sa.sql.functions.FunctionElement[dt.datetime]):
    """The current moment by the database's clock, as finely as a column of :class:`UtcDateTime` keeps it.

    Example:
        >>> from sqlalchemy.dialects import mysql, postgresql
        >>> str(ServerNow().compile(dialect=mysql.dialect())), str(ServerNow().compile(dialect=postgresql.dialect()))
        ('CURRENT_TIMESTAMP(6)', 'now()')
    """

    inherit_cache = True


@compiles(ServerNow)
def _write_now(_element: ServerNow, compiler: Any, **options: Any) -> str:
    text: str = compiler.process(sa.func.now(), **options)
    return text


@compiles(ServerNow, *MYSQL)
def _write_now_for_mysql(*_: object, **_options: object) -> str:
    return "CURRENT_TIMESTAMP(6)"


class UUIDKey:
    """A primary key ``id`` that is known before the row is stored, and unique across databases.

    Example:
        >>> from opal_registry.base import make_base
        >>> class Report(UUIDKey, make_base()):
        ...     __tablename__ = "reports"
        >>> Report.__table__.primary_key.columns.keys()
        ['id']
    """

    id: sa_orm.Mapped[uuid.UUID] = sa_orm.mapped_column(sa.Uuid, primary_key=True, default=uuid.uuid4, sort_order=-10)


class Timestamps:
    """``created_at`` and ``updated_at``, in UTC, kept by the application and defaulted by the database."""

    created_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(
        UtcDateTime, default=utc_now, server_default=ServerNow(), sort_order=90
    )
    updated_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(
        UtcDateTime, default=utc_now, onupdate=utc_now, server_default=ServerNow(), sort_order=91
    )
