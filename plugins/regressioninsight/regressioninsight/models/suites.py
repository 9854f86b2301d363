"""What is tested: suites and their cases."""

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.database import Base
from opal_registry.mixins import Timestamps
from opal_registry.models import User

suite_watchers = sa.Table(
    "regress_suite_watchers",
    Base.metadata,
    sa.Column("suite_id", sa.ForeignKey("regress_suites.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True),
    comment="who is told when a run of the suite fails",
)


class RegressionSuite(Timestamps, Base):
    """Cases that are run together. One that was run is retired, not deleted."""

    __tablename__ = "regress_suites"

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(120), unique=True)
    description: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.Text)
    is_retired: sa_orm.Mapped[bool] = sa_orm.mapped_column(default=False, server_default=sa.false())
    owner_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )

    owner: sa_orm.Mapped[User | None] = sa_orm.relationship()
    watchers: sa_orm.Mapped[list[User]] = sa_orm.relationship(secondary=suite_watchers, passive_deletes=True)
    cases: sa_orm.Mapped[list["RegressionCase"]] = sa_orm.relationship(
        back_populates="suite", cascade="all, delete-orphan", passive_deletes=True
    )


class RegressionCase(Timestamps, Base):
    """One test. One with results is retired, not deleted."""

    __tablename__ = "regress_cases"
    __table_args__ = (
        sa.UniqueConstraint("suite_id", "identifier"),
        sa.CheckConstraint("priority BETWEEN 1 AND 5", name="priority"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    suite_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("regress_suites.id", ondelete="CASCADE"))
    identifier: sa_orm.Mapped[str] = sa_orm.mapped_column(
        sa.String(400), comment="what the test runner calls it, such as tests/test_login.py::test_logout"
    )
    title: sa_orm.Mapped[str | None] = sa_orm.mapped_column(sa.String(200))
    priority: sa_orm.Mapped[int] = sa_orm.mapped_column(
        sa.SmallInteger, default=3, server_default="3", comment="1 (must never break) to 5"
    )
    is_quarantined: sa_orm.Mapped[bool] = sa_orm.mapped_column(
        default=False, server_default=sa.false(), comment="runs, but does not fail the run"
    )
    is_retired: sa_orm.Mapped[bool] = sa_orm.mapped_column(default=False, server_default=sa.false())

    suite: sa_orm.Mapped[RegressionSuite] = sa_orm.relationship(back_populates="cases")
