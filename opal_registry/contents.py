"""What a database holds, in plain words that can be compared: the schema as the server tells it, and rows.

place (a table, or none) -> thing ("column name", "enum type mood") -> aspect ("type", "labels") -> value
"""

import datetime as dt
import re
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.reflection import Inspector, ObjectKind

from opal_registry.schema.catalog import read_catalog
from opal_registry.schema.column_types import type_text

Aspects = Mapping[str, str]
Contents = Mapping[str, Mapping[str, Aspects]]
"""By place and thing; what belongs to no table has the place ""."""

OWN = "opal_"
"""How the names of the registry's own tables begin."""

QUOTED_NUMBER = re.compile(r"'(-?\d+(\.\d+)?)'")

POSTGRESQL = """
    SELECT n.nspname, c.relname, 'trigger', t.tgname, pg_get_triggerdef(t.oid)
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT t.tgisinternal
    UNION ALL
    SELECT n.nspname, c.relname, 'exclusion constraint', x.conname, pg_get_constraintdef(x.oid)
    FROM pg_constraint x JOIN pg_class c ON c.oid = x.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE x.contype = 'x'
    UNION ALL
    SELECT schemaname, '', 'view', viewname, definition FROM pg_views
    UNION ALL
    SELECT schemaname, '', 'materialized view', matviewname, definition FROM pg_matviews
    UNION ALL
    SELECT n.nspname, '', 'enum type', t.typname, string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
    FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace
    GROUP BY n.nspname, t.typname
    UNION ALL
    SELECT n.nspname, '', 'domain', t.typname, concat_ws(' ', format_type(t.typbasetype, t.typtypmod),
           CASE WHEN t.typnotnull THEN 'NOT NULL' END, t.typdefault,
           (SELECT string_agg(pg_get_constraintdef(x.oid), ' ' ORDER BY 1) FROM pg_constraint x WHERE x.contypid = t.oid))
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype = 'd'
    UNION ALL
    SELECT n.nspname, '', 'sequence', c.relname, concat_ws(' ', format_type(s.seqtypid, NULL), s.seqstart, s.seqmin,
           s.seqmax, s.seqincrement, CASE WHEN s.seqcycle THEN 'CYCLE' END)
    FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                      AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))
    UNION ALL
    SELECT n.nspname, '', 'function', concat(p.proname, '(', pg_get_function_identity_arguments(p.oid), ')'),
           pg_get_functiondef(p.oid)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.prokind IN ('f', 'p')
      AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""
MYSQL = """
    SELECT trigger_schema, event_object_table, 'trigger', trigger_name,
           concat_ws(' ', action_timing, event_manipulation, action_statement)
    FROM information_schema.triggers
    UNION ALL
    SELECT table_schema, '', 'view', table_name, view_definition FROM information_schema.views
    UNION ALL
    SELECT table_schema, '', 'sequence', table_name, '' FROM information_schema.tables WHERE table_type = 'SEQUENCE'
    UNION ALL
    SELECT routine_schema, '', 'function', routine_name, routine_definition FROM information_schema.routines
"""
SQLITE = """
    SELECT '', CASE type WHEN 'view' THEN '' ELSE tbl_name END, type, name, sql FROM sqlite_master
    WHERE type IN ('trigger', 'view', 'index') AND sql IS NOT NULL
"""
OTHERS = {"postgresql": POSTGRESQL, "mysql": MYSQL, "mariadb": MYSQL, "sqlite": SQLITE}
"""What SQLAlchemy does not reflect: schema, table, kind, name, definition."""


def read_contents(connection: sa.Connection, schemas: Collection[str | None] = (None,)) -> Contents:
    """Read what a database holds, but for the registry's own tables.

    Args:
        connection: The database; only read.
        schemas: Where to look; None is the one that counts where none is named.

    Example:
        >>> with sa.create_engine("sqlite://").connect() as connection:
        ...     _ = connection.exec_driver_sql("CREATE TABLE teams (id INTEGER PRIMARY KEY, name VARCHAR(80))")
        ...     read_contents(connection)["teams"]["column name"]["type"]
        'VARCHAR(80)'
    """
    found: dict[str, dict[str, dict[str, str]]] = {"": {}}
    inspector = sa.inspect(connection)
    for schema in dict.fromkeys(schemas):
        for place in _find_tables(connection, inspector, schema):
            found[place] = {}
        for place, thing, aspects in _iter_reflected(inspector, schema):
            if place in found and thing.replace("index ", "unique constraint ", 1) not in found[place]:
                found[place][thing] = aspects
    for place, thing, definition in _iter_others(connection, inspector, schemas):
        if place in found:
            found[place][thing] = {"definition": definition}
    return found


def _find_tables(connection: sa.Connection, inspector: Inspector, schema: str | None) -> list[str]:
    tables = inspector.get_table_names(schema)
    sequences = {each.name for each in read_catalog(connection).relations.values() if each.kind == "sequence"}
    return [_full(schema, name) for name in tables if not name.startswith(OWN) and name not in sequences]


def _full(schema: str | None, name: str) -> str:
    return f"{schema}.{name}" if schema else name


def _iter_reflected(inspector: Inspector, schema: str | None) -> Iterator[tuple[str, str, dict[str, str]]]:
    """What SQLAlchemy reflects, as place, thing and aspects."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)  # a type, or an index, that SQLAlchemy does not know
        for method, describe in _REFLECTED.items():
            if method == "get_multi_table_comment" and not inspector.dialect.supports_comments:
                continue
            answers = getattr(inspector, method)(schema=schema, kind=ObjectKind.TABLE)
            for (_, table), answer in answers.items():
                for each in answer if isinstance(answer, list) else [answer]:
                    yield _full(schema, table), *describe(each, inspector.dialect)


def _column(column: Any, dialect: sa.Dialect) -> tuple[str, dict[str, str]]:
    kind = column["type"]
    aspects = {
        "type": getattr(kind, "name", None) or type_text(kind, dialect),
        "nullability": "NULL" if column["nullable"] else "NOT NULL",
        "server default": _bare(column.get("default") or "none"),
        "comment": repr(column.get("comment") or ""),
        "generation": str(column.get("computed") or column.get("identity") or "none"),
        "counting": "on" if column.get("autoincrement") is True else "off",
    }
    return f"column {column['name']}", aspects


def _bare(default: str) -> str:
    """A server default without parentheses around it, and without quotes around a number."""
    while default.startswith("(") and default.endswith(")"):
        default = default[1:-1].strip()
    number = QUOTED_NUMBER.fullmatch(default)
    return number[1] if number else default


def _key(key: Any, _dialect: sa.Dialect) -> tuple[str, dict[str, str]]:
    return "primary key", {"name": str(key["name"]), "columns": _listed(key["constrained_columns"])}


def _foreign_key(key: Any, _dialect: sa.Dialect) -> tuple[str, dict[str, str]]:
    columns = _listed(key["constrained_columns"])
    target = f"{_full(key['referred_schema'], key['referred_table'])} ({_listed(key['referred_columns'])})"
    options = ", ".join(f"{name} {value}" for name, value in sorted(key["options"].items())) or "none"
    return f"foreign key {key['name'] or columns}", {"columns": columns, "target": target, "options": options}


def _unique(key: Any, _dialect: sa.Dialect) -> tuple[str, dict[str, str]]:
    columns = _listed(key["column_names"])
    return f"unique constraint {key['name'] or columns}", {"columns": columns, "options": _options(key)}


def _index(index: Any, dialect: sa.Dialect) -> tuple[str, dict[str, str]]:
    columns = _listed(index.get("expressions") or index["column_names"])
    kind = "unique" if index["unique"] else "not unique"
    found = {"columns": columns, "kind": kind, "sorting": str(index.get("column_sorting") or "plain")}
    return f"index {index['name']}", {} if dialect.name == "sqlite" else found | {"options": _options(index)}


def _check(check: Any, _dialect: sa.Dialect) -> tuple[str, dict[str, str]]:
    return f"check {check['name'] or check['sqltext']}", {}


def _comment(comment: Any, _dialect: sa.Dialect) -> tuple[str, dict[str, str]]:
    return "table", {"comment": repr(comment["text"] or "")}


_REFLECTED: Mapping[str, Callable[[Any, sa.Dialect], tuple[str, dict[str, str]]]] = {  # an index after what it serves
    "get_multi_columns": _column,
    "get_multi_pk_constraint": _key,
    "get_multi_foreign_keys": _foreign_key,
    "get_multi_unique_constraints": _unique,
    "get_multi_indexes": _index,
    "get_multi_check_constraints": _check,
    "get_multi_table_comment": _comment,
}


def _listed(names: Iterable[str | None]) -> str:
    return ", ".join(map(str, names))


def _options(found: Any) -> str:
    options = found.get("dialect_options") or {}
    return ", ".join(f"{name}={value!r}" for name, value in sorted(options.items())) or "none"


def _iter_others(
    connection: sa.Connection, inspector: Inspector, schemas: Collection[str | None]
) -> Iterator[tuple[str, str, str]]:
    """What SQLAlchemy does not reflect, as place, thing and definition."""
    default = inspector.default_schema_name
    names = {default if schema is None else schema for schema in schemas} | {""}
    for schema, table, kind, name, definition in connection.exec_driver_sql(OTHERS[connection.dialect.name]):
        if schema in names:
            prefix = None if schema == default else schema
            thing = f"{kind} {name if table else _full(prefix, name)}"
            yield _full(prefix, table) if table else "", thing, _plain(str(definition), default or "")


def _plain(definition: str, database: str) -> str:
    """Without the name of the database, which MySQL writes before each table, and however it is laid out."""
    text = definition.replace(f"`{database}`.", "") if database else definition
    return re.sub(r"\s*([(),])\s*", r"\1", " ".join(text.replace('"', "").split()))


def read_rows(connection: sa.Connection, table: sa.Table, columns: Collection[str], since: dt.datetime) -> Counter[str]:
    """Read the rows of a table so that those of two databases can be compared: times of now and random keys are alike.

    Args:
        connection: The database; only read.
        table: The table.
        columns: Which of its columns count.
        since: Moments after this one are called "now".
    """
    wanted = sorted((column for column in table.columns if column.name in columns), key=lambda column: column.name)
    rows = connection.execute(sa.select(*wanted)) if wanted else ()
    named = [zip((column.name for column in wanted), row, strict=True) for row in rows]
    return Counter(", ".join(f"{name}={_lasting(value, since)}" for name, value in row) for row in named)


def _lasting(value: object, since: dt.datetime) -> str:
    if isinstance(value, dt.datetime):
        moments = [value] if value.tzinfo else [value.replace(tzinfo=dt.UTC), value.astimezone()]
        return "now" if any(moment >= since for moment in moments) else repr(value)
    if isinstance(value, uuid.UUID):
        return str(value) if value.version in {3, 5} else "a random UUID"
    return repr(value)
