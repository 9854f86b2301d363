"""Enum types in revisions: PostgreSQL keeps them as objects of their own, which Alembic neither makes nor takes away.

Each type is created before what uses it, unless it is there, dropped after the last that did, and gets the values that it
lacks. On databases that know no such types the same lines do nothing.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import _alter_column, render_op  # the first is what its own renderer of that is
from alembic.operations import ops
from sqlalchemy.dialects import postgresql

logger = logging.getLogger("opal_registry")

NAMES: Any = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]


class CreateType(ops.MigrateOperation):
    """Create an enum type, unless it is there."""

    def __init__(self, kind: sa.Enum) -> None:
        self.kind = kind


class DropType(ops.MigrateOperation):
    """Drop an enum type, if it is there."""

    def __init__(self, kind: sa.Enum) -> None:
        self.kind = kind


class AddValues(ops.MigrateOperation):
    """Give an enum type of PostgreSQL more values; they cannot be taken away again."""

    def __init__(self, kind: sa.Enum, values: Sequence[str]) -> None:
        self.kind, self.values = kind, values


class WidenColumn(ops.MigrateOperation):
    """Give the type of a column more values where no type is an object: everywhere but on PostgreSQL."""

    def __init__(self, table: sa.Table, alter: ops.AlterColumnOp) -> None:
        self.batch = ops.ModifyTableOps(table.name, [alter], schema=table.schema)


class BecomeType(ops.AlterColumnOp):
    """Give a column an enum type; PostgreSQL has to be told how."""


@renderers.dispatch_for(CreateType)
def _render_create(_context: AutogenContext, operation: CreateType) -> str:
    return f"{write_enum(operation.kind, more='')}.create(op.get_bind(), checkfirst=True)"


@renderers.dispatch_for(DropType)
def _render_drop(_context: AutogenContext, operation: DropType) -> str:
    return f"{write_enum(operation.kind, more='')}.drop(op.get_bind(), checkfirst=True)"


@renderers.dispatch_for(AddValues)
def _render_values(_context: AutogenContext, operation: AddValues) -> list[str]:
    name = NAMES.format_type(operation.kind)
    texts = [f"ALTER TYPE {name} ADD VALUE IF NOT EXISTS {_quoted(value)}" for value in operation.values]
    return [
        'if op.get_context().dialect.name == "postgresql":',
        "with op.get_context().autocommit_block():  # a value cannot be used before it is committed",
        *(f"op.execute({text!r})" for text in texts),
        *("", ""),
    ]


@renderers.dispatch_for(WidenColumn)
def _render_widen(context: AutogenContext, operation: WidenColumn) -> list[str]:
    return ['if op.get_context().dialect.name != "postgresql":', *render_op(context, operation.batch), ""]


@renderers.dispatch_for(BecomeType)
def _render_become(context: AutogenContext, operation: BecomeType) -> str:
    using = f"{NAMES.quote(operation.column_name)}::text::{NAMES.format_type(operation.modify_type)}"
    return f"{_alter_column(context, operation).removesuffix(')')},\n{' ' * 11}postgresql_using={using!r})"


def write_enum(kind: sa.Enum, *, more: str = ", create_type=False") -> str:
    """An enum type as Python; as a part of a table it does not create itself, but its check where there are no such types.

    Example:
        >>> write_enum(sa.Enum("good", "bad", name="mood"))
        "sa.Enum('good', 'bad', name='mood', create_type=False)"
    """
    schema = f", schema={kind.schema!r}" if kind.schema else ""
    guard = ", create_constraint=True" if kind.create_constraint else ""
    return f"sa.Enum({', '.join(map(repr, kind.enums))}, name={kind.name!r}{schema}{guard}{more})"


def is_named_enum(kind: object) -> bool:
    """Whether PostgreSQL would make an object of a type."""
    return isinstance(kind, sa.Enum) and bool(kind.name) and kind.native_enum


def add_enum_operations(
    connection: sa.Connection,
    script: ops.MigrationScript,
    tables: Collection[sa.Table],
    written: Mapping[str, Sequence[str]],
) -> None:
    """Put into a revision what its enum types need.

    Args:
        connection: The database that was compared.
        script: The operations, to be changed.
        tables: The tables of the models.
        written: The enum types that the history speaks of, with the values it gives them.
    """
    upgrade, downgrade = script.upgrade_ops_list[0], script.downgrade_ops_list[0]
    there = _find_types(connection, tables, written)
    by_models: dict[str, Any] = {
        _name(column.type): column.type for table in tables for column in table.columns if is_named_enum(column.type)
    }
    if connection.dialect.name == "postgresql":
        _tell_of_removed(by_models, there)
    lacking = [AddValues(by_models[name], values) for name, values in _iter_lacking(by_models, there)]
    wider = list(_widen(tables, script, {_name(each.kind): there[_name(each.kind)] for each in lacking}))
    used = {_name(kind): kind for kind in _iter_used(upgrade)}
    kept = {_name(kind) for kind in _iter_models(tables, upgrade)}
    new = [kind for name, kind in sorted(used.items()) if name not in kept]
    gone = [
        kind for name, kind in sorted({_name(k): k for k in _iter_used(downgrade)}.items()) if name not in by_models
    ]
    for container in (upgrade, downgrade):
        _tell_how(container)
    upgrade.ops[:] = [*lacking, *wider, *map(CreateType, used.values()), *upgrade.ops, *map(DropType, gone)]
    downgrade.ops[:] = [*map(CreateType, gone), *downgrade.ops, *map(DropType, new)]


def _tell_how(container: ops.OpContainer) -> None:
    """Replace what gives columns an enum type."""
    for number, operation in enumerate(container.ops):
        if isinstance(operation, ops.OpContainer):
            _tell_how(operation)
        elif isinstance(operation, ops.AlterColumnOp) and is_named_enum(operation.modify_type):
            told = BecomeType(operation.table_name, operation.column_name)
            vars(told).update(vars(operation))
            container.ops[number] = told


def _tell_of_removed(models: Mapping[str, Any], there: Mapping[str, Sequence[str]]) -> None:
    for name, kind in sorted(models.items()):
        if gone := [value for value in there.get(name, ()) if value not in kind.enums]:
            what = "the enum type %r has values that the models lack: %s; PostgreSQL cannot drop them, and they stay"
            logger.warning(what, name, ", ".join(map(repr, gone)))


def _widen(
    tables: Iterable[sa.Table], script: ops.MigrationScript, lacking: Mapping[str, Sequence[str]]
) -> Iterator[WidenColumn]:
    """What widens the columns of types that lack values; what was to be done to them otherwise finds them so."""
    upgrade, downgrade = script.upgrade_ops_list[0], script.downgrade_ops_list[0]
    made = set(_iter_made(upgrade, is_altered_made=False))
    for table in tables:
        for column in table.columns:
            name = _name(column.type) if is_named_enum(column.type) else ""
            if name in lacking and not {(table.name, None), (table.name, column.name)} & made:
                default = _leave_type(upgrade, column)
                _leave_type(downgrade, column)
                yield WidenColumn(table, _make_wider(column, lacking[name], default))


def _make_wider(column: sa.Column[Any], old: Sequence[str], default: Any) -> ops.AlterColumnOp:
    kind: Any = column.type
    table = column.table
    return ops.AlterColumnOp(
        table.name,
        column.name,
        schema=table.schema,
        existing_type=sa.Enum(*old, name=kind.name, schema=kind.schema, create_constraint=kind.create_constraint),
        existing_server_default=default,
        existing_nullable=column.nullable,
        existing_comment=column.comment,
        modify_type=kind,
    )


def _leave_type(container: ops.OpContainer, column: sa.Column[Any]) -> Any:
    """Leave the type of a column as it is in the models; returns the default it has, False if that is changed as well."""
    default: Any = column.server_default
    for operation in list(container.ops):
        if isinstance(operation, ops.OpContainer):
            default = default and _leave_type(operation, column)
            if operation.is_empty():
                container.ops.remove(operation)
        elif isinstance(operation, ops.AlterColumnOp) and _is_of(operation, column):
            operation.existing_type, operation.modify_type = column.type, None
            default = default if operation.modify_server_default is False else False
            if not operation.has_changes():
                container.ops.remove(operation)
    return default


def _is_of(operation: ops.AlterColumnOp, column: sa.Column[Any]) -> bool:
    table = column.table
    return (operation.schema, operation.table_name, operation.column_name) == (table.schema, table.name, column.name)


def _find_types(
    connection: sa.Connection, tables: Iterable[sa.Table], written: Mapping[str, Sequence[str]]
) -> dict[str, Sequence[str]]:
    """The enum types that are there, with their values; those that are no objects as far as columns or the history say."""
    inspector: Any = sa.inspect(connection)
    if connection.dialect.name != "postgresql":
        return {**written, **dict(_iter_reflected(inspector, tables))}
    found = inspector.get_enums(schema="*")
    return {_full(each["name"], None if each["visible"] else each["schema"]): each["labels"] for each in found}


def _iter_reflected(inspector: Any, tables: Iterable[sa.Table]) -> Iterator[tuple[str, Sequence[str]]]:
    """The enum types of the models as MySQL says them, which has one in each column."""
    named = [table for table in tables if any(is_named_enum(column.type) for column in table.columns)]
    for table in named if inspector.dialect.name in {"mysql", "mariadb"} else ():
        there = inspector.get_columns(table.name, schema=table.schema) if inspector.has_table(table.name) else ()
        for found in there:
            column = table.columns.get(found["name"])
            if column is not None and is_named_enum(column.type) and isinstance(found["type"], sa.Enum):
                yield _name(column.type), found["type"].enums


def _iter_lacking(models: dict[str, Any], there: dict[str, Sequence[str]]) -> Iterator[tuple[str, list[str]]]:
    for name, kind in sorted(models.items()):
        if name in there and (values := [each for each in kind.enums if each not in there[name]]):
            yield name, values


def _iter_used(container: ops.OpContainer) -> Iterator[sa.Enum]:
    """The enum types of columns that are made, or given another type."""
    for operation in container.ops:
        match operation:
            case ops.CreateTableOp():
                kinds = [item.type for item in operation.columns if isinstance(item, sa.Column)]
            case ops.AddColumnOp():
                kinds = [operation.column.type]
            case ops.AlterColumnOp():
                kinds = [operation.modify_type] if operation.modify_type is not None else []
            case ops.OpContainer():
                kinds = list(_iter_used(operation))
            case _:
                kinds = []
        yield from (kind for kind in kinds if isinstance(kind, sa.Enum) and is_named_enum(kind))


def _iter_models(tables: Iterable[sa.Table], upgrade: ops.OpContainer) -> Iterator[sa.Enum]:
    """The enum types of columns that were there before a revision."""
    made = set(_iter_made(upgrade))
    for table in tables:
        for column in table.columns:
            is_new = {(table.name, None), (table.name, column.name)} & made
            if isinstance(column.type, sa.Enum) and is_named_enum(column.type) and not is_new:
                yield column.type


def _iter_made(container: ops.OpContainer, *, is_altered_made: bool = True) -> Iterator[tuple[str, str | None]]:
    """The tables that are made, and the columns of others that are, or that get another type."""
    for operation in container.ops:
        match operation:
            case ops.CreateTableOp():
                yield operation.table_name, None
            case ops.AddColumnOp():
                yield operation.table_name, operation.column.name
            case ops.AlterColumnOp() if is_altered_made and operation.modify_type is not None:
                yield operation.table_name, operation.column_name
            case ops.OpContainer():
                yield from _iter_made(operation, is_altered_made=is_altered_made)


def _name(kind: Any) -> str:
    return _full(kind.name, kind.schema)


def _full(name: str, schema: str | None) -> str:
    return f"{schema}.{name}" if schema else name


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''").replace(":", "\\:") + "'"
