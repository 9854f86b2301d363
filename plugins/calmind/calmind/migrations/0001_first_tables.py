"""Exercises, who practised them, and how people are from 1 to 10

Revision ID: calmind0001
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import ServerNow, UtcDateTime

revision = "calmind0001"
down_revision = None

opal_depends_on = {"core": ["core0001"]}


def upgrade() -> None:
    op.create_table(
        "calmind_exercises",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("slug", sa.String(60), nullable=False),
        sa.Column("title", sa.String(120), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("duration_seconds", sa.Integer(), nullable=False),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calmind_exercises")),
        sa.UniqueConstraint("slug", name=op.f("uq_calmind_exercises_slug")),
        sa.CheckConstraint("duration_seconds > 0", name=op.f("ck_calmind_exercises_duration")),
        sa.CheckConstraint(
            "kind IN ('breathing', 'meditation', 'body_scan')", name=op.f("ck_calmind_exercises_calmind_exercise_kind")
        ),
    )
    op.create_table(
        "calmind_practice_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("exercise_id", sa.Integer(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calmind_practice_sessions")),
        sa.ForeignKeyConstraint(
            ["exercise_id"],
            ["calmind_exercises.id"],
            name=op.f("fk_calmind_practice_sessions_exercise_id_calmind_exercises"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_calmind_practice_sessions_user_id_users"), ondelete="CASCADE"
        ),
    )
    op.create_index(op.f("ix_calmind_practice_sessions_exercise_id"), "calmind_practice_sessions", ["exercise_id"])
    op.create_index(
        op.f("ix_calmind_practice_sessions_user_id_started_at"), "calmind_practice_sessions", ["user_id", "started_at"]
    )
    op.create_table(
        "calmind_check_ins",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("recorded_at", UtcDateTime(), nullable=False),
        sa.Column("mood", sa.SmallInteger(), nullable=False, comment="1 (low) to 5 (high)"),
        sa.Column("note", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calmind_check_ins")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_calmind_check_ins_user_id_users"), ondelete="CASCADE"
        ),
        sa.CheckConstraint("mood BETWEEN 1 AND 10", name=op.f("ck_calmind_check_ins_mood")),
    )
    op.create_index(op.f("ix_calmind_check_ins_user_id_recorded_at"), "calmind_check_ins", ["user_id", "recorded_at"])


def downgrade() -> None:
    for table in ("calmind_check_ins", "calmind_practice_sessions", "calmind_exercises"):
        op.drop_table(table)
