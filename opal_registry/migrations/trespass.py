"""Whose table a revision is about to drop or rename: another sub-app's is left alone."""

import re
from collections.abc import Iterator, Mapping, Sequence

from opal_registry.errors import PluginError, Problem
from opal_registry.migrations.history import History
from opal_registry.migrations.revision_file import Revision
from opal_registry.store.ledger import Entry

DROPS = re.compile(
    r"\s*DROP\s+TABLE\s+(?:IF\s+EXISTS\s+)?(.+?)(?:\s+(?:CASCADE|RESTRICT))?\s*;?\s*", re.IGNORECASE | re.DOTALL
)
RENAMES = re.compile(
    r"\s*ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?(\S+)\s+RENAME\s+(?:TO\s+)?\S+\s*;?\s*", re.IGNORECASE
)
RENAMES_SEVERAL = re.compile(r"\s*RENAME\s+TABLE\s+(.+?)\s*;?\s*", re.IGNORECASE | re.DOTALL)
REBUILT = "_alembic_tmp_"
"""What Alembic calls the table that takes the place of one that it rebuilds on SQLite."""


def find_others_tables(history: History, entries: Mapping[str, Entry], *, downgrade: bool) -> dict[str, Entry]:
    """The tables that a sub-app's revisions are to leave alone, each with the ledger's entry of its owner.

    Args:
        history: Of that sub-app: what it took over is its own, and what it handed over was, before it did.
        entries: The ledger.
        downgrade: Whether revisions are taken back.
    """
    own = {*history.taken, *(history.given if downgrade else ())}
    own |= set(entries[history.app].tables) if history.app in entries else set()
    others = [entry for name, entry in entries.items() if name != history.app]
    return {table: entry for entry in others for table in entry.tables if table not in own}


def check_statement(statement: str, revision: Revision, others: Mapping[str, Entry], sent: Sequence[str]) -> None:
    """See to it that a statement takes no table from another sub-app.

    Args:
        statement: What is about to be executed.
        revision: Whose statement it is.
        others: The tables of others.
        sent: What the revision has executed before.

    Raises:
        PluginError: If it would drop or rename one of these.
    """
    for table in iter_taken_away(statement):
        if (entry := others.get(table)) and not any(REBUILT + table in each for each in sent):
            what = f"{revision} would take away the table {table!r} of sub-app {entry.name!r} ({entry.distribution} {entry.version})"
            mend = f"leave that to the revisions of {entry.name!r}, or let the table change hands first (opal_gives, opal_takes)"
            raise PluginError(Problem(what, str(revision.path), mend))


def iter_taken_away(statement: str) -> Iterator[str]:
    """The tables that a statement drops or gives another name.

    Example:
        >>> list(iter_taken_away('DROP TABLE IF EXISTS "users", billing.invoices CASCADE'))
        ['users', 'billing.invoices']
        >>> list(iter_taken_away("ALTER TABLE users RENAME TO people"))
        ['users']
        >>> list(iter_taken_away("ALTER TABLE users RENAME COLUMN a TO b"))
        []
    """
    found = DROPS.fullmatch(statement) or RENAMES.fullmatch(statement) or RENAMES_SEVERAL.fullmatch(statement)
    for name in found[1].split(",") if found else ():
        bare = re.sub(r'["`\[\]]', "", name).split()[0]
        yield bare.removeprefix("public.").removeprefix("main.")
