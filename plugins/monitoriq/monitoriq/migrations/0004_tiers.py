"""The priority of a service is called its tier, and is one of four

Revision ID: monitor0004
"""

import sqlalchemy as sa
from alembic import op

revision = "monitor0004"
down_revision = "monitor0003"

opal_phase = "contract"

TIER = "ck_monitor_services_tier"


def upgrade() -> None:
    _rename("priority", "tier")
    op.execute("UPDATE monitor_services SET tier = CASE WHEN tier < 1 THEN 1 ELSE 4 END WHERE tier NOT BETWEEN 1 AND 4")
    with op.batch_alter_table("monitor_services") as services:
        services.create_check_constraint(op.f(TIER), "tier BETWEEN 1 AND 4")


def downgrade() -> None:
    with op.batch_alter_table("monitor_services") as services:
        services.drop_constraint(op.f(TIER), type_="check")
    _rename("tier", "priority")


def _rename(old: str, new: str) -> None:
    with op.batch_alter_table("monitor_services") as services:
        services.alter_column(
            old,
            new_column_name=new,
            existing_type=sa.SmallInteger(),
            existing_nullable=False,
            existing_server_default="3",
            existing_comment="1 (the business stops) to 4 (nobody notices)",
        )
