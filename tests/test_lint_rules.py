"""Each rule of ``opal-db lint`` minds what it should, and lets its remedy pass."""

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from opal_registry.migrations.lint.conversions import is_free
from opal_registry.migrations.lint.finding import SMALL
from opal_registry.migrations.lint.rules import RULES
from opal_registry.migrations.lint.statement import read_statements
from tests.lint_cases import FACTS, FREE, NOT_NULL, TABLE, UPDATE, Example, iter_examples, judge, rules

INDEX = "op.create_index('ix_notes_mood', 'notes', ['mood'])"
CASES = [pytest.param(dialect, example, id=name) for name, dialect, example in iter_examples()]
COPIED = [pytest.param(dialect, example, id=name) for name, dialect, example in iter_examples() if example.copied]
BIG = replace(FACTS, rows={"notes": 5_000_000, "tags": 20, "users": 300})


@pytest.mark.parametrize(("dialect", "example"), CASES)
def test_it_minds_the_one_and_not_the_other(tmp_path: Path, dialect: str, example: Example) -> None:
    minded = [each for each in judge(tmp_path, example.bad, dialect, phase=example.phase) if each.rule == example.rule]
    assert minded
    assert all(each.line > 0 and each.what and each.why for each in minded)
    assert example.rule not in rules(judge(tmp_path, example.good, dialect))


@pytest.mark.parametrize(("dialect", "example"), COPIED)
def test_what_it_proposes_is_not_minded_by_it(tmp_path: Path, dialect: str, example: Example) -> None:
    rewrites = [each.rewrite for each in judge(tmp_path, example.bad, dialect) if each.rule == example.rule]
    assert rewrites
    for rewrite in rewrites:
        found = rules(judge(tmp_path, rewrite, dialect))
        assert example.rule not in found
        assert "opal.M301" not in found


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_there_is_an_example_for_every_rule(dialect: str) -> None:
    wanted = {rule.id for rule in RULES if rule.find and dialect in rule.why}
    assert wanted == {example.rule for _, other, example in iter_examples() if other == dialect}


def test_identifiers_are_unique_and_in_order() -> None:
    ids = [rule.id for rule in RULES]
    assert ids == sorted(set(ids))


def test_an_operation_is_found_at_its_line_also_in_helpers_loops_and_batches(tmp_path: Path) -> None:
    body = """
    for column in ('a', 'b'):
        _index(column)
    with op.batch_alter_table('notes') as notes:
        notes.add_column(sa.Column('x', sa.Integer()))
        notes.create_index(
            'ix_x',
            ['x'],
        )
    """
    more = "\ndef _index(column):\n    op.create_index(f'ix_{column}', 'notes', [column])\n"
    found = [each for each in judge(tmp_path, body, more=more) if each.rule == "opal.M101"]
    lines = (tmp_path / "r1.py").read_text().splitlines()
    assert [lines[each.line - 1].strip() for each in found] == [
        "notes.create_index(",
        "op.create_index(f'ix_{column}', 'notes', [column])",
        "op.create_index(f'ix_{column}', 'notes', [column])",
    ]


def test_a_new_table_is_nobodys_yet(tmp_path: Path) -> None:
    assert judge(tmp_path, f"{TABLE}{INDEX}\n{NOT_NULL}\nop.execute(\"UPDATE notes SET mood = 'x'\")") == []


def test_small_tables_get_a_note_and_big_ones_their_size(tmp_path: Path) -> None:
    small = replace(FACTS, rows={"notes": SMALL - 1})
    (note,) = judge(tmp_path, INDEX, facts=small)
    assert (note.level, note.rows) == ("note", SMALL - 1)
    (warning,) = judge(tmp_path, INDEX, facts=BIG)
    assert (warning.level, warning.rows) == ("warning", 5_000_000)
    (unknown,) = judge(tmp_path, INDEX)
    assert (unknown.level, unknown.rows) == ("warning", None)


def test_a_contract_is_broken_however_small_the_table_is(tmp_path: Path) -> None:
    (finding,) = judge(tmp_path, "op.drop_column('notes', 'id')", facts=replace(FACTS, rows={"notes": 0}))
    assert finding.level == "error"
    assert finding.what == (
        "it drops notes.id, which is used by 'reports' (by the foreign key of report_lines.note_id)"
    )
    assert finding.rewrite == (
        "# first a release of reports that does without it; this revision pins that release's revision:\n"
        '# opal_depends_on = {"reports": ["..."]}'
    )


def test_contracts_count_on_every_database(tmp_path: Path) -> None:
    body = "with op.batch_alter_table('notes') as notes:\n    notes.drop_column('id')\n" + INDEX
    assert rules(judge(tmp_path, body, "sqlite")) == ["opal.M002"]


def test_a_validated_check_in_the_database_proves_that_there_is_no_null(tmp_path: Path) -> None:
    facts = replace(FACTS, not_null=frozenset({("notes", "mood")}))
    assert judge(tmp_path, NOT_NULL, facts=facts) == []


def test_a_trespass_is_none_where_the_history_made_the_table(tmp_path: Path) -> None:
    table = "op.create_table('users', sa.Column('id', sa.Integer(), primary_key=True))\n"
    assert judge(tmp_path, f"{table}op.add_column('users', sa.Column('x', sa.Integer()))") == []


def test_what_cannot_be_followed_is_said_with_its_place_and_nothing_is_guessed(tmp_path: Path) -> None:
    body = f"""
rows = op.get_bind().execute(sa.text('SELECT id FROM notes')).all()
for row in rows:
    {INDEX}
"""
    (finding,) = judge(tmp_path, body)
    assert (finding.rule, finding.level) == ("opal.M301", "warning")
    assert finding.what == "it asks the database something, and can be followed no further without one"
    assert (tmp_path / "r1.py").read_text().splitlines()[finding.line - 1].strip().startswith("rows = ")


def test_what_came_before_is_judged_all_the_same(tmp_path: Path) -> None:
    assert rules(judge(tmp_path, f"{INDEX}\nraise SystemExit(3)")) == ["opal.M101", "opal.M301"]


def test_a_file_that_cannot_be_imported_is_said(tmp_path: Path) -> None:
    (finding,) = judge(tmp_path, "pass", more="\nimport no_such_module_here\n")
    assert finding.rule == "opal.M301"
    assert "ModuleNotFoundError: No module named 'no_such_module_here'" in finding.what


def test_a_revision_is_followed_as_it_is_run_and_not_as_it_is_written_to_a_file(tmp_path: Path) -> None:
    body = f"from alembic import context\nif not context.is_offline_mode():\n    {INDEX}"
    assert rules(judge(tmp_path, body)) == ["opal.M101"]


def test_one_without_a_function_to_run_is_said(tmp_path: Path) -> None:
    (finding,) = judge(tmp_path, "pass", more="\ndel upgrade\n")
    assert (finding.rule, finding.line) == ("opal.M301", 0)
    assert "has no attribute 'upgrade'" in finding.what


def test_a_table_is_new_only_after_it_was_made(tmp_path: Path) -> None:
    assert "opal.M001" in rules(judge(tmp_path, f"op.drop_table('notes')\n{TABLE}"))
    assert judge(tmp_path, f"{TABLE}op.drop_table('notes')") == []


def test_statements_through_the_bind_are_recorded_as_well(tmp_path: Path) -> None:
    body = "notes = sa.table('notes', sa.column('mood'))\nop.get_bind().execute(notes.update().values(mood=None))"
    (finding,) = judge(tmp_path, body)
    assert (finding.rule, finding.tables) == ("opal.M202", ("notes",))


def test_what_a_table_creates_through_the_bind_is_known_as_operations(tmp_path: Path) -> None:
    body = """
    tags = sa.Table('labels', sa.MetaData(), sa.Column('name', sa.String(9), index=True))
    tags.create(op.get_bind())
    sa.Table('notes', sa.MetaData(), sa.Column('mood', sa.String(9), index=True)).indexes.pop().create(op.get_bind())
    """
    assert rules(judge(tmp_path, body)) == ["opal.M101"]


def test_statements_through_the_context_are_recorded_as_well(tmp_path: Path) -> None:
    body = "from alembic import context\ncontext.execute('UPDATE notes SET x = 1')"
    assert rules(judge(tmp_path, body)) == ["opal.M202"]


def test_what_a_statement_returns_is_nobodys_guess(tmp_path: Path) -> None:
    body = f"for row in op.get_bind().execute(sa.text('DELETE FROM notes RETURNING id')):\n    {INDEX}"
    assert rules(judge(tmp_path, body)) == ["opal.M202", "opal.M301"]


def test_names_that_have_to_be_quoted_are(tmp_path: Path) -> None:
    body = "op.alter_column('Order', 'by', existing_type=sa.Integer(), nullable=False, schema='Lab')"
    (finding,) = judge(tmp_path, body)
    assert 'ALTER TABLE "Lab"."Order" VALIDATE CONSTRAINT' in finding.rewrite
    assert "opal.M108" not in rules(judge(tmp_path, finding.rewrite))


def test_enum_types_are_made_and_dropped_through_the_bind(tmp_path: Path) -> None:
    body = "sa.Enum('a', name='mood').create(op.get_bind(), checkfirst=True)\nsa.Enum(name='old').drop(op.get_bind())"
    assert judge(tmp_path, body) == []


def test_values_that_have_no_text_stop_nobody(tmp_path: Path) -> None:
    body = "op.execute(sa.table('notes', sa.column('x')).update().values(x=object()))"
    assert rules(judge(tmp_path, body)) == ["opal.M202"]


def test_schemas_tell_tables_apart(tmp_path: Path) -> None:
    body = INDEX.replace("['mood']", "['mood'], schema='lab'")
    (finding,) = judge(tmp_path, body, facts=BIG)
    assert (finding.tables, finding.rows) == (("lab.notes",), None)
    assert "schema='lab'" in finding.rewrite


@pytest.mark.parametrize(
    ("old", "new", "on_postgresql", "on_mysql"),
    [
        (sa.String(20), sa.String(40), True, True),
        (sa.String(40), sa.String(20), False, False),
        (sa.String(60), sa.String(80), True, False),
        (sa.String(80), sa.String(120), True, True),
        (sa.String(80), sa.Text(), True, False),
        (sa.Integer(), sa.BigInteger(), False, False),
        (sa.Numeric(8, 2), sa.Numeric(10, 2), True, False),
        (sa.Numeric(8, 2), sa.Numeric(10, 3), False, False),
        (sa.Integer(), sa.Integer(), True, True),
        (sa.Enum("a", name="m"), sa.Enum("a", "b", name="m"), True, True),
        (None, sa.Text(), False, False),
    ],
)
def test_which_types_are_changed_for_nothing(old: object, new: object, on_postgresql: bool, on_mysql: bool) -> None:
    dialects = [sa.make_url(f"{name}://").get_dialect()() for name in ("postgresql", "mysql")]
    assert [is_free(old, new, dialect) for dialect in dialects] == [on_postgresql, on_mysql]


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("  -- why\n  update only Lab.notes set a = 1", [("backfill", "Lab.notes")]),
        ('DELETE FROM "notes" WHERE x', [("backfill", "notes")]),
        ("WITH gone AS (DELETE FROM notes RETURNING id) SELECT 1", [("backfill", "notes")]),
        ("INSERT INTO a VALUES (1); SELECT 1", [("other", ""), ("query", "")]),
        ("SELECT ';'; DROP TABLE x;", [("query", ""), ("ddl", "")]),
        ("DO $$ BEGIN UPDATE x; COMMIT; END $$;", [("other", "")]),
        ("ALTER TABLE notes VALIDATE CONSTRAINT c", [("validate", "notes")]),
        ("DROP INDEX CONCURRENTLY IF EXISTS ix", [("concurrently", "ix")]),
        ("", []),
    ],
)
def test_a_statement_is_known_by_its_first_words(sql: str, found: list[tuple[str, str]]) -> None:
    assert [(each.kind, each.table) for each in read_statements(sql)] == found


class TestWaivers:
    REASON = "because it is written to at night only"

    def test_one_with_a_reason_hides_what_it_names_on_its_line(self, tmp_path: Path) -> None:
        (finding,) = judge(tmp_path, f"{INDEX}  # opal: allow opal.M101 {self.REASON}")
        assert (finding.rule, finding.waived) == ("opal.M101", "it is written to at night only")

    def test_it_may_stand_above_and_within_the_statement(self, tmp_path: Path) -> None:
        above = f"# opal: allow opal.M101 {self.REASON}\n# and more\n{INDEX}"
        within = f"op.create_index(\n    'ix',\n    'notes',  # opal: allow opal.M101 {self.REASON}\n    ['mood'],\n)"
        for body in (above, within):
            assert [bool(each.waived) for each in judge(tmp_path, body)] == [True]

    def test_it_counts_for_no_other_statement_and_no_other_rule(self, tmp_path: Path) -> None:
        body = (
            f"{INDEX}  # opal: allow opal.M102 {self.REASON}\n{INDEX}\n{UPDATE}  # opal: allow opal.M101 {self.REASON}"
        )
        found = judge(tmp_path, body)
        assert not any(each.waived for each in found)
        assert sorted(rules(found)) == ["opal.M101", "opal.M101", "opal.M201", "opal.M403", "opal.M403"]

    def test_above_a_block_it_counts_for_its_head_only(self, tmp_path: Path) -> None:
        body = (
            f"# opal: allow opal.M101 {self.REASON}\nwith op.batch_alter_table('notes') as notes:\n"
            "    notes.create_index('ix', ['mood'])"
        )
        assert rules(judge(tmp_path, body)) == ["opal.M403", "opal.M101"]

    @pytest.mark.parametrize("comment", ["# opal: allow opal.M101", "# opal: allow opal.M101 because ..."])
    def test_one_without_a_reason_waives_nothing_and_is_minded(self, tmp_path: Path, comment: str) -> None:
        found = judge(tmp_path, f"{INDEX}  {comment}")
        assert rules(found) == ["opal.M101", "opal.M401"]
        assert not any(each.waived for each in found)

    @pytest.mark.parametrize("name", ["opal.M999", "M101", ""])
    def test_one_of_a_rule_that_does_not_exist_is_minded(self, tmp_path: Path, name: str) -> None:
        assert rules(judge(tmp_path, f"{INDEX}  # opal: allow {name} {self.REASON}")) == ["opal.M101", "opal.M402"]

    def test_one_that_waives_nothing_is_minded(self, tmp_path: Path) -> None:
        (finding,) = judge(tmp_path, f"pass  # opal: allow opal.M101 {self.REASON}")
        assert (finding.rule, finding.what) == ("opal.M403", "a waiver that waives nothing: opal.M101")

    def test_one_for_another_database_is_left_alone(self, tmp_path: Path) -> None:
        body = f"op.drop_index('ix', table_name='notes')  # opal: allow opal.M102 {self.REASON}"
        assert judge(tmp_path, body, "mysql") == []

    def test_one_of_a_contract_may_be_needed_where_somebody_else_is_installed(self, tmp_path: Path) -> None:
        body = "op.drop_column('notes', 'x')  # opal: allow opal.M002 because reports 2.0 is everywhere"
        assert judge(tmp_path, body) == []

    def test_one_that_waives_nothing_is_found_on_any_database(self, tmp_path: Path) -> None:
        for dialect in ("postgresql", "mysql", "sqlite"):
            found = judge(tmp_path, f"pass  # opal: allow opal.M108 {self.REASON}", dialect)
            assert rules(found) == ["opal.M403"]

    def test_one_after_the_place_where_it_was_lost_is_left_alone(self, tmp_path: Path) -> None:
        body = f"op.get_bind().scalar('x')\n{INDEX}  # opal: allow opal.M101 {self.REASON}"
        assert rules(judge(tmp_path, body)) == ["opal.M301"]

    def test_a_text_that_looks_like_one_is_none(self, tmp_path: Path) -> None:
        assert rules(judge(tmp_path, f'{INDEX}; "# opal: allow opal.M101 {self.REASON}"')) == ["opal.M101"]


def test_a_backfill_in_parts_is_followed_and_said_to_be(tmp_path: Path) -> None:
    (minded,) = judge(tmp_path, UPDATE)
    assert rules(judge(tmp_path, minded.rewrite)) == ["opal.M302"]


def test_every_statement_outside_of_transactions_lets_the_others_go(tmp_path: Path) -> None:
    body = f"{INDEX}\n{FREE}op.execute('SELECT 1')\nop.create_index('ix_tags', 'tags', ['name'])"
    assert "opal.M203" not in rules(judge(tmp_path, body))
