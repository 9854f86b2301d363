"""DDL as text, each statement compiled once, however often it is asked for: checked, digested, shown, sent."""

from copy import copy
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement


class Compiler:
    """Compiles DDL for one database, into text that no driver looks for placeholders in.

    Args:
        dialect: The database's dialect.

    Example:
        >>> from sqlalchemy.dialects import postgresql
        >>> table = sa.Table("rates", sa.MetaData(), sa.Column("share", sa.Text, server_default="5 %"))
        >>> print(Compiler(postgresql.dialect()).text(CreateTable(table)))
        CREATE TABLE rates (
            share TEXT DEFAULT '5 %'
        )
    """

    def __init__(self, dialect: sa.Dialect) -> None:
        self.dialect = _without_placeholders(dialect)
        self._texts: dict[tuple[type, object, frozenset[object]], str] = {}

    def text(self, statement: Any) -> str:
        """The text of a statement.

        Args:
            statement: DDL, or any other statement, whose parameters become literals.

        Raises:
            sqlalchemy.exc.CompileError: If the database has no words for it.
        """
        key = _key(statement)
        if key is None:
            return self._compile(statement)
        if key not in self._texts:
            self._texts[key] = self._compile(statement)
        return self._texts[key]

    def _compile(self, statement: Any) -> str:
        options = {} if isinstance(statement, ExecutableDDLElement) else {"literal_binds": True}
        return str(statement.compile(dialect=self.dialect, compile_kwargs=options)).strip().replace("\t", "    ")


def make_creation(table: sa.Table) -> Any:
    """The DDL that creates a table, or the view that SQLAlchemy keeps as one."""
    return CreateTable(table) if table._creator_ddl is None else table._creator_ddl


def _key(statement: Any) -> tuple[type, object, frozenset[object]] | None:
    """What two statements of one text have in common; None for those that occur once."""
    if type(statement) is CreateIndex and not statement.if_not_exists:
        return CreateIndex, statement.element, frozenset()
    if type(statement) is CreateTable and not statement.if_not_exists:
        wanted = statement.include_foreign_key_constraints
        keys = statement.element.foreign_key_constraints if wanted is None else wanted
        return CreateTable, statement.element, frozenset(key for key in keys if not key.use_alter)
    return None


def _without_placeholders(dialect: sa.Dialect) -> sa.Dialect:
    """The same dialect for text that no driver sees: psycopg's own doubles each % sign."""
    plain: Any = copy(dialect)
    vars(plain).pop("_type_memos", None)  # how types quote for the other one
    plain.paramstyle, plain.positional = "named", False
    plain.identifier_preparer = copy(plain.identifier_preparer)
    plain.identifier_preparer.dialect = plain
    plain.identifier_preparer._double_percents = False
    plain.identifier_preparer._strings = {}  # how the other one quoted names
    plain.type_compiler_instance = type(plain.type_compiler_instance)(plain)
    if dialect.name in {"mysql", "mariadb"}:
        plain.ddl_compiler = _make_mysql_compiler(dialect.ddl_compiler)
    return plain  # type: ignore[no-any-return]


def _make_mysql_compiler(compiler: Any) -> Any:
    """A compiler of DDL that leads foreign keys out of a schema, and puts the checks of columns behind them.

    MySQL looks for a table that is referred to without a schema in that of the table that refers to it (its manual,
    "FOREIGN KEY Constraints"), not in the database that the connection is for. MariaDB has no words for a check of a
    column that has a name, only for one of the table.
    """

    class Compiler(compiler):  # type: ignore[misc]
        def define_constraint_remote_table(self, constraint: Any, table: sa.Table, preparer: Any) -> str:
            home = self.dialect.default_schema_name
            if table.schema or not constraint.table.schema or not home:
                return str(super().define_constraint_remote_table(constraint, table, preparer))
            return f"{preparer.quote_schema(home)}.{preparer.quote(table.name)}"

        def visit_column_check_constraint(self, *_: Any, **__: Any) -> str:
            return ""

        def create_table_constraints(self, table: sa.Table, *arguments: Any, **options: Any) -> str:
            checks = [check for column in table.columns for check in column.constraints]
            texts = [
                super().create_table_constraints(table, *arguments, **options),
                *map(self.visit_check_constraint, checks),
            ]
            return ", \n\t".join(filter(None, texts))

    return Compiler
