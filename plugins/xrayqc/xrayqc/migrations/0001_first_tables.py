"""Boards are inspected at stations; images, and what is found

Revision ID: xray0001
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import ServerNow, UtcDateTime

revision = "xray0001"
down_revision = None

opal_depends_on = {"core": ["core0001"]}

VERDICT = sa.Enum("pending", "accepted", "rejected", name="xrayqc_verdict", create_constraint=True, create_type=False)


def upgrade() -> None:
    VERDICT.create(op.get_bind(), checkfirst=True)
    op.create_table(
        "xray_stations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("machine_model", sa.String(120), nullable=False),
        sa.Column("location", sa.String(120)),
        sa.Column("max_voltage_kv", sa.Numeric(5, 1), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_xray_stations")),
        sa.UniqueConstraint("name", name=op.f("uq_xray_stations_name")),
        sa.CheckConstraint("max_voltage_kv > 0", name=op.f("ck_xray_stations_max_voltage")),
    )
    op.create_table(
        "xray_boards",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("serial_number", sa.String(80), nullable=False),
        sa.Column("part_number", sa.String(80), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_xray_boards")),
        sa.UniqueConstraint("serial_number", name=op.f("uq_xray_boards_serial_number")),
    )
    op.create_table(
        "xray_inspections",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("board_id", sa.Integer(), nullable=False),
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("operator_id", sa.Integer()),
        sa.Column("inspected_at", UtcDateTime(), nullable=False),
        sa.Column("verdict", VERDICT, nullable=False, server_default="pending"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_xray_inspections")),
        sa.ForeignKeyConstraint(
            ["board_id"], ["xray_boards.id"], name=op.f("fk_xray_inspections_board_id_xray_boards"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["operator_id"], ["users.id"], name=op.f("fk_xray_inspections_operator_id_users"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["station_id"],
            ["xray_stations.id"],
            name=op.f("fk_xray_inspections_station_id_xray_stations"),
            ondelete="RESTRICT",
        ),
    )
    op.create_index(op.f("ix_xray_inspections_board_id_inspected_at"), "xray_inspections", ["board_id", "inspected_at"])
    op.create_index(op.f("ix_xray_inspections_operator_id"), "xray_inspections", ["operator_id"])
    op.create_index(op.f("ix_xray_inspections_station_id"), "xray_inspections", ["station_id"])
    op.create_index(op.f("ix_xray_inspections_verdict"), "xray_inspections", ["verdict"])
    op.create_table(
        "xray_images",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("inspection_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("storage_uri", sa.String(500), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False, comment="of the content, in hex"),
        sa.Column("width_px", sa.Integer(), nullable=False),
        sa.Column("height_px", sa.Integer(), nullable=False),
        sa.Column("voltage_kv", sa.Numeric(5, 1), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_xray_images")),
        sa.UniqueConstraint("inspection_id", "position", name=op.f("uq_xray_images_inspection_id_position")),
        sa.ForeignKeyConstraint(
            ["inspection_id"],
            ["xray_inspections.id"],
            name=op.f("fk_xray_images_inspection_id_xray_inspections"),
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_xray_images_sha256")),
        sa.CheckConstraint("width_px > 0 AND height_px > 0", name=op.f("ck_xray_images_size")),
    )
    op.create_table(
        "xray_defect_kinds",
        sa.Column("code", sa.String(30), nullable=False),
        sa.Column("title", sa.String(120), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_xray_defect_kinds")),
    )
    op.create_table(
        "xray_findings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("inspection_id", sa.Integer(), nullable=False),
        sa.Column("defect_code", sa.String(30), nullable=False),
        sa.Column("component", sa.String(20), comment="reference designator, as U7"),
        sa.Column("x_px", sa.Integer()),
        sa.Column("y_px", sa.Integer()),
        sa.Column("reported_by_id", sa.Integer(), comment="empty: found by the machine"),
        sa.Column("created_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.Column("updated_at", UtcDateTime(), nullable=False, server_default=ServerNow()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_xray_findings")),
        sa.ForeignKeyConstraint(
            ["defect_code"],
            ["xray_defect_kinds.code"],
            name=op.f("fk_xray_findings_defect_code_xray_defect_kinds"),
            ondelete="RESTRICT",
            onupdate="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["inspection_id"],
            ["xray_inspections.id"],
            name=op.f("fk_xray_findings_inspection_id_xray_inspections"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["reported_by_id"], ["users.id"], name=op.f("fk_xray_findings_reported_by_id_users"), ondelete="SET NULL"
        ),
        sa.Column("is_confirmed", sa.Boolean()),
    )
    op.create_index(op.f("ix_xray_findings_defect_code_component"), "xray_findings", ["defect_code", "component"])
    op.create_index(op.f("ix_xray_findings_reported_by_id"), "xray_findings", ["reported_by_id"])
    op.create_index(op.f("ix_xray_findings_inspection_id"), "xray_findings", ["inspection_id"])


def downgrade() -> None:
    for table in (
        "xray_findings",
        "xray_defect_kinds",
        "xray_images",
        "xray_inspections",
        "xray_boards",
        "xray_stations",
    ):
        op.drop_table(table)
    VERDICT.drop(op.get_bind(), checkfirst=True)
