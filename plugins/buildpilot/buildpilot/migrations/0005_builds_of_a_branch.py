"""The last builds of a branch are found by an index, which PostgreSQL makes while builds go on

Revision ID: build0005
"""

from alembic import op

revision = "build0005"
down_revision = "build0004"

NAME = "ix_build_builds_pipeline_id_branch_queued_at"
TABLE = "build_builds"


def upgrade() -> None:
    columns = ["pipeline_id", "branch", "queued_at"]
    if _is_postgresql():
        with op.get_context().autocommit_block():
            op.create_index(op.f(NAME), TABLE, columns, postgresql_concurrently=True, if_not_exists=True)
    else:
        op.create_index(op.f(NAME), TABLE, columns)


def downgrade() -> None:
    if _is_postgresql():
        with op.get_context().autocommit_block():
            op.drop_index(op.f(NAME), TABLE, postgresql_concurrently=True, if_exists=True)
    else:
        op.drop_index(op.f(NAME), TABLE)


def _is_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"
