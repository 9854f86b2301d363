"""How bad it is."""

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from opal_registry.database import Base


class MonitorSeverity(Base):
    """One level of urgency; the operator may rename, add and re-order them."""

    __tablename__ = "monitor_severities"

    code: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(20), primary_key=True)
    level: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.SmallInteger, unique=True, comment="higher is worse")
    title: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80))
    wakes_people: sa_orm.Mapped[bool] = sa_orm.mapped_column(default=False, server_default=sa.false())
