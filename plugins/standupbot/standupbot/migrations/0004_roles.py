"""Members have roles; who has left the company observes

Revision ID: standup0004
"""

import sqlalchemy as sa
from alembic import op

revision = "standup0004"
down_revision = "standup0003"

opal_depends_on = {"core": ["core0002"]}  # which says who is active

ROLE = sa.Enum(
    "member", "facilitator", "observer", name="standupbot_member_role", create_constraint=True, create_type=False
)

memberships = sa.table(
    "standup_memberships", sa.column("user_id"), sa.column("role", ROLE), sa.column("is_facilitator", sa.Boolean())
)
users = sa.table("users", sa.column("id"), sa.column("is_active", sa.Boolean()))


def upgrade() -> None:
    ROLE.create(op.get_bind(), checkfirst=True)
    with op.batch_alter_table("standup_memberships") as membership:
        membership.add_column(sa.Column("role", ROLE, nullable=False, server_default="member"))
    op.execute(memberships.update().where(memberships.c.is_facilitator.is_(sa.true())).values(role="facilitator"))
    gone = sa.select(users.c.id).where(users.c.is_active.is_(sa.false()))
    op.execute(memberships.update().where(memberships.c.user_id.in_(gone)).values(role="observer"))


def downgrade() -> None:
    op.execute(
        memberships.update().values(
            is_facilitator=sa.case((memberships.c.role == "facilitator", sa.true()), else_=sa.false())
        )
    )
    with op.batch_alter_table("standup_memberships") as membership:
        if op.get_context().dialect.name == "sqlite":  # where a check stands for the type
            membership.drop_constraint(op.f("ck_standup_memberships_standupbot_member_role"), type_="check")
        membership.drop_column("role")
    ROLE.drop(op.get_bind(), checkfirst=True)
