"""For each rule of ``opal-db lint`` and each database: a revision that it minds, and one that does the same and is fine."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from opal_registry.migrations.lint.case import Facts, Use
from opal_registry.migrations.lint.finding import Finding
from opal_registry.migrations.lint.judge import Judge
from opal_registry.migrations.lint.squawk import Squawk
from opal_registry.migrations.revision_file import read_revision
from tests.revisions import revision

FREE = "with op.get_context().autocommit_block():\n    "
TABLE = """
op.create_table('notes', sa.Column('id', sa.Integer(), primary_key=True), sa.Column('mood', sa.String(20)))
"""
FACTS = Facts(
    "postgresql",
    owners={"notes": "notes", "users": "core", "tags": "notes"},
    uses=(Use("reports", "notes", "id", "by the foreign key of report_lines.note_id"),),
)


@dataclass(frozen=True, slots=True)
class Example:
    """What an ``upgrade`` does that a rule minds, and what it does not mind.

    Args:
        rule: The rule.
        bad: The one body.
        good: The other.
        dialects: The databases that it is an example for.
        phase: Of the bad one, if it says so.
        copied: Whether what the finding proposes can be executed as it is.
    """

    rule: str
    bad: str
    good: str
    dialects: tuple[str, ...] = ("postgresql", "mysql")
    phase: str = ""
    copied: bool = False


PG, MY = ("postgresql",), ("mysql",)
CHECK = "op.create_check_constraint('short', 'notes', 'length(mood) < 9'"
KEY = "op.create_foreign_key('fk_notes_user', 'notes', 'users', ['user_id'], ['id']"
ADD_MOOD = "op.add_column('notes', sa.Column('mood', sa.String(20)))\n"
UPDATE = "op.execute(\"UPDATE notes SET mood = 'fine'\")"
RENAME_TYPE = "op.execute(\"ALTER TYPE mood RENAME VALUE 'bad' TO 'poor'\")"
TO_ENUM = "op.alter_column('notes', 'mood', existing_type=sa.Enum('a', 'b', name='m'), type_=sa.Enum({}, name='m'))"
NOT_NULL = "op.alter_column('notes', 'mood', existing_type=sa.String(20), nullable=False)"
PROVED = (
    "op.create_check_constraint(op.f('ck_x'), 'notes', 'mood IS NOT NULL', postgresql_not_valid=True)\n"
    f"{FREE}op.execute('ALTER TABLE notes VALIDATE CONSTRAINT ck_x')\n{NOT_NULL}"
)
CONCURRENT = "op.create_index('ix_notes_mood', 'notes', ['mood'], postgresql_concurrently=True)"
RETYPE = "op.alter_column('notes', 'mood', existing_type=sa.String(20), type_={})"
BOTH = "op.create_index('ix_notes_mood', 'notes', ['mood'])\nop.create_index('ix_tags_name', '{}', ['name'])"

EXAMPLES = (
    Example("opal.M001", "op.drop_table('notes')", "op.drop_table('tags')"),
    Example("opal.M002", "op.drop_column('notes', 'id')", "op.drop_column('notes', 'mood')"),
    Example(
        "opal.M003",
        "op.alter_column('notes', 'id', existing_type=sa.Integer(), new_column_name='key')",
        "op.alter_column('notes', 'mood', existing_type=sa.String(20), new_column_name='spirit')",
    ),
    Example("opal.M003", "op.rename_table('notes', 'remarks')", "op.rename_table('tags', 'labels')"),
    Example(
        "opal.M004",
        "op.alter_column('notes', 'id', existing_type=sa.Integer(), type_=sa.BigInteger())",
        "op.alter_column('notes', 'mood', existing_type=sa.String(20), type_=sa.String(40))",
    ),
    Example(
        "opal.M005",
        "op.add_column('users', sa.Column('mood', sa.String(20)))",
        "op.add_column('notes', sa.Column('mood', sa.String(20)))",
    ),
    Example("opal.M006", "op.drop_column('notes', 'mood')", "op.drop_column('notes', 'mood')", phase="expand"),
    Example(
        "opal.M007",
        "op.add_column('notes', sa.Column('spirit', sa.String(20)))\nop.drop_column('notes', 'mood')",
        "op.drop_column('notes', 'mood')",
    ),
    Example(
        "opal.M008",
        "op.alter_column('notes', 'mood', existing_type=sa.String(20), new_column_name='spirit')",
        "op.alter_column('notes', 'mood', existing_type=sa.String(20), nullable=True)",
    ),
    Example("opal.M009", RENAME_TYPE, "op.execute(\"ALTER TYPE mood ADD VALUE 'poor'\")", PG),
    Example("opal.M009", TO_ENUM.format("'a'"), TO_ENUM.format("'a', 'b', 'c'")),
    Example(
        "opal.M101",
        "op.create_index('ix_notes_mood', 'notes', ['mood'])",
        f"{FREE}{CONCURRENT}",
        PG,
        copied=True,
    ),
    Example(
        "opal.M101",
        "with op.batch_alter_table('notes') as notes:\n    notes.create_index('ix_notes_mood', ['mood'])",
        f"{TABLE}op.create_index('ix_notes_mood', 'notes', ['mood'])",
        PG,
        copied=True,
    ),
    Example(
        "opal.M101",
        "op.add_column('notes', sa.Column('spirit', sa.String(20), index=True))",
        "op.add_column('notes', sa.Column('spirit', sa.String(20)))",
        PG,
    ),
    Example(
        "opal.M101",
        "op.create_index('ix_notes_mood', 'notes', ['mood'], mysql_prefix='FULLTEXT')",
        "op.create_index('ix_notes_mood', 'notes', ['mood'])",
        MY,
    ),
    Example(
        "opal.M102",
        "op.drop_index('ix_mood', table_name='notes')",
        f"{FREE}op.drop_index('ix_mood', table_name='notes', postgresql_concurrently=True)",
        PG,
        copied=True,
    ),
    Example("opal.M103", CONCURRENT, f"{FREE}{CONCURRENT}", PG, copied=True),
    Example(
        "opal.M103",
        "op.execute('CREATE INDEX CONCURRENTLY ix_notes_mood ON notes (mood)')",
        f"{FREE}op.execute('CREATE INDEX CONCURRENTLY ix_notes_mood ON notes (mood)')",
        PG,
        copied=True,
    ),
    Example(
        "opal.M104",
        "op.create_unique_constraint('uq_notes_mood', 'notes', ['mood'])",
        f"{FREE}op.create_index('u', 'notes', ['mood'], unique=True, postgresql_concurrently=True)\n"
        "op.execute('ALTER TABLE notes ADD CONSTRAINT u UNIQUE USING INDEX u')",
        PG,
        copied=True,
    ),
    Example(
        "opal.M104",
        "op.add_column('notes', sa.Column('spirit', sa.String(20), unique=True))",
        "op.add_column('notes', sa.Column('spirit', sa.String(20)))",
        PG,
    ),
    Example(
        "opal.M104",
        "op.create_exclude_constraint('ex_notes', 'notes', ('mood', '='), using='gist')",
        f"{TABLE}op.create_exclude_constraint('ex_notes', 'notes', ('mood', '='), using='gist')",
        PG,
    ),
    Example(
        "opal.M104",
        "op.create_primary_key('pk_tags', 'tags', ['name'])",
        "op.create_unique_constraint('uq_tags_name', 'tags', ['name'])",
        MY,
    ),
    Example("opal.M105", f"{KEY})", f"{KEY}, postgresql_not_valid=True)", PG, copied=True),
    Example(
        "opal.M105",
        "op.add_column('notes', sa.Column('by', sa.Integer(), sa.ForeignKey('users.id', name='fk_notes_by')))",
        "op.add_column('notes', sa.Column('by', sa.Integer(), sa.ForeignKey('users.id')), inline_references=True)",
        PG,
        copied=True,
    ),
    Example(
        "opal.M105",
        f"{KEY})",
        f"op.execute('SET SESSION foreign_key_checks = 0')\n{KEY})\nop.execute('SET SESSION foreign_key_checks = 1')",
        MY,
        copied=True,
    ),
    Example("opal.M106", f"{CHECK})", f"{CHECK}, postgresql_not_valid=True)", PG, copied=True),
    Example("opal.M106", f"{CHECK})", f"op.execute('SET check_constraint_checks = 0')\n{CHECK})", MY, copied=True),
    Example(
        "opal.M105",
        "op.add_column('notes', sa.Column('by', sa.Integer(), sa.ForeignKey('users.id'), server_default='1'),"
        " inline_references=True)",
        "op.add_column('notes', sa.Column('by', sa.Integer(), server_default='1'))",
    ),
    Example(
        "opal.M106",
        "op.add_column('notes', sa.Column('n', sa.Integer(), sa.CheckConstraint('n > 0', name='n')))",
        "op.add_column('notes', sa.Column('n', sa.Boolean()))",
    ),
    Example(
        "opal.M106",
        "op.add_column('notes', sa.Column('n', sa.Enum('a', name='n', native_enum=False, create_constraint=True)))",
        "op.add_column('notes', sa.Column('n', sa.Enum('a', name='n', create_constraint=True)))",
    ),
    Example(
        "opal.M107",
        f"{CHECK}, postgresql_not_valid=True)\nop.execute('ALTER TABLE notes VALIDATE CONSTRAINT ck_notes_short')",
        f"{CHECK}, postgresql_not_valid=True)\n{FREE}op.execute('ALTER TABLE notes VALIDATE CONSTRAINT ck_notes_short')",
        PG,
    ),
    Example("opal.M108", NOT_NULL, PROVED, PG, copied=True),
    Example("opal.M108", NOT_NULL, f"{TABLE}{NOT_NULL}", MY),
    Example("opal.M109", RETYPE.format("sa.Text(), postgresql_using='upper(mood)'"), RETYPE.format("sa.Text()"), PG),
    Example("opal.M109", RETYPE.format("sa.String(10)"), RETYPE.format("sa.String(40)")),
    Example("opal.M109", "op.alter_column('notes', 'mood', type_=sa.Text())", RETYPE.format("sa.String()"), PG),
    Example("opal.M109", RETYPE.format("sa.String(200)"), RETYPE.format("sa.String(63)"), MY),
    Example("opal.M109", TO_ENUM.format("'x', 'a', 'b'"), TO_ENUM.format("'a', 'b', 'x'"), MY),
    Example(
        "opal.M110",
        "op.add_column('notes', sa.Column('key', sa.Uuid(), server_default=sa.text('gen_random_uuid()')))",
        "op.add_column('notes', sa.Column('at', sa.DateTime(), server_default=sa.func.now()))",
        PG,
        copied=True,
    ),
    Example(
        "opal.M110",
        "op.add_column('notes', sa.Column('key', sa.String(36), server_default=sa.text('(uuid())')))",
        "op.add_column('notes', sa.Column('key', sa.String(36), server_default='f()'))",
        MY,
        copied=True,
    ),
    Example(
        "opal.M111",
        "op.add_column('notes', sa.Column('number', sa.Integer(), sa.Identity()))",
        "op.add_column('notes', sa.Column('number', sa.Integer()))",
        PG,
        copied=True,
    ),
    Example(
        "opal.M111",
        "op.add_column('notes', sa.Column('number', sa.Integer(), sa.Computed('id * 2', persisted=True)))",
        "op.add_column('notes', sa.Column('number', sa.Integer(), sa.Computed('id * 2', persisted=False)))",
        copied=True,
    ),
    Example(
        "opal.M112",
        "op.add_column('notes', sa.Column('number', sa.Integer(), nullable=False))",
        "op.add_column('notes', sa.Column('number', sa.Integer(), nullable=False, server_default='0'))",
        copied=True,
    ),
    Example(
        "opal.M113",
        "with op.batch_alter_table('notes', recreate='always') as notes:\n    notes.drop_column('mood')",
        "with op.batch_alter_table('notes') as notes:\n    notes.drop_column('mood')",
    ),
    Example("opal.M201", ADD_MOOD + UPDATE, f"{ADD_MOOD}{FREE}{UPDATE}", PG),
    Example("opal.M201", f"{UPDATE}\n{ADD_MOOD}", UPDATE, MY),
    Example(
        "opal.M201",
        f"{ADD_MOOD}op.get_bind().execute(sa.table('notes', sa.column('mood')).update().values(mood='fine'))",
        f"{TABLE}op.bulk_insert(sa.table('notes', sa.column('id')), [{{'id': 1}}])",
    ),
    Example("opal.M202", UPDATE, f"{FREE}{UPDATE}"),
    Example(
        "opal.M202",
        "op.execute('INSERT INTO tags (name) SELECT mood FROM notes')",
        "op.execute(\"INSERT INTO tags (name) VALUES ('select')\")",
    ),
    Example("opal.M203", BOTH.format("tags"), BOTH.format("notes"), PG),
    Example("opal.M203", f"{NOT_NULL}\n{KEY.replace(chr(39) + 'notes', chr(39) + 'tags')})", NOT_NULL, MY),
    Example("opal.M301", "op.get_bind().execute(sa.text('SELECT 1')).scalar()", "op.get_bind().dialect.name"),
    Example("opal.M301", "sa.inspect(op.get_bind()).get_table_names()", "op.get_context().dialect.name"),
    Example("opal.M301", "raise RuntimeError('no')", "pass"),
    Example(
        "opal.M302",
        f"{FREE}while op.get_bind().exec_driver_sql('DELETE FROM notes LIMIT 9').rowcount:\n        pass",
        f"{FREE}op.get_bind().exec_driver_sql('DELETE FROM notes LIMIT 9')",
    ),
    Example("opal.M303", "op.execute('ALTER TABLE notes ADD x int')", "op.execute('SET x = 1')"),
)


def iter_examples() -> Iterator[tuple[str, str, Example]]:
    """Each with its name, once for each database."""
    for number, example in enumerate(EXAMPLES):
        for dialect in example.dialects:
            yield f"{example.rule}-{dialect}-{number}", dialect, example


def judge(
    folder: Path,
    body: str,
    dialect: str = "postgresql",
    *,
    facts: Facts = FACTS,
    squawk: Squawk | None = None,
    more: str = "",
    phase: str = "",
) -> list[Finding]:
    """What there is to mind about a revision of the sub-app ``notes`` whose ``upgrade`` does something; ``more`` comes last."""
    path = folder / "r1.py"
    path.write_text(revision("r1", None, body, opal_phase=phase or None) + more)
    made = sa.make_url(f"{dialect}://").get_dialect()()
    return Judge(made, replace(facts, dialect=dialect), squawk).judge(read_revision("notes", path))


def rules(findings: list[Finding]) -> list[str]:
    """Which rules were broken, in order."""
    return [finding.rule for finding in findings]
