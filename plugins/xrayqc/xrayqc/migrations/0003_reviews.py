"""Several people review a finding; stations are calibrated

Revision ID: xray0003
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import UtcDateTime

revision = "xray0003"
down_revision = "xray0002"

DECISION = sa.Enum(
    "confirmed", "dismissed", "undecided", name="xrayqc_review_decision", create_constraint=True, create_type=False
)


def upgrade() -> None:
    DECISION.create(op.get_bind(), checkfirst=True)
    op.create_table(
        "xray_reviews",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("finding_id", sa.Integer(), nullable=False),
        sa.Column("reviewer_id", sa.Integer()),
        sa.Column("decision", DECISION, nullable=False),
        sa.Column("comment", sa.Text()),
        sa.Column("reviewed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_xray_reviews")),
        sa.UniqueConstraint("finding_id", "reviewer_id", name=op.f("uq_xray_reviews_finding_id_reviewer_id")),
        sa.ForeignKeyConstraint(
            ["finding_id"],
            ["xray_findings.id"],
            name=op.f("fk_xray_reviews_finding_id_xray_findings"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["reviewer_id"], ["users.id"], name=op.f("fk_xray_reviews_reviewer_id_users"), ondelete="SET NULL"
        ),
    )
    op.create_index(op.f("ix_xray_reviews_reviewer_id"), "xray_reviews", ["reviewer_id"])
    op.create_table(
        "xray_calibrations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("performed_at", UtcDateTime(), nullable=False),
        sa.Column("valid_until", UtcDateTime(), nullable=False),
        sa.Column("is_passed", sa.Boolean(), nullable=False),
        sa.Column("performed_by_id", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_xray_calibrations")),
        sa.ForeignKeyConstraint(
            ["performed_by_id"],
            ["users.id"],
            name=op.f("fk_xray_calibrations_performed_by_id_users"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["station_id"],
            ["xray_stations.id"],
            name=op.f("fk_xray_calibrations_station_id_xray_stations"),
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("valid_until > performed_at", name=op.f("ck_xray_calibrations_valid_after_performed")),
    )
    op.create_index(op.f("ix_xray_calibrations_performed_by_id"), "xray_calibrations", ["performed_by_id"])
    op.create_index(
        op.f("ix_xray_calibrations_station_id_valid_until"), "xray_calibrations", ["station_id", "valid_until"]
    )
    op.add_column("xray_stations", sa.Column("is_in_service", sa.Boolean(), nullable=False, server_default=sa.true()))
    findings = sa.table("xray_findings", sa.column("id"), sa.column("is_confirmed"), sa.column("updated_at"))
    reviews = sa.table("xray_reviews", sa.column("finding_id"), sa.column("decision"), sa.column("reviewed_at"))
    for is_confirmed, decision in ((sa.true(), "confirmed"), (sa.false(), "dismissed")):
        said = sa.select(findings.c.id, sa.literal(decision, DECISION), findings.c.updated_at)
        said = said.where(findings.c.is_confirmed == is_confirmed)
        op.execute(reviews.insert().from_select(list(reviews.c), said))


def downgrade() -> None:
    with op.batch_alter_table("xray_stations") as stations:
        stations.drop_column("is_in_service")
    op.drop_table("xray_calibrations")
    op.drop_table("xray_reviews")
    DECISION.drop(op.get_bind(), checkfirst=True)
