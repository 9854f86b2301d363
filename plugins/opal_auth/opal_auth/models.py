"""The tables of the auth service. Nothing here can be used to sign in by whoever reads it: secrets are kept as hashes."""

import datetime as dt
import uuid
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.database import Base
from opal_registry.mixins import UtcDateTime, UUIDKey, utc_now
from opal_registry.models import User


class CodePurpose(StrEnum):
    SIGN_IN = "sign_in"
    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 -- not a password


class RevocationReason(StrEnum):
    SIGNED_OUT = "signed_out"
    REUSED = "reused"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 -- not a password
    BY_ADMIN = "by_admin"


class SignInMethod(StrEnum):
    PASSWORD = "password"  # noqa: S105 -- not a password
    ONE_TIME_CODE = "one_time_code"
    SOCIAL = "social"


class SignInOutcome(StrEnum):
    SUCCEEDED = "succeeded"
    WRONG_SECRET = "wrong_secret"  # noqa: S105 -- not a password
    UNKNOWN_USER = "unknown_user"
    INACTIVE_USER = "inactive_user"
    THROTTLED = "throttled"


def _enum_type(members: type[StrEnum], name: str) -> sa.Enum:
    return sa.Enum(
        members,
        name=f"opal_auth_{name}",
        values_callable=lambda kind: [member.value for member in kind],
        create_constraint=True,
    )


class RefreshToken(UUIDKey, Base):
    """One link of a chain of refresh tokens.

    Signing in starts a family; each refresh replaces the token by a new one of the family. Nothing replaces a token
    twice (``replaces_id`` is unique), so a stolen token that is used again is seen, and its family revoked
    (RFC 9700, 4.14.2).
    """

    __tablename__ = "auth_refresh_tokens"
    __table_args__ = (
        sa.CheckConstraint("length(token_hash) = 64", name="token_hash"),
        sa.CheckConstraint("expires_at > issued_at", name="expires_after_issue"),
        sa.Index(None, "user_id", "expires_at"),
    )

    user_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    family_id: sa_orm.Mapped[uuid.UUID] = sa_orm.mapped_column(sa.Uuid, default=uuid.uuid4, index=True)
    replaces_id: sa_orm.Mapped[uuid.UUID | None] = sa_orm.mapped_column(
        sa.ForeignKey("auth_refresh_tokens.id", ondelete="SET NULL"), unique=True
    )
    token_hash: sa_orm.Mapped[str] = sa_orm.mapped_column(
        sa.String(64), unique=True, comment="SHA-256 in hex; the token itself has 256 random bits"
    )
    issued_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, default=utc_now)
    expires_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, index=True)
    revoked_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)
    revocation_reason: sa_orm.Mapped[RevocationReason | None] = sa_orm.mapped_column(
        _enum_type(RevocationReason, "revocation_reason")
    )
    user_agent: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(300))
    ip_address: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(45), comment="IPv4 or IPv6, as text")

    user: sa_orm.Mapped[User] = sa_orm.relationship()
    replaces: sa_orm.Mapped["RefreshToken | None"] = sa_orm.relationship(remote_side=lambda: RefreshToken.id)


class OneTimeCode(UUIDKey, Base):
    """A short code that was sent to somebody, good for one purpose, once."""

    __tablename__ = "auth_one_time_codes"
    __table_args__ = (
        sa.CheckConstraint("attempts BETWEEN 0 AND max_attempts", name="attempts"),
        sa.CheckConstraint("expires_at > created_at", name="expires_after_creation"),
        sa.Index(None, "user_id", "purpose", "created_at"),
    )

    user_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    purpose: sa_orm.Mapped[CodePurpose] = sa_orm.mapped_column(_enum_type(CodePurpose, "code_purpose"))
    code_hash: sa_orm.Mapped[str] = sa_orm.mapped_column(
        sa.String(128), comment="keyed hash (HMAC): a plain one of six digits is guessed in a second"
    )
    sent_to: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(120), comment="e-mail address or telephone number")
    attempts: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.SmallInteger, default=0, server_default="0")
    max_attempts: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.SmallInteger, default=5, server_default="5")
    created_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, default=utc_now)
    expires_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, index=True)
    consumed_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)

    user: sa_orm.Mapped[User] = sa_orm.relationship()


class SocialIdentity(Base):
    """An account elsewhere that somebody signs in with; each belongs to one person, a person may have several."""

    __tablename__ = "auth_social_identities"
    __table_args__ = (sa.UniqueConstraint("provider", "subject"),)

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    user_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    provider: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(40), comment="such as google, github or microsoft")
    subject: sa_orm.Mapped[str] = sa_orm.mapped_column(
        sa.String(255), comment="the provider's own identifier; never the e-mail address, which changes hands"
    )
    email: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(120), comment="as the provider last said")
    linked_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, default=utc_now)
    last_used_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)

    user: sa_orm.Mapped[User] = sa_orm.relationship()


class SignInEvent(Base):
    """Somebody signed in, or tried to. Kept without the person when the person is erased."""

    __tablename__ = "auth_sign_in_events"
    __table_args__ = (
        sa.Index(None, "user_id", "occurred_at"),
        sa.Index(None, "ip_address", "occurred_at"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),  # SQLite counts up INTEGER keys only
        primary_key=True,
    )
    user_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), comment="empty: unknown or erased"
    )
    method: sa_orm.Mapped[SignInMethod] = sa_orm.mapped_column(_enum_type(SignInMethod, "sign_in_method"))
    outcome: sa_orm.Mapped[SignInOutcome] = sa_orm.mapped_column(_enum_type(SignInOutcome, "sign_in_outcome"))
    ip_address: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(45), comment="IPv4 or IPv6, as text")
    user_agent: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(300))
    occurred_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, default=utc_now)

    user: sa_orm.Mapped[User | None] = sa_orm.relationship()
