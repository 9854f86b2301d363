"""Findings are marked on images, measured, and explain runs of RegressionInsight; boards come in lots

Revision ID: xray0002
"""

import sqlalchemy as sa
from alembic import op

revision = "xray0002"
down_revision = "xray0001"

opal_depends_on = {"regressioninsight": ["regress0001"]}

ON_IMAGE = "fk_xray_findings_inspection_id_image_id_xray_images"
BY_INSPECTION = "ix_xray_findings_inspection_id"
BY_IMAGE = "ix_xray_findings_inspection_id_image_id"
VERDICTS = ("pending", "accepted", "rejected")


def upgrade() -> None:
    with op.batch_alter_table("xray_images") as images:
        images.add_column(sa.Column("current_ua", sa.Integer(), comment="tube current in microampere"))
        images.create_unique_constraint(op.f("uq_xray_images_inspection_id_id"), ["inspection_id", "id"])
    with op.batch_alter_table("xray_findings") as findings:
        findings.add_column(sa.Column("image_id", sa.Uuid()))
        findings.add_column(
            sa.Column(
                "run_id",
                sa.Integer(),
                sa.ForeignKey(
                    "regress_runs.id", name=op.f("fk_xray_findings_run_id_regress_runs"), ondelete="SET NULL"
                ),
            )
        )
        findings.add_column(sa.Column("measured_percent", sa.Numeric(5, 2)))
        findings.add_column(sa.Column("width_px", sa.Integer()))
        findings.add_column(sa.Column("height_px", sa.Integer()))
        findings.create_check_constraint(op.f("ck_xray_findings_measured"), "measured_percent BETWEEN 0 AND 100")
        findings.create_check_constraint(op.f("ck_xray_findings_size"), "width_px > 0 AND height_px > 0")
        findings.create_index(op.f("ix_xray_findings_run_id"), ["run_id"])
        findings.create_index(op.f(BY_IMAGE), ["inspection_id", "image_id"])
    with op.batch_alter_table("xray_findings") as findings:
        findings.drop_index(op.f(BY_INSPECTION))
        findings.create_foreign_key(
            op.f(ON_IMAGE), "xray_images", ["inspection_id", "image_id"], ["inspection_id", "id"], ondelete="CASCADE"
        )
    with op.batch_alter_table("xray_boards") as boards:
        boards.add_column(sa.Column("lot", sa.String(40)))
        boards.create_index(op.f("ix_xray_boards_part_number_lot"), ["part_number", "lot"])
    with op.batch_alter_table("xray_defect_kinds") as kinds:
        kinds.add_column(
            sa.Column(
                "limit_percent", sa.Numeric(5, 2), comment="share of the joint's area that is tolerable; empty: none is"
            )
        )
        kinds.create_check_constraint(op.f("ck_xray_defect_kinds_limit"), "limit_percent BETWEEN 0 AND 100")
    if _is_postgresql():
        op.execute("ALTER TYPE xrayqc_verdict ADD VALUE IF NOT EXISTS 'rework' BEFORE 'rejected'")
    else:
        _change_verdicts(VERDICTS, ("pending", "accepted", "rework", "rejected"))


def downgrade() -> None:
    op.execute("UPDATE xray_inspections SET verdict = 'rejected' WHERE verdict = 'rework'")
    if not _is_postgresql():  # which keeps the values of a type
        _change_verdicts(("pending", "accepted", "rework", "rejected"), VERDICTS)
    with op.batch_alter_table("xray_defect_kinds") as kinds:
        kinds.drop_constraint(op.f("ck_xray_defect_kinds_limit"), type_="check")
        kinds.drop_column("limit_percent")
    with op.batch_alter_table("xray_boards") as boards:
        boards.drop_index(op.f("ix_xray_boards_part_number_lot"))
        boards.drop_column("lot")
    with op.batch_alter_table("xray_findings") as findings:
        findings.create_index(op.f(BY_INSPECTION), ["inspection_id"])
        findings.drop_constraint(op.f(ON_IMAGE), type_="foreignkey")
        findings.drop_constraint(op.f("fk_xray_findings_run_id_regress_runs"), type_="foreignkey")
        findings.drop_constraint(op.f("ck_xray_findings_measured"), type_="check")
        findings.drop_constraint(op.f("ck_xray_findings_size"), type_="check")
    with op.batch_alter_table("xray_findings") as findings:
        findings.drop_index(op.f(BY_IMAGE))
        findings.drop_index(op.f("ix_xray_findings_run_id"))
        for name in ("height_px", "width_px", "measured_percent", "run_id", "image_id"):
            findings.drop_column(name)
    with op.batch_alter_table("xray_images") as images:
        images.drop_constraint(op.f("uq_xray_images_inspection_id_id"), type_="unique")
        images.drop_column("current_ua")


def _is_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"


def _verdict(*values: str) -> sa.Enum:
    return sa.Enum(*values, name="xrayqc_verdict", create_constraint=True)


def _change_verdicts(there: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    with op.batch_alter_table("xray_inspections") as inspections:
        inspections.alter_column(
            "verdict",
            existing_type=_verdict(*there),
            type_=_verdict(*wanted),
            existing_nullable=False,
            existing_server_default="pending",
        )
