"""When a measurement is worth an alert."""

from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from monitoriq.models._enums import enum_type
from monitoriq.models.checks import MonitorCheck
from monitoriq.models.severities import MonitorSeverity
from opal_registry.database import Base
from opal_registry.mixins import Timestamps
from opal_registry.models import User


class RuleSignal(StrEnum):
    DOWN = "down"
    SLOW = "slow"
    SILENT = "silent"


class MonitorRule(Timestamps, Base):
    """An alert is raised when the signal has lasted for so long."""

    __tablename__ = "monitor_rules"
    __table_args__ = (
        sa.UniqueConstraint("check_id", "name"),
        sa.CheckConstraint("for_seconds >= 0", name="duration"),
        sa.CheckConstraint("signal_kind <> 'slow' OR threshold_ms IS NOT NULL", name="slow_has_a_threshold"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    check_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("monitor_checks.id", ondelete="CASCADE"))
    name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80))
    signal_kind: sa_orm.Mapped[RuleSignal] = sa_orm.mapped_column(enum_type(RuleSignal, "rule_signal"))
    threshold_ms: sa_orm.Mapped[int | None] = sa_orm.mapped_column(comment="for slow: answers that take longer")
    for_seconds: sa_orm.Mapped[int] = sa_orm.mapped_column(default=0, server_default="0")
    severity_code: sa_orm.Mapped[str] = sa_orm.mapped_column(
        sa.ForeignKey("monitor_severities.code", ondelete="RESTRICT", onupdate="CASCADE"), index=True
    )
    is_enabled: sa_orm.Mapped[bool] = sa_orm.mapped_column(default=True, server_default=sa.true())
    created_by_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )

    check: sa_orm.Mapped[MonitorCheck] = sa_orm.relationship()
    severity: sa_orm.Mapped[MonitorSeverity] = sa_orm.relationship()
    created_by: sa_orm.Mapped[User | None] = sa_orm.relationship()
