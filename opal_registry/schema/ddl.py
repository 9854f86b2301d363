"""Creating tables, or showing the exact statements that would."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.schema import CreateIndex, CreateSchema
from sqlalchemy.sql.ddl import SchemaGenerator

from opal_registry.ownership.conflicts import iter_sequences, iter_types
from opal_registry.ownership.spares import Spare
from opal_registry.plan import order_tables
from opal_registry.schema.batch import Batch, Statement
from opal_registry.schema.compiled import Compiler, make_creation


class Creator:
    """Creates tables that do not exist yet, with their schemas, types, sequences, indexes and comments.

    Args:
        batch: What the statements go through.
        known: Types, sequences and schemas that are there, as :attr:`Catalog.known` says them; what is made is added.
    """

    def __init__(self, batch: Batch, known: set[str]) -> None:
        self._batch, self._known = batch, known

    def create(self, tables: Sequence[sa.Table], spares: Sequence[Spare] = ()) -> None:
        """Create tables of one sub-app, whichever ``MetaData`` they are on; what they refer to outside exists already.

        It is what ``create_all`` does, for one ``MetaData`` and all its tables: foreign keys between tables that refer to
        each other in a circle come last, and what listens on a ``MetaData`` is called once.

        Args:
            tables: The tables, each after those it refers to.
            spares: Sequences and enum types that are the sub-app's, and that no table uses.
        """
        self._create_schemas(tables)
        late = order_tables(tables)[1]
        stand_in = self._batch.stand_in(self._wanted_for(tables, spares))
        runner: Any = SchemaGenerator(stand_in.dialect, stand_in, checkfirst=False)  # type: ignore[no-untyped-call]
        with ExitStack() as events:
            for metadata, group in _by_metadata(tables).items():
                events.enter_context(runner.with_ddl_events(metadata, tables=group, checkfirst=runner.checkfirst))
            for sequence in _iter_loose_sequences(tables, spares):
                if runner._can_create_sequence(sequence):
                    runner.traverse_single(sequence, create_ok=True)
            for table in tables:
                inline = table.foreign_key_constraints.difference(late)
                runner.traverse_single(
                    table, create_ok=True, include_foreign_key_constraints=inline, _is_metadata_operation=True
                )
            for key in late:
                runner.traverse_single(key)

    def _create_schemas(self, tables: Sequence[sa.Table]) -> None:
        if self._batch.compiler.dialect.name == "sqlite":
            return
        for schema in sorted({table.schema for table in tables if table.schema} - {key[:-1] for key in self._known}):
            self._batch.add(CreateSchema(schema))
            self._known.add(f"{schema}.")

    def _wanted_for(self, tables: Sequence[sa.Table], spares: Sequence[Spare]) -> Callable[[Any], bool]:
        """Types and sequences are made once, and by the sub-app whose they are: listeners offer those of everybody."""
        names: set[str | None] = set()

        def is_wanted(statement: Any) -> bool:
            name = _shared_name(getattr(statement, "element", None))
            if name is None:
                return True
            if not names:
                names.update(_shared_name(spare) for spare in spares)
                names.update(used for table in tables for used in _used_names(table))
            is_new = name in names and name not in self._known
            self._known.update({name} if is_new else ())
            return is_new

        return is_wanted


def render_ddl(
    tables: Sequence[sa.Table], compiler: Compiler, *, known: set[str] | None = None, spares: Sequence[Spare] = ()
) -> list[str]:
    """The statements that :meth:`Creator.create` would send, in its order, fit for a script.

    Args:
        tables: Of one sub-app.
        compiler: Of the target database.
        known: As for :class:`Creator`.
        spares: As for :meth:`Creator.create`.
    """
    texts: list[str] = []

    def collect(element: Any, parameters: Any = None, *_: Any) -> None:
        batch.add(element.values(parameters) if parameters else element)

    def send(_: object, statements: Sequence[Statement]) -> None:
        texts.extend(statement.text for statement in statements)

    batch = Batch(MockConnection(compiler.dialect, collect), compiler, send)
    with batch.open():
        Creator(batch, set() if known is None else known).create(tables, spares)
    return texts


def describe_tables(tables: Sequence[sa.Table], compiler: Compiler) -> list[str]:
    """What the tables are made of, as texts that change when they do; independent of everything else in the suite."""
    texts = []
    for table in tables:
        statements = [make_creation(table), *map(CreateIndex, table.indexes)]
        texts += sorted(_text_or_source(statement, compiler) for statement in statements)
        texts += [f"{column.name}: {column.type!r}" for column in table.columns if isinstance(column.type, sa.Enum)]
    return texts


def _by_metadata(tables: Sequence[sa.Table]) -> dict[sa.MetaData, list[sa.Table]]:
    groups: dict[sa.MetaData, list[sa.Table]] = {}
    for table in tables:
        groups.setdefault(table.metadata, []).append(table)
    return groups


def _iter_loose_sequences(tables: Sequence[sa.Table], spares: Sequence[Spare]) -> Iterator[sa.Sequence]:
    """Sequences that belong to no column: those that server defaults draw from, and those that nobody draws from."""
    found = {id(spare): spare for spare in spares if isinstance(spare, sa.Sequence)}
    for table in tables:
        for column in table.columns:
            found |= {id(sequence): sequence for sequence in iter_sequences(column) if sequence.column is None}
    yield from found.values()


def _shared_name(item: object) -> str | None:
    """The name of a type or sequence, with its schema if it has one; None for anything else."""
    if not isinstance(item, (sa.types.TypeEngine, sa.Sequence)):
        return None
    name, schema = getattr(item, "name", None), getattr(item, "schema", None)
    return f"{schema}.{name}" if schema else name


def _used_names(table: sa.Table) -> Iterator[str]:
    """The names of the types and sequences that a table uses; a view's columns have those of its tables."""
    if table.is_view:
        return
    for column in table.columns:
        for item in (*iter_types(column.type), *iter_sequences(column)):
            if name := _shared_name(item):
                yield name


def _text_or_source(statement: Any, compiler: Compiler) -> str:
    try:
        return compiler.text(statement)
    except Exception:  # noqa: BLE001 -- a compiler's way to have no words; somebody made the table all the same
        return repr(statement.element)
