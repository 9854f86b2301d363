"""How people are goes from 1 to 5, since nobody tells 6 from 7

Revision ID: calmind0003
"""

import sqlalchemy as sa
from alembic import op

revision = "calmind0003"
down_revision = "calmind0002"

opal_phase = "contract"  # earlier code would go on writing up to 10

MOOD = "ck_calmind_check_ins_mood"


def upgrade() -> None:
    with op.batch_alter_table("calmind_check_ins") as check_ins:
        check_ins.drop_constraint(op.f(MOOD), type_="check")
    op.execute(
        "UPDATE calmind_check_ins SET mood = CASE WHEN mood < 3 THEN 1 WHEN mood < 5 THEN 2 WHEN mood < 7 THEN 3 WHEN mood < 9 THEN 4 ELSE 5 END"
    )
    with op.batch_alter_table("calmind_check_ins") as check_ins:
        check_ins.create_check_constraint(op.f(MOOD), "mood BETWEEN 1 AND 5")
        check_ins.alter_column(
            "mood",
            existing_type=sa.SmallInteger(),
            existing_nullable=False,
            existing_comment="1 (low) to 10 (high)",
            comment="1 (low) to 5 (high)",
        )


def downgrade() -> None:
    with op.batch_alter_table("calmind_check_ins") as check_ins:
        check_ins.drop_constraint(op.f(MOOD), type_="check")
    op.execute("UPDATE calmind_check_ins SET mood = mood * 2")
    with op.batch_alter_table("calmind_check_ins") as check_ins:
        check_ins.create_check_constraint(op.f(MOOD), "mood BETWEEN 1 AND 10")
        check_ins.alter_column(
            "mood",
            existing_type=sa.SmallInteger(),
            existing_nullable=False,
            existing_comment="1 (low) to 5 (high)",
            comment="1 (low) to 10 (high)",
        )
