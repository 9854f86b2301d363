"""The last measurements of a check are found by an index, which PostgreSQL makes while others measure

Revision ID: monitor0005
"""

from alembic import op

revision = "monitor0005"
down_revision = "monitor0004"

TABLE = "monitor_measurements"
BY_CHECK = "ix_monitor_measurements_check_id"
BY_TIME = "ix_monitor_measurements_check_id_measured_at"


def upgrade() -> None:
    _replace(BY_CHECK, BY_TIME, ["check_id", "measured_at"])


def downgrade() -> None:
    _replace(BY_TIME, BY_CHECK, ["check_id"])


def _replace(old: str, new: str, columns: list[str]) -> None:
    """The new one first: MariaDB wants one for the foreign key at any time."""
    if op.get_context().dialect.name == "postgresql":
        with op.get_context().autocommit_block():
            op.create_index(op.f(new), TABLE, columns, postgresql_concurrently=True, if_not_exists=True)
            op.drop_index(op.f(old), TABLE, postgresql_concurrently=True, if_exists=True)
    else:
        op.create_index(op.f(new), TABLE, columns)
        op.drop_index(op.f(old), TABLE)
