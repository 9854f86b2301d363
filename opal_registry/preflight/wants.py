"""What tables want of a server that not every server has: types, functions, collations, operator classes.

Only what is out of the ordinary is a want, so that a server is seldom asked.
"""

from dataclasses import dataclass
from typing import Literal

from opal_registry.preflight.target import Subject

Kind = Literal["type", "function", "collation", "operator class", "access method", "default operator class"]


@dataclass(frozen=True, slots=True)
class Want:
    """Something that a part of a table needs.

    Args:
        subject: The table.
        part: The part, in words, such as ``"column 'name'"``.
        kind: What is wanted.
        name: What it is called; of a default operator class the type that it is for.
        schema: The schema it is said to be in; of a default operator class the access method.
        takers: Of a function, the databases that have it, and take it there.
    """

    subject: Subject
    part: str
    kind: Kind
    name: str
    schema: str = ""
    takers: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name
