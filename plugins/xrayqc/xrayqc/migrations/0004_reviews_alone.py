"""Reviews alone say whether a finding was confirmed

Revision ID: xray0004
"""

import sqlalchemy as sa
from alembic import op

revision = "xray0004"
down_revision = "xray0003"

opal_phase = "contract"


def upgrade() -> None:
    with op.batch_alter_table("xray_findings") as findings:
        findings.drop_column("is_confirmed")


def downgrade() -> None:
    op.add_column("xray_findings", sa.Column("is_confirmed", sa.Boolean()))
    findings = sa.table("xray_findings", sa.column("id"), sa.column("is_confirmed", sa.Boolean()))
    reviews = sa.table("xray_reviews", sa.column("finding_id"), sa.column("decision"))
    for decision, is_confirmed in (("dismissed", False), ("confirmed", True)):
        said = sa.select(reviews.c.finding_id).where(reviews.c.decision == sa.literal_column(f"'{decision}'"))
        op.execute(findings.update().where(findings.c.id.in_(said)).values(is_confirmed=is_confirmed))
