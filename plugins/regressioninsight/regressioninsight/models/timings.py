"""What is measured along the way, and what it should be."""

from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.database import Base
from opal_registry.mixins import Timestamps
from opal_registry.models import User
from regressioninsight.models.runs import RegressionResult
from regressioninsight.models.suites import RegressionCase


class RegressionMetric(Base):
    """One measured value of a result."""

    __tablename__ = "regress_metrics"

    result_id: sa_orm.Mapped[int] = sa_orm.mapped_column(
        sa.ForeignKey("regress_results.id", ondelete="CASCADE"), primary_key=True
    )
    name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80), primary_key=True)
    measured: sa_orm.Mapped[float] = sa_orm.mapped_column(sa.Double)
    unit: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(20), comment="such as ms, MiB or requests/s")

    result: sa_orm.Mapped[RegressionResult] = sa_orm.relationship()


class RegressionBaseline(Timestamps, Base):
    """What a metric of a case should be; a run outside the tolerance is a regression."""

    __tablename__ = "regress_baselines"
    __table_args__ = (
        sa.UniqueConstraint("case_id", "environment", "metric"),
        sa.CheckConstraint("tolerance_percent BETWEEN 0 AND 100", name="tolerance"),
    )

    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    case_id: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.ForeignKey("regress_cases.id", ondelete="CASCADE"))
    environment: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(60))
    metric: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80))
    expected: sa_orm.Mapped[float] = sa_orm.mapped_column(sa.Double)
    tolerance_percent: sa_orm.Mapped[Decimal] = sa_orm.mapped_column(
        sa.Numeric(5, 2), default=Decimal(10), server_default="10"
    )
    approved_by_id: sa_orm.Mapped[int | None] = sa_orm.mapped_column(
        sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )

    case: sa_orm.Mapped[RegressionCase] = sa_orm.relationship()
    approved_by: sa_orm.Mapped[User | None] = sa_orm.relationship()
