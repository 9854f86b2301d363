"""Agents with labels, and which of them runs a build; pipelines stop after a while, projects are archived

Revision ID: build0002
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import ServerNow, UtcDateTime

revision = "build0002"
down_revision = "build0001"


def upgrade() -> None:
    op.create_table(
        "build_labels",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_build_labels")),
        sa.UniqueConstraint("name", name=op.f("uq_build_labels_name")),
    )
    op.create_table(
        "build_agents",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("platform", sa.String(40), nullable=False, comment="such as linux/amd64"),
        sa.Column("is_enabled", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("last_seen_at", UtcDateTime()),
        sa.Column("registered_by_id", sa.Integer()),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_build_agents")),
        sa.UniqueConstraint("name", name=op.f("uq_build_agents_name")),
        sa.ForeignKeyConstraint(
            ["registered_by_id"], ["users.id"], name=op.f("fk_build_agents_registered_by_id_users"), ondelete="SET NULL"
        ),
    )
    op.create_index(op.f("ix_build_agents_registered_by_id"), "build_agents", ["registered_by_id"])
    op.create_table(
        "build_agent_labels",
        sa.Column("agent_id", sa.Integer(), nullable=False),
        sa.Column("label_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "label_id", name=op.f("pk_build_agent_labels")),
        sa.ForeignKeyConstraint(
            ["agent_id"],
            ["build_agents.id"],
            name=op.f("fk_build_agent_labels_agent_id_build_agents"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["label_id"],
            ["build_labels.id"],
            name=op.f("fk_build_agent_labels_label_id_build_labels"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(op.f("ix_build_agent_labels_label_id"), "build_agent_labels", ["label_id"])
    with op.batch_alter_table("build_builds") as builds:
        builds.add_column(
            sa.Column(
                "agent_id",
                sa.Integer(),
                sa.ForeignKey(
                    "build_agents.id", name=op.f("fk_build_builds_agent_id_build_agents"), ondelete="SET NULL"
                ),
            )
        )
        builds.create_index(op.f("ix_build_builds_agent_id"), ["agent_id"])
    with op.batch_alter_table("build_pipelines") as pipelines:
        pipelines.add_column(sa.Column("timeout_minutes", sa.Integer(), nullable=False, server_default="60"))
        pipelines.create_check_constraint(op.f("ck_build_pipelines_timeout"), "timeout_minutes > 0")
    op.add_column("build_projects", sa.Column("is_archived", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    with op.batch_alter_table("build_projects") as projects:
        projects.drop_column("is_archived")
    with op.batch_alter_table("build_pipelines") as pipelines:
        pipelines.drop_constraint(op.f("ck_build_pipelines_timeout"), type_="check")
        pipelines.drop_column("timeout_minutes")
    with op.batch_alter_table("build_builds") as builds:
        builds.drop_constraint(op.f("fk_build_builds_agent_id_build_agents"), type_="foreignkey")
        builds.drop_index(op.f("ix_build_builds_agent_id"))
        builds.drop_column("agent_id")
    for table in ("build_agent_labels", "build_agents", "build_labels"):
        op.drop_table(table)
