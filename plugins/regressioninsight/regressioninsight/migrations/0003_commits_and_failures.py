"""Failures that look alike; runs keep the commit that BuildPilot may forget

Revision ID: regress0003
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import ServerNow, UtcDateTime

revision = "regress0003"
down_revision = "regress0002"

opal_depends_on = {"buildpilot": ["build0004"]}  # which calls it commit_sha

STATE = sa.Enum(
    "new",
    "investigating",
    "known",
    "fixed",
    name="regressioninsight_triage_state",
    create_constraint=True,
    create_type=False,
)


def upgrade() -> None:
    STATE.create(op.get_bind(), checkfirst=True)
    op.create_table(
        "regress_failure_groups",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "fingerprint", sa.String(64), nullable=False, comment="SHA-256 of the traceback without numbers, in hex"
        ),
        sa.Column("title", sa.String(300), nullable=False),
        sa.Column("state", STATE, nullable=False, server_default="new"),
        sa.Column("issue_url", sa.String(500)),
        sa.Column("assigned_to_id", sa.Integer()),
        sa.Column("fixed_at", UtcDateTime()),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_regress_failure_groups")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_regress_failure_groups_fingerprint")),
        sa.ForeignKeyConstraint(
            ["assigned_to_id"],
            ["users.id"],
            name=op.f("fk_regress_failure_groups_assigned_to_id_users"),
            ondelete="SET NULL",
        ),
    )
    op.create_index(op.f("ix_regress_failure_groups_assigned_to_id"), "regress_failure_groups", ["assigned_to_id"])
    op.create_index(op.f("ix_regress_failure_groups_state"), "regress_failure_groups", ["state"])
    with op.batch_alter_table("regress_results") as results:
        results.add_column(
            sa.Column(
                "failure_group_id",
                sa.Integer(),
                sa.ForeignKey(
                    "regress_failure_groups.id",
                    name=op.f("fk_regress_results_failure_group_id_regress_failure_groups"),
                    ondelete="SET NULL",
                ),
            )
        )
        results.create_index(op.f("ix_regress_results_failure_group_id"), ["failure_group_id"])
    with op.batch_alter_table("regress_runs") as runs:
        runs.add_column(sa.Column("commit_sha", sa.String(64), comment="kept here, since the build may be pruned"))
        runs.create_index(op.f("ix_regress_runs_commit_sha"), ["commit_sha"])
    runs_table = sa.table("regress_runs", sa.column("build_id"), sa.column("commit_sha"))
    builds = sa.table("build_builds", sa.column("id"), sa.column("commit_sha"))
    commit = sa.select(builds.c.commit_sha).where(builds.c.id == runs_table.c.build_id).scalar_subquery()
    op.execute(runs_table.update().where(runs_table.c.build_id.is_not(None)).values(commit_sha=commit))


def downgrade() -> None:
    with op.batch_alter_table("regress_runs") as runs:
        runs.drop_index(op.f("ix_regress_runs_commit_sha"))
        runs.drop_column("commit_sha")
    with op.batch_alter_table("regress_results") as results:
        results.drop_constraint(op.f("fk_regress_results_failure_group_id_regress_failure_groups"), type_="foreignkey")
        results.drop_index(op.f("ix_regress_results_failure_group_id"))
        results.drop_column("failure_group_id")
    op.drop_table("regress_failure_groups")
    STATE.drop(op.get_bind(), checkfirst=True)
