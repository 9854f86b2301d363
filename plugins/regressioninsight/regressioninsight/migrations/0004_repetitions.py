"""Cases are repeated within a run: those that pass in the end are flaky; cases and suites are retired

Revision ID: regress0004
"""

import sqlalchemy as sa
from alembic import op

revision = "regress0004"
down_revision = "regress0003"

FIRST = ("passed", "failed", "error", "skipped")
ONCE = "uq_regress_results_run_id_case_id"
REPEATED = "uq_regress_results_run_id_case_id_attempt"


def upgrade() -> None:
    with op.batch_alter_table("regress_results") as results:
        results.add_column(sa.Column("attempt", sa.SmallInteger(), nullable=False, server_default="1"))
        results.create_check_constraint(op.f("ck_regress_results_attempt"), "attempt >= 1")
        results.create_unique_constraint(op.f(REPEATED), ["run_id", "case_id", "attempt"])
        results.drop_constraint(op.f(ONCE), type_="unique")
    if _is_postgresql():
        op.execute("ALTER TYPE regressioninsight_outcome ADD VALUE IF NOT EXISTS 'flaky'")
    else:
        _change_outcomes(FIRST, (*FIRST, "flaky"))
    with op.batch_alter_table("regress_cases") as cases:
        cases.add_column(
            sa.Column(
                "priority", sa.SmallInteger(), nullable=False, server_default="3", comment="1 (must never break) to 5"
            )
        )
        cases.add_column(
            sa.Column(
                "is_quarantined",
                sa.Boolean(),
                nullable=False,
                server_default=sa.false(),
                comment="runs, but does not fail the run",
            )
        )
        cases.add_column(sa.Column("is_retired", sa.Boolean(), nullable=False, server_default=sa.false()))
        cases.create_check_constraint(op.f("ck_regress_cases_priority"), "priority BETWEEN 1 AND 5")
    op.add_column("regress_suites", sa.Column("is_retired", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    with op.batch_alter_table("regress_suites") as suites:
        suites.drop_column("is_retired")
    with op.batch_alter_table("regress_cases") as cases:
        cases.drop_constraint(op.f("ck_regress_cases_priority"), type_="check")
        for name in ("is_retired", "is_quarantined", "priority"):
            cases.drop_column(name)
    op.execute("UPDATE regress_results SET outcome = 'passed' WHERE outcome = 'flaky'")
    if not _is_postgresql():  # which keeps the values of a type
        _change_outcomes((*FIRST, "flaky"), FIRST)
    op.execute("DELETE FROM regress_results WHERE attempt > 1")
    with op.batch_alter_table("regress_results") as results:
        results.create_unique_constraint(op.f(ONCE), ["run_id", "case_id"])
        results.drop_constraint(op.f(REPEATED), type_="unique")
        results.drop_constraint(op.f("ck_regress_results_attempt"), type_="check")
        results.drop_column("attempt")


def _is_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"


def _outcome(*values: str) -> sa.Enum:
    return sa.Enum(*values, name="regressioninsight_outcome", create_constraint=True)


def _change_outcomes(there: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    with op.batch_alter_table("regress_results") as results:
        results.alter_column(
            "outcome", existing_type=_outcome(*there), type_=_outcome(*wanted), existing_nullable=False
        )
