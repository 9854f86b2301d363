"""Services, their checks, and what was measured

Revision ID: monitor0001
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import ServerNow, UtcDateTime

revision = "monitor0001"
down_revision = None

opal_depends_on = {"core": ["core0001"]}

KIND = sa.Enum("http", "tcp", name="monitoriq_check_kind", create_constraint=True, create_type=False)


def upgrade() -> None:
    KIND.create(op.get_bind(), checkfirst=True)
    op.create_table(
        "monitor_services",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("slug", sa.String(80), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("owner_id", sa.Integer()),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monitor_services")),
        sa.UniqueConstraint("slug", name=op.f("uq_monitor_services_slug")),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name=op.f("fk_monitor_services_owner_id_users"), ondelete="SET NULL"
        ),
        sa.Column(
            "priority",
            sa.SmallInteger(),
            nullable=False,
            server_default="3",
            comment="1 (the business stops) to 4 (nobody notices)",
        ),
    )
    op.create_index(op.f("ix_monitor_services_owner_id"), "monitor_services", ["owner_id"])
    op.create_table(
        "monitor_checks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("service_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("kind", KIND, nullable=False),
        sa.Column("target", sa.String(500), nullable=False, comment="URL, host:port, or a name for the probe"),
        sa.Column("interval_seconds", sa.Integer(), nullable=False, server_default="60"),
        sa.Column("timeout_seconds", sa.Integer(), nullable=False, server_default="5"),
        sa.Column("is_paused", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monitor_checks")),
        sa.UniqueConstraint("service_id", "name", name=op.f("uq_monitor_checks_service_id_name")),
        sa.ForeignKeyConstraint(
            ["service_id"],
            ["monitor_services.id"],
            name=op.f("fk_monitor_checks_service_id_monitor_services"),
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("interval_seconds BETWEEN 5 AND 86400", name=op.f("ck_monitor_checks_interval")),
        sa.CheckConstraint(
            "timeout_seconds > 0 AND timeout_seconds <= interval_seconds", name=op.f("ck_monitor_checks_timeout")
        ),
    )
    op.create_table(
        "monitor_measurements",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("check_id", sa.Integer(), nullable=False),
        sa.Column("measured_at", UtcDateTime(), nullable=False),
        sa.Column("is_up", sa.Boolean(), nullable=False),
        sa.Column("latency_ms", sa.Integer(), comment="empty: no answer within the timeout"),
        sa.Column("detail", sa.String(300)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monitor_measurements")),
        sa.ForeignKeyConstraint(
            ["check_id"],
            ["monitor_checks.id"],
            name=op.f("fk_monitor_measurements_check_id_monitor_checks"),
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("latency_ms >= 0", name=op.f("ck_monitor_measurements_latency")),
    )
    op.create_index(op.f("ix_monitor_measurements_check_id"), "monitor_measurements", ["check_id"])


def downgrade() -> None:
    for table in ("monitor_measurements", "monitor_checks", "monitor_services"):
        op.drop_table(table)
    KIND.drop(op.get_bind(), checkfirst=True)
