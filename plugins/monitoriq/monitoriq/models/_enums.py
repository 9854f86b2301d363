"""How this sub-app stores its enums."""

from enum import StrEnum

import sqlalchemy as sa


def enum_type(members: type[StrEnum], name: str) -> sa.Enum:
    """A type that stores the values, not the Python names; where the database has no enums, a CHECK guards it."""
    return sa.Enum(
        members,
        name=f"monitoriq_{name}",
        values_callable=lambda kind: [member.value for member in kind],
        create_constraint=True,
    )
