"""When a measurement is worth an alert, and how bad that is; heartbeats and queries as checks

Revision ID: monitor0002
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import ServerNow, UtcDateTime

revision = "monitor0002"
down_revision = "monitor0001"

SIGNAL = sa.Enum("down", "slow", "silent", name="monitoriq_rule_signal", create_constraint=True, create_type=False)
FIRST_KINDS = ("http", "tcp")
SEVERITIES = (("info", 10, "For the record"), ("warning", 20, "Look at it today"), ("critical", 30, "Look at it now"))


def upgrade() -> None:
    op.create_table(
        "monitor_severities",
        sa.Column("code", sa.String(20), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False, comment="higher is worse"),
        sa.Column("title", sa.String(80), nullable=False),
        sa.Column("wakes_people", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_monitor_severities")),
        sa.UniqueConstraint("level", name=op.f("uq_monitor_severities_level")),
    )
    _add_severities()
    SIGNAL.create(op.get_bind(), checkfirst=True)
    op.create_table(
        "monitor_rules",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("check_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("signal_kind", SIGNAL, nullable=False),
        sa.Column("threshold_ms", sa.Integer(), comment="for slow: answers that take longer"),
        sa.Column("for_seconds", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("severity_code", sa.String(20), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("created_by_id", sa.Integer()),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monitor_rules")),
        sa.UniqueConstraint("check_id", "name", name=op.f("uq_monitor_rules_check_id_name")),
        sa.ForeignKeyConstraint(
            ["check_id"],
            ["monitor_checks.id"],
            name=op.f("fk_monitor_rules_check_id_monitor_checks"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["users.id"], name=op.f("fk_monitor_rules_created_by_id_users"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["severity_code"],
            ["monitor_severities.code"],
            name=op.f("fk_monitor_rules_severity_code_monitor_severities"),
            ondelete="RESTRICT",
            onupdate="CASCADE",
        ),
        sa.CheckConstraint("for_seconds >= 0", name=op.f("ck_monitor_rules_duration")),
        sa.CheckConstraint(
            "signal_kind <> 'slow' OR threshold_ms IS NOT NULL", name=op.f("ck_monitor_rules_slow_has_a_threshold")
        ),
    )
    op.create_index(op.f("ix_monitor_rules_created_by_id"), "monitor_rules", ["created_by_id"])
    op.create_index(op.f("ix_monitor_rules_severity_code"), "monitor_rules", ["severity_code"])
    _add_rules()
    if _is_postgresql():
        for value in ("heartbeat", "sql"):
            op.execute(f"ALTER TYPE monitoriq_check_kind ADD VALUE IF NOT EXISTS '{value}'")
    else:
        _change_kinds(FIRST_KINDS, (*FIRST_KINDS, "heartbeat", "sql"))
    op.add_column("monitor_services", sa.Column("runbook_url", sa.String(500)))


def downgrade() -> None:
    with op.batch_alter_table("monitor_services") as services:
        services.drop_column("runbook_url")
    op.execute("DELETE FROM monitor_checks WHERE kind IN ('heartbeat', 'sql')")
    if not _is_postgresql():  # which keeps the values of a type
        _change_kinds((*FIRST_KINDS, "heartbeat", "sql"), FIRST_KINDS)
    op.drop_table("monitor_rules")
    SIGNAL.drop(op.get_bind(), checkfirst=True)
    op.drop_table("monitor_severities")


def _add_severities() -> None:
    severities = sa.table(
        "monitor_severities",
        sa.column("code"),
        sa.column("level"),
        sa.column("title"),
        sa.column("wakes_people", sa.Boolean()),
    )
    op.bulk_insert(
        severities,
        [
            {"code": code, "level": level, "title": title, "wakes_people": code == "critical"}
            for code, level, title in SEVERITIES
        ],
    )


def _add_rules() -> None:
    """Whatever was watched so far gave the alarm when it was down."""
    checks = sa.table("monitor_checks", sa.column("id"))
    rules = sa.table(
        "monitor_rules",
        sa.column("check_id"),
        sa.column("name"),
        sa.column("signal_kind"),
        sa.column("for_seconds"),
        sa.column("severity_code"),
    )
    down = sa.select(checks.c.id, sa.literal("down"), sa.literal("down", SIGNAL), sa.literal(0), sa.literal("critical"))
    op.execute(rules.insert().from_select(list(rules.c), down))


def _is_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"


def _kind(*values: str) -> sa.Enum:
    return sa.Enum(*values, name="monitoriq_check_kind", create_constraint=True)


def _change_kinds(there: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    with op.batch_alter_table("monitor_checks") as checks:
        checks.alter_column("kind", existing_type=_kind(*there), type_=_kind(*wanted), existing_nullable=False)
