"""What was said: alerts, notes about them, and silences."""

import datetime as dt
from enum import StrEnum

import sqlalchemy as sa
from buildpilot.models import Build
from sqlalchemy import orm as sa_orm

from monitoriq.models._enums import enum_type
from monitoriq.models.checks import MonitoredService
from monitoriq.models.rules import MonitorRule
from monitoriq.models.severities import MonitorSeverity
from opal_registry.database import Base
from opal_registry.mixins import ServerNow, UtcDateTime, UUIDKey, utc_now
from opal_registry.models import User


class AlertState(StrEnum):
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class MonitorAlert(UUIDKey, Base):
    """Something is wrong with a service: a rule says so, or a BuildPilot build that broke it."""

    __tablename__ = "monitor_alerts"
    __table_args__ = (
        sa.CheckConstraint("resolved_at >= fired_at", name="resolved_after_fired"),
        sa.CheckConstraint("state <> 'resolved' OR resolved_at IS NOT NULL", name="resolved_has_a_time"),
        sa.Index(None, "state", "fired_at"),
        sa.Index(None, "service_id", "fired_at"),
    )

    service_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("monitor_services.id", ondelete="CASCADE"))
    rule_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("monitor_rules.id", ondelete="SET NULL"), index=True
    )
    build_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("build_builds.id", ondelete="SET NULL"), index=True, comment="the build that the alert is about"
    )
    severity_code: sa_orm.Mapped[str] = sa_orm.mapped_column(
        sa.ForeignKey("monitor_severities.code", ondelete="RESTRICT", onupdate="CASCADE"), index=True
    )
    state: sa_orm.Mapped[AlertState] = sa_orm.mapped_column(
        enum_type(AlertState, "alert_state"), default=AlertState.FIRING, server_default=AlertState.FIRING.value
    )
    summary: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(300))
    fired_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(
        UtcDateTime, default=utc_now, server_default=ServerNow()
    )
    acknowledged_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)
    acknowledged_by_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    resolved_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)

    service: sa_orm.Mapped[MonitoredService] = sa_orm.relationship()
    rule: sa_orm.Mapped[MonitorRule | None] = sa_orm.relationship()
    build: sa_orm.Mapped[Build | None] = sa_orm.relationship()
    severity: sa_orm.Mapped[MonitorSeverity] = sa_orm.relationship()
    acknowledged_by: sa_orm.Mapped[User | None] = sa_orm.relationship()
    notes: sa_orm.Mapped[list["MonitorAlertNote"]] = sa_orm.relationship(
        back_populates="alert", cascade="all, delete-orphan", passive_deletes=True
    )

    def acknowledge(self, by: User) -> None:
        """Say that somebody is on it."""
        self.state = AlertState.ACKNOWLEDGED
        self.acknowledged_at = utc_now()
        self.acknowledged_by = by

    def resolve(self) -> None:
        """Say that it is over."""
        self.state = AlertState.RESOLVED
        self.resolved_at = utc_now()


class MonitorAlertNote(Base):
    """What somebody found out about an alert; it stays when its author leaves."""

    __tablename__ = "monitor_alert_notes"

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    alert_id: sa_orm.Mapped[int] = sa_orm.mapped_column(
        sa.ForeignKey("monitor_alerts.id", ondelete="CASCADE"), index=True
    )
    author_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    body: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.Text)
    created_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, default=utc_now)

    alert: sa_orm.Mapped[MonitorAlert] = sa_orm.relationship(back_populates="notes")
    author: sa_orm.Mapped[User | None] = sa_orm.relationship()


class MonitorSilence(Base):
    """A time in which a service raises no alerts, such as planned maintenance."""

    __tablename__ = "monitor_silences"
    __table_args__ = (
        sa.CheckConstraint("ends_at > starts_at", name="ends_after_start"),
        sa.Index(None, "service_id", "starts_at", "ends_at"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    service_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("monitor_services.id", ondelete="CASCADE"))
    starts_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime)
    ends_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime)
    reason: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(300))
    created_by_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )

    service: sa_orm.Mapped[MonitoredService] = sa_orm.relationship()
    created_by: sa_orm.Mapped[User | None] = sa_orm.relationship()
