"""What is in somebody's way is followed until it is out of it; teams in other time zones; how people are

Revision ID: standup0003
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import ServerNow, UtcDateTime

revision = "standup0003"
down_revision = "standup0002"

blockers = sa.table("standup_blockers", sa.column("update_id"), sa.column("description"))
updates = sa.table("standup_updates", sa.column("id"), sa.column("blocked"))


def upgrade() -> None:
    op.create_table(
        "standup_blockers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("update_id", sa.Integer(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("resolved_at", UtcDateTime(), comment="empty: still open"),
        sa.Column("resolved_by_id", sa.Integer()),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_standup_blockers")),
        sa.ForeignKeyConstraint(
            ["resolved_by_id"], ["users.id"], name=op.f("fk_standup_blockers_resolved_by_id_users"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["update_id"],
            ["standup_updates.id"],
            name=op.f("fk_standup_blockers_update_id_standup_updates"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(op.f("ix_standup_blockers_resolved_at"), "standup_blockers", ["resolved_at"])
    op.create_index(op.f("ix_standup_blockers_resolved_by_id"), "standup_blockers", ["resolved_by_id"])
    op.create_index(op.f("ix_standup_blockers_update_id"), "standup_blockers", ["update_id"])
    op.create_table(
        "standup_blocker_helpers",
        sa.Column("blocker_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("blocker_id", "user_id", name=op.f("pk_standup_blocker_helpers")),
        sa.ForeignKeyConstraint(
            ["blocker_id"],
            ["standup_blockers.id"],
            name=op.f("fk_standup_blocker_helpers_blocker_id_standup_blockers"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_standup_blocker_helpers_user_id_users"), ondelete="CASCADE"
        ),
    )
    op.create_index(op.f("ix_standup_blocker_helpers_user_id"), "standup_blocker_helpers", ["user_id"])
    said = sa.select(updates.c.id, updates.c.blocked).where(updates.c.blocked.is_not(None), updates.c.blocked != "")
    op.execute(blockers.insert().from_select(["update_id", "description"], said))
    with op.batch_alter_table("standup_teams") as team:
        team.add_column(
            sa.Column(
                "time_zone",
                sa.String(64),
                nullable=False,
                server_default="UTC",
                comment="IANA name, such as Europe/Berlin",
            )
        )
        team.add_column(
            sa.Column("prompt_at", sa.Time(), comment="when members are asked, in the team's time zone; empty: never")
        )
        team.add_column(sa.Column("archived_at", UtcDateTime()))
    with op.batch_alter_table("standup_updates") as update:
        update.add_column(sa.Column("mood", sa.SmallInteger(), comment="1 (bad) to 5 (great); empty: not said"))
        update.create_check_constraint(op.f("ck_standup_updates_mood"), "mood BETWEEN 1 AND 5")


def downgrade() -> None:
    with op.batch_alter_table("standup_updates") as update:
        update.drop_constraint(op.f("ck_standup_updates_mood"), type_="check")
        update.drop_column("mood")
    with op.batch_alter_table("standup_teams") as team:
        for name in ("archived_at", "prompt_at", "time_zone"):
            team.drop_column(name)
    op.drop_table("standup_blocker_helpers")
    op.drop_table("standup_blockers")
