"""Projects, pipelines, builds and their steps

Revision ID: build0001
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import ServerNow, UtcDateTime

revision = "build0001"
down_revision = None

opal_depends_on = {"core": ["core0001"]}

STATUS = sa.Enum(
    "queued", "running", "passed", "failed", name="buildpilot_build_status", create_constraint=True, create_type=False
)
TRIGGER = sa.Enum(
    "push",
    "pull_request",
    "schedule",
    "manual",
    name="buildpilot_build_trigger",
    create_constraint=True,
    create_type=False,
)


def upgrade() -> None:
    for kind in (STATUS, TRIGGER):
        kind.create(op.get_bind(), checkfirst=True)
    op.create_table(
        "build_projects",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("slug", sa.String(80), nullable=False, comment="the name in web addresses"),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("repository_url", sa.String(500), nullable=False),
        sa.Column("default_branch", sa.String(200), nullable=False, server_default="main"),
        sa.Column("owner_id", sa.Integer()),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_build_projects")),
        sa.UniqueConstraint("slug", name=op.f("uq_build_projects_slug")),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name=op.f("fk_build_projects_owner_id_users"), ondelete="SET NULL"
        ),
    )
    op.create_index(op.f("ix_build_projects_owner_id"), "build_projects", ["owner_id"])
    op.create_table(
        "build_pipelines",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("config_path", sa.String(300), nullable=False, comment="file in the repository"),
        sa.Column("is_enabled", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_build_pipelines")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_build_pipelines_project_id_name")),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["build_projects.id"],
            name=op.f("fk_build_pipelines_project_id_build_projects"),
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "build_builds",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pipeline_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="counts from 1 in each pipeline"),
        sa.Column("status", STATUS, nullable=False, server_default="queued"),
        sa.Column("trigger_kind", TRIGGER, nullable=False),
        sa.Column("branch", sa.String(200), nullable=False),
        sa.Column("queued_at", UtcDateTime(), nullable=False, server_default=sa.func.now()),
        sa.Column("started_at", UtcDateTime()),
        sa.Column("finished_at", UtcDateTime()),
        sa.Column("triggered_by_id", sa.Integer(), comment="empty: no person, or one who is gone"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_build_builds")),
        sa.UniqueConstraint("pipeline_id", "number", name=op.f("uq_build_builds_pipeline_id_number")),
        sa.ForeignKeyConstraint(
            ["pipeline_id"],
            ["build_pipelines.id"],
            name=op.f("fk_build_builds_pipeline_id_build_pipelines"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["triggered_by_id"], ["users.id"], name=op.f("fk_build_builds_triggered_by_id_users"), ondelete="SET NULL"
        ),
        sa.CheckConstraint("finished_at >= started_at", name=op.f("ck_build_builds_finishes_after_start")),
        sa.CheckConstraint("number > 0", name=op.f("ck_build_builds_number")),
        sa.Column("sha", sa.String(40), nullable=False),
        sa.CheckConstraint("length(sha) BETWEEN 7 AND 40", name=op.f("ck_build_builds_sha")),
    )
    op.create_index(op.f("ix_build_builds_status_queued_at"), "build_builds", ["status", "queued_at"])
    op.create_index(op.f("ix_build_builds_triggered_by_id"), "build_builds", ["triggered_by_id"])
    op.create_index(op.f("ix_build_builds_sha"), "build_builds", ["sha"])
    op.create_table(
        "build_steps",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("build_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("status", STATUS, nullable=False, server_default="queued"),
        sa.Column("exit_code", sa.Integer(), comment="empty: not finished, or killed by a signal"),
        sa.Column("started_at", UtcDateTime()),
        sa.Column("finished_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_build_steps")),
        sa.UniqueConstraint("build_id", "position", name=op.f("uq_build_steps_build_id_position")),
        sa.ForeignKeyConstraint(
            ["build_id"], ["build_builds.id"], name=op.f("fk_build_steps_build_id_build_builds"), ondelete="CASCADE"
        ),
        sa.CheckConstraint("finished_at >= started_at", name=op.f("ck_build_steps_finishes_after_start")),
        sa.CheckConstraint("position >= 1", name=op.f("ck_build_steps_position")),
    )


def downgrade() -> None:
    for table in ("build_steps", "build_builds", "build_pipelines", "build_projects"):
        op.drop_table(table)
    for kind in (STATUS, TRIGGER):
        kind.drop(op.get_bind(), checkfirst=True)
