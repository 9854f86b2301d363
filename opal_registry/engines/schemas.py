"""SQLite has no schemas: those that models declare are left out of every statement, and of what is asked about a table.

Only the dialect of one engine is changed. Two tables of different schemas whose names become equal are one table here;
whoever creates tables has to see to that before.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy.dialects.sqlite.base import SQLiteCompiler, SQLiteDDLCompiler, SQLiteIdentifierPreparer
from sqlalchemy.sql.compiler import DDLCompiler

ABOUT_A_TABLE = (
    "get_check_constraints",
    "get_columns",
    "get_foreign_keys",
    "get_indexes",
    "get_pk_constraint",
    "get_table_options",
    "get_unique_constraints",
    "get_view_definition",
    "has_table",
)
"""What a dialect can find out about a table; it is found under its name, whatever schema is asked for."""

NO_ALIASES: Any = {"ambiguous_table_name_map": None}


class SchemalessNames(SQLiteIdentifierPreparer):
    """Names without schemas, wherever they are put; ``schema_translate_map`` has nothing to translate."""

    _includes_none_schema_translate = True

    def schema_for_object(self, _: object) -> None:  # type: ignore[override]
        """The schema of a table, sequence or type: none."""

    def _with_schema_translate(self, _: object) -> "SchemalessNames":
        return self


class SchemalessCompiler(SQLiteCompiler):
    """Tables under their names: SQLAlchemy would give an alias to each whose name one in a schema has too, itself."""

    def visit_table(self, table: Any, *arguments: Any, **options: Any) -> Any:
        """A table."""
        return super().visit_table(table, *arguments, **options | NO_ALIASES)  # type: ignore[no-untyped-call]

    def visit_column(self, column: Any, *arguments: Any, **options: Any) -> str:
        """A column."""
        return super().visit_column(column, *arguments, **options | NO_ALIASES)


class SchemalessDDLCompiler(SQLiteDDLCompiler):
    """Foreign keys between tables of different schemas, which SQLAlchemy would silently omit."""

    def visit_foreign_key_constraint(self, constraint: Any, **options: Any) -> str:
        """A foreign key."""
        return DDLCompiler.visit_foreign_key_constraint(self, constraint, **options)


def leave_out_schemas(dialect: Any) -> None:
    """Have a SQLite dialect leave out the schemas that tables declare.

    Args:
        dialect: The dialect of one engine; no other one is changed.

    Example:
        >>> import sqlalchemy as sa
        >>> engine = sa.create_engine("sqlite://")
        >>> leave_out_schemas(engine.dialect)
        >>> jobs = sa.Table("jobs", sa.MetaData(), sa.Column("id", sa.Integer), schema="calmind")
        >>> print(sa.delete(jobs).compile(engine))
        DELETE FROM jobs
    """
    dialect.statement_compiler = SchemalessCompiler
    dialect.ddl_compiler = SchemalessDDLCompiler
    dialect.preparer = SchemalessNames
    dialect.identifier_preparer = SchemalessNames(dialect)
    for question in ABOUT_A_TABLE:
        setattr(dialect, question, _without_schema(getattr(dialect, question)))


def _without_schema(ask: Callable[..., Any]) -> Callable[..., Any]:
    def answer(connection: object, table: str, schema: object = None, **options: Any) -> Any:  # noqa: ARG001 -- SQLAlchemy's signature
        return ask(connection, table, **options)

    return answer
