"""Rules about foreign keys and CHECK constraints: rows that are there are looked at, and somebody waits meanwhile."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic.operations.ops import AddColumnOp, AddConstraintOp, CreateCheckConstraintOp, CreateForeignKeyOp

from opal_registry.migrations.lint.case import Case, free, unquoted
from opal_registry.migrations.lint.finding import Hit, Rule, hit
from opal_registry.migrations.lint.indexes import QUIET
from opal_registry.migrations.lint.recording import Act

UNCHECKED = {"foreign": "foreign_key_checks", "check": "check_constraint_checks"}
"""The switches with which MySQL (the second one: MariaDB) does not look at the rows that are there."""


def _foreign_keys(case: Case) -> Iterator[Hit]:
    for act, op in case.on_existing(CreateForeignKeyOp):
        what = f"it adds the foreign key {op.constraint_name} from {act.table} to {op.referent_table}"
        if not _is_unchecked(case, act, "foreign"):
            yield hit(act, what, _rewrite(case, act, op, "foreign"))
    for act, op in case.on_existing(AddColumnOp):
        if op.column.foreign_keys and not _is_empty(case, op) and not _is_unchecked(case, act, "foreign"):
            yield hit(act, f"it adds {act.table}.{op.column.name} with a foreign key", _inline(case, op))


def _is_empty(case: Case, op: AddColumnOp) -> bool:
    """Whether PostgreSQL knows that no row holds anything there: a foreign key within ``ADD COLUMN``, and no default."""
    return case.facts.dialect == "postgresql" and bool(op.inline_references) and op.column.server_default is None


def _checks(case: Case) -> Iterator[Hit]:
    for act, op in case.on_existing(CreateCheckConstraintOp):
        if not _is_unchecked(case, act, "check"):
            rewrite = _rewrite(case, act, op, "check")
            yield hit(act, f"it adds the constraint {op.constraint_name} (CHECK) to {act.table}", rewrite)
    for act, op in case.on_existing(AddColumnOp):
        if _has_check(case, op.column) and not _is_unchecked(case, act, "check"):
            yield hit(act, f"it adds {act.table}.{op.column.name} with a CHECK", f"# the column first\n{_later(case)}")


def _has_check(case: Case, column: Any) -> bool:
    """Whether a column, or its type, comes with a CHECK; a type of the database's own needs none."""
    if any(isinstance(each, sa.CheckConstraint) for each in column.constraints):
        return True
    is_native = isinstance(column.type, sa.Enum) and column.type.native_enum
    is_native = is_native or (isinstance(column.type, sa.Boolean) and case.facts.dialect == "postgresql")
    return bool(getattr(column.type, "create_constraint", False)) and not is_native


def _later(case: Case) -> str:
    postgresql = case.facts.dialect == "postgresql"
    how = ", postgresql_not_valid=True), and validate it in an autocommit block" if postgresql else ") in a quiet hour"
    return f"# then op.create_check_constraint(...{how}"


def _is_unchecked(case: Case, act: Act, kind: str) -> bool:
    if case.facts.dialect == "postgresql":
        return bool(getattr(act.op, "kw", {}).get("postgresql_not_valid"))
    sets = [each.text for other in case.before(act) for each in other.statements if each.kind == "set"]
    switched = [text for text in sets if UNCHECKED[kind] in text]
    return bool(switched) and switched[-1].rstrip().endswith(("0", "OFF"))


def _rewrite(case: Case, act: Act, op: Any, kind: str) -> str:
    if case.facts.dialect == "postgresql":
        sql = f"ALTER TABLE {case.quoted(act.table)} VALIDATE CONSTRAINT {case.quoted(case.name_of(op))}"
        return f"{case.changed(op, postgresql_not_valid=True)}\n{free(f'op.execute({sql!r})')}"
    if kind == "foreign":
        return _switched_off(case.code(op), "foreign_key_checks")
    mariadb = _switched_off(case.code(op), "check_constraint_checks")
    return f"{QUIET}# MariaDB can do without looking at the rows:\n{mariadb}"


def _switched_off(code: str, switch: str) -> str:
    off, on = (f'op.execute("SET SESSION {switch} = {value}")' for value in (0, 1))
    return f"# rows that are there are not looked at: search for wrong ones before\n{off}\n{code}\n{on}"


def _inline(case: Case, op: AddColumnOp) -> str:
    code = case.code(op)
    if case.facts.dialect == "postgresql":
        return f"# as long as it may be NULL, and has no default\n{code.removesuffix(')')}, inline_references=True)"
    return _switched_off(code, "foreign_key_checks")


def _validated_at_once(case: Case) -> Iterator[Hit]:
    added = {(act.transaction, case.name_of(act.op)) for act in case.acts if isinstance(act.op, AddConstraintOp)}
    for act, statement in case.executes("validate"):
        name = unquoted(statement.text.rpartition(" ")[2])
        if act.transaction is not None and (act.transaction, name) in added:
            rewrite = free(f"op.execute({statement.text!r})")
            yield hit(act, f"it validates {name} in the transaction that added it", rewrite)


RULES = (
    Rule(
        "opal.M105",
        "warning",
        "adds a foreign key and looks at every row at once",
        {
            "postgresql": "writes to both tables wait until every row has been looked at; NOT VALID looks at none, and VALIDATE lets them write",
            "mysql": "the table is copied while nobody may write to it, unless foreign_key_checks is off",
        },
        _foreign_keys,
        by_size=True,
    ),
    Rule(
        "opal.M106",
        "warning",
        "adds a CHECK and looks at every row at once",
        {
            "postgresql": "nobody reads or writes the table until every row has been looked at; NOT VALID looks at none, and VALIDATE lets them",
            "mysql": "the table is copied while nobody may write to it",
        },
        _checks,
        by_size=True,
    ),
    Rule(
        "opal.M107",
        "warning",
        "validates a constraint in the transaction that added it",
        {
            "postgresql": "the lock of adding it is held until the end of the transaction, so that NOT VALID was for nothing"
        },
        _validated_at_once,
        by_size=True,
    ),
)
