"""What a revision does, recorded by running its ``upgrade`` where nothing is executed: no database is needed."""

import io
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.operations import BatchOperations, Operations
from alembic.operations.ops import (
    AddConstraintOp,
    CreateForeignKeyOp,
    CreateIndexOp,
    CreateTableOp,
    DropIndexOp,
    DropTableOp,
    ExecuteSQLOp,
    MigrateOperation,
)
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.exc import NoInspectionAvailable

from opal_registry.base import NAMING_CONVENTION
from opal_registry.errors import PluginError
from opal_registry.guard import guarded
from opal_registry.migrations.lint.statement import Statement, read_statements
from opal_registry.migrations.revision_file import Revision
from opal_registry.migrations.scripts import load_module

OPERATIONS: dict[type[Any], Callable[[Any], MigrateOperation]] = {
    sa.schema.CreateTable: CreateTableOp.from_table,
    sa.schema.DropTable: DropTableOp.from_table,
    sa.schema.CreateIndex: CreateIndexOp.from_index,
    sa.schema.DropIndex: DropIndexOp.from_index,
    sa.schema.AddConstraint: AddConstraintOp.from_constraint,
}
"""Statements that SQLAlchemy makes of its own objects, and the operations that they are."""

TRANSACTIONAL = {"postgresql", "sqlite"}


class NeedsDatabaseError(AttributeError):
    """A revision asks the database something; Alembic itself asks whether a connection can do this or that."""


class RecreateOp(MigrateOperation):
    """A batch block that copies its table, whatever the database could do."""

    def __init__(self, table_name: str, schema: str | None) -> None:
        self.table_name, self.schema = table_name, schema


@dataclass(frozen=True, slots=True)
class Act:
    """One operation of a revision.

    Args:
        op: What it is to Alembic.
        line: Of the revision's file.
        transaction: In which of the revision's transactions it happens; None for none, in an autocommit block.
        sql: Where its statements stand in the recorded text: from which line to which.
    """

    op: MigrateOperation
    line: int
    transaction: int | None
    sql: range = range(0)

    @property
    def table(self) -> str:
        """The table that it is on, with its schema if one is given; empty if it is on none, or nobody knows on which."""
        op: Any = self.op
        if isinstance(op, ExecuteSQLOp):
            return next((each.table for each in self.statements if each.table), "")
        if isinstance(op, CreateForeignKeyOp):
            return full_name(op.source_table, op.kw.get("source_schema"))
        name = getattr(op, "table_name", None) or getattr(getattr(op, "table", None), "name", None)
        return full_name(name, getattr(op, "schema", None)) if name else ""

    @property
    def statements(self) -> list[Statement]:
        """What it executes, where it is ``op.execute``."""
        return list(read_statements(self.op.sqltext)) if isinstance(self.op, ExecuteSQLOp) else []


@dataclass(slots=True)
class Recording:
    """What a revision does.

    Args:
        context: Alembic's view of the database that it was followed for.
        acts: Its operations, in order.
        trouble: Why it could be followed no further; empty where it was followed to its end.
        trouble_line: And where.
        counted: The lines at which it asked how many rows a statement had changed: it was told none.
        sql: Its statements, as text.
    """

    context: MigrationContext
    acts: list[Act] = field(default_factory=list)
    trouble: str = ""
    trouble_line: int = 0
    counted: list[int] = field(default_factory=list)
    sql: str = ""


def full_name(table: str, schema: str | None) -> str:
    """A table as rules name it.

    Example:
        >>> full_name("notes", None), full_name("notes", "lab")
        ('notes', 'lab.notes')
    """
    return f"{schema}.{table}" if schema else str(table)


def record(revision: Revision, dialect: sa.Dialect) -> Recording:
    """Run a revision's ``upgrade`` without a database, and write down what it does.

    Args:
        revision: The revision; its file is imported.
        dialect: Of the database that it is to be followed for.
    """
    buffer = io.StringIO()
    with EnvironmentContext(Config(), None, as_sql=True) as environment:  # type: ignore[arg-type]  # asks for no script
        environment.configure(
            dialect_name=dialect.name,
            output_buffer=buffer,
            literal_binds=True,
            transactional_ddl=dialect.name in TRANSACTIONAL,
            target_metadata=sa.MetaData(naming_convention=NAMING_CONVENTION),
        )
        vars(environment)["is_offline_mode"] = lambda: False  # what is run against a database counts
        environment._install_proxy()
        recorder = _Recorder(revision, environment.get_context(), buffer)
        recorder.run()
    recorder.recording.sql = buffer.getvalue()
    return recorder.recording


class _Recorder:
    def __init__(self, revision: Revision, context: MigrationContext, buffer: io.StringIO) -> None:
        self.revision, self.context, self.buffer = revision, context, buffer
        self.recording = Recording(context)
        self._file = str(revision.path)
        self._transaction, self._is_free, self._inside = 0, False, 0
        self._autocommit_block = context.autocommit_block
        bind: Any = _Bind(context.dialect, self)
        context.connection = context.impl.connection = bind
        self._send = context.impl._exec
        vars(context)["autocommit_block"] = self._lifted
        vars(context.impl)["_exec"] = self._write

    def run(self) -> None:
        """Follow it as far as that goes."""
        with ExitStack() as stack:
            operations = stack.enter_context(Operations.context(self.context))
            self._watch(operations)
            try:
                with guarded("following it", where=self._file):
                    load_module(self.revision).upgrade()
            except PluginError as error:
                self.recording.trouble, self.recording.trouble_line = self._explain(error)

    def _watch(self, operations: Operations) -> None:
        """Stand between a revision and Alembic's operations."""
        batch_alter_table = operations.batch_alter_table

        @contextmanager
        def batch(table_name: str, schema: str | None = None, **options: Any) -> Iterator[BatchOperations]:
            if options.pop("recreate", "auto") == "always":
                self.add(RecreateOp(table_name, schema))
            with batch_alter_table(table_name, schema, recreate="never", **options) as inner:
                vars(inner)["invoke"] = lambda op: self._invoke_in_batch(inner, op)
                yield inner

        vars(operations)["invoke"] = lambda op: self._invoke(operations, op)
        vars(operations)["batch_alter_table"] = batch
        operations._install_proxy()  # the functions of alembic.op are those of before

    def _invoke(self, operations: Operations, op: MigrateOperation) -> Any:
        with self._adding(op):
            return Operations.invoke(operations, op)

    def _invoke_in_batch(self, operations: BatchOperations, op: MigrateOperation) -> Any:
        """The same at once, so that each statement stands with its operation; SQLite would ask the database for the table."""
        impl: Any = operations.impl
        with self._adding(op):
            result = BatchOperations.invoke(operations, op)
            if self.context.dialect.name != "sqlite":
                impl.flush()
            impl.batch.clear()
            return result

    def add(self, op: MigrateOperation) -> None:
        """Write an operation down."""
        with self._adding(op):
            pass

    @contextmanager
    def _adding(self, op: MigrateOperation) -> Iterator[None]:
        place, before = len(self.recording.acts), self._written()
        act = Act(op, self.line(), None if self._is_free else self._transaction)
        self.recording.acts.append(act)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self.recording.acts[place] = Act(act.op, act.line, act.transaction, range(before, self._written()))

    def _written(self) -> int:
        return self.buffer.getvalue().count("\n")

    def line(self) -> int:
        """The line of the revision's file that is being executed; 0 if none is."""
        frames = traceback.walk_stack(sys._getframe())
        return next((line for frame, line in frames if frame.f_code.co_filename == self._file), 0)

    @contextmanager
    def _lifted(self) -> Iterator[None]:
        with self._autocommit_block():
            self._is_free = True
            try:
                yield
            finally:
                self._is_free = False
                self._transaction += 1

    def _write(self, construct: Any, *arguments: Any, **options: Any) -> None:
        """Write a statement down, as text if it can be: some values have none. Alembic's belong to an operation already."""
        adding = nullcontext() if self._inside else self._adding(_as_operation(construct))
        with adding, suppress(sa.exc.CompileError, NotImplementedError):
            self._send(construct, *arguments, **options)

    def execute(self, statement: Any) -> "_Result":
        """What is sent through the bind."""
        if not self._inside:
            self._check(statement)
        self._write(statement)
        return _Result(self)

    def _check(self, statement: Any) -> None:
        if any(each.kind == "query" for each in read_statements(statement)):
            raise NeedsDatabaseError

    def _explain(self, error: PluginError) -> tuple[str, int]:
        cause = error.__cause__ if not isinstance(error.__cause__, PluginError) else error.__cause__.__cause__
        steps = traceback.extract_tb(cause.__traceback__) if cause else []
        line = next((step.lineno or 0 for step in reversed(steps) if step.filename == self._file), 0)
        if isinstance(cause, (NeedsDatabaseError, NoInspectionAvailable)):
            return "it asks the database something, and can be followed no further without one", line
        return f"it fails where nothing is executed: {type(cause).__name__}: {str(cause).partition(chr(10))[0]}", line


def _as_operation(statement: Any) -> MigrateOperation:
    """What a statement would be as an operation: ``Table.create(op.get_bind())`` does what ``op.create_table`` does."""
    for kind, make in OPERATIONS.items():
        if isinstance(statement, kind):
            made: MigrateOperation = make(statement.element)
            return made
    return ExecuteSQLOp(statement)


class _Bind(MockConnection):
    """What ``op.get_bind()`` returns: it takes statements, and knows nothing."""

    def __init__(self, dialect: sa.Dialect, recorder: _Recorder) -> None:
        super().__init__(dialect, lambda statement, _parameters: recorder.execute(statement))

    def exec_driver_sql(self, statement: str, *_: Any, **__: Any) -> Any:
        return self.execute(sa.text(statement.replace(":", "\\:")))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NeedsDatabaseError


class _Result:
    """What a statement that changes rows returns: that there were none."""

    def __init__(self, recorder: _Recorder) -> None:
        self._recorder = recorder

    @property
    def rowcount(self) -> int:
        line = self._recorder.line()
        if line not in self._recorder.recording.counted:
            self._recorder.recording.counted.append(line)
        return 0

    def close(self) -> None:
        """Nothing is open."""

    def __getattr__(self, name: str) -> Any:
        raise NeedsDatabaseError

    def __iter__(self) -> Iterator[Any]:
        raise NeedsDatabaseError
