"""What a new installation starts with. Kinds that are there already are left as they are."""

from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy import orm as sa_orm

from xrayqc.models import XrayDefectKind

DEFECT_KINDS = (
    ("void", "Void in a ball grid array joint", Decimal(25)),
    ("bridge", "Solder bridge", None),
    ("open", "Open joint", None),
    ("head_in_pillow", "Head in pillow", None),
    ("missing_ball", "Missing ball", None),
)


def add_defect_kinds(session: sa_orm.Session) -> None:
    codes = set(session.scalars(sa.select(XrayDefectKind.code)))
    for code, title, limit in DEFECT_KINDS:
        if code not in codes:
            session.add(XrayDefectKind(code=code, title=title, limit_percent=limit))
