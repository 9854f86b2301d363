"""What a failed ``CREATE INDEX CONCURRENTLY`` leaves behind: an index that costs every write, and helps no query."""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

INVALID = sa.text("""
    SELECT n.nspname AS schema, t.relname AS "table", quote_ident(n.nspname) || '.' || quote_ident(i.relname) AS name,
        pg_table_is_visible(t.oid) AS is_visible, quote_ident(i.relname) AS short
    FROM pg_index x
    JOIN pg_class i ON i.oid = x.indexrelid AND i.relkind = 'i'
    JOIN pg_class t ON t.oid = x.indrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE NOT x.indisvalid
        AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = x.indexrelid)
    ORDER BY 1, 2, 3
""")
"""An index that is being built is not valid yet, and nobody's leftover."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """An index that is not valid.

    Args:
        table: The table it is on, as the ledger names it.
        name: Its own name, quoted where it has to be.
    """

    table: str
    name: str

    @property
    def remedy(self) -> str:
        """The statement that takes it away."""
        return f"DROP INDEX CONCURRENTLY {self.name}"


def find_leftovers(connection: sa.Connection, tables: Collection[str] | None = None) -> list[Leftover]:
    """The indexes that are not valid, on PostgreSQL; elsewhere there are none.

    Args:
        connection: The database.
        tables: The tables that count, as the ledger names them; None for all.
    """
    if connection.dialect.name != "postgresql":
        return []
    found = [
        Leftover(
            row.table if row.is_visible else f"{row.schema}.{row.table}", row.short if row.is_visible else row.name
        )
        for row in connection.execute(INVALID)
    ]
    return [each for each in found if tables is None or each.table in tables]
