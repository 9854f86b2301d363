"""What rules judge: a revision, what it does, and what is known about the database and those who use it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any

from alembic.autogenerate import render_python_code
from alembic.operations.ops import (
    BulkInsertOp,
    CreatePrimaryKeyOp,
    CreateTableOp,
    ExecuteSQLOp,
    MigrateOperation,
    RenameTableOp,
    UpgradeOps,
)
from alembic.runtime.migration import MigrationContext

from opal_registry.migrations.lint.recording import Act, Recording, full_name
from opal_registry.migrations.lint.statement import Kind, Statement
from opal_registry.migrations.revision_file import Revision


@dataclass(frozen=True, slots=True)
class Use:
    """A column that a sub-app uses without owning it.

    Args:
        app: Who does.
        table: The table, with its schema if it has one.
        column: The column.
        how: In which way.
    """

    app: str
    table: str
    column: str
    how: str

    def __str__(self) -> str:
        return f"{self.app!r} ({self.how})"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside the revisions.

    Args:
        dialect: The family of the database that they are judged for: ``postgresql``, ``mysql`` or ``sqlite``.
        owners: Whose each table is, also those of sub-apps that are not installed here.
        uses: What sub-apps use of each other's.
        rows: How many rows each table has, about; nothing where no database of that kind was asked.
        not_null: Columns (table, column) that a validated CHECK keeps from being NULL.
    """

    dialect: str
    owners: Mapping[str, str] = field(default_factory=dict)
    uses: tuple[Use, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    not_null: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Case:
    """One revision to be judged.

    Args:
        revision: The revision.
        recording: What it does.
        facts: What is known beside it.
        own: The tables that the same history made, as far as it was followed.
    """

    revision: Revision
    recording: Recording
    facts: Facts
    own: frozenset[str] = frozenset()

    @property
    def acts(self) -> list[Act]:
        """Its operations."""
        return self.recording.acts

    @property
    def made(self) -> dict[str, int]:
        """The tables that it makes itself, with the place of the operation that does so first."""
        return {each.table: n for n, each in reversed(list(enumerate(self.acts))) if isinstance(each.op, CreateTableOp)}

    def on_existing(self, *kinds: type[MigrateOperation]) -> Iterator[tuple[Act, Any]]:
        """Its operations of some kinds on tables that were there before it."""
        made = self.made
        for place, each in enumerate(self.acts):
            if isinstance(each.op, kinds) and made.get(each.table, place) >= place:
                yield each, each.op

    def changes(self) -> Iterator[Act]:
        """Its operations that change the shape of tables that were there before it."""
        for act, op in self.on_existing(MigrateOperation):
            if not isinstance(op, (BulkInsertOp, CreateTableOp, ExecuteSQLOp)) and not is_concurrent(op):
                yield act

    def executes(self, *kinds: Kind) -> Iterator[tuple[Act, Statement]]:
        """The statements of some kinds that it executes on tables that were there before it."""
        for act in self.acts:
            yield from ((act, each) for each in act.statements if each.kind in kinds and each.table not in self.made)

    def before(self, act: Act) -> list[Act]:
        """What it does before one of its operations."""
        place = next(n for n, each in enumerate(self.acts) if each is act)
        return self.acts[:place]

    def users(self, table: str, column: str = "") -> list[Use]:
        """Which other sub-apps use a table, or one column of it."""
        found = [use for use in self.facts.uses if use.table == table and use.app != self.revision.app]
        return [use for use in found if column in ("", use.column)]

    def name_of(self, op: Any) -> str:
        """What a constraint is called in the database, once the naming convention has had its say."""
        context = self.recording.context
        name = context.dialect.identifier_preparer.format_constraint(op.to_constraint(context))
        return unquoted(str(name or ""))

    def quoted(self, name: str) -> str:
        """The name of a table, with or without a schema, or of a column, as SQL says it."""
        quote = self.recording.context.dialect.identifier_preparer.quote
        return ".".join(quote(part) for part in name.split("."))

    def code(self, op: MigrateOperation) -> str:
        """An operation as a revision says it."""
        if isinstance(op, CreatePrimaryKeyOp):  # Alembic writes all others
            schema = f", schema={op.schema!r}" if op.schema else ""
            return f"op.create_primary_key({op.constraint_name!r}, {op.table_name!r}, {list(op.columns)!r}{schema})"
        context = MigrationContext.configure(dialect=self.recording.context.dialect)
        text = render_python_code(UpgradeOps([op]), migration_context=context)
        return "\n".join(line for line in dedent(f"    {text}").splitlines() if line and not line.startswith("# ###"))

    def changed(self, op: Any, **options: Any) -> str:
        """The same with other options of a dialect."""
        copy = object.__new__(type(op))
        vars(copy).update(vars(op) | {"kw": {**op.kw, **options}})
        return self.code(copy)


def unquoted(name: str) -> str:
    """A name as rules compare it.

    Example:
        >>> unquoted('"Order"')
        'Order'
    """
    return name.strip('"`')


def is_concurrent(op: Any) -> bool:
    """Whether an operation on an index lets others write meanwhile."""
    return bool(getattr(op, "kw", {}).get("postgresql_concurrently"))


def names_after(act: Act) -> set[str]:
    """The tables that are there because of an operation."""
    op = act.op
    if isinstance(op, RenameTableOp):
        return {full_name(op.new_table_name, op.schema)}
    return {act.table} if isinstance(op, CreateTableOp) else set()


def free(code: str) -> str:
    """Code in an autocommit block.

    Example:
        >>> print(free("op.f()"))
        with op.get_context().autocommit_block():
            op.f()
    """
    return "with op.get_context().autocommit_block():\n" + "\n".join(f"    {line}" for line in code.splitlines())
