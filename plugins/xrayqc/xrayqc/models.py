"""The tables of XrayQC: boards are inspected at stations; findings are marked on images and reviewed by people."""

import datetime as dt
import uuid
from decimal import Decimal
from enum import StrEnum

import sqlalchemy as sa
from regressioninsight.models import RegressionRun
from sqlalchemy import orm as sa_orm

from opal_registry.database import Base
from opal_registry.mixins import Timestamps, UtcDateTime, UUIDKey, utc_now
from opal_registry.models import User


class Verdict(StrEnum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    REWORK = "rework"
    REJECTED = "rejected"


class ReviewDecision(StrEnum):
    CONFIRMED = "confirmed"
    DISMISSED = "dismissed"
    UNDECIDED = "undecided"


def _values(members: type[StrEnum]) -> list[str]:
    """What an enum column stores: the values, not the Python names."""
    return [member.value for member in members]


class XrayStation(Timestamps, Base):
    """An X-ray machine. One that has inspected is taken out of service, not deleted."""

    __tablename__ = "xray_stations"
    __table_args__ = (sa.CheckConstraint("max_voltage_kv > 0", name="max_voltage"),)

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80), unique=True)
    machine_model: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(120))
    location: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(120))
    max_voltage_kv: sa_orm.Mapped[Decimal] = sa_orm.mapped_column(sa.Numeric(5, 1))
    is_in_service: sa_orm.Mapped[bool] = sa_orm.mapped_column(default=True, server_default=sa.true())

    calibrations: sa_orm.Mapped[list["XrayCalibration"]] = sa_orm.relationship(
        back_populates="station", cascade="all, delete-orphan", passive_deletes=True
    )


class XrayCalibration(Base):
    """That a station was calibrated, and until when that holds."""

    __tablename__ = "xray_calibrations"
    __table_args__ = (
        sa.CheckConstraint("valid_until > performed_at", name="valid_after_performed"),
        sa.Index(None, "station_id", "valid_until"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    station_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("xray_stations.id", ondelete="CASCADE"))
    performed_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime)
    valid_until: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime)
    is_passed: sa_orm.Mapped[bool]
    performed_by_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )

    station: sa_orm.Mapped[XrayStation] = sa_orm.relationship(back_populates="calibrations")
    performed_by: sa_orm.Mapped[User | None] = sa_orm.relationship()


class XrayBoard(Timestamps, Base):
    """One circuit board, known by its serial number."""

    __tablename__ = "xray_boards"
    __table_args__ = (sa.Index(None, "part_number", "lot"),)

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    serial_number: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80), unique=True)
    part_number: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80))
    lot: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(40))


class XrayInspection(Base):
    """One look at one board. Boards and stations with inspections stay: they are quality records."""

    __tablename__ = "xray_inspections"
    __table_args__ = (sa.Index(None, "board_id", "inspected_at"),)

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    board_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("xray_boards.id", ondelete="RESTRICT"))
    station_id: sa_orm.Mapped[int] = sa_orm.mapped_column(
        sa.ForeignKey("xray_stations.id", ondelete="RESTRICT"), index=True
    )
    operator_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    inspected_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, default=utc_now)
    verdict: sa_orm.Mapped[Verdict] = sa_orm.mapped_column(
        sa.Enum(Verdict, name="xrayqc_verdict", values_callable=_values, create_constraint=True),
        default=Verdict.PENDING,
        server_default=Verdict.PENDING.value,
        index=True,
    )

    board: sa_orm.Mapped[XrayBoard] = sa_orm.relationship()
    station: sa_orm.Mapped[XrayStation] = sa_orm.relationship()
    operator: sa_orm.Mapped[User | None] = sa_orm.relationship()
    images: sa_orm.Mapped[list["XrayImage"]] = sa_orm.relationship(
        back_populates="inspection",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by=lambda: XrayImage.position,
    )
    findings: sa_orm.Mapped[list["XrayFinding"]] = sa_orm.relationship(
        back_populates="inspection", cascade="all, delete-orphan", passive_deletes=True
    )


class XrayImage(UUIDKey, Base):
    """One exposure. The row says where it is; the pixels are in object storage."""

    __tablename__ = "xray_images"
    __table_args__ = (
        sa.UniqueConstraint("inspection_id", "position"),
        sa.UniqueConstraint("inspection_id", "id"),  # what a finding refers to
        sa.CheckConstraint("width_px > 0 AND height_px > 0", name="size"),
        sa.CheckConstraint("length(sha256) = 64", name="sha256"),
    )

    inspection_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("xray_inspections.id", ondelete="CASCADE"))
    position: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.SmallInteger)
    storage_uri: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(500))
    sha256: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(64), comment="of the content, in hex")
    width_px: sa_orm.Mapped[int]
    height_px: sa_orm.Mapped[int]
    voltage_kv: sa_orm.Mapped[Decimal] = sa_orm.mapped_column(sa.Numeric(5, 1))
    current_ua: sa_orm.Mapped[int | None] = sa_orm.mapped_column(comment="tube current in microampere")

    inspection: sa_orm.Mapped[XrayInspection] = sa_orm.relationship(back_populates="images")


class XrayDefectKind(Base):
    """A kind of defect, and how much of it is tolerable."""

    __tablename__ = "xray_defect_kinds"
    __table_args__ = (sa.CheckConstraint("limit_percent BETWEEN 0 AND 100", name="limit"),)

    code: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(30), primary_key=True)
    title: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(120))
    limit_percent: sa_orm.Mapped[Decimal | None] = sa_orm.mapped_column(
        sa.Numeric(5, 2), comment="share of the joint's area that is tolerable; empty: none is"
    )


class XrayFinding(Timestamps, Base):
    """A suspected defect, marked on an image of the same inspection or on none.

    It may be attached to the RegressionInsight run whose failure it explains, and outlives that run.
    """

    __tablename__ = "xray_findings"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["inspection_id", "image_id"], ["xray_images.inspection_id", "xray_images.id"], ondelete="CASCADE"
        ),
        sa.CheckConstraint("measured_percent BETWEEN 0 AND 100", name="measured"),
        sa.CheckConstraint("width_px > 0 AND height_px > 0", name="size"),
        sa.Index(None, "inspection_id", "image_id"),
        sa.Index(None, "defect_code", "component"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    inspection_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("xray_inspections.id", ondelete="CASCADE"))
    image_id: sa_orm.Mapped[uuid.UUID | None] = sa_orm.mapped_column()
    defect_code: sa_orm.Mapped[str] = sa_orm.mapped_column(
        sa.ForeignKey("xray_defect_kinds.code", ondelete="RESTRICT", onupdate="CASCADE")
    )
    run_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("regress_runs.id", ondelete="SET NULL"), index=True
    )
    component: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(20), comment="reference designator, as U7")
    measured_percent: sa_orm.Mapped[Decimal | None] = sa_orm.mapped_column(sa.Numeric(5, 2))
    x_px: sa_orm.Mapped[int | None]
    y_px: sa_orm.Mapped[int | None]
    width_px: sa_orm.Mapped[int | None]
    height_px: sa_orm.Mapped[int | None]
    reported_by_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True, comment="empty: found by the machine"
    )

    inspection: sa_orm.Mapped[XrayInspection] = sa_orm.relationship(back_populates="findings")
    image: sa_orm.Mapped[XrayImage | None] = sa_orm.relationship(foreign_keys=[image_id])
    defect: sa_orm.Mapped[XrayDefectKind] = sa_orm.relationship()
    run: sa_orm.Mapped[RegressionRun | None] = sa_orm.relationship()
    reported_by: sa_orm.Mapped[User | None] = sa_orm.relationship()
    reviews: sa_orm.Mapped[list["XrayReview"]] = sa_orm.relationship(
        back_populates="finding", cascade="all, delete-orphan", passive_deletes=True
    )


class XrayReview(Base):
    """What one person says about a finding; each says it once."""

    __tablename__ = "xray_reviews"
    __table_args__ = (sa.UniqueConstraint("finding_id", "reviewer_id"),)

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    finding_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("xray_findings.id", ondelete="CASCADE"))
    reviewer_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    decision: sa_orm.Mapped[ReviewDecision] = sa_orm.mapped_column(
        sa.Enum(ReviewDecision, name="xrayqc_review_decision", values_callable=_values, create_constraint=True)
    )
    comment: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.Text)
    reviewed_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, default=utc_now)

    finding: sa_orm.Mapped[XrayFinding] = sa_orm.relationship(back_populates="reviews")
    reviewer: sa_orm.Mapped[User | None] = sa_orm.relationship()
