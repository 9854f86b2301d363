"""Refresh tokens, and codes that are sent to people

Revision ID: auth0001
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import UtcDateTime

revision = "auth0001"
down_revision = None

opal_depends_on = {"core": ["core0001"]}

PURPOSE = sa.Enum("sign_in", "reset_password", name="opal_auth_code_purpose", create_constraint=True, create_type=False)


def upgrade() -> None:
    PURPOSE.create(op.get_bind(), checkfirst=True)
    op.create_table(
        "auth_refresh_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column(
            "token_hash", sa.String(64), nullable=False, comment="SHA-256 in hex; the token itself has 256 random bits"
        ),
        sa.Column("issued_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("revoked_at", UtcDateTime()),
        sa.Column("user_agent", sa.String(300)),
        sa.Column("ip_address", sa.String(45), comment="IPv4 or IPv6, as text"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_auth_refresh_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_auth_refresh_tokens_token_hash")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_auth_refresh_tokens_user_id_users"), ondelete="CASCADE"
        ),
        sa.CheckConstraint("expires_at > issued_at", name=op.f("ck_auth_refresh_tokens_expires_after_issue")),
        sa.CheckConstraint("length(token_hash) = 64", name=op.f("ck_auth_refresh_tokens_token_hash")),
    )
    op.create_index(op.f("ix_auth_refresh_tokens_expires_at"), "auth_refresh_tokens", ["expires_at"])
    op.create_index(op.f("ix_auth_refresh_tokens_user_id_expires_at"), "auth_refresh_tokens", ["user_id", "expires_at"])
    op.create_table(
        "auth_one_time_codes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("purpose", PURPOSE, nullable=False),
        sa.Column(
            "code_hash",
            sa.String(128),
            nullable=False,
            comment="keyed hash (HMAC): a plain one of six digits is guessed in a second",
        ),
        sa.Column("sent_to", sa.String(120), nullable=False, comment="e-mail address or telephone number"),
        sa.Column("attempts", sa.SmallInteger(), nullable=False, server_default="0"),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("consumed_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_auth_one_time_codes")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_auth_one_time_codes_user_id_users"), ondelete="CASCADE"
        ),
        sa.CheckConstraint("expires_at > created_at", name=op.f("ck_auth_one_time_codes_expires_after_creation")),
        sa.CheckConstraint("attempts BETWEEN 0 AND 5", name=op.f("ck_auth_one_time_codes_attempts")),
    )
    op.create_index(op.f("ix_auth_one_time_codes_expires_at"), "auth_one_time_codes", ["expires_at"])
    op.create_index(
        op.f("ix_auth_one_time_codes_user_id_purpose_created_at"),
        "auth_one_time_codes",
        ["user_id", "purpose", "created_at"],
    )


def downgrade() -> None:
    op.drop_table("auth_one_time_codes")
    op.drop_table("auth_refresh_tokens")
    PURPOSE.drop(op.get_bind(), checkfirst=True)
