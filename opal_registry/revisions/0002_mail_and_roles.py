"""An address, and what somebody may do

Revision ID: core0002
"""

import sqlalchemy as sa
from alembic import op

revision = "core0002"
down_revision = "core0001"


def upgrade() -> None:
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("email", sa.String(120)))
        users.add_column(sa.Column("is_active", sa.Boolean(), nullable=False, server_default=sa.true()))
        users.add_column(sa.Column("roles", sa.JSON()))
        # opal: allow opal.M104 because people are thousands, not millions
        users.create_unique_constraint(op.f("uq_users_email"), ["email"])
    # opal: allow opal.M201 because people are thousands, not millions
    op.execute("UPDATE users SET roles = '[]'")
    with op.batch_alter_table("users") as users:
        # opal: allow opal.M108 because people are thousands, not millions
        users.alter_column("roles", existing_type=sa.JSON(), nullable=False)


def downgrade() -> None:
    with op.batch_alter_table("users") as users:
        users.drop_constraint(op.f("uq_users_email"), type_="unique")
        users.drop_column("roles")
        users.drop_column("is_active")
        users.drop_column("email")
