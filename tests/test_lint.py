"""``opal-db lint``: which revisions are judged, what is known about their database, and what people and machines get."""

from pathlib import Path
from typing import Any

import pytest

from opal_registry.migrations.lint.finding import SMALL
from opal_registry.migrations.lint.rules import RULES
from opal_registry.migrations.lint.squawk import COVERED, Squawk, find_squawk
from tests.databases import engine_of
from tests.distributions import Finished, Site
from tests.lint_cases import judge, rules
from tests.revisions import release, revision
from tests.writing import model, models

DOCS = Path(__file__).parent.parent / "docs"
CODE = "code: orm.Mapped[str | None] = orm.mapped_column(sa.String(20), unique=True)"
NOTES = models(model("Note", "notes", CODE))
REPORTS = models(model("Report", "reports", "code: orm.Mapped[str] = orm.mapped_column(sa.ForeignKey('notes.code'))"))
CREATE = """
op.create_table('notes', sa.Column('id', sa.Integer(), primary_key=True), sa.Column('code', sa.String(20), unique=True))
"""
N1 = revision("n1", None, CREATE, title="Notes")
N2 = revision("n2", "n1", "op.create_index('ix_notes_code', 'notes', ['code'])", title="Faster")
DROPS = revision(
    "n2", "n1", "with op.batch_alter_table('notes') as notes:\n    notes.drop_column('code')", title="Less"
)
NOWHERE = {"OPAL_DATABASE__URL": "postgresql+psycopg://nobody:p%25w@127.0.0.1:1/nothing"}


def findings(done: Finished) -> list[tuple[str, str, str]]:
    assert done.out, done.err
    return [
        (each["revision"], finding["rule"], finding["level"])
        for each in done.json["revisions"]
        for finding in each["findings"]
    ]


def execute(url: str, *statements: str) -> None:
    engine = engine_of(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_what_the_database_lacks_is_judged_or_everything(quick_site: Site, any_database_url: str) -> None:
    env = {"OPAL_DATABASE__URL": any_database_url}
    release(quick_site, "notes", "1.0", NOTES, N1)
    assert quick_site.run("init", env=env).code == 0
    release(quick_site, "notes", "2.0", NOTES, N1, N2)
    done = quick_site.run("lint", "notes", "--json", "--no-squawk", env=env)
    assert [each["revision"] for each in done.json["revisions"]] == ["n2"]
    done = quick_site.run("lint", "notes", "--all", "--json", "--no-squawk", env=env)
    assert [each["revision"] for each in done.json["revisions"]] == ["n1", "n2"]


def test_no_database_is_needed(quick_site: Site) -> None:
    release(quick_site, "notes", "1.0", NOTES, N1, N2)
    done = quick_site.run("lint", "notes", "--json", "--no-squawk", env=NOWHERE)
    assert done.code == 1
    assert findings(done) == [("n2", "opal.M101", "warning")]
    (remark,) = done.json["remarks"]
    assert remark.startswith("default: all revisions are judged, without sizes and ledger: ")
    assert "p%25w" not in done.out + done.err


def test_no_file_is_created_and_another_database_may_be_meant(quick_site: Site) -> None:
    release(quick_site, "notes", "1.0", NOTES, N1, N2)
    done = quick_site.run("lint", "notes", "--no-squawk")
    assert (done.code, done.out) == (0, "2 revisions: 0 errors, 0 warnings, 0 notes\n")
    assert done.err == (
        "default: on sqlite only the rules about contracts count; --dialect judges for another database\n"
    )
    assert findings(quick_site.run("lint", "notes", "--dialect", "postgresql", "--json", "--no-squawk")) == [
        ("n2", "opal.M101", "warning")
    ]
    assert findings(quick_site.run("lint", "notes", "--dialect", "mysql", "--json")) == []
    assert not list(quick_site.cwd.glob("*.db"))


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "only in the ledger"])
def test_dropping_what_another_sub_app_refers_to_is_an_error(
    quick_site: Site, any_database_url: str, installed: bool
) -> None:
    env = {"OPAL_DATABASE__URL": any_database_url}
    release(quick_site, "notes", "1.0", NOTES, N1)
    quick_site.sub_app("reports", REPORTS, requires=("notes",), version="1.4")
    assert quick_site.run("init", env=env).code == 0
    if not installed:
        quick_site.uninstall("reports")
    release(quick_site, "notes", "2.0", NOTES, N1, DROPS)
    done = quick_site.run("lint", "notes", "--json", "--no-squawk", env=env)
    assert (done.code, findings(done)) == (1, [("n2", "opal.M002", "error")])
    how = "by the foreign key of reports.code" if installed else "1.4, not installed here, by its entry in the ledger"
    what = done.json["revisions"][0]["findings"][0]["what"]
    assert what == f"it drops notes.code, which is used by 'reports' ({how})"


def test_so_is_dropping_what_it_maps(quick_site: Site) -> None:
    mapping = (
        "from notes.models import Note\nimport sqlalchemy as sa\nfrom sqlalchemy import orm\n"
        "from opal_registry.database import Base\n\n\n"
        "class Row(Base):\n    __table__ = Note.__table__\n"
    )
    release(quick_site, "notes", "2.0", NOTES, N1, DROPS)
    quick_site.sub_app("reports", mapping, requires=("notes",))
    done = quick_site.run("lint", "notes", "--json", "--no-squawk")
    assert findings(done) == [("n2", "opal.M002", "error")]
    assert done.json["revisions"][1]["findings"][0]["what"].endswith("used by 'reports' (mapped by Row)")


def test_a_revision_leaves_the_tables_of_others_alone(quick_site: Site) -> None:
    trespass = revision("n2", "n1", "op.add_column('users', sa.Column('note', sa.Integer()))")
    release(quick_site, "notes", "1.0", NOTES, N1, trespass)
    done = quick_site.run("lint", "notes", "--json", "--no-squawk", "--dialect", "mysql")
    assert findings(done) == [("n2", "opal.M005", "error")]
    assert done.json["revisions"][1]["findings"][0]["what"] == "it changes users, which is a table of 'core'"


def test_the_size_of_a_table_decides(quick_site: Site, postgres_url: str) -> None:
    env = {"OPAL_DATABASE__URL": postgres_url}
    release(quick_site, "notes", "1.0", NOTES, N1)
    assert quick_site.run("init", env=env).code == 0
    release(quick_site, "notes", "2.0", NOTES, N1, N2)
    small = quick_site.run("lint", "--json", "--no-squawk", env=env)
    assert (small.code, findings(small)) == (0, [("n2", "opal.M101", "note")])
    rows = SMALL + 234
    execute(postgres_url, f"INSERT INTO notes SELECT n, 'c' || n FROM generate_series(1, {rows}) AS n", "ANALYZE notes")
    big = quick_site.run("lint", "--no-squawk", env=env)
    assert big.code == 1
    path = quick_site.folder / "notes/migrations/0002.py"
    assert big.out.replace("\n", "\n|") == (
        "notes@n2  Faster  (for postgresql)\n"
        f"|  {path}:9: warning opal.M101\n"
        "|    it builds the index ix_notes_code on notes (about 10 000 rows)\n"
        "|    why:   writes to the table wait until the index is built, unless it is built CONCURRENTLY\n"
        "|    write:\n"
        "|        with op.get_context().autocommit_block():\n"
        "|            op.create_index('ix_notes_code', 'notes', ['code'], unique=False, postgresql_concurrently=True)\n"
        "|1 revision: 0 errors, 1 warning, 0 notes\n|"
    )


def test_what_is_waived_is_counted_and_told_to_machines(quick_site: Site) -> None:
    body = "op.create_index('ix_notes_code', 'notes', ['code'])  # opal: allow opal.M101 because nobody writes at night"
    release(quick_site, "notes", "1.0", NOTES, N1, revision("n2", "n1", body))
    arguments = ("lint", "notes", "--dialect", "postgresql", "--no-squawk")
    done = quick_site.run(*arguments)
    assert (done.code, done.out) == (0, "2 revisions: 0 errors, 0 warnings, 0 notes; 1 waived\n")
    machine = quick_site.run(*arguments, "--json").json
    assert machine["revisions"][1]["findings"][0]["waived"] == "nobody writes at night"
    assert machine["counts"] == {"error": 0, "warning": 0, "note": 0, "waived": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dialect", "oracle"), "--dialect cannot be 'oracle'\n  mend:  choose one of postgresql, mysql"),
        (("note",), "no sub-app 'note' is installed here\n  mend:  did you mean 'notes'?"),
    ],
)
def test_what_is_asked_for_has_to_exist(quick_site: Site, arguments: tuple[str, ...], said: str) -> None:
    release(quick_site, "notes", "1.0", NOTES, N1)
    done = quick_site.run("lint", *arguments)
    assert (done.code, done.err) == (2, f"error: {said}\n")


def test_a_revision_that_prints_disturbs_no_machine(quick_site: Site) -> None:
    release(quick_site, "notes", "1.0", NOTES, revision("n1", None, "print('hello')"))
    done = quick_site.run("lint", "notes", "--json", "--dialect", "mysql")
    assert (done.code, done.json["exit_code"], done.err) == (0, 0, "hello\n")


def test_the_histories_that_come_with_the_suite_can_be_followed(quick_site: Site) -> None:
    for dialect in ("postgresql", "mysql"):
        done = quick_site.run("lint", "--all", "--json", "--dialect", dialect, suite=True)
        found = findings(done)
        assert not [each for each in found if each[1] == "opal.M301" or each[2] == "error"]


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_the_history_of_core_has_nothing_to_mind_that_is_not_waived(quick_site: Site, dialect: str) -> None:
    done = quick_site.run("lint", "core", "--all", "--dialect", dialect, "--no-squawk")
    assert (done.code, done.out.partition(";")[0]) == (0, "3 revisions: 0 errors, 0 warnings, 0 notes")


class TestSquawk:
    @pytest.fixture
    def squawk(self) -> Squawk:
        found = find_squawk()
        assert found, "the group test brings squawk-cli"
        return found

    def test_it_judges_statements_at_the_lines_that_they_come_from(self, tmp_path: Path, squawk: Squawk) -> None:
        body = "op.drop_column('notes', 'x')\nop.execute('TRUNCATE tags CASCADE')"
        found = judge(tmp_path, body, squawk=squawk)
        (minded,) = [each for each in found if each.rule == "squawk.ban-truncate-cascade"]
        line = (tmp_path / "r1.py").read_text().splitlines()[minded.line - 1].strip()
        assert (line, minded.level) == ("op.execute('TRUNCATE tags CASCADE')", "warning")
        assert "CASCADE" in minded.what
        assert minded.why

    def test_what_the_rules_know_better_is_left_to_them(self, tmp_path: Path, squawk: Squawk) -> None:
        body = "op.create_index('ix', 'notes', ['mood'])\nop.add_column('notes', sa.Column('n', sa.Integer(), nullable=False))"
        assert rules(judge(tmp_path, body, squawk=squawk)) == ["opal.M101", "opal.M112"]

    def test_it_knows_postgresql_only(self, tmp_path: Path, squawk: Squawk) -> None:
        assert rules(judge(tmp_path, "op.execute('TRUNCATE tags CASCADE')", "mysql", squawk=squawk)) == ["opal.M303"]

    def test_it_is_waived_like_any_other(self, tmp_path: Path, squawk: Squawk) -> None:
        waiver = "# opal: allow squawk.ban-truncate-cascade because nothing refers to it"
        found = judge(tmp_path, f"op.execute('TRUNCATE tags CASCADE')  {waiver}", squawk=squawk)
        assert {each.rule: each.waived for each in found} == {
            "opal.M303": "",
            "squawk.ban-truncate-cascade": "nothing refers to it",
        }
        assert rules(judge(tmp_path, f"op.execute('TRUNCATE tags CASCADE')  {waiver}")) == ["opal.M303"]

    def test_one_that_cannot_judge_is_told(self, tmp_path: Path) -> None:
        program = tmp_path / "squawk"
        program.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
        program.chmod(0o755)
        squawk = Squawk(program, "0.1")
        assert rules(judge(tmp_path, "op.drop_column('notes', 'x')", squawk=squawk)) == []
        assert squawk.trouble == "squawk 0.1 could not judge: broken"

    def test_something_else_of_that_name_is_not_taken_for_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = tmp_path / "squawk"
        program.write_text("#!/bin/sh\necho parrot 1.0\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
        assert find_squawk() is None

    def test_what_is_left_out_names_rules_that_exist(self) -> None:
        known = {rule.id for rule in RULES}
        named = {word for text in COVERED.values() for word in text.split() if word.startswith("opal.")}
        assert named <= known


def test_every_rule_is_documented_as_it_is() -> None:
    text = (DOCS / "lint.md").read_text("utf-8")
    missing = [rule.id for rule in RULES if f"| `{rule.id}` | {rule.level} | {rule.title} |" not in text]
    assert missing == []
    assert [why for rule in RULES for why in rule.why.values() if why not in text] == []
    assert f"{SMALL:,}".replace(",", " ") in text


def test_every_key_of_the_document_is_described(quick_site: Site) -> None:
    release(quick_site, "notes", "1.0", NOTES, N1, N2)
    document: dict[str, Any] = quick_site.run("lint", "notes", "--json", "--dialect", "postgresql").json
    text = (DOCS / "commands.md").read_text("utf-8")
    text = text[text.index("`lint`:") :]
    keys = {*document, *document["revisions"][0], *document["revisions"][1]["findings"][0], *document["counts"]}
    assert [key for key in sorted(keys) if f'"{key}"' not in text] == []
