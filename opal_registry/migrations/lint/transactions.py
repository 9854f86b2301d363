"""Rules about what happens in one transaction, and what cannot be judged."""

from collections.abc import Iterator

from opal_registry.migrations.lint import columns, constraints, indexes
from opal_registry.migrations.lint.case import Case, free
from opal_registry.migrations.lint.finding import Hit, Rule, everywhere, hit
from opal_registry.migrations.lint.recording import Act

LONG = [rule for rule in (*indexes.RULES, *constraints.RULES, *columns.RULES) if rule.by_size]
"""The rules about what takes long on a big table."""

PARTS = {
    "postgresql": "UPDATE {table} SET ... WHERE ctid IN (SELECT ctid FROM {table} WHERE ... LIMIT 1000)",
    "mysql": "UPDATE {table} SET ... WHERE ... LIMIT 1000",
}


def _backfills_beside(case: Case) -> Iterator[tuple[Act, str]]:
    """The statements that change many rows in one transaction with a change of shape."""
    shaped = {act.transaction: act.table for act in reversed(list(case.changes())) if act.transaction is not None}
    for act, _ in case.executes("backfill"):
        together = shaped if case.facts.dialect == "postgresql" else {act.transaction: next(iter(shaped.values()), "")}
        if act.transaction is not None and together.get(act.transaction):
            yield act, together[act.transaction]


def _mixed(case: Case) -> Iterator[Hit]:
    for act, table in _backfills_beside(case):
        what = f"it changes rows of {act.table or 'a table'} in one transaction with a change of {table}"
        yield hit(act, what, f"# in a revision of its own:\n{_in_parts(case, act)}", *filter(None, {act.table, table}))


def _at_once(case: Case) -> Iterator[Hit]:
    beside = [act for act, _ in _backfills_beside(case)]
    for act, _ in case.executes("backfill"):
        if act.transaction is not None and not any(act is each for each in beside):
            yield hit(act, f"it changes rows of {act.table or 'a table'} in one statement", _in_parts(case, act))


def _in_parts(case: Case, act: Act) -> str:
    sql = PARTS[case.facts.dialect].format(table=case.quoted(act.table) if act.table else "...")
    return free(f"while op.get_bind().exec_driver_sql(\n    {sql!r}\n).rowcount:\n    pass")


def _together(case: Case) -> Iterator[Hit]:
    hits = {found.line: found for rule in LONG if case.facts.dialect in rule.why for found in rule.find(case)}  # type: ignore[misc]
    first: dict[int, Act] = {}
    for act in case.acts:
        if act.transaction is None or act.line not in hits or not act.table:
            continue
        before = first.setdefault(act.transaction if case.facts.dialect == "postgresql" else 0, act)
        if before.table != act.table:
            what = f"it does what takes long to {act.table} and to {before.table}"
            yield hit(act, what, f"# a revision for {before.table}, and one for {act.table}", act.table, before.table)
            return


def _lost(case: Case) -> Iterator[Hit]:
    if trouble := case.recording.trouble:
        yield Hit(case.recording.trouble_line, trouble, "# let the database do it: op.execute(...) with one statement")


def _counted(case: Case) -> Iterator[Hit]:
    for line in case.recording.counted:
        yield Hit(line, "it asks how many rows a statement has changed: what follows is judged as if there were none")


def _raw(case: Case) -> Iterator[Hit]:
    for act, statement in case.executes("ddl"):
        yield hit(act, f"it executes a statement of its own: {statement.text:.60}")


RULES = (
    Rule(
        "opal.M201",
        "warning",
        "changes rows beside a change of shape",
        {
            "postgresql": "the lock of the change is held until the last row has been changed: nobody reads or writes meanwhile",
            "mysql": "each change of shape commits what came before it: a revision that fails half way can be neither taken back nor run again",
        },
        _mixed,
        by_size=True,
    ),
    Rule(
        "opal.M202",
        "warning",
        "changes the rows of a table in one statement",
        dict.fromkeys(PARTS, "every row stays locked until the last one has been changed, and replicas fall behind"),
        _at_once,
        by_size=True,
    ),
    Rule(
        "opal.M203",
        "warning",
        "does what takes long to several tables",
        {
            "postgresql": "the first table stays locked while the next one is worked on, and who uses both may deadlock with it",
            "mysql": "what is done stays done when the rest fails, and the revision is half there",
        },
        _together,
        by_size=True,
    ),
    Rule(
        "opal.M301",
        "warning",
        "cannot be followed without a database",
        everywhere("what comes after has not been judged"),
        _lost,
    ),
    Rule(
        "opal.M302",
        "note",
        "depends on how many rows are there",
        everywhere("nothing was executed, so that nobody knows"),
        _counted,
    ),
    Rule(
        "opal.M303",
        "note",
        "executes a statement of its own",
        dict.fromkeys(PARTS, "the rules know Alembic's operations and not its text; squawk does, for PostgreSQL"),
        _raw,
    ),
)
