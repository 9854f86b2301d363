"""Words for how one feels, and stress; walks; exercises that are broken off, or withdrawn

Revision ID: calmind0002
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import UtcDateTime

revision = "calmind0002"
down_revision = "calmind0001"

KIND = "ck_calmind_exercises_calmind_exercise_kind"
FEELINGS = {"anxious": -1, "tired": -1, "irritated": -1, "calm": 1, "content": 1, "curious": 1, "focused": 0}


def upgrade() -> None:
    op.create_table(
        "calmind_feelings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("valence", sa.SmallInteger(), nullable=False, comment="-1 unpleasant, 0 neutral, 1 pleasant"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calmind_feelings")),
        sa.UniqueConstraint("name", name=op.f("uq_calmind_feelings_name")),
        sa.CheckConstraint("valence BETWEEN -1 AND 1", name=op.f("ck_calmind_feelings_valence")),
    )
    feelings = sa.table("calmind_feelings", sa.column("name"), sa.column("valence"))
    op.bulk_insert(feelings, [{"name": name, "valence": valence} for name, valence in FEELINGS.items()])
    op.create_table(
        "calmind_check_in_feelings",
        sa.Column("check_in_id", sa.Uuid(), nullable=False),
        sa.Column("feeling_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("check_in_id", "feeling_id", name=op.f("pk_calmind_check_in_feelings")),
        sa.ForeignKeyConstraint(
            ["check_in_id"],
            ["calmind_check_ins.id"],
            name=op.f("fk_calmind_check_in_feelings_check_in_id_calmind_check_ins"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["feeling_id"],
            ["calmind_feelings.id"],
            name=op.f("fk_calmind_check_in_feelings_feeling_id_calmind_feelings"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(op.f("ix_calmind_check_in_feelings_feeling_id"), "calmind_check_in_feelings", ["feeling_id"])
    with op.batch_alter_table("calmind_check_ins") as check_ins:
        check_ins.add_column(sa.Column("stress", sa.SmallInteger(), comment="0 (none) to 10"))
        check_ins.create_check_constraint(op.f("ck_calmind_check_ins_stress"), "stress BETWEEN 0 AND 10")
    with op.batch_alter_table("calmind_practice_sessions") as sessions:
        sessions.add_column(sa.Column("completed_at", UtcDateTime(), comment="empty: broken off"))
        sessions.create_check_constraint(
            op.f("ck_calmind_practice_sessions_completes_after_start"), "completed_at >= started_at"
        )
    with op.batch_alter_table("calmind_exercises") as exercises:
        exercises.add_column(sa.Column("is_published", sa.Boolean(), nullable=False, server_default=sa.true()))
        exercises.drop_constraint(op.f(KIND), type_="check")
        exercises.create_check_constraint(op.f(KIND), "kind IN ('breathing', 'meditation', 'body_scan', 'walk')")


def downgrade() -> None:
    op.execute("UPDATE calmind_exercises SET kind = 'meditation' WHERE kind = 'walk'")
    with op.batch_alter_table("calmind_exercises") as exercises:
        exercises.drop_constraint(op.f(KIND), type_="check")
        exercises.create_check_constraint(op.f(KIND), "kind IN ('breathing', 'meditation', 'body_scan')")
        exercises.drop_column("is_published")
    with op.batch_alter_table("calmind_practice_sessions") as sessions:
        sessions.drop_constraint(op.f("ck_calmind_practice_sessions_completes_after_start"), type_="check")
        sessions.drop_column("completed_at")
    with op.batch_alter_table("calmind_check_ins") as check_ins:
        check_ins.drop_constraint(op.f("ck_calmind_check_ins_stress"), type_="check")
        check_ins.drop_column("stress")
    op.drop_table("calmind_check_in_feelings")
    op.drop_table("calmind_feelings")
