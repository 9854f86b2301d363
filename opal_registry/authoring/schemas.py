"""Schemas in revisions: the first table that is made in one finds it there."""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops


class CreateSchema(ops.MigrateOperation):
    """Create a schema, unless it is there; SQLite has none. It is not dropped again: others may use it."""

    def __init__(self, name: str) -> None:
        self.name = name


@renderers.dispatch_for(CreateSchema)
def _render(_context: AutogenContext, operation: CreateSchema) -> str:
    statement = f"sa.schema.CreateSchema({operation.name!r}, if_not_exists=True)"
    return f'if op.get_context().dialect.name != "sqlite": op.execute({statement})'


def add_schemas(connection: sa.Connection, upgrade: ops.OpContainer) -> None:
    """Put before a revision what creates the schemas that its new tables need.

    Args:
        connection: The database that was compared.
        upgrade: The operations, to be changed.
    """
    wanted = set(_iter_schemas(upgrade))
    missing = wanted and wanted - set(sa.inspect(connection).get_schema_names())
    upgrade.ops[:0] = [CreateSchema(name) for name in sorted(missing)]


def _iter_schemas(container: ops.OpContainer) -> Iterator[str]:
    for operation in container.ops:
        if isinstance(operation, ops.CreateTableOp) and operation.schema:
            yield operation.schema
