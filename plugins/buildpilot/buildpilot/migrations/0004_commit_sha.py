"""A build's sha is called commit_sha, and has room for SHA-256

Revision ID: build0004
"""

import sqlalchemy as sa
from alembic import op

revision = "build0004"
down_revision = "build0003"

opal_phase = "contract"


def upgrade() -> None:
    _rename("sha", 40, "commit_sha", 64)


def downgrade() -> None:
    op.execute("UPDATE build_builds SET commit_sha = substr(commit_sha, 1, 40) WHERE length(commit_sha) > 40")
    _rename("commit_sha", 64, "sha", 40)


def _rename(old: str, length: int, new: str, new_length: int) -> None:
    with op.batch_alter_table("build_builds") as builds:  # MariaDB renames no column that a check or index names
        builds.drop_constraint(op.f(f"ck_build_builds_{old}"), type_="check")
        builds.drop_index(op.f(f"ix_build_builds_{old}"))
    with op.batch_alter_table("build_builds") as builds:
        builds.alter_column(
            old,
            new_column_name=new,
            existing_type=sa.String(length),
            type_=sa.String(new_length),
            existing_nullable=False,
        )
    with op.batch_alter_table("build_builds") as builds:
        builds.create_check_constraint(op.f(f"ck_build_builds_{new}"), f"length({new}) BETWEEN 7 AND {new_length}")
        builds.create_index(op.f(f"ix_build_builds_{new}"), [new])
