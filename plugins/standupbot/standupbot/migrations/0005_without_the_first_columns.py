"""Nobody reads the three answers of an update and the flag of a facilitator any more

Revision ID: standup0005
"""

import sqlalchemy as sa
from alembic import op

revision = "standup0005"
down_revision = "standup0004"

opal_phase = "contract"

ANSWERS = {"finished": 1, "planned": 2, "blocked": 3}


def upgrade() -> None:
    with op.batch_alter_table("standup_updates") as update:
        for name in ANSWERS:
            update.drop_column(name)
    with op.batch_alter_table("standup_memberships") as membership:
        membership.drop_column("is_facilitator")


def downgrade() -> None:
    op.add_column(
        "standup_memberships", sa.Column("is_facilitator", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    for name, position in ANSWERS.items():
        op.add_column("standup_updates", sa.Column(name, sa.Text()))
        op.execute(
            f"UPDATE standup_updates SET {name} = ("  # noqa: S608 -- the names of above
            "SELECT a.text FROM standup_answers a JOIN standup_questions q ON q.id = a.question_id "
            f"WHERE a.update_id = standup_updates.id AND q.position = {position})"
        )
