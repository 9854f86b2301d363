"""What preflight looks at: a table on its way into a database, and what is known about that database beforehand."""

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import sqlalchemy as sa

from opal_registry.errors import Problem
from opal_registry.ownership.definitions import find_definition
from opal_registry.schema.compiled import Compiler
from opal_registry.suite import LoadedSubApp

TITLES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}
"""The databases by their short names, in the order in which texts list them."""

DATABASES = frozenset(TITLES)
MYSQL = frozenset({"mysql", "mariadb"})

FAILURES = (Exception,)
"""How SQLAlchemy says that a database has no words for something: its compilers raise whatever they stumble over."""


class Target:
    """The database that tables are to be created in.

    Args:
        compiler: For its dialect.
        connection: To it; None where it does not exist yet.

    Attributes:
        names: Which of :data:`DATABASES` it is; both MySQL and MariaDB as long as nobody has asked the server.

    Example:
        >>> from sqlalchemy.dialects import mysql
        >>> Target(Compiler(mysql.dialect())).title
        'MySQL or MariaDB'
    """

    def __init__(self, compiler: Compiler, connection: sa.Connection | None = None) -> None:
        self.compiler, self.connection = compiler, connection
        self.dialect = compiler.dialect
        self.names = _names(self.dialect if connection is None else connection.dialect)
        self._texts: dict[sa.Column[Any], str] = {}

    @property
    def title(self) -> str:
        """What it is called."""
        return list_titles(self.names, "or")

    @property
    def is_mysql(self) -> bool:
        """Whether it is MySQL or MariaDB."""
        return self.names <= MYSQL

    @cached_property
    def is_strict(self) -> bool:
        """Whether MySQL refuses what it would otherwise cut with a warning; servers are strict by default."""
        dialect: Any = self.dialect if self.connection is None else self.connection.dialect
        return "STRICT" in (getattr(dialect, "_sql_mode", None) or "STRICT")

    def type_text(self, column: sa.Column[Any]) -> str:
        """A column's type in the words of the database; empty where it has none."""
        if column not in self._texts:
            try:
                self._texts[column] = self.dialect.type_compiler_instance.process(column.type, type_expression=column)
            except FAILURES:
                self._texts[column] = ""
        return self._texts[column]

    def is_created(self, item: sa.Index | sa.Constraint) -> bool:
        """Whether a part of a table is created here for sure."""
        has_rule = getattr(item, "_create_rule", None) or (item._ddl_if and item._ddl_if.callable_)
        return not has_rule and not self.is_left_out(item)

    def is_left_out(self, item: sa.Index | sa.Constraint) -> bool:
        """Whether a part of a table is for another dialect: ``.ddl_if(dialect="postgresql")``."""
        wanted: Any = item._ddl_if and item._ddl_if.dialect
        return bool(wanted) and self.dialect.name not in ((wanted,) if isinstance(wanted, str) else wanted)


class Subject:
    """A table on its way into a database.

    Args:
        app: The sub-app that owns it.
        table: The table.
        target: The database.
    """

    def __init__(self, app: LoadedSubApp, table: sa.Table, target: Target) -> None:
        self.app, self.table, self.target = app, table, target

    @cached_property
    def indexes(self) -> list[sa.Index]:
        """The indexes that are created with it, by name."""
        found = (index for index in self.table.indexes if self.target.is_created(index))
        return sorted(found, key=lambda index: str(index.name))

    @cached_property
    def foreign_keys(self) -> list[sa.ForeignKeyConstraint]:
        """The foreign keys that are created with it, by their columns."""
        found = filter(self.target.is_created, self.table.foreign_key_constraints)
        return sorted(found, key=lambda key: tuple(key.column_keys))

    @cached_property
    def constraints(self) -> list[sa.Constraint]:
        """The constraints that are created with it, those of single columns too; in no order."""
        of_columns = (constraint for column in self.table.columns for constraint in column.constraints)
        return list(filter(self.target.is_created, (*self.table.constraints, *of_columns)))

    @cached_property
    def columns(self) -> list[tuple[sa.Column[Any], str]]:
        """The columns, each with its type in the words of the database."""
        return [(column, self.target.type_text(column)) for column in self.table.columns]

    def option(self, name: str) -> str:
        """An option of the table for this dialect, such as ``engine`` for MySQL; empty if it is not given."""
        wanted = f"{self.target.dialect.name}_{name}"
        return next((str(value) for key, value in self.table.kwargs.items() if key.lower() == wanted), "")

    def exceeds(self, number: int, limits: Mapping[str, int]) -> tuple[set[str], int]:
        """The databases for which a number is too high, and the limit here."""
        by = {name for name, most in limits.items() if number > most}
        return by, max((limits[name] for name in by & self.target.names), default=0)

    def refuse(
        self, by: Collection[str], what: str, mend: str, *, says: str = "", unsure: Collection[str] = ()
    ) -> Iterator[Problem]:
        """The problem that the database refuses something, if it is certain to.

        Args:
            by: Those of :data:`DATABASES` that refuse it.
            what: What it is, such as ``"column 'x' has the type INET, which SQLite does not have"``.
            mend: What to do about it.
            says: How the database itself would say it.
            unsure: Those that may refuse it; all others would take it.
        """
        if self.target.names <= set(by):
            definition = find_definition(self.table)
            said = f" ({self.target.title} says: {says})" if says else ""
            takers = DATABASES - set(by) - set(unsure)
            taken = f"; {list_titles(takers, 'and')} would take it" if takers else ""
            text = f"sub-app {self.app.name!r}: table {self.table.fullname!r}: {what}{said}{taken}"
            yield Problem(text, definition.place if definition else "", mend)


def list_titles(names: Collection[str], word: str) -> str:
    """Databases in words.

    Example:
        >>> list_titles({"postgresql", "sqlite", "mariadb"}, "and")
        'SQLite, PostgreSQL and MariaDB'
    """
    titles = [title for name, title in TITLES.items() if name in names]
    return f" {word} ".join([", ".join(titles[:-1]), titles[-1]]) if titles[1:] else titles[0]


def has_listeners(table: sa.Table) -> bool:
    """Whether somebody runs code of their own when a table is created, so that nothing can be said beforehand."""
    found = [*table.dispatch.before_create, *table.dispatch.after_create]
    found += [*table.metadata.dispatch.before_create, *table.metadata.dispatch.after_create]
    return not all(_is_sqlalchemys(listener) for listener in found)


def _is_sqlalchemys(listener: Any) -> bool:
    """Types that are made with the tables that use them listen too."""
    function = listener.func if isinstance(listener, partial) else listener
    return isinstance(getattr(function, "__self__", None), sa.types.SchemaType)


def _names(dialect: Any) -> frozenset[str]:
    if dialect.name not in MYSQL:
        return frozenset({dialect.name})
    if dialect.is_mariadb or dialect.name == "mariadb":
        return frozenset({"mariadb"})
    return frozenset({"mysql"}) if getattr(dialect, "server_version_info", None) else MYSQL
