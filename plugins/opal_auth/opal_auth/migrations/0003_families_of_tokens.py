"""Tokens replace each other, so that one that was stolen is seen; each one so far is a family of its own

Revision ID: auth0003
"""

import sqlalchemy as sa
from alembic import op

revision = "auth0003"
down_revision = "auth0002"

REASON = sa.Enum(
    "signed_out",
    "reused",
    "password_changed",
    "by_admin",
    name="opal_auth_revocation_reason",
    create_constraint=True,
    create_type=False,
)

tokens = sa.table(
    "auth_refresh_tokens",
    sa.column("id"),
    sa.column("family_id"),
    sa.column("revoked_at"),
    sa.column("revocation_reason", REASON),
)


def upgrade() -> None:
    REASON.create(op.get_bind(), checkfirst=True)
    with op.batch_alter_table("auth_refresh_tokens") as batch:
        batch.add_column(sa.Column("family_id", sa.Uuid()))
        batch.add_column(
            sa.Column(
                "replaces_id",
                sa.Uuid(),
                sa.ForeignKey(
                    "auth_refresh_tokens.id",
                    name=op.f("fk_auth_refresh_tokens_replaces_id_auth_refresh_tokens"),
                    ondelete="SET NULL",
                ),
            )
        )
        batch.create_unique_constraint(op.f("uq_auth_refresh_tokens_replaces_id"), ["replaces_id"])
        batch.add_column(sa.Column("revocation_reason", REASON))
    op.execute(tokens.update().values(family_id=tokens.c.id))
    op.execute(tokens.update().where(tokens.c.revoked_at.is_not(None)).values(revocation_reason="signed_out"))
    with op.batch_alter_table("auth_refresh_tokens") as batch:
        batch.alter_column("family_id", existing_type=sa.Uuid(), nullable=False)
        batch.create_index(op.f("ix_auth_refresh_tokens_family_id"), ["family_id"])


def downgrade() -> None:
    with op.batch_alter_table("auth_refresh_tokens") as batch:
        batch.drop_index(op.f("ix_auth_refresh_tokens_family_id"))
        batch.drop_constraint(op.f("fk_auth_refresh_tokens_replaces_id_auth_refresh_tokens"), type_="foreignkey")
        batch.drop_constraint(op.f("uq_auth_refresh_tokens_replaces_id"), type_="unique")
        if op.get_context().dialect.name == "sqlite":  # where a check stands for the type
            batch.drop_constraint(op.f("ck_auth_refresh_tokens_opal_auth_revocation_reason"), type_="check")
        for name in ("revocation_reason", "replaces_id", "family_id"):
            batch.drop_column(name)
    REASON.drop(op.get_bind(), checkfirst=True)
