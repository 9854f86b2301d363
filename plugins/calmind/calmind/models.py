"""The tables of CalMind. All but the exercises and feelings is private to one person, and goes when the person does."""

import datetime as dt
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.database import Base
from opal_registry.mixins import Timestamps, UtcDateTime, UUIDKey, utc_now
from opal_registry.models import User


class ExerciseKind(StrEnum):
    BREATHING = "breathing"
    MEDITATION = "meditation"
    BODY_SCAN = "body_scan"
    WALK = "walk"


class CalmExercise(Timestamps, Base):
    """Something to do for a few minutes. One that was practised is withdrawn (not published), not deleted."""

    __tablename__ = "calmind_exercises"
    __table_args__ = (sa.CheckConstraint("duration_seconds > 0", name="duration"),)

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    slug: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(60), unique=True)
    title: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(120))
    kind: sa_orm.Mapped[ExerciseKind] = sa_orm.mapped_column(
        sa.Enum(
            ExerciseKind,
            name="calmind_exercise_kind",
            native_enum=False,  # a new kind is a new CHECK, on every database alike
            create_constraint=True,
            length=20,
            values_callable=lambda members: [member.value for member in members],
        )
    )
    duration_seconds: sa_orm.Mapped[int]
    instructions: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.Text)
    is_published: sa_orm.Mapped[bool] = sa_orm.mapped_column(default=True, server_default=sa.true())


class PracticeSession(UUIDKey, Base):
    """That somebody did an exercise, or began to. The key is made on the phone, which may be offline."""

    __tablename__ = "calmind_practice_sessions"
    __table_args__ = (
        sa.CheckConstraint("completed_at >= started_at", name="completes_after_start"),
        sa.Index(None, "user_id", "started_at"),
    )

    user_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    exercise_id: sa_orm.Mapped[int] = sa_orm.mapped_column(
        sa.ForeignKey("calmind_exercises.id", ondelete="RESTRICT"), index=True
    )
    started_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, default=utc_now)
    completed_at: sa_orm.Mapped[dt.datetime | None] = sa_orm.mapped_column(UtcDateTime, comment="empty: broken off")

    user: sa_orm.Mapped[User] = sa_orm.relationship()
    exercise: sa_orm.Mapped[CalmExercise] = sa_orm.relationship()


class CalmFeeling(Base):
    """A word for how one feels."""

    __tablename__ = "calmind_feelings"
    __table_args__ = (sa.CheckConstraint("valence BETWEEN -1 AND 1", name="valence"),)

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(40), unique=True)
    valence: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.SmallInteger, comment="-1 unpleasant, 0 neutral, 1 pleasant")


check_in_feelings = sa.Table(
    "calmind_check_in_feelings",
    Base.metadata,
    sa.Column("check_in_id", sa.ForeignKey("calmind_check_ins.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("feeling_id", sa.ForeignKey("calmind_feelings.id", ondelete="CASCADE"), primary_key=True, index=True),
)


class MoodCheckIn(UUIDKey, Base):
    """How somebody is, at one moment."""

    __tablename__ = "calmind_check_ins"
    __table_args__ = (
        sa.CheckConstraint("mood BETWEEN 1 AND 5", name="mood"),
        sa.CheckConstraint("stress BETWEEN 0 AND 10", name="stress"),
        sa.Index(None, "user_id", "recorded_at"),
    )

    user_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    recorded_at: sa_orm.Mapped[dt.datetime] = sa_orm.mapped_column(UtcDateTime, default=utc_now)
    mood: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.SmallInteger, comment="1 (low) to 5 (high)")
    stress: sa_orm.Mapped[int | None] = sa_orm.mapped_column(sa.SmallInteger, comment="0 (none) to 10")
    note: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.Text)

    user: sa_orm.Mapped[User] = sa_orm.relationship()
    feelings: sa_orm.Mapped[list[CalmFeeling]] = sa_orm.relationship(
        secondary=check_in_feelings, passive_deletes=True, order_by=CalmFeeling.name
    )


class CalmReminder(Timestamps, Base):
    """When to remind somebody to take a break; of an exercise, or of none in particular."""

    __tablename__ = "calmind_reminders"
    __table_args__ = (
        sa.UniqueConstraint("user_id", "weekday", "time_of_day"),
        sa.CheckConstraint("weekday BETWEEN 1 AND 7", name="weekday"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    user_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    weekday: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.SmallInteger, comment="ISO 8601: Monday is 1")
    time_of_day: sa_orm.Mapped[dt.time] = sa_orm.mapped_column(sa.Time, comment="on the clock of time_zone")
    time_zone: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(64), default="UTC", server_default="UTC")
    exercise_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("calmind_exercises.id", ondelete="SET NULL"), index=True
    )
    is_enabled: sa_orm.Mapped[bool] = sa_orm.mapped_column(default=True, server_default=sa.true())

    user: sa_orm.Mapped[User] = sa_orm.relationship()
    exercise: sa_orm.Mapped[CalmExercise | None] = sa_orm.relationship()


class CalmJournalEntry(UUIDKey, Timestamps, Base):
    """A page of somebody's private journal."""

    __tablename__ = "calmind_journal_entries"
    __table_args__ = (sa.Index(None, "user_id", "created_at"),)

    user_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    title: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(200))
    body: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.Text)

    user: sa_orm.Mapped[User] = sa_orm.relationship()
