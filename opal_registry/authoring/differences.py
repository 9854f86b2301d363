"""How the models of a sub-app differ from a database, as Alembic's operations: its own tables, and nobody else's."""

import inspect
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import _render_python_into_templatevars  # what its own command renders a file with
from alembic.ddl.postgresql import PostgresqlImpl
from alembic.operations import ops
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext

from opal_registry.authoring.enums import add_enum_operations, is_named_enum, write_enum
from opal_registry.authoring.portable import Portable
from opal_registry.authoring.schemas import add_schemas
from opal_registry.authoring.written import find_enums
from opal_registry.migrations.environment import make_environment
from opal_registry.migrations.history import History
from opal_registry.mixins import ServerNow, UtcDateTime
from opal_registry.suite import LoadedSubApp

NOW = re.compile(r"(now|current_timestamp)\s*(\(\d?)?", re.IGNORECASE)

TEXT = re.compile(r"\(*'((?:[^']|''|\\')*)'\)*(::[^']+)?", re.DOTALL)
"""A text as databases write it, perhaps in parentheses, perhaps with its type."""

NUMBERS = (sa.Boolean, sa.Integer, sa.Numeric)
TRUTHS = {"true": "1", "false": "0"}

DEFAULTS: dict[type, str] = {
    sa.sql.functions.now: "sa.func.now()",
    sa.sql.elements.True_: "sa.true()",
    sa.sql.elements.False_: "sa.false()",
}
"""Server defaults that each database writes in its own way, as Python that holds for all of them."""

PLUGINS = ("alembic.autogenerate.*", "alembic.ext.checkconstraint_byname")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A difference, as the text of a revision.

    Args:
        upgrade: The body of ``upgrade``.
        downgrade: The body of ``downgrade``.
        imports: What these need beside Alembic and SQLAlchemy.
        is_contract: Whether it takes something away; None if that is left to what somebody writes.
        dropped: The tables that it drops.
    """

    upgrade: str
    downgrade: str
    imports: tuple[str, ...]
    is_contract: bool | None
    dropped: frozenset[str] = frozenset()


def draw_differences(
    connection: sa.Connection, app: LoadedSubApp, history: History, tables: Collection[str]
) -> Drawn | None:
    """Compare a database with the models of a sub-app.

    Args:
        connection: The database; in no transaction.
        app: The sub-app.
        history: Its history.
        tables: The names of the tables in the database that are its own, also of those that no model knows any more.

    Returns:
        What brings the database up to the models; None if nothing does.
    """
    chosen = _Choice(connection, app, tables)
    with make_environment(connection, history, **chosen.options()) as environment:
        _compare_defaults(environment.get_context())
        script = produce_migrations(environment.get_context(), chosen.metadata)  # type: ignore[arg-type]  # or several
        written = find_enums(history)
        portable = Portable(connection.dialect, app.tables, written)
        portable.rewrite(script.upgrade_ops_list[0], is_old=False)
        portable.rewrite(script.downgrade_ops_list[0], is_old=True)
        add_enum_operations(connection, script, app.tables, written)
        add_schemas(connection, script.upgrade_ops_list[0])
        drop_doubled_checks(script.upgrade_ops_list[0], app.tables)
        for container in (*script.upgrade_ops_list, *script.downgrade_ops_list):
            _leave_to_tables(container)
        connection.rollback()
        is_empty = script.upgrade_ops_list[0].is_empty()
        return None if is_empty else _render(environment, script, chosen.metadata)


class _Choice:
    """What Alembic may see."""

    def __init__(self, connection: sa.Connection, app: LoadedSubApp, tables: Collection[str]) -> None:
        self._tables = {table for table in app.tables if not table.is_view}
        self._names = set(tables) | {table.fullname for table in self._tables}
        self._compiler = connection.dialect.statement_compiler(connection.dialect, None)
        self.metadata: Sequence[sa.MetaData] = list(dict.fromkeys(table.metadata for table in app.tables)) or [
            sa.MetaData()
        ]

    def options(self) -> dict[str, Any]:
        """For Alembic's environment."""
        return {
            "target_metadata": self.metadata,
            "include_name": self.has_name,
            "include_object": self.has_object,
            "include_schemas": any(table.schema for table in self._tables),
            "compare_type": True,
            "compare_server_default": True,
            "render_item": render_item,
            "autogenerate_plugins": PLUGINS,
        }

    def has_name(self, name: str | None, kind: str, parents: Any) -> bool:
        """Whether something in the database is to be looked at."""
        if kind == "schema":
            return name is None or any(full.startswith(f"{name}.") for full in self._names)
        return kind != "table" or parents["schema_qualified_table_name"] in self._names

    def has_object(self, item: Any, name: str | None, kind: str, is_reflected: bool, other: Any) -> bool:  # noqa: FBT001
        """Whether something of the models, or of its tables in the database, is to be looked at."""
        if kind == "index" and is_reflected and other is None:
            return not (name or "").startswith(f"fk_{item.table.name}_")  # MySQL keeps it when the foreign key goes
        if kind == "check_constraint":  # one that guards an enum is there only where no type does
            return item._create_rule is None or bool(item._create_rule(self._compiler))
        return kind != "table" or is_reflected or item in self._tables


def _compare_defaults(context: MigrationContext) -> None:
    """Have defaults compared by :func:`is_other_default` first; Alembic's own way to say so fails at computed columns."""
    ask = context.impl.compare_server_default
    is_mysql = context.dialect.name in {"mysql", "mariadb"}

    def compare(there: Any, column: Any, wanted: str | None, found: str | None) -> bool:
        if isinstance(column.type, NUMBERS) and is_same_number(found, wanted):
            return False
        is_other = is_other_default(column.server_default, found, wanted, is_mysql=is_mysql)
        return bool(ask(there, column, wanted, found)) if is_other is None else is_other  # type: ignore[no-untyped-call]

    vars(context.impl)["compare_server_default"] = compare


def is_other_default(default: object, there: str | None, wanted: str | None, *, is_mysql: bool = False) -> bool | None:
    """Whether a default differs, where that can be told from its text; None if the database has to be asked.

    "Now" is the same however it is written, and whatever fraction of a second it has; a text is what it says.

    Args:
        default: The model's default.
        there: The database's, as it writes it.
        wanted: The model's, as the database would write it.
        is_mysql: Whether a backslash is MySQL's way to quote.
    """
    if all(text is not None and NOW.fullmatch(text.strip("() ")) for text in (there, wanted)):
        return False
    if is_mysql and wanted in TRUTHS:
        return there != TRUTHS[wanted]
    found = TEXT.fullmatch(there or "")
    if not (found and isinstance(default, sa.DefaultClause) and isinstance(default.arg, str)):
        return None
    text = found[1].replace("''", "'")
    return (re.sub(r"\\(.)", r"\1", text) if is_mysql else text) != default.arg


def drop_doubled_checks(container: ops.OpContainer, tables: Collection[sa.Table]) -> None:
    """Let no check be added twice: a new column's type brings its own, as that of an enum that is no type."""
    bound = {
        (table.name, check.name): {column.name for column in check.columns}
        for table in tables
        for check in table.constraints
        if isinstance(check, sa.CheckConstraint) and check._type_bound
    }
    new = {(each.table_name, each.column.name) for each in container.ops if isinstance(each, ops.AddColumnOp)}
    for each in list(container.ops):
        if isinstance(each, ops.OpContainer):
            drop_doubled_checks(each, tables)
        elif isinstance(each, ops.CreateCheckConstraintOp):
            names = bound.get((each.table_name, each.constraint_name), ())
            if any((each.table_name, name) in new for name in names):
                container.ops.remove(each)


def is_same_number(there: str | None, wanted: str | None) -> bool:
    """Whether two defaults are one number however they are written; 1 is true, and 0 false.

    Example:
        >>> is_same_number("10.00", "10"), is_same_number("true", "1"), is_same_number("'a'", "1")
        (True, True, False)
    """
    first, second = _number(there), _number(wanted)
    return first is not None and first == second


def _number(text: str | None) -> Decimal | None:
    bare = (text or "").strip("()' ").lower()
    try:
        return Decimal(TRUTHS.get(bare, bare))
    except InvalidOperation:
        return None


def render_item(kind: str, item: Any, context: AutogenContext) -> str | Literal[False]:
    """Have the modules imported that types of other packages come from; write "now" as every database understands it."""
    module = type(item).__module__
    if kind == "type" and is_named_enum(item):
        return write_enum(item)
    if kind == "type" and module.startswith("sqlalchemy.dialects.postgresql"):
        return _render_postgresql(item, context)
    if kind == "type" and module.partition(".")[0] not in {"sqlalchemy", "alembic"}:
        context.imports.add(f"import {module}")
        return f"{module}.{type(item).__qualname__}()" if _takes_nothing(type(item)) else False
    if kind == "server_default" and isinstance(item, sa.DefaultClause):
        if isinstance(item.arg, ServerNow):
            context.imports.add(f"import {ServerNow.__module__}")
            return f"{ServerNow.__module__}.ServerNow()"
        return next((text for kind_, text in DEFAULTS.items() if isinstance(item.arg, kind_)), False)
    return False


def _takes_nothing(kind: type) -> bool:
    """Whether a type is made without arguments; Alembic would write those of the type that it decorates."""
    return kind is UtcDateTime or ("__init__" in vars(kind) and len(inspect.signature(kind).parameters) == 0)


def _render_postgresql(item: Any, context: AutogenContext) -> str | Literal[False]:
    """A type of PostgreSQL, also where it is written on another database: as a variant, that is."""
    context.imports.add("from sqlalchemy.dialects import postgresql")
    impl = PostgresqlImpl.__new__(PostgresqlImpl)  # for its renderers alone, which ask no database
    return impl.render_type(item, context)


def _leave_to_tables(container: ops.OpContainer) -> None:
    """Drop no index of a table that is dropped itself: MySQL refuses to, where a foreign key needs it."""
    dropped = {(each.schema, each.table_name) for each in container.ops if isinstance(each, ops.DropTableOp)}
    container.ops[:] = [
        each
        for each in container.ops
        if not (isinstance(each, ops.ModifyTableOps) and (each.schema, each.table_name) in dropped)
    ]


def _render(environment: EnvironmentContext, script: ops.MigrationScript, metadata: Any) -> Drawn:
    texts: dict[str, Any] = {}
    _render_python_into_templatevars(AutogenContext(environment.get_context(), metadata), script, texts)
    imports = tuple(texts["imports"].splitlines())
    upgrade = script.upgrade_ops_list[0]
    return Drawn(
        texts["upgrades"], texts["downgrades"], imports, _takes_away(upgrade), frozenset(_iter_dropped(upgrade))
    )


def _iter_dropped(container: ops.OpContainer) -> Iterator[str]:
    for each in container.ops:
        if isinstance(each, ops.DropTableOp):
            yield f"{each.schema}.{each.table_name}" if each.schema else each.table_name


def _takes_away(container: ops.OpContainer) -> bool:
    gone = (ops.DropTableOp, ops.DropColumnOp)
    return any(
        isinstance(each, gone) or (isinstance(each, ops.OpContainer) and _takes_away(each)) for each in container.ops
    )
