"""When somebody came, and was last changed

Revision ID: core0003
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import ServerNow, UtcDateTime

revision = "core0003"
down_revision = "core0002"

NAMES = ("created_at", "updated_at")


def upgrade() -> None:
    with op.batch_alter_table("users", recreate="always" if _is_sqlite() else "never") as users:
        for name in NAMES:
            users.add_column(sa.Column(name, UtcDateTime(), nullable=False, server_default=ServerNow()))


def downgrade() -> None:
    with op.batch_alter_table("users") as users:
        for name in reversed(NAMES):
            users.drop_column(name)


def _is_sqlite() -> bool:
    """Whether a column whose default is not constant can only be had by rebuilding the table."""
    return op.get_context().dialect.name == "sqlite"
