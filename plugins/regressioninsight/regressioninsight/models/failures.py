"""Failures that look alike, and who looks into them."""

import datetime as dt
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.database import Base
from opal_registry.mixins import Timestamps, UtcDateTime
from opal_registry.models import User
from regressioninsight.models._enums import enum_type


class TriageState(StrEnum):
    NEW = "new"
    INVESTIGATING = "investigating"
    KNOWN = "known"
    FIXED = "fixed"


class FailureGroup(Timestamps, Base):
    """Results with the same fingerprint: one thing to look into, however often it fails."""

    __tablename__ = "regress_failure_groups"

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    fingerprint: sa_orm.Mapped[str] = sa_orm.mapped_column(
        sa.String(64), unique=True, comment="SHA-256 of the traceback without numbers, in hex"
    )
    title: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(300))
    state: sa_orm.Mapped[TriageState] = sa_orm.mapped_column(
        enum_type(TriageState, "triage_state"),
        default=TriageState.NEW,
        server_default=TriageState.NEW.value,
        index=True,
    )
    issue_url: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(500))
    assigned_to_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    fixed_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)

    assigned_to: sa_orm.Mapped[User | None] = sa_orm.relationship()
