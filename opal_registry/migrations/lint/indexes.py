"""Rules about indexes, and constraints that are made of one."""

from collections.abc import Iterator
from typing import Any

from alembic.ddl.postgresql import CreateExcludeConstraintOp
from alembic.operations.ops import (
    AddColumnOp,
    CreateIndexOp,
    CreatePrimaryKeyOp,
    CreateUniqueConstraintOp,
    DropIndexOp,
    ExecuteSQLOp,
)
from sqlalchemy.sql.elements import conv

from opal_registry.migrations.lint.case import Case, free, is_concurrent
from opal_registry.migrations.lint.finding import Hit, Rule, hit

QUIET = "# nothing lets others write meanwhile: in a quiet hour, or by gh-ost or pt-online-schema-change\n"
"""What is written above code that stays as it is, on MySQL."""

BLOCKING = ("FULLTEXT", "SPATIAL")
"""Kinds of indexes that InnoDB builds with writes shut out (MySQL's manual, "Online DDL Operations")."""

CONCURRENT = {"postgresql_concurrently": True}


def _new_indexes(case: Case) -> Iterator[Hit]:
    postgresql = case.facts.dialect == "postgresql"
    for act, op in case.on_existing(CreateIndexOp):
        what = f"it builds the index {op.index_name} on {act.table}"
        if postgresql and not is_concurrent(op):
            yield hit(act, what, free(case.changed(op, **CONCURRENT)))
        elif not postgresql and str(op.kw.get("mysql_prefix", "")).upper() in BLOCKING:
            yield hit(act, f"{what} ({op.kw['mysql_prefix']})", QUIET + case.code(op))
    for act, op in case.on_existing(AddColumnOp):
        if postgresql and op.column.index:
            column = op.column.name
            build = CreateIndexOp(
                f"ix_{op.table_name}_{column}", op.table_name, [column], schema=op.schema, **CONCURRENT
            )
            what = f"it builds an index on the new column {act.table}.{column}"
            yield hit(act, what, f"# the column without index=True, and then\n{free(case.code(build))}")


def _dropped_indexes(case: Case) -> Iterator[Hit]:
    for act, op in case.on_existing(DropIndexOp):
        if not is_concurrent(op):
            on = f" on {act.table}" if act.table else ""
            yield hit(act, f"it drops the index {op.index_name}{on}", free(case.changed(op, **CONCURRENT)))


def _inside_transaction(case: Case) -> Iterator[Hit]:
    for act in case.acts:
        if act.transaction is None:
            continue
        op: Any = act.op
        if isinstance(op, CreateIndexOp | DropIndexOp) and is_concurrent(op):
            yield hit(act, f"it says CONCURRENTLY of {op.index_name} inside a transaction", free(case.code(op)))
        elif isinstance(op, ExecuteSQLOp) and any(each.kind == "concurrently" for each in act.statements):
            rewrite = free(f"op.execute({str(op.sqltext)!r})")
            yield hit(act, f"it says CONCURRENTLY of {act.table} inside a transaction", rewrite)


def _keys(case: Case) -> Iterator[Hit]:
    kinds = CreateUniqueConstraintOp | CreatePrimaryKeyOp | CreateExcludeConstraintOp
    for act in case.changes():
        op: Any = act.op
        if isinstance(op, AddColumnOp) and op.column.unique and case.facts.dialect == "postgresql":
            column = op.column.name
            key = CreateUniqueConstraintOp(f"uq_{op.table_name}_{column}", op.table_name, [column], schema=op.schema)
            rewrite = f"# the column without unique=True, and then\n{_using_index(key, act.table, 'UNIQUE', case)}"
            yield hit(act, f"it makes the new column {act.table}.{column} unique", rewrite)
        elif isinstance(op, kinds) and not (op.kw if hasattr(op, "kw") else {}).get("postgresql_using_index"):
            yield from _key(case, act, op)


def _key(case: Case, act: Any, op: Any) -> Iterator[Hit]:
    kind = {"unique": "UNIQUE", "primarykey": "PRIMARY KEY"}.get(op.constraint_type)
    what = f"it adds the constraint {op.constraint_name} ({kind or 'EXCLUDE'}) to {act.table}"
    if case.facts.dialect == "mysql":
        if kind == "PRIMARY KEY":
            yield hit(act, what, QUIET + case.code(op))
    elif kind:
        yield hit(act, what, _using_index(op, act.table, kind, case))
    else:
        yield hit(act, what, "# nothing lets others write meanwhile: in a quiet hour\n" + case.code(op))


def _using_index(op: Any, table: str, kind: str, case: Case) -> str:
    name = case.name_of(op)
    index = CreateIndexOp(conv(name), op.table_name, op.columns, schema=op.schema, unique=True, **CONCURRENT)
    sql = f"ALTER TABLE {case.quoted(table)} ADD CONSTRAINT {case.quoted(name)} {kind} USING INDEX {case.quoted(name)}"
    return f"{free(case.code(index))}\nop.execute({sql!r})"


RULES = (
    Rule(
        "opal.M101",
        "warning",
        "builds an index while nobody may write",
        {
            "postgresql": "writes to the table wait until the index is built, unless it is built CONCURRENTLY",
            "mysql": "writes to the table wait until an index of this kind is built; all others are built while they go on",
        },
        _new_indexes,
        by_size=True,
    ),
    Rule(
        "opal.M102",
        "warning",
        "drops an index while nobody may read",
        {
            "postgresql": "it waits for every transaction on the table, and everybody else waits behind it, unless it is dropped CONCURRENTLY"
        },
        _dropped_indexes,
        by_size=True,
    ),
    Rule(
        "opal.M103",
        "error",
        "says CONCURRENTLY inside a transaction",
        {"postgresql": "PostgreSQL refuses it there: it needs an autocommit block"},
        _inside_transaction,
    ),
    Rule(
        "opal.M104",
        "warning",
        "adds a unique constraint or primary key without its index",
        {
            "postgresql": "nobody reads or writes the table until the index behind the constraint is built; one that is there already is taken over at once",
            "mysql": "a primary key is where the rows are: the whole table is written anew",
        },
        _keys,
        by_size=True,
    ),
)
