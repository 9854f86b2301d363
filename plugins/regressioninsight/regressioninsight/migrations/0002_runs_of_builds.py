"""Runs of BuildPilot's builds, and in which environment

Revision ID: regress0002
"""

import sqlalchemy as sa
from alembic import op

revision = "regress0002"
down_revision = "regress0001"

opal_depends_on = {"buildpilot": ["build0001"]}


def upgrade() -> None:
    with op.batch_alter_table("regress_runs") as runs:
        runs.add_column(
            sa.Column(
                "build_id",
                sa.Integer(),
                sa.ForeignKey(
                    "build_builds.id", name=op.f("fk_regress_runs_build_id_build_builds"), ondelete="SET NULL"
                ),
            )
        )
        runs.create_index(op.f("ix_regress_runs_build_id"), ["build_id"])
        runs.add_column(sa.Column("environment", sa.String(60)))
    op.execute("UPDATE regress_runs SET environment = 'unknown'")
    with op.batch_alter_table("regress_runs") as runs:
        runs.alter_column(
            "environment",
            existing_type=sa.String(60),
            nullable=False,
            comment="such as staging, or py313-linux",
        )


def downgrade() -> None:
    with op.batch_alter_table("regress_runs") as runs:
        runs.drop_column("environment")
        runs.drop_constraint(op.f("fk_regress_runs_build_id_build_builds"), type_="foreignkey")
        runs.drop_index(op.f("ix_regress_runs_build_id"))
        runs.drop_column("build_id")
