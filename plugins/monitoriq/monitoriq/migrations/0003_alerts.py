"""Alerts, also about builds of BuildPilot; notes about them, and silences

Revision ID: monitor0003
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import ServerNow, UtcDateTime

revision = "monitor0003"
down_revision = "monitor0002"

opal_depends_on = {"buildpilot": ["build0001"]}

STATE = sa.Enum(
    "firing", "acknowledged", "resolved", name="monitoriq_alert_state", create_constraint=True, create_type=False
)


def upgrade() -> None:
    STATE.create(op.get_bind(), checkfirst=True)
    op.create_table(
        "monitor_alerts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("service_id", sa.Integer(), nullable=False),
        sa.Column("rule_id", sa.Integer()),
        sa.Column("build_id", sa.Integer(), comment="the build that the alert is about"),
        sa.Column("severity_code", sa.String(20), nullable=False),
        sa.Column("state", STATE, nullable=False, server_default="firing"),
        sa.Column("summary", sa.String(300), nullable=False),
        sa.Column("fired_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("acknowledged_at", UtcDateTime()),
        sa.Column("acknowledged_by_id", sa.Integer()),
        sa.Column("resolved_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monitor_alerts")),
        sa.ForeignKeyConstraint(
            ["acknowledged_by_id"],
            ["users.id"],
            name=op.f("fk_monitor_alerts_acknowledged_by_id_users"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["build_id"], ["build_builds.id"], name=op.f("fk_monitor_alerts_build_id_build_builds"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["monitor_rules.id"], name=op.f("fk_monitor_alerts_rule_id_monitor_rules"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["service_id"],
            ["monitor_services.id"],
            name=op.f("fk_monitor_alerts_service_id_monitor_services"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["severity_code"],
            ["monitor_severities.code"],
            name=op.f("fk_monitor_alerts_severity_code_monitor_severities"),
            ondelete="RESTRICT",
            onupdate="CASCADE",
        ),
        sa.CheckConstraint("resolved_at >= fired_at", name=op.f("ck_monitor_alerts_resolved_after_fired")),
        sa.CheckConstraint(
            "state <> 'resolved' OR resolved_at IS NOT NULL", name=op.f("ck_monitor_alerts_resolved_has_a_time")
        ),
    )
    op.create_index(op.f("ix_monitor_alerts_acknowledged_by_id"), "monitor_alerts", ["acknowledged_by_id"])
    op.create_index(op.f("ix_monitor_alerts_build_id"), "monitor_alerts", ["build_id"])
    op.create_index(op.f("ix_monitor_alerts_rule_id"), "monitor_alerts", ["rule_id"])
    op.create_index(op.f("ix_monitor_alerts_service_id_fired_at"), "monitor_alerts", ["service_id", "fired_at"])
    op.create_index(op.f("ix_monitor_alerts_severity_code"), "monitor_alerts", ["severity_code"])
    op.create_index(op.f("ix_monitor_alerts_state_fired_at"), "monitor_alerts", ["state", "fired_at"])
    op.create_table(
        "monitor_alert_notes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Integer()),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monitor_alert_notes")),
        sa.ForeignKeyConstraint(
            ["alert_id"],
            ["monitor_alerts.id"],
            name=op.f("fk_monitor_alert_notes_alert_id_monitor_alerts"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["author_id"], ["users.id"], name=op.f("fk_monitor_alert_notes_author_id_users"), ondelete="SET NULL"
        ),
    )
    op.create_index(op.f("ix_monitor_alert_notes_alert_id"), "monitor_alert_notes", ["alert_id"])
    op.create_index(op.f("ix_monitor_alert_notes_author_id"), "monitor_alert_notes", ["author_id"])
    op.create_table(
        "monitor_silences",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("service_id", sa.Integer(), nullable=False),
        sa.Column("starts_at", UtcDateTime(), nullable=False),
        sa.Column("ends_at", UtcDateTime(), nullable=False),
        sa.Column("reason", sa.String(300), nullable=False),
        sa.Column("created_by_id", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monitor_silences")),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["users.id"], name=op.f("fk_monitor_silences_created_by_id_users"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["service_id"],
            ["monitor_services.id"],
            name=op.f("fk_monitor_silences_service_id_monitor_services"),
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_monitor_silences_ends_after_start")),
    )
    op.create_index(op.f("ix_monitor_silences_created_by_id"), "monitor_silences", ["created_by_id"])
    op.create_index(
        op.f("ix_monitor_silences_service_id_starts_at_ends_at"),
        "monitor_silences",
        ["service_id", "starts_at", "ends_at"],
    )


def downgrade() -> None:
    for table in ("monitor_silences", "monitor_alert_notes", "monitor_alerts"):
        op.drop_table(table)
    STATE.drop(op.get_bind(), checkfirst=True)
