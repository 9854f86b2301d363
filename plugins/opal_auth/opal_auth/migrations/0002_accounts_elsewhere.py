"""Accounts elsewhere to sign in with, addresses that are verified, and a record of who signed in

Revision ID: auth0002
"""

import sqlalchemy as sa
from alembic import op

from opal_registry.mixins import UtcDateTime

revision = "auth0002"
down_revision = "auth0001"

METHOD = sa.Enum(
    "password",
    "one_time_code",
    "social",
    name="opal_auth_sign_in_method",
    create_constraint=True,
    create_type=False,
)
OUTCOME = sa.Enum(
    "succeeded",
    "wrong_secret",
    "unknown_user",
    "inactive_user",
    "throttled",
    name="opal_auth_sign_in_outcome",
    create_constraint=True,
    create_type=False,
)
FIRST_PURPOSES = ("sign_in", "reset_password")
PURPOSES = ("sign_in", "verify_email", "reset_password")


def upgrade() -> None:
    for kind in (METHOD, OUTCOME):
        kind.create(op.get_bind(), checkfirst=True)
    op.create_table(
        "auth_social_identities",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(40), nullable=False, comment="such as google, github or microsoft"),
        sa.Column(
            "subject",
            sa.String(255),
            nullable=False,
            comment="the provider's own identifier; never the e-mail address, which changes hands",
        ),
        sa.Column("email", sa.String(120), comment="as the provider last said"),
        sa.Column("linked_at", UtcDateTime(), nullable=False),
        sa.Column("last_used_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_auth_social_identities")),
        sa.UniqueConstraint("provider", "subject", name=op.f("uq_auth_social_identities_provider_subject")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_auth_social_identities_user_id_users"), ondelete="CASCADE"
        ),
    )
    op.create_index(op.f("ix_auth_social_identities_user_id"), "auth_social_identities", ["user_id"])
    op.create_table(
        "auth_sign_in_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("user_id", sa.Integer(), comment="empty: unknown or erased"),
        sa.Column("method", METHOD, nullable=False),
        sa.Column("outcome", OUTCOME, nullable=False),
        sa.Column("ip_address", sa.String(45), comment="IPv4 or IPv6, as text"),
        sa.Column("user_agent", sa.String(300)),
        sa.Column("occurred_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_auth_sign_in_events")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_auth_sign_in_events_user_id_users"), ondelete="SET NULL"
        ),
    )
    op.create_index(
        op.f("ix_auth_sign_in_events_ip_address_occurred_at"), "auth_sign_in_events", ["ip_address", "occurred_at"]
    )
    op.create_index(
        op.f("ix_auth_sign_in_events_user_id_occurred_at"), "auth_sign_in_events", ["user_id", "occurred_at"]
    )
    if _is_postgresql():
        op.execute("ALTER TYPE opal_auth_code_purpose ADD VALUE IF NOT EXISTS 'verify_email' BEFORE 'reset_password'")
    else:
        _change_purposes(FIRST_PURPOSES, PURPOSES)


def downgrade() -> None:
    op.execute("DELETE FROM auth_one_time_codes WHERE purpose = 'verify_email'")
    if not _is_postgresql():  # which keeps the values of a type
        _change_purposes(PURPOSES, FIRST_PURPOSES)
    op.drop_table("auth_sign_in_events")
    op.drop_table("auth_social_identities")
    for kind in (METHOD, OUTCOME):
        kind.drop(op.get_bind(), checkfirst=True)


def _is_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"


def _purpose(*values: str) -> sa.Enum:
    return sa.Enum(*values, name="opal_auth_code_purpose", create_constraint=True)


def _change_purposes(there: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    with op.batch_alter_table("auth_one_time_codes") as codes:
        codes.alter_column("purpose", existing_type=_purpose(*there), type_=_purpose(*wanted), existing_nullable=False)
