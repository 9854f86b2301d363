"""What a server has of the things that tables want of it: one query, and only where something is wanted."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from opal_registry.preflight.wants import Want

POSTGRESQL = """
    SELECT 'type', n.nspname::text, t.typname::text, pg_type_is_visible(t.oid)
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typname = ANY (:names)
    UNION ALL
    SELECT 'function', n.nspname, p.proname, pg_function_is_visible(p.oid)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.proname = ANY (:names)
    UNION ALL
    SELECT 'collation', n.nspname, c.collname, pg_collation_is_visible(c.oid)
    FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.collname = ANY (:names)
    UNION ALL
    SELECT 'operator class', n.nspname, o.opcname, pg_opclass_is_visible(o.oid)
    FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace WHERE o.opcname = ANY (:names)
    UNION ALL
    SELECT 'default operator class', a.amname, format_type(o.opcintype, NULL), true
    FROM pg_opclass o JOIN pg_am a ON a.oid = o.opcmethod WHERE o.opcdefault AND a.amname = ANY (:schemas)
    UNION ALL
    SELECT 'access method', '', amname, true FROM pg_am WHERE amname = ANY (:names)
    UNION ALL
    SELECT 'extension', n.nspname, e.extname, true
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = ANY (:extensions)
    UNION ALL
    SELECT 'offer', '', name, true FROM pg_available_extensions WHERE name = ANY (:extensions)
"""
SQLITE = """
    SELECT 'function', '', name, true FROM pragma_function_list
    UNION ALL
    SELECT 'collation', '', lower(name), true FROM pragma_collation_list
"""
MYSQL = "SELECT 'collation', '', lower(collation_name), true FROM information_schema.collations"
QUERIES = {"postgresql": POSTGRESQL, "sqlite": SQLITE, "mysql": MYSQL, "mariadb": MYSQL}


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a server has.

    Args:
        rows: The kind of a thing, its schema, its name, and whether it is meant by its name alone.
    """

    rows: Collection[tuple[str, str, str, bool]]

    def has(self, want: Want) -> bool:
        """Whether something is there and can be used as it is written."""
        return any(
            _is_called(want, name) and (want.schema == schema if want.schema else visible)
            for kind, schema, name, visible in self.rows
            if kind == want.kind
        )

    def schema_of(self, extension: str) -> str:
        """The schema that an extension was installed into; empty if it is not installed."""
        return next((schema for kind, schema, name, _ in self.rows if (kind, name) == ("extension", extension)), "")

    def offers(self, extension: str) -> bool:
        """Whether an extension could be installed."""
        return any((kind, name) == ("offer", extension) for kind, _, name, _ in self.rows)


def read_inventory(connection: sa.Connection, wants: Sequence[Want], extensions: Collection[str]) -> Inventory:
    """Ask a server for what is wanted.

    Args:
        connection: To the server; only read.
        wants: What is wanted.
        extensions: The extensions of PostgreSQL that may bring it.
    """
    query = sa.text(QUERIES[connection.dialect.name])
    if connection.dialect.name == "postgresql":
        names = sorted({want.name for want in wants})
        schemas = sorted({want.schema for want in wants})
        query = query.bindparams(names=names, schemas=schemas, extensions=sorted(extensions))
    rows = connection.execute(query)
    return Inventory([(kind, schema, name, bool(visible)) for kind, schema, name, visible in rows])


def _is_called(want: Want, name: str) -> bool:
    """MariaDB leaves the character set out where a collation is for several."""
    if want.kind == "collation":
        return want.name.lower() == name.lower() or want.name.lower().endswith(f"_{name}")
    return want.name == name
