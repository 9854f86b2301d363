"""Artifacts, and builds that are tried again, cancelled or skipped

Revision ID: build0003
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import UtcDateTime

revision = "build0003"
down_revision = "build0002"

FIRST_STATUS = ("queued", "running", "passed", "failed")
STATUS = (*FIRST_STATUS, "cancelled", "skipped")
FIRST_TRIGGER = ("push", "pull_request", "schedule", "manual")
TRIGGER = (*FIRST_TRIGGER, "retry")


def upgrade() -> None:
    op.create_table(
        "build_artifacts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("build_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(400), nullable=False, comment="below the working directory of the build"),
        sa.Column("storage_uri", sa.String(500), nullable=False),
        sa.Column("content_type", sa.String(100), nullable=False, server_default="application/octet-stream"),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False, comment="of the content, in hex"),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), comment="empty: kept for as long as the build"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_build_artifacts")),
        sa.UniqueConstraint("build_id", "path", name=op.f("uq_build_artifacts_build_id_path")),
        sa.ForeignKeyConstraint(
            ["build_id"], ["build_builds.id"], name=op.f("fk_build_artifacts_build_id_build_builds"), ondelete="CASCADE"
        ),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_build_artifacts_sha256")),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_build_artifacts_size")),
    )
    op.create_index(op.f("ix_build_artifacts_expires_at"), "build_artifacts", ["expires_at"])
    op.create_index(op.f("ix_build_artifacts_sha256"), "build_artifacts", ["sha256"])
    with op.batch_alter_table("build_builds") as builds:
        builds.add_column(sa.Column("commit_message", sa.Text()))
        builds.add_column(
            sa.Column(
                "retry_of_id",
                sa.Integer(),
                sa.ForeignKey(
                    "build_builds.id", name=op.f("fk_build_builds_retry_of_id_build_builds"), ondelete="SET NULL"
                ),
            )
        )
        builds.create_index(op.f("ix_build_builds_retry_of_id"), ["retry_of_id"])
    if _is_postgresql():
        for value in ("cancelled", "skipped"):
            op.execute(f"ALTER TYPE buildpilot_build_status ADD VALUE IF NOT EXISTS '{value}'")
        op.execute("ALTER TYPE buildpilot_build_trigger ADD VALUE IF NOT EXISTS 'retry'")
    else:
        _change_values(FIRST_STATUS, STATUS, FIRST_TRIGGER, TRIGGER)


def downgrade() -> None:
    for table in ("build_builds", "build_steps"):
        op.execute(f"UPDATE {table} SET status = 'failed' WHERE status IN ('cancelled', 'skipped')")  # noqa: S608 -- the names of above
    op.execute("UPDATE build_builds SET trigger_kind = 'manual' WHERE trigger_kind = 'retry'")
    if not _is_postgresql():  # which keeps the values of a type
        _change_values(STATUS, FIRST_STATUS, TRIGGER, FIRST_TRIGGER)
    with op.batch_alter_table("build_builds") as builds:
        builds.drop_constraint(op.f("fk_build_builds_retry_of_id_build_builds"), type_="foreignkey")
        builds.drop_index(op.f("ix_build_builds_retry_of_id"))
        builds.drop_column("retry_of_id")
        builds.drop_column("commit_message")
    op.drop_table("build_artifacts")


def _is_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"


def _status(*values: str) -> sa.Enum:
    return sa.Enum(*values, name="buildpilot_build_status", create_constraint=True)


def _trigger(*values: str) -> sa.Enum:
    return sa.Enum(*values, name="buildpilot_build_trigger", create_constraint=True)


def _change_values(
    status: tuple[str, ...], to_status: tuple[str, ...], trigger: tuple[str, ...], to_trigger: tuple[str, ...]
) -> None:
    for table in ("build_builds", "build_steps"):
        with op.batch_alter_table(table) as batch:
            batch.alter_column(
                "status",
                existing_type=_status(*status),
                type_=_status(*to_status),
                existing_nullable=False,
                existing_server_default="queued",
            )
    with op.batch_alter_table("build_builds") as builds:
        builds.alter_column(
            "trigger_kind", existing_type=_trigger(*trigger), type_=_trigger(*to_trigger), existing_nullable=False
        )
