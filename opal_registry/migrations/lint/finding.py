"""What a rule is, and what it finds."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from opal_registry.migrations.lint.case import Case
from opal_registry.migrations.lint.recording import Act

Level = Literal["error", "warning", "note"]

SMALL = 10_000
"""With fewer rows than these, what is long on a big table is over before anybody notices: a note is enough."""


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that a rule minds.

    Args:
        line: Of the revision's file; 0 for the file as a whole.
        what: What it does, as one sentence without a full stop at its end.
        rewrite: The same done safely, as code of a revision to copy.
        tables: Those whose size decides how much it matters.
    """

    line: int
    what: str
    rewrite: str = ""
    tables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that revisions should not do.

    Args:
        id: Its stable name.
        level: How bad it is.
        title: What it is about, in a few words.
        why: Why, as one sentence, by the dialects that it counts for.
        find: Finds it in a revision; None where the findings come from somewhere else.
        by_size: Whether it only matters where a table is big.
    """

    id: str
    level: Level
    title: str
    why: Mapping[str, str]
    find: Callable[[Case], Iterable[Hit]] | None = None
    by_size: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule minds about one revision.

    Args:
        rule: Its stable name.
        level: How bad it is here: ``note`` where the tables are small.
        line: Of the revision's file; 0 for the file as a whole.
        what: What the revision does there.
        why: Why that is bad.
        rewrite: The same done safely, as code to copy; empty where there is no such thing.
        tables: Those that it is about.
        rows: How many rows the biggest of them has, about; None where that is not known.
        waived: Why it is all right here, as the file says; empty where it does not.
    """

    rule: str
    level: Level
    line: int
    what: str
    why: str
    rewrite: str = ""
    tables: tuple[str, ...] = ()
    rows: int | None = None
    waived: str = ""


def everywhere(text: str) -> dict[str, str]:
    """The reason of a rule that counts for every database."""
    return dict.fromkeys(("postgresql", "mysql", "sqlite"), text)


def hit(act: Act, what: str, rewrite: str = "", *tables: str) -> Hit:
    """What a rule minds about one operation; the size of the table that it is on decides, if no other is named."""
    return Hit(act.line, what, rewrite, tables or ((act.table,) if act.table else ()))
