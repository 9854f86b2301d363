"""What is watched: services, their checks, and the measurements of a check."""

import datetime as dt
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from monitoriq.models._enums import enum_type
from opal_registry.database import Base
from opal_registry.mixins import Timestamps, UtcDateTime, utc_now
from opal_registry.models import User


class CheckKind(StrEnum):
    HTTP = "http"
    TCP = "tcp"
    HEARTBEAT = "heartbeat"
    SQL = "sql"


class MonitoredService(Timestamps, Base):
    """Something that people rely on. Deleting it deletes what was measured and said about it."""

    __tablename__ = "monitor_services"
    __table_args__ = (sa.CheckConstraint("tier BETWEEN 1 AND 4", name="tier"),)

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    slug: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80), unique=True)
    name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(120))
    tier: sa_orm.Mapped[int] = sa_orm.mapped_column(
        sa.SmallInteger, default=3, server_default="3", comment="1 (the business stops) to 4 (nobody notices)"
    )
    runbook_url: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(500))
    owner_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )

    owner: sa_orm.Mapped[User | None] = sa_orm.relationship()
    checks: sa_orm.Mapped[list["MonitorCheck"]] = sa_orm.relationship(
        back_populates="service", cascade="all, delete-orphan", passive_deletes=True
    )


class MonitorCheck(Timestamps, Base):
    """A question put to a service again and again."""

    __tablename__ = "monitor_checks"
    __table_args__ = (
        sa.UniqueConstraint("service_id", "name"),
        sa.CheckConstraint("interval_seconds BETWEEN 5 AND 86400", name="interval"),
        sa.CheckConstraint("timeout_seconds > 0 AND timeout_seconds <= interval_seconds", name="timeout"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    service_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("monitor_services.id", ondelete="CASCADE"))
    name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80))
    kind: sa_orm.Mapped[CheckKind] = sa_orm.mapped_column(enum_type(CheckKind, "check_kind"))
    target: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(500), comment="URL, host:port, or a name for the probe")
    interval_seconds: sa_orm.Mapped[int] = sa_orm.mapped_column(default=60, server_default="60")
    timeout_seconds: sa_orm.Mapped[int] = sa_orm.mapped_column(default=5, server_default="5")
    is_paused: sa_orm.Mapped[bool] = sa_orm.mapped_column(default=False, server_default=sa.false())

    service: sa_orm.Mapped[MonitoredService] = sa_orm.relationship(back_populates="checks")


class MonitorMeasurement(Base):
    """One answer to a check. Millions of them: no relationship loads them by accident."""

    __tablename__ = "monitor_measurements"
    __table_args__ = (
        sa.CheckConstraint("latency_ms >= 0", name="latency"),
        sa.Index(None, "check_id", "measured_at"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),  # SQLite counts up INTEGER keys only
        primary_key=True,
    )
    check_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("monitor_checks.id", ondelete="CASCADE"))
    measured_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, default=utc_now)
    is_up: sa_orm.Mapped[bool]
    latency_ms: sa_orm.Mapped[int | None] = sa_orm.mapped_column(comment="empty: no answer within the timeout")
    detail: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(300))
