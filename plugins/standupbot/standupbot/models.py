"""The tables of StandupBot: teams and their questions, one meeting a day, one update a person."""

import datetime as dt
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.database import Base
from opal_registry.mixins import Timestamps, UtcDateTime, utc_now
from opal_registry.models import User


class MemberRole(StrEnum):
    MEMBER = "member"
    FACILITATOR = "facilitator"
    OBSERVER = "observer"


def _values(members: type[StrEnum]) -> list[str]:
    """What an enum column stores: the values, not the Python names."""
    return [member.value for member in members]


class StandupTeam(Timestamps, Base):
    """People who stand up together. A team that has met is archived, not deleted."""

    __tablename__ = "standup_teams"

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80), unique=True)
    time_zone: sa_orm.Mapped[str] = sa_orm.mapped_column(
        sa.String(64), default="UTC", server_default="UTC", comment="IANA name, such as Europe/Berlin"
    )
    prompt_at: sa_orm.Mapped[dt.time | None] = sa_orm.mapped_column(
        sa.Time, comment="when members are asked, in the team's time zone; empty: never"
    )
    archived_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)
    created_by_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )

    created_by: sa_orm.Mapped[User | None] = sa_orm.relationship()
    memberships: sa_orm.Mapped[list["StandupMembership"]] = sa_orm.relationship(
        back_populates="team", cascade="all, delete-orphan", passive_deletes=True
    )
    questions: sa_orm.Mapped[list["StandupQuestion"]] = sa_orm.relationship(
        back_populates="team",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by=lambda: StandupQuestion.position,
    )


class StandupMembership(Base):
    """That a person belongs to a team, and as what."""

    __tablename__ = "standup_memberships"

    team_id: sa_orm.Mapped[int] = sa_orm.mapped_column(
        sa.ForeignKey("standup_teams.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: sa_orm.Mapped[int] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    role: sa_orm.Mapped[MemberRole] = sa_orm.mapped_column(
        sa.Enum(MemberRole, name="standupbot_member_role", values_callable=_values, create_constraint=True),
        default=MemberRole.MEMBER,
        server_default=MemberRole.MEMBER.value,
    )
    joined_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, default=utc_now)

    team: sa_orm.Mapped[StandupTeam] = sa_orm.relationship(back_populates="memberships")
    user: sa_orm.Mapped[User] = sa_orm.relationship()


class StandupQuestion(Base):
    """One of the questions a team answers. One that was answered is retired, not deleted."""

    __tablename__ = "standup_questions"
    __table_args__ = (
        sa.UniqueConstraint("team_id", "position"),
        sa.CheckConstraint("position >= 1", name="position"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    team_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("standup_teams.id", ondelete="CASCADE"))
    position: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.SmallInteger)
    text: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(300))
    is_required: sa_orm.Mapped[bool] = sa_orm.mapped_column(default=True, server_default=sa.true())
    retired_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)

    team: sa_orm.Mapped[StandupTeam] = sa_orm.relationship(back_populates="questions")


class StandupMeeting(Base):
    """The stand-up of one team on one day."""

    __tablename__ = "standup_meetings"
    __table_args__ = (sa.UniqueConstraint("team_id", "held_on"),)

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    team_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("standup_teams.id", ondelete="RESTRICT"))
    held_on: sa_orm.Mapped[dt.date] = sa_orm.mapped_column(comment="the day in the team's time zone")
    facilitator_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    opened_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, default=utc_now)
    closed_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime)

    team: sa_orm.Mapped[StandupTeam] = sa_orm.relationship()
    facilitator: sa_orm.Mapped[User | None] = sa_orm.relationship()
    updates: sa_orm.Mapped[list["StandupUpdate"]] = sa_orm.relationship(
        back_populates="meeting", cascade="all, delete-orphan", passive_deletes=True
    )


class StandupUpdate(Timestamps, Base):
    """What one person reported; it goes when the person is erased."""

    __tablename__ = "standup_updates"
    __table_args__ = (
        sa.UniqueConstraint("meeting_id", "author_id"),
        sa.CheckConstraint("mood BETWEEN 1 AND 5", name="mood"),
        sa.Index(None, "author_id", "created_at"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    meeting_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("standup_meetings.id", ondelete="CASCADE"))
    author_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    mood: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.SmallInteger, comment="1 (bad) to 5 (great); empty: not said"
    )

    meeting: sa_orm.Mapped[StandupMeeting] = sa_orm.relationship(back_populates="updates")
    author: sa_orm.Mapped[User] = sa_orm.relationship()
    answers: sa_orm.Mapped[list["StandupAnswer"]] = sa_orm.relationship(
        back_populates="update", cascade="all, delete-orphan", passive_deletes=True
    )
    blockers: sa_orm.Mapped[list["StandupBlocker"]] = sa_orm.relationship(
        back_populates="update", cascade="all, delete-orphan", passive_deletes=True
    )


class StandupAnswer(Base):
    """The answer to one question in an update."""

    __tablename__ = "standup_answers"

    update_id: sa_orm.Mapped[int] = sa_orm.mapped_column(
        sa.ForeignKey("standup_updates.id", ondelete="CASCADE"), primary_key=True
    )
    question_id: sa_orm.Mapped[int] = sa_orm.mapped_column(
        sa.ForeignKey("standup_questions.id", ondelete="RESTRICT"), primary_key=True, index=True
    )
    text: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.Text)

    update: sa_orm.Mapped[StandupUpdate] = sa_orm.relationship(back_populates="answers")
    question: sa_orm.Mapped[StandupQuestion] = sa_orm.relationship()


blocker_helpers = sa.Table(
    "standup_blocker_helpers",
    Base.metadata,
    sa.Column("blocker_id", sa.ForeignKey("standup_blockers.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True),
)


class StandupBlocker(Timestamps, Base):
    """Something in the way of whoever reported it, until somebody resolves it."""

    __tablename__ = "standup_blockers"

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    update_id: sa_orm.Mapped[int] = sa_orm.mapped_column(
        sa.ForeignKey("standup_updates.id", ondelete="CASCADE"), index=True
    )
    description: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.Text)
    resolved_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(
        UtcDateTime, index=True, comment="empty: still open"
    )
    resolved_by_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )

    update: sa_orm.Mapped[StandupUpdate] = sa_orm.relationship(back_populates="blockers")
    resolved_by: sa_orm.Mapped[User | None] = sa_orm.relationship()
    helpers: sa_orm.Mapped[list[User]] = sa_orm.relationship(secondary=blocker_helpers, passive_deletes=True)

    def resolve(self, by: User) -> None:
        """Mark it as out of the way."""
        self.resolved_at = utc_now()
        self.resolved_by = by
