"""The tables of BuildPilot: projects with pipelines, the builds of a pipeline, and the agents that run them."""

import datetime as dt
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.database import Base
from opal_registry.mixins import Timestamps, UtcDateTime, UUIDKey, utc_now
from opal_registry.models import User


class BuildStatus(StrEnum):
    """Where a build, or one of its steps, has got to."""

    QUEUED = "queued"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class BuildTrigger(StrEnum):
    PUSH = "push"
    PULL_REQUEST = "pull_request"
    SCHEDULE = "schedule"
    MANUAL = "manual"
    RETRY = "retry"


def _values(members: type[StrEnum]) -> list[str]:
    """What an enum column stores: the values, not the Python names."""
    return [member.value for member in members]


status_type = sa.Enum(BuildStatus, name="buildpilot_build_status", values_callable=_values, create_constraint=True)
"""One type for two tables."""


class BuildProject(Timestamps, Base):
    """A repository that is built."""

    __tablename__ = "build_projects"

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    slug: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80), unique=True, comment="the name in web addresses")
    name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(120))
    repository_url: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(500))
    default_branch: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(200), default="main", server_default="main")
    is_archived: sa_orm.Mapped[bool] = sa_orm.mapped_column(default=False, server_default=sa.false())
    owner_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )

    owner: sa_orm.Mapped[User | None] = sa_orm.relationship()
    pipelines: sa_orm.Mapped[list["BuildPipeline"]] = sa_orm.relationship(
        back_populates="project", cascade="all, delete-orphan", passive_deletes=True
    )


class BuildPipeline(Timestamps, Base):
    """One way to build a project. It stays for as long as it has builds: history is pruned build by build."""

    __tablename__ = "build_pipelines"
    __table_args__ = (
        sa.UniqueConstraint("project_id", "name"),
        sa.CheckConstraint("timeout_minutes > 0", name="timeout"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    project_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("build_projects.id", ondelete="CASCADE"))
    name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80))
    config_path: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(300), comment="file in the repository")
    timeout_minutes: sa_orm.Mapped[int] = sa_orm.mapped_column(default=60, server_default="60")
    is_enabled: sa_orm.Mapped[bool] = sa_orm.mapped_column(default=True, server_default=sa.true())

    project: sa_orm.Mapped[BuildProject] = sa_orm.relationship(back_populates="pipelines")


class BuildLabel(Base):
    """Something an agent can do, such as ``linux``, ``gpu`` or ``signing``."""

    __tablename__ = "build_labels"

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(40), unique=True)


agent_labels = sa.Table(
    "build_agent_labels",
    Base.metadata,
    sa.Column("agent_id", sa.ForeignKey("build_agents.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("label_id", sa.ForeignKey("build_labels.id", ondelete="CASCADE"), primary_key=True, index=True),
)


class BuildAgent(Timestamps, Base):
    """A machine that runs builds."""

    __tablename__ = "build_agents"

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80), unique=True)
    platform: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(40), comment="such as linux/amd64")
    is_enabled: sa_orm.Mapped[bool] = sa_orm.mapped_column(default=True, server_default=sa.true())
    last_seen_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)
    registered_by_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )

    registered_by: sa_orm.Mapped[User | None] = sa_orm.relationship()
    labels: sa_orm.Mapped[list[BuildLabel]] = sa_orm.relationship(secondary=agent_labels, passive_deletes=True)


class Build(Base):
    """One run of a pipeline on one commit."""

    __tablename__ = "build_builds"
    __table_args__ = (
        sa.UniqueConstraint("pipeline_id", "number"),
        sa.CheckConstraint("number > 0", name="number"),
        sa.CheckConstraint("length(commit_sha) BETWEEN 7 AND 64", name="commit_sha"),
        sa.CheckConstraint("finished_at >= started_at", name="finishes_after_start"),
        sa.Index(None, "status", "queued_at"),
        sa.Index(None, "pipeline_id", "branch", "queued_at"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    pipeline_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("build_pipelines.id", ondelete="RESTRICT"))
    number: sa_orm.Mapped[int] = sa_orm.mapped_column(comment="counts from 1 in each pipeline")
    status: sa_orm.Mapped[BuildStatus] = sa_orm.mapped_column(
        status_type, default=BuildStatus.QUEUED, server_default=BuildStatus.QUEUED.value
    )
    trigger_kind: sa_orm.Mapped[BuildTrigger] = sa_orm.mapped_column(
        sa.Enum(BuildTrigger, name="buildpilot_build_trigger", values_callable=_values, create_constraint=True)
    )
    branch: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(200))
    commit_sha: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(64), index=True)
    commit_message: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.Text)
    queued_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(
        UtcDateTime, default=utc_now, server_default=sa.func.now()
    )
    started_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)
    finished_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)
    triggered_by_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True, comment="empty: no person, or one who is gone"
    )
    agent_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("build_agents.id", ondelete="SET NULL"), index=True
    )
    retry_of_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("build_builds.id", ondelete="SET NULL"), index=True
    )

    pipeline: sa_orm.Mapped[BuildPipeline] = sa_orm.relationship()
    triggered_by: sa_orm.Mapped[User | None] = sa_orm.relationship()
    agent: sa_orm.Mapped[BuildAgent | None] = sa_orm.relationship()
    retry_of: sa_orm.Mapped["Build | None"] = sa_orm.relationship(lambda: Build, remote_side=lambda: Build.id)
    steps: sa_orm.Mapped[list["BuildStep"]] = sa_orm.relationship(
        back_populates="build", cascade="all, delete-orphan", passive_deletes=True, order_by=lambda: BuildStep.position
    )
    artifacts: sa_orm.Mapped[list["BuildArtifact"]] = sa_orm.relationship(
        back_populates="build", cascade="all, delete-orphan", passive_deletes=True
    )


class BuildStep(Base):
    """One command of a build."""

    __tablename__ = "build_steps"
    __table_args__ = (
        sa.UniqueConstraint("build_id", "position"),
        sa.CheckConstraint("position >= 1", name="position"),
        sa.CheckConstraint("finished_at >= started_at", name="finishes_after_start"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    build_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("build_builds.id", ondelete="CASCADE"))
    position: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.SmallInteger)
    name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(120))
    command: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.Text)
    status: sa_orm.Mapped[BuildStatus] = sa_orm.mapped_column(
        status_type, default=BuildStatus.QUEUED, server_default=BuildStatus.QUEUED.value
    )
    exit_code: sa_orm.Mapped[int | None] = sa_orm.mapped_column(comment="empty: not finished, or killed by a signal")
    started_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)
    finished_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)

    build: sa_orm.Mapped[Build] = sa_orm.relationship(back_populates="steps")


class BuildArtifact(UUIDKey, Base):
    """A file that a build left behind. The row says where it is; the bytes are in object storage."""

    __tablename__ = "build_artifacts"
    __table_args__ = (
        sa.UniqueConstraint("build_id", "path"),
        sa.CheckConstraint("size_bytes >= 0", name="size"),
        sa.CheckConstraint("length(sha256) = 64", name="sha256"),
    )

    build_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("build_builds.id", ondelete="CASCADE"))
    path: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(400), comment="below the working directory of the build")
    storage_uri: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(500))
    content_type: sa_orm.Mapped[str] = sa_orm.mapped_column(
        sa.String(100), default="application/octet-stream", server_default="application/octet-stream"
    )
    size_bytes: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.BigInteger)
    sha256: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(64), index=True, comment="of the content, in hex")
    created_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, default=utc_now)
    expires_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(
        UtcDateTime, index=True, comment="empty: kept for as long as the build"
    )

    build: sa_orm.Mapped[Build] = sa_orm.relationship(back_populates="artifacts")
