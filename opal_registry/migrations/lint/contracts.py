"""Rules about what sub-apps owe each other, and what a release owes the one before it."""

from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic.operations.ops import (
    AddColumnOp,
    AlterColumnOp,
    CreateTableOp,
    DropColumnOp,
    DropTableOp,
    RenameTableOp,
)

from opal_registry.migrations.lint.case import Case, Use
from opal_registry.migrations.lint.finding import Hit, Rule, everywhere, hit
from opal_registry.migrations.lint.recording import Act

BREAKS = "the release of that sub-app which is running fails as soon as this has run, and nobody may have tested them together"
WAIT = "# first a release of {apps} that does without it; this revision pins that release's revision:\n# opal_depends_on = {pins}"


def _users(found: Iterable[Use]) -> str:
    return ", ".join(dict.fromkeys(map(str, found)))


def _wait(found: Iterable[Use]) -> str:
    apps = sorted({use.app for use in found})
    pins = {app: ["..."] for app in apps}
    return WAIT.format(apps=", ".join(apps), pins=str(pins).replace("'", '"'))


def _dropped_tables(case: Case) -> Iterator[Hit]:
    for act, _ in case.on_existing(DropTableOp):
        if found := case.users(act.table):
            yield hit(act, f"it drops the table {act.table}, which is used by {_users(found)}", _wait(found))


def _dropped_columns(case: Case) -> Iterator[Hit]:
    for act, op in case.on_existing(DropColumnOp):
        if found := case.users(act.table, op.column_name):
            what = f"it drops {act.table}.{op.column_name}, which is used by {_users(found)}"
            yield hit(act, what, _wait(found))


def _renames(case: Case) -> Iterator[tuple[Act, str, str, list[Use]]]:
    """What is renamed, into what, and the other sub-apps that use it."""
    for act, op in case.on_existing(RenameTableOp):
        yield act, act.table, op.new_table_name, case.users(act.table)
    for act, op in case.on_existing(AlterColumnOp):
        if op.modify_name not in (None, op.column_name):
            yield act, f"{act.table}.{op.column_name}", op.modify_name, case.users(act.table, op.column_name)


def _renamed_of_others(case: Case) -> Iterator[Hit]:
    for act, old, new, found in _renames(case):
        if found:
            yield hit(act, f"it renames {old} to {new}, which is used by {_users(found)}", _wait(found))


def _renamed(case: Case) -> Iterator[Hit]:
    rewrite = (
        "# expand: add what has the new name, fill it, and let the new release write both\n"
        "# contract, once nothing reads the old name any more: drop it"
    )
    for act, old, new, found in _renames(case):
        if not found:
            yield hit(act, f"it renames {old} to {new}", rewrite)


def _retyped(case: Case) -> Iterator[Hit]:
    for act, op in case.on_existing(AlterColumnOp):
        found = case.users(act.table, op.column_name) if changes_type(op) else []
        if found:
            what = f"it changes the type of {act.table}.{op.column_name}, which is used by {_users(found)}"
            yield hit(act, what, _wait(found))


def changes_type(op: Any) -> bool:
    """Whether an ``alter_column`` gives a column another type, as far as it says what the type was."""
    return op.modify_type is not None and repr(op.modify_type) != repr(op.existing_type)


def _trespasses(case: Case) -> Iterator[Hit]:
    for act in case.changes():
        owner = case.facts.owners.get(act.table, case.revision.app)
        if owner != case.revision.app and act.table not in case.own:
            yield hit(act, f"it changes {act.table}, which is a table of {owner!r}", f"# in a revision of {owner!r}")


def _takes_away(case: Case) -> Iterator[tuple[Act, str]]:
    for act, _ in case.on_existing(DropTableOp):
        yield act, f"drops {act.table}"
    for act, op in case.on_existing(DropColumnOp):
        yield act, f"drops {act.table}.{op.column_name}"
    yield from ((act, f"renames {old}") for act, old, _, _ in _renames(case))


def _taken_away_early(case: Case) -> Iterator[Hit]:
    if case.revision.phase == "expand":
        for act, does in _takes_away(case):
            yield hit(act, f"it {does} in the phase expand", 'opal_phase = "contract"')


def _mixed_phases(case: Case) -> Iterator[Hit]:
    away = next(iter(_takes_away(case)), None)
    if away is None or case.revision.phase == "expand":
        return
    for act in case.acts:
        if isinstance(act.op, AddColumnOp | CreateTableOp):
            yield hit(
                act, f"it adds to {act.table}, and {away[1]}", "# two revisions: what is added comes in one before"
            )
            return


def _enum_values(case: Case) -> Iterator[Hit]:
    for act, op in case.on_existing(AlterColumnOp):
        old, new = op.existing_type, op.modify_type
        if isinstance(old, sa.Enum) and isinstance(new, sa.Enum) and (gone := set(old.enums) - set(new.enums)):
            what = f"it takes {', '.join(sorted(gone))} out of the values of {act.table}.{op.column_name}"
            yield hit(act, what, _keep_values(case, op))
    for act, statement in case.executes("rename value"):
        yield hit(act, f"it renames a value of the enum type {statement.table}", _keep_value(statement.table))


def _keep_value(name: str) -> str:
    return (
        "# expand: the new value beside the old one\n"
        f"op.execute(\"ALTER TYPE {name} ADD VALUE IF NOT EXISTS '...'\")\n"
        "# contract: rows that hold the old value get the new one; the old one stays in the type, unused"
    )


def _keep_values(case: Case, op: Any) -> str:
    if case.facts.dialect == "postgresql":
        return _keep_value(op.modify_type.name or op.existing_type.name or "...")
    kept = [*op.existing_type.enums, *(each for each in op.modify_type.enums if each not in op.existing_type.enums)]
    copy = AlterColumnOp(op.table_name, op.column_name, schema=op.schema, existing_type=op.existing_type)
    copy.modify_type = sa.Enum(*kept, name=op.modify_type.name)
    return f"# the old values stay, unused; new ones come last\n{case.code(copy)}"


RULES = (
    Rule("opal.M001", "error", "drops a table that another sub-app uses", everywhere(BREAKS), _dropped_tables),
    Rule("opal.M002", "error", "drops a column that another sub-app uses", everywhere(BREAKS), _dropped_columns),
    Rule("opal.M003", "error", "renames what another sub-app uses", everywhere(BREAKS), _renamed_of_others),
    Rule(
        "opal.M004",
        "error",
        "changes the type of a column that another sub-app uses",
        everywhere(
            "a foreign key and what it refers to have to have one type, and the other half is not this sub-app's to change"
        ),
        _retyped,
    ),
    Rule(
        "opal.M005",
        "error",
        "changes a table of another sub-app",
        everywhere("its owner's history does not know about it, so that fresh and upgraded databases differ"),
        _trespasses,
    ),
    Rule(
        "opal.M006",
        "warning",
        "takes something away in the phase expand",
        everywhere("the release before is still running when the phase expand has run, and still uses it"),
        _taken_away_early,
    ),
    Rule(
        "opal.M007",
        "warning",
        "adds and takes away in one revision",
        everywhere(
            "what is added has to be there before the new release starts, and what is taken away only after the old one has ended"
        ),
        _mixed_phases,
    ),
    Rule(
        "opal.M008",
        "warning",
        "renames a table or a column",
        everywhere("there is no moment at which the release before and the next one both work"),
        _renamed,
    ),
    Rule(
        "opal.M009",
        "warning",
        "renames or removes values of an enum",
        {
            "postgresql": "the release before still writes the old value and fails; removing one needs a new type, and a rewrite",
            "mysql": "the release before still writes the old value and fails, and rows that hold it hinder the change or lose it",
        },
        _enum_values,
    ),
)
