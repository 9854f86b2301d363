"""Metrics with baselines, and who is told when a suite fails

Revision ID: regress0005
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import ServerNow, UtcDateTime

revision = "regress0005"
down_revision = "regress0004"


def upgrade() -> None:
    op.create_table(
        "regress_metrics",
        sa.Column("result_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("measured", sa.Double(), nullable=False),
        sa.Column("unit", sa.String(20), nullable=False, comment="such as ms, MiB or requests/s"),
        sa.PrimaryKeyConstraint("result_id", "name", name=op.f("pk_regress_metrics")),
        sa.ForeignKeyConstraint(
            ["result_id"],
            ["regress_results.id"],
            name=op.f("fk_regress_metrics_result_id_regress_results"),
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "regress_baselines",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("environment", sa.String(60), nullable=False),
        sa.Column("metric", sa.String(80), nullable=False),
        sa.Column("expected", sa.Double(), nullable=False),
        sa.Column("tolerance_percent", sa.Numeric(5, 2), nullable=False, server_default="10"),
        sa.Column("approved_by_id", sa.Integer()),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_regress_baselines")),
        sa.UniqueConstraint(
            "case_id", "environment", "metric", name=op.f("uq_regress_baselines_case_id_environment_metric")
        ),
        sa.ForeignKeyConstraint(
            ["approved_by_id"],
            ["users.id"],
            name=op.f("fk_regress_baselines_approved_by_id_users"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["case_id"],
            ["regress_cases.id"],
            name=op.f("fk_regress_baselines_case_id_regress_cases"),
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("tolerance_percent BETWEEN 0 AND 100", name=op.f("ck_regress_baselines_tolerance")),
    )
    op.create_index(op.f("ix_regress_baselines_approved_by_id"), "regress_baselines", ["approved_by_id"])
    op.create_table(
        "regress_suite_watchers",
        sa.Column("suite_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("suite_id", "user_id", name=op.f("pk_regress_suite_watchers")),
        sa.ForeignKeyConstraint(
            ["suite_id"],
            ["regress_suites.id"],
            name=op.f("fk_regress_suite_watchers_suite_id_regress_suites"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_regress_suite_watchers_user_id_users"), ondelete="CASCADE"
        ),
        comment="who is told when a run of the suite fails",
    )
    op.create_index(op.f("ix_regress_suite_watchers_user_id"), "regress_suite_watchers", ["user_id"])
    op.execute(
        "INSERT INTO regress_suite_watchers (suite_id, user_id) "
        "SELECT id, owner_id FROM regress_suites WHERE owner_id IS NOT NULL"
    )


def downgrade() -> None:
    for table in ("regress_suite_watchers", "regress_baselines", "regress_metrics"):
        op.drop_table(table)
