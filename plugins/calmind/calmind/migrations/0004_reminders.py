"""Reminders to take a break, and a private journal

Revision ID: calmind0004
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import ServerNow, UtcDateTime

revision = "calmind0004"
down_revision = "calmind0003"


def upgrade() -> None:
    op.create_table(
        "calmind_reminders",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("weekday", sa.SmallInteger(), nullable=False, comment="ISO 8601: Monday is 1"),
        sa.Column("time_of_day", sa.Time(), nullable=False, comment="on the clock of time_zone"),
        sa.Column("time_zone", sa.String(64), nullable=False, server_default="UTC"),
        sa.Column("exercise_id", sa.Integer()),
        sa.Column("is_enabled", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calmind_reminders")),
        sa.UniqueConstraint(
            "user_id", "weekday", "time_of_day", name=op.f("uq_calmind_reminders_user_id_weekday_time_of_day")
        ),
        sa.ForeignKeyConstraint(
            ["exercise_id"],
            ["calmind_exercises.id"],
            name=op.f("fk_calmind_reminders_exercise_id_calmind_exercises"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_calmind_reminders_user_id_users"), ondelete="CASCADE"
        ),
        sa.CheckConstraint("weekday BETWEEN 1 AND 7", name=op.f("ck_calmind_reminders_weekday")),
    )
    op.create_index(op.f("ix_calmind_reminders_exercise_id"), "calmind_reminders", ["exercise_id"])
    op.create_table(
        "calmind_journal_entries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(200)),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calmind_journal_entries")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_calmind_journal_entries_user_id_users"), ondelete="CASCADE"
        ),
    )
    op.create_index(
        op.f("ix_calmind_journal_entries_user_id_created_at"), "calmind_journal_entries", ["user_id", "created_at"]
    )


def downgrade() -> None:
    op.drop_table("calmind_journal_entries")
    op.drop_table("calmind_reminders")
