"""What happened: runs of a suite, and the result of each case."""

import datetime as dt
from enum import StrEnum

import sqlalchemy as sa
from buildpilot.models import Build
from sqlalchemy import orm as sa_orm

from opal_registry.database import Base
from opal_registry.mixins import UtcDateTime, utc_now
from opal_registry.models import User
from regressioninsight.models._enums import enum_type
from regressioninsight.models.failures import FailureGroup
from regressioninsight.models.suites import RegressionCase, RegressionSuite


class RunStatus(StrEnum):
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    ABORTED = "aborted"


class Outcome(StrEnum):
    """How one case ended. ``error``: it could not be tested; ``flaky``: it failed first and passed when repeated."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"
    FLAKY = "flaky"


class RegressionRun(Base):
    """One run of a suite, often of a BuildPilot build, which it outlives: BuildPilot prunes its builds."""

    __tablename__ = "regress_runs"
    __table_args__ = (
        sa.CheckConstraint("finished_at >= started_at", name="finishes_after_start"),
        sa.Index(None, "suite_id", "started_at"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    suite_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("regress_suites.id", ondelete="RESTRICT"))
    build_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("build_builds.id", ondelete="SET NULL"), index=True
    )
    commit_sha: sa_orm.Mapped[str | None] = sa_orm.mapped_column(
        sa.String(64), index=True, comment="kept here, since the build may be pruned"
    )
    environment: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(60), comment="such as staging, or py313-linux")
    status: sa_orm.Mapped[RunStatus] = sa_orm.mapped_column(
        enum_type(RunStatus, "run_status"), default=RunStatus.RUNNING, server_default=RunStatus.RUNNING.value
    )
    started_by_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    started_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(
        UtcDateTime, default=utc_now, server_default=sa.func.now()
    )
    finished_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)

    suite: sa_orm.Mapped[RegressionSuite] = sa_orm.relationship()
    build: sa_orm.Mapped[Build | None] = sa_orm.relationship()
    started_by: sa_orm.Mapped[User | None] = sa_orm.relationship()
    results: sa_orm.Mapped[list["RegressionResult"]] = sa_orm.relationship(
        back_populates="run", cascade="all, delete-orphan", passive_deletes=True
    )


class RegressionResult(Base):
    """How one case ended in one run; each repetition within the run is a row."""

    __tablename__ = "regress_results"
    __table_args__ = (
        sa.UniqueConstraint("run_id", "case_id", "attempt"),
        sa.CheckConstraint("attempt >= 1", name="attempt"),
        sa.CheckConstraint("duration_ms >= 0", name="duration"),
        sa.Index(None, "case_id", "outcome"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    run_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("regress_runs.id", ondelete="CASCADE"))
    case_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("regress_cases.id", ondelete="RESTRICT"))
    attempt: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.SmallInteger, default=1, server_default="1")
    outcome: sa_orm.Mapped[Outcome] = sa_orm.mapped_column(enum_type(Outcome, "outcome"))
    duration_ms: sa_orm.Mapped[int]
    message: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.Text)
    failure_group_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("regress_failure_groups.id", ondelete="SET NULL"), index=True
    )

    run: sa_orm.Mapped[RegressionRun] = sa_orm.relationship(back_populates="results")
    case: sa_orm.Mapped[RegressionCase] = sa_orm.relationship()
    failure_group: sa_orm.Mapped[FailureGroup | None] = sa_orm.relationship()
