"""What a database holds, in plain values that can be compared: its schema, its rows, its ledger without the times."""

from typing import Any

import sqlalchemy as sa

from tests.databases import engine_of

LEFT_TO_TIME = {"installed_at", "updated_at", "created_at", "begun_at", "applied_at", "seconds"}
"""Columns of the registry's own tables of which two equal runs make different values."""

OTHERS = {
    "sqlite": "SELECT type, name, sql FROM sqlite_master WHERE type IN ('trigger', 'view') ORDER BY 1, 2",
    "postgresql": """
        SELECT 'trigger', tgname::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION SELECT 'view', viewname::text, definition FROM pg_views WHERE schemaname = 'public'
        UNION SELECT 'label', t.typname::text, e.enumlabel::text FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid
        UNION SELECT 'sequence', sequencename::text, start_value::text FROM pg_sequences
        UNION SELECT 'routine', proname::text, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        ORDER BY 1, 2, 3""",
    "mysql": """
        SELECT 'trigger', trigger_name, action_statement FROM information_schema.triggers WHERE trigger_schema = DATABASE()
        UNION SELECT 'view', table_name, view_definition FROM information_schema.views WHERE table_schema = DATABASE()
        ORDER BY 1, 2""",
}
"""What SQLAlchemy does not reflect: kind, name, definition."""


def snapshot(url: str) -> dict[str, Any]:
    """What a database holds; empty if that is nothing."""
    engine = engine_of(url)
    with engine.connect() as connection:
        found = _schema(connection) | _rows(connection)
        name = engine.url.database or ""
        others = connection.exec_driver_sql(OTHERS[connection.dialect.name]).all()
        found["others"] = [tuple(str(part).replace(name, "") for part in row) for row in others]
    engine.dispose()
    return {key: value for key, value in found.items() if value}


def rows_of(url: str, table: str) -> list[dict[str, Any]]:
    """The rows of a table, as the database gives them."""
    engine = engine_of(url)
    with engine.connect() as connection:
        found = [dict(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}").mappings()]
    engine.dispose()
    return found


def _schema(connection: sa.Connection) -> dict[str, Any]:
    inspector = sa.inspect(connection)
    what = ("columns", "pk_constraint", "foreign_keys", "unique_constraints", "indexes", "check_constraints")
    return {name: _plain(getattr(inspector, f"get_multi_{name}")()) for name in what}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in sorted(value.items(), key=lambda item: str(item[0]))}
    if isinstance(value, list):
        return sorted((_plain(item) for item in value), key=str)
    return repr(value)


def _rows(connection: sa.Connection) -> dict[str, Any]:
    names = [name for name in sa.inspect(connection).get_table_names() if name != "opal_events"]
    found = {}
    for name in names:
        quoted = connection.dialect.identifier_preparer.quote(name)
        rows = connection.exec_driver_sql(f"SELECT * FROM {quoted}").mappings()
        found[f"rows of {name}"] = sorted(str(_lasting(dict(row), name)) for row in rows)
    return found


def _lasting(row: dict[str, Any], table: str) -> dict[str, Any]:
    if not table.startswith("opal_"):
        return row
    return {key: value for key, value in row.items() if key not in LEFT_TO_TIME | {"sources"}}


__all__ = ["rows_of", "snapshot"]
