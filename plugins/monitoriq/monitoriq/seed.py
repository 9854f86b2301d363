"""What a new installation starts with."""

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from monitoriq.models import MonitorSeverity

SEVERITIES = (("info", 10, "For the record"), ("warning", 20, "Look at it today"), ("critical", 30, "Look at it now"))


def add_severities(session: sa_orm.Session) -> None:
    """Add the usual levels, unless there are any: who renamed them does not get them again."""
    if session.scalar(sa.select(MonitorSeverity.code).limit(1)) is not None:
        return
    for code, level, title in SEVERITIES:
        session.add(MonitorSeverity(code=code, level=level, title=title, wakes_people=code == "critical"))
