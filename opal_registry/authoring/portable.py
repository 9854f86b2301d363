"""What a database says of what it has, as every database understands it: the old side of a difference, that is."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic.operations import ops

from opal_registry.mixins import ServerNow

NOW = re.compile(r"(?:now|current_timestamp)\s*(?:\((\d?)\))?", re.IGNORECASE)

LITERAL = re.compile(r"\(*'((?:[^']|''|\\')*)'\)*(?:::[^']+)?", re.DOTALL)
"""A text as databases write it, perhaps in parentheses, perhaps with its type."""

TRUTHS = {"true": sa.true(), "false": sa.false()}

QUOTED = re.compile(r"('(?:[^']|'')*')")
CAST = re.compile(
    r"::(?:character varying|double precision|time(?:stamp)? with(?:out)? time zone|[\w.]+|\"[^\"]+\")"
    r"(?:\(\d+(?:,\s*\d+)?\))?(?:\[\])?"
)
ANY = re.compile(r"= ANY \(+ARRAY\[([^\]]*)\]\)+")
BACKTICKS = re.compile(r"`(\w+)`")


class Portable:
    """Rewrites what was reflected.

    Args:
        dialect: Of the database that was compared.
        tables: The tables of the models, which know how enum types are called where a database does not.
        written: The enum types that the history speaks of, with their values.
    """

    def __init__(self, dialect: sa.Dialect, tables: Sequence[sa.Table], written: Mapping[str, Sequence[str]]) -> None:
        self._dialect, self._written = dialect, written
        self._columns = {(each.schema, each.name, column.name): column for each in tables for column in each.columns}
        self._is_mysql = dialect.name in {"mysql", "mariadb"}

    def rewrite(self, container: ops.OpContainer, *, is_old: bool) -> None:
        """Rewrite the operations of one direction.

        Args:
            container: The operations, to be changed.
            is_old: Whether they lead to what was reflected; otherwise they only begin there.
        """
        for operation in container.ops:
            match operation:
                case ops.OpContainer():
                    self.rewrite(operation, is_old=is_old)
                case ops.AlterColumnOp():
                    self._rewrite_alter(operation, is_old=is_old)
                case ops.AddColumnOp() if is_old:
                    self._rewrite_column(operation.schema, operation.table_name, operation.column)
                case ops.CreateTableOp() if is_old:
                    for item in operation.columns:
                        self._rewrite_item(operation.schema, operation.table_name, item)
                case ops.CreateCheckConstraintOp() if is_old:
                    operation.condition = sa.text(self._condition(str(operation.condition)))

    def _rewrite_alter(self, operation: ops.AlterColumnOp, *, is_old: bool) -> None:
        place = operation.schema, operation.table_name, operation.column_name
        if operation.existing_type is not None and not self._is_models(place, operation.existing_type):
            operation.existing_type = self._type(place, operation.existing_type)
        if operation.existing_server_default:
            operation.existing_server_default = self._default(operation.existing_server_default)
        if is_old and operation.modify_type is not None:
            operation.modify_type = self._type(place, operation.modify_type)
        if is_old and operation.modify_server_default:
            operation.modify_server_default = self._default(operation.modify_server_default)

    def _is_models(self, place: tuple[str | None, str, str], kind: Any) -> bool:
        return place in self._columns and self._columns[place].type is kind

    def _rewrite_item(self, schema: str | None, table: str, item: Any) -> None:
        if isinstance(item, sa.Column):
            self._rewrite_column(schema, table, item)
        elif isinstance(item, sa.CheckConstraint):
            item.sqltext = sa.text(self._condition(str(item.sqltext)))

    def _rewrite_column(self, schema: str | None, table: str, column: sa.Column[Any]) -> None:
        column.type = self._type((schema, table, column.name), column.type)
        if isinstance(column.server_default, sa.DefaultClause):
            default = self._default(column.server_default)
            is_one = {"0": False, "1": True}.get(str(default.arg)) if isinstance(column.type, sa.Boolean) else None
            column.server_default = default if is_one is None else sa.DefaultClause(sa.true() if is_one else sa.false())

    def _type(self, place: tuple[str | None, str, str], kind: Any) -> Any:
        """A type as every database has it; as the one that was compared has it where that says more."""
        if isinstance(kind, sa.Enum):
            return kind if kind.name else sa.Enum(*kind.enums, name=self._enum_name(place, kind.enums))
        if self._is_mysql and str(kind.compile(self._dialect)).upper() == "TINYINT(1)":
            return sa.Boolean()
        generic = _generalise(kind)
        if generic is None:
            return kind
        if generic.compile(self._dialect) == kind.compile(self._dialect):
            return generic
        names = ("mysql", "mariadb") if self._is_mysql else (self._dialect.name,)
        return generic.with_variant(kind, *names)

    def _enum_name(self, place: tuple[str | None, str, str], values: Sequence[str]) -> str:
        column = self._columns.get(place)
        if column is not None and isinstance(column.type, sa.Enum) and column.type.name:
            return str(column.type.name)
        named = [name for name, written in self._written.items() if list(written) == list(values)]
        return named[0] if named else f"{place[1]}_{place[2]}"

    def _default(self, default: Any) -> Any:
        """A server default, as a clause; computed columns and identities stay as they are."""
        if not isinstance(default, sa.DefaultClause) or not isinstance(default.arg, sa.TextClause):
            return default
        text = default.arg.text
        if now := NOW.fullmatch(text.strip("() ") if text.startswith("(") else text):
            return sa.DefaultClause(ServerNow() if now[1] else sa.func.now())
        if text in TRUTHS:
            return sa.DefaultClause(TRUTHS[text])
        if found := LITERAL.fullmatch(text):
            plain = found[1].replace("''", "'")
            return sa.DefaultClause(re.sub(r"\\(.)", r"\1", plain) if self._is_mysql else plain)
        return sa.DefaultClause(sa.text(self._condition(text)))

    def _condition(self, text: str) -> str:
        """An expression without what only one database writes: its casts, its quotes, its arrays."""
        if self._is_mysql:
            return BACKTICKS.sub(r"\1", text).replace("octet_length(", "length(")  # as MariaDB writes length
        if self._dialect.name != "postgresql":
            return text
        parts = (part if part.startswith("'") else CAST.sub("", part) for part in QUOTED.split(text))
        return ANY.sub(r"IN (\1)", "".join(parts))


def _generalise(kind: Any) -> Any:
    """The type of every database that one of a database stands for; None if there is none."""
    try:
        generic = kind.as_generic()
    except NotImplementedError:
        return None
    if isinstance(generic, sa.Double):
        return sa.Double()
    if isinstance(generic, sa.String):
        generic.collation = None
        return generic if generic.length else sa.Text()
    return generic
