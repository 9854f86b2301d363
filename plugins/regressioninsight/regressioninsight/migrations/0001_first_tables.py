"""Suites, their cases, and the results of a run

Revision ID: regress0001
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import ServerNow, UtcDateTime

revision = "regress0001"
down_revision = None

opal_depends_on = {"core": ["core0001"]}

STATUS = sa.Enum(
    "running",
    "passed",
    "failed",
    "aborted",
    name="regressioninsight_run_status",
    create_constraint=True,
    create_type=False,
)
OUTCOME = sa.Enum(
    "passed", "failed", "error", "skipped", name="regressioninsight_outcome", create_constraint=True, create_type=False
)


def upgrade() -> None:
    for kind in (STATUS, OUTCOME):
        kind.create(op.get_bind(), checkfirst=True)
    op.create_table(
        "regress_suites",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("owner_id", sa.Integer()),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_regress_suites")),
        sa.UniqueConstraint("name", name=op.f("uq_regress_suites_name")),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name=op.f("fk_regress_suites_owner_id_users"), ondelete="SET NULL"
        ),
    )
    op.create_index(op.f("ix_regress_suites_owner_id"), "regress_suites", ["owner_id"])
    op.create_table(
        "regress_cases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("suite_id", sa.Integer(), nullable=False),
        sa.Column(
            "identifier",
            sa.String(400),
            nullable=False,
            comment="what the test runner calls it, such as tests/test_login.py::test_logout",
        ),
        sa.Column("title", sa.String(200)),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_regress_cases")),
        sa.UniqueConstraint("suite_id", "identifier", name=op.f("uq_regress_cases_suite_id_identifier")),
        sa.ForeignKeyConstraint(
            ["suite_id"],
            ["regress_suites.id"],
            name=op.f("fk_regress_cases_suite_id_regress_suites"),
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "regress_runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("suite_id", sa.Integer(), nullable=False),
        sa.Column("status", STATUS, nullable=False, server_default="running"),
        sa.Column("started_by_id", sa.Integer()),
        sa.Column("started_at", UtcDateTime(), nullable=False, server_default=sa.func.now()),
        sa.Column("finished_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_regress_runs")),
        sa.ForeignKeyConstraint(
            ["started_by_id"], ["users.id"], name=op.f("fk_regress_runs_started_by_id_users"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["suite_id"],
            ["regress_suites.id"],
            name=op.f("fk_regress_runs_suite_id_regress_suites"),
            ondelete="RESTRICT",
        ),
        sa.CheckConstraint("finished_at >= started_at", name=op.f("ck_regress_runs_finishes_after_start")),
    )
    op.create_index(op.f("ix_regress_runs_started_by_id"), "regress_runs", ["started_by_id"])
    op.create_index(op.f("ix_regress_runs_suite_id_started_at"), "regress_runs", ["suite_id", "started_at"])
    op.create_table(
        "regress_results",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("outcome", OUTCOME, nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_regress_results")),
        sa.ForeignKeyConstraint(
            ["case_id"],
            ["regress_cases.id"],
            name=op.f("fk_regress_results_case_id_regress_cases"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["regress_runs.id"], name=op.f("fk_regress_results_run_id_regress_runs"), ondelete="CASCADE"
        ),
        sa.CheckConstraint("duration_ms >= 0", name=op.f("ck_regress_results_duration")),
        sa.UniqueConstraint("run_id", "case_id", name=op.f("uq_regress_results_run_id_case_id")),
    )
    op.create_index(op.f("ix_regress_results_case_id_outcome"), "regress_results", ["case_id", "outcome"])


def downgrade() -> None:
    for table in ("regress_results", "regress_runs", "regress_cases", "regress_suites"):
        op.drop_table(table)
    for kind in (STATUS, OUTCOME):
        kind.drop(op.get_bind(), checkfirst=True)
