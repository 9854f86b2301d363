"""The table of which every endpoint reads one row, as the contestants on SQLAlchemy map it."""

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column


class Reader:
    """One who reads; a mixin, because each contestant has a declarative base of its own."""

    __tablename__ = "readers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(80))
    email: Mapped[str] = mapped_column(sa.String(120))
    city: Mapped[str] = mapped_column(sa.String(80))
    year: Mapped[int]
