"""Teams that meet, and three answers of everybody

Revision ID: standup0001
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import ServerNow, UtcDateTime

revision = "standup0001"
down_revision = None

opal_depends_on = {"core": ["core0001"]}


def upgrade() -> None:
    op.create_table(
        "standup_teams",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("created_by_id", sa.Integer()),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_standup_teams")),
        sa.UniqueConstraint("name", name=op.f("uq_standup_teams_name")),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["users.id"], name=op.f("fk_standup_teams_created_by_id_users"), ondelete="SET NULL"
        ),
    )
    op.create_index(op.f("ix_standup_teams_created_by_id"), "standup_teams", ["created_by_id"])
    op.create_table(
        "standup_memberships",
        sa.Column("team_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("joined_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("team_id", "user_id", name=op.f("pk_standup_memberships")),
        sa.ForeignKeyConstraint(
            ["team_id"],
            ["standup_teams.id"],
            name=op.f("fk_standup_memberships_team_id_standup_teams"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_standup_memberships_user_id_users"), ondelete="CASCADE"
        ),
        sa.Column("is_facilitator", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_index(op.f("ix_standup_memberships_user_id"), "standup_memberships", ["user_id"])
    op.create_table(
        "standup_meetings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("team_id", sa.Integer(), nullable=False),
        sa.Column("held_on", sa.Date(), nullable=False, comment="the day in the team's time zone"),
        sa.Column("facilitator_id", sa.Integer()),
        sa.Column("opened_at", UtcDateTime(), nullable=False),
        sa.Column("closed_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_standup_meetings")),
        sa.UniqueConstraint("team_id", "held_on", name=op.f("uq_standup_meetings_team_id_held_on")),
        sa.ForeignKeyConstraint(
            ["facilitator_id"], ["users.id"], name=op.f("fk_standup_meetings_facilitator_id_users"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["team_id"],
            ["standup_teams.id"],
            name=op.f("fk_standup_meetings_team_id_standup_teams"),
            ondelete="RESTRICT",
        ),
    )
    op.create_index(op.f("ix_standup_meetings_facilitator_id"), "standup_meetings", ["facilitator_id"])
    op.create_table(
        "standup_updates",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("meeting_id", sa.Integer(), nullable=False),
        sa.Column("author_id", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_standup_updates")),
        sa.UniqueConstraint("meeting_id", "author_id", name=op.f("uq_standup_updates_meeting_id_author_id")),
        sa.ForeignKeyConstraint(
            ["author_id"], ["users.id"], name=op.f("fk_standup_updates_author_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["meeting_id"],
            ["standup_meetings.id"],
            name=op.f("fk_standup_updates_meeting_id_standup_meetings"),
            ondelete="CASCADE",
        ),
        sa.Column("finished", sa.Text()),
        sa.Column("planned", sa.Text()),
        sa.Column("blocked", sa.Text()),
    )
    op.create_index(op.f("ix_standup_updates_author_id_created_at"), "standup_updates", ["author_id", "created_at"])


def downgrade() -> None:
    for table in ("standup_updates", "standup_meetings", "standup_memberships", "standup_teams"):
        op.drop_table(table)
