"""Teams ask questions of their own: the three of before become the first ones, and what was said the answers

Revision ID: standup0002
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import UtcDateTime

revision = "standup0002"
down_revision = "standup0001"

QUESTIONS = (
    (1, "finished", "What did you finish?"),
    (2, "planned", "What comes next?"),
    (3, "blocked", "What is in your way?"),
)

teams = sa.table("standup_teams", sa.column("id"))
questions = sa.table(
    "standup_questions", sa.column("id"), sa.column("team_id"), sa.column("position"), sa.column("text")
)
meetings = sa.table("standup_meetings", sa.column("id"), sa.column("team_id"))
updates = sa.table(
    "standup_updates",
    sa.column("id"),
    sa.column("meeting_id"),
    sa.column("finished"),
    sa.column("planned"),
    sa.column("blocked"),
)
answers = sa.table("standup_answers", sa.column("update_id"), sa.column("question_id"), sa.column("text"))


def upgrade() -> None:
    op.create_table(
        "standup_questions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("team_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("text", sa.String(300), nullable=False),
        sa.Column("is_required", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("retired_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_standup_questions")),
        sa.UniqueConstraint("team_id", "position", name=op.f("uq_standup_questions_team_id_position")),
        sa.ForeignKeyConstraint(
            ["team_id"],
            ["standup_teams.id"],
            name=op.f("fk_standup_questions_team_id_standup_teams"),
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("position >= 1", name=op.f("ck_standup_questions_position")),
    )
    op.create_table(
        "standup_answers",
        sa.Column("update_id", sa.Integer(), nullable=False),
        sa.Column("question_id", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("update_id", "question_id", name=op.f("pk_standup_answers")),
        sa.ForeignKeyConstraint(
            ["question_id"],
            ["standup_questions.id"],
            name=op.f("fk_standup_answers_question_id_standup_questions"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["update_id"],
            ["standup_updates.id"],
            name=op.f("fk_standup_answers_update_id_standup_updates"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(op.f("ix_standup_answers_question_id"), "standup_answers", ["question_id"])
    for position, column, text in QUESTIONS:
        every_team = sa.select(teams.c.id, sa.literal(position), sa.literal(text))
        op.execute(questions.insert().from_select(["team_id", "position", "text"], every_team))
        said = sa.select(updates.c.id, questions.c.id, updates.c[column]).select_from(
            updates.join(meetings, meetings.c.id == updates.c.meeting_id).join(
                questions, sa.and_(questions.c.team_id == meetings.c.team_id, questions.c.position == position)
            )
        )
        said = said.where(updates.c[column].is_not(None))
        op.execute(answers.insert().from_select(["update_id", "question_id", "text"], said))


def downgrade() -> None:
    op.drop_table("standup_answers")
    op.drop_table("standup_questions")
