"""Rules about columns: what makes a database look at every row of a table, or write each anew."""

import re
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic.operations.ops import AddColumnOp, AlterColumnOp, CreateCheckConstraintOp, DropConstraintOp
from sqlalchemy.sql.elements import conv

from opal_registry.migrations.lint.case import Case, free, unquoted
from opal_registry.migrations.lint.conversions import is_free
from opal_registry.migrations.lint.finding import Hit, Rule, hit
from opal_registry.migrations.lint.indexes import QUIET
from opal_registry.migrations.lint.recording import Act, RecreateOp, full_name

STEADY = {
    "postgresql": "now current_timestamp current_date current_time localtimestamp localtime transaction_timestamp "
    "statement_timestamp timezone date_trunc date_part extract to_char to_timestamp make_interval age coalesce nullif "
    "greatest least lower upper concat length md5 round abs floor ceil json_build_object jsonb_build_object "
    "json_build_array jsonb_build_array to_json to_jsonb array cast numeric varchar char decimal interval",
    "mysql": "now current_timestamp localtime localtimestamp",
}
"""Functions that give every row of one statement the same value; all others are taken for ones that do not."""


LONGEST_NAME = 63
"""So many characters of a name PostgreSQL keeps."""


def _not_null(case: Case) -> Iterator[Hit]:
    for act, op in case.on_existing(AlterColumnOp):
        if op.modify_nullable is False and op.existing_nullable is not False and not _is_proved(case, act, op):
            rewrite = _proving(case, op) if case.facts.dialect == "postgresql" else QUIET + case.code(op)
            yield hit(act, f"it makes {act.table}.{op.column_name} NOT NULL", rewrite)


def _is_proved(case: Case, act: Act, op: AlterColumnOp) -> bool:
    """Whether PostgreSQL knows already that no row holds NULL there: it takes the word of a validated CHECK."""
    if (act.table, op.column_name) in case.facts.not_null:
        return True
    before = case.before(act)
    checks = {
        case.name_of(each.op)
        for each in before
        if isinstance(each.op, CreateCheckConstraintOp) and each.table == act.table
        if re.sub(r'["`()]', "", str(each.op.condition)).upper() == f"{op.column_name} IS NOT NULL".upper()
    }
    proofs = [each for other in before if other.transaction is None for each in other.statements]
    return any(each.kind == "validate" and unquoted(each.text.rpartition(" ")[2]) in checks for each in proofs)


def _proving(case: Case, op: AlterColumnOp) -> str:
    name, table = f"ck_{op.table_name}_{op.column_name}_not_null"[:LONGEST_NAME], op.table_name
    condition = f"{case.quoted(op.column_name)} IS NOT NULL"
    check = CreateCheckConstraintOp(conv(name), table, condition, schema=op.schema, postgresql_not_valid=True)
    full = case.quoted(full_name(table, op.schema))
    validate = free(f"op.execute({f'ALTER TABLE {full} VALIDATE CONSTRAINT {case.quoted(name)}'!r})")
    drop = case.code(DropConstraintOp(conv(name), table, "check", schema=op.schema))
    return "\n".join([case.code(check), validate, case.code(op), drop])


def _retyped(case: Case) -> Iterator[Hit]:
    dialect = case.recording.context.dialect
    for act, op in case.on_existing(AlterColumnOp):
        new = op.modify_type
        is_computed = bool(op.kw.get("postgresql_using"))
        if new is None or _is_same_enum(case, op) or (not is_computed and is_free(op.existing_type, new, dialect)):
            continue
        old = "a type that existing_type does not tell" if op.existing_type is None else repr(op.existing_type)
        yield hit(act, f"it changes {act.table}.{op.column_name} from {old} to {new!r}", _beside(case, op))


def _is_same_enum(case: Case, op: AlterColumnOp) -> bool:
    """Whether only the values differ, which PostgreSQL keeps in the type and not in the column."""
    old, new = op.existing_type, op.modify_type
    if not isinstance(old, sa.Enum) or not isinstance(new, sa.Enum):
        return False
    return case.facts.dialect == "postgresql" and old.name == new.name


def _beside(case: Case, op: AlterColumnOp) -> str:
    column: Any = sa.Column(f"{op.column_name}_new", op.modify_type, nullable=True)
    add = case.code(AddColumnOp(op.table_name, column, schema=op.schema))
    return (
        f"# expand: the new column beside the old one; the new release writes both\n{add}\n"
        "# then a revision that fills it, a part at a time\n"
        f"# contract: op.drop_column({op.table_name!r}, {op.column_name!r})"
    )


def _unsteady_defaults(case: Case) -> Iterator[Hit]:
    for act, op in case.on_existing(AddColumnOp):
        text = _default(case, op.column)
        if name := _find_unsteady(text, STEADY[case.facts.dialect].split()):
            what = f"it adds {act.table}.{op.column.name} with the default {text}, whose {name} may differ in every row"
            yield hit(act, what, _default_later(case, op))


def _default(case: Case, column: Any) -> str:
    default = getattr(column.server_default, "arg", None)
    if default is None or isinstance(default, str):
        return ""
    return str(default.compile(dialect=case.recording.context.dialect, compile_kwargs={"literal_binds": True}))


def _find_unsteady(text: str, steady: list[str]) -> str:
    """The first function in a default that is not known to give every row the same value.

    Example:
        >>> _find_unsteady("coalesce(md5(random()::text), 'f()')", ["coalesce", "md5"])
        'random'
    """
    called = re.findall(r"(\w+)\s*\(", re.sub(r"'(?:[^']|'')*'", "''", text))
    return next((name for name in called if name.lower() not in steady), "")


def _default_later(case: Case, op: AddColumnOp) -> str:
    bare: Any = sa.Column(op.column.name, op.column.type, nullable=True)
    later = AlterColumnOp(
        op.table_name,
        op.column.name,
        schema=op.schema,
        existing_type=op.column.type,
        modify_server_default=op.column.server_default,
    )
    add = case.code(AddColumnOp(op.table_name, bare, schema=op.schema))
    return f"{add}\n{case.code(later)}\n# then a revision that fills it, a part at a time"


def _numbered(case: Case) -> Iterator[Hit]:
    for act, op in case.on_existing(AddColumnOp):
        if reason := _find_numbering(case, op.column):
            rewrite = _beside_numbers(case, op)
            yield hit(act, f"it adds {act.table}.{op.column.name}, which is {reason}", rewrite)


def _find_numbering(case: Case, column: Any) -> str:
    if column.identity is not None:
        return "numbered by the database" if case.facts.dialect == "postgresql" else ""
    if column.computed is not None:
        is_stored = column.computed.persisted
        return "computed and stored" if is_stored or (is_stored is None and case.facts.dialect == "postgresql") else ""
    numbers = column.primary_key or column.autoincrement is True
    is_number = isinstance(column.type, sa.Integer) and column.autoincrement is not False
    return "numbered by the database" if numbers and is_number and not column.foreign_keys else ""


def _beside_numbers(case: Case, op: AddColumnOp) -> str:
    bare: Any = sa.Column(op.column.name, op.column.type, nullable=True)
    add = case.code(AddColumnOp(op.table_name, bare, schema=op.schema))
    return f"{add}\n# then let the application fill it, or a revision, a part at a time"


def _required(case: Case) -> Iterator[Hit]:
    for act, op in case.on_existing(AddColumnOp):
        column = op.column
        has_value = column.server_default is not None or _find_numbering(case, column) or column.computed is not None
        if not column.nullable and not has_value:
            what = f"it adds {act.table}.{column.name}, NOT NULL and without a default"
            yield hit(act, what, _optional(case, op))


def _optional(case: Case, op: AddColumnOp) -> str:
    bare: Any = sa.Column(op.column.name, op.column.type, nullable=True)
    add = case.code(AddColumnOp(op.table_name, bare, schema=op.schema))
    return f"{add}\n# or with server_default=...; it becomes NOT NULL once every row has a value, and every writer gives one"


def _recreated(case: Case) -> Iterator[Hit]:
    for act, op in case.on_existing(RecreateOp):
        schema = f", schema={op.schema!r}" if op.schema else ""
        rewrite = f"with op.batch_alter_table({op.table_name!r}{schema}) as batch_op:\n    ..."
        yield hit(act, f'it copies {act.table}: recreate="always"', rewrite)


RULES = (
    Rule(
        "opal.M108",
        "warning",
        "makes a column NOT NULL",
        {
            "postgresql": "nobody reads or writes the table until every row has been looked at, unless a validated CHECK says the same",
            "mysql": "the whole table is written anew, and replicas wait for it",
        },
        _not_null,
        by_size=True,
    ),
    Rule(
        "opal.M109",
        "warning",
        "changes a type so that every row is written anew",
        {
            "postgresql": "nobody reads or writes the table until every row, and every index on it, has been written anew",
            "mysql": "nobody writes to the table until it has been copied",
        },
        _retyped,
        by_size=True,
    ),
    Rule(
        "opal.M110",
        "warning",
        "adds a column whose default differs from row to row",
        {
            "postgresql": "nobody reads or writes the table until every row has been written anew; a constant, or now(), costs nothing",
            "mysql": "nobody writes to the table until it has been copied, and replicas may compute other values; a constant costs nothing",
        },
        _unsteady_defaults,
        by_size=True,
    ),
    Rule(
        "opal.M111",
        "warning",
        "adds a column that is numbered, or computed and stored",
        {
            "postgresql": "nobody reads or writes the table until every row has been written anew",
            "mysql": "nobody writes to the table until it has been copied",
        },
        _numbered,
        by_size=True,
    ),
    Rule(
        "opal.M112",
        "error",
        "adds a column NOT NULL without a default",
        {
            "postgresql": "PostgreSQL refuses it as soon as there is a row, and the release before cannot insert any more",
            "mysql": "every row gets a zero or an empty text that nobody chose, and the release before cannot insert any more",
        },
        _required,
    ),
    Rule(
        "opal.M113",
        "warning",
        'copies a table with recreate="always"',
        dict.fromkeys(
            STEADY, "every row is copied while nobody may write, though the database can alter the table where it is"
        ),
        _recreated,
        by_size=True,
    ),
)
