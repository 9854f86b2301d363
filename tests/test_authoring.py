"""``opal-db revision`` and ``merge``: what they write, where, what it rests on, and whose tables they never look at."""

from pathlib import Path

import pytest

from tests.deploys import execute, heads, ran, rows
from tests.distributions import Site
from tests.revisions import release, revision
from tests.sources import Source
from tests.writing import model, models, refers

TEXT = "text: orm.Mapped[str | None] = orm.mapped_column(sa.String(80))"
NOTE = model("Note", "notes")
NOTED = model("Note", "notes", TEXT)


@pytest.fixture
def source(quick_site: Site, any_database_url: str) -> Source:
    """The source of the sub-app ``notes``, on every database."""
    return Source(quick_site, "notes", any_database_url)


@pytest.fixture
def notes(quick_site: Site, tmp_path: Path) -> Source:
    """The same on SQLite, for what does not depend on the database."""
    return Source(quick_site, "notes", f"sqlite:///{tmp_path / 'opal_suite.db'}")


class TestItsOwnTablesAlone:
    def test_neither_are_others_dropped_nor_its_own_missed(self, source: Source, any_database_url: str) -> None:
        """What Alembic proposes with the models of one application only: to drop the tables of all others."""
        release(source.site, "other", "1", models(model("Thing", "things")), revision("o1"), create="models")
        source.site.sub_app("tags", models(model("Tag", "tags")))
        source.write(models(NOTE, model("Gone", "gone", refers("note", "'notes.id'"))))
        source.revise("First")
        ran(source.run("upgrade", "--json"))
        execute(any_database_url, "CREATE TABLE of_nobody (id INTEGER)")
        source.write(models(NOTED))
        for options in ((), ("--live",)):
            text = source.revised(*options)
            assert "op.drop_table('gone')" in text
            assert "add_column(sa.Column('text', sa.String(length=80), nullable=True))" in text
            assert not [name for name in ("things", "tags", "users", "of_nobody", "opal_") if f"'{name}" in text]
            next(path for path in source.files if path.read_text("utf-8") == text).unlink()

    def test_views_are_left_alone(self, source: Source, any_database_url: str) -> None:
        view = "from opal_registry.base import Base as B\nsa.CreateView(sa.select(Note.id), 'note_ids', metadata=B.metadata)\n"
        source.write(models(NOTE, view))
        text = source.revised()
        assert "note_ids" not in text
        assert "withheld" in source.run("upgrade", "--json").out
        assert source.revise() is None

    def test_tables_of_a_strangers_metadata_are_its_own(self, source: Source) -> None:
        tables = "import sqlalchemy as sa\nmetadata = sa.MetaData()\nsa.Table('books', metadata, sa.Column('id', sa.Integer, primary_key=True){})\n"
        source.site.install("stranger", files={"stranger.py": tables.format("")})
        source.write("", metadata=("stranger:metadata",))
        assert "op.create_table('books'" in source.revised()
        ran(source.run("upgrade", "--json"))
        source.site.install("stranger", files={"stranger.py": tables.format(", sa.Column('title', sa.String(9))")})
        assert "add_column(sa.Column('title'" in source.revised()

    def test_no_more_is_asked_however_many_tables_others_have(self, quick_site: Site, any_database_url: str) -> None:
        asked = []
        hooks = """
            import sqlalchemy as sa

            @hookimpl
            def opal_engine_created(engine, bind):
                def log(connection, cursor, statement, *_):
                    with open("asked", "a") as file:
                        file.write("x")
                sa.event.listen(engine, "before_cursor_execute", log)
        """
        source = Source(quick_site, "notes", any_database_url)
        source.write(models(NOTE), hooks=hooks)
        source.revise("First")
        ran(source.run("upgrade", "--json"))
        source.write(models(NOTED), hooks=hooks)
        for number in (3, 60):
            more = (model(f"Other{n}", f"others{n}", TEXT) for n in range(number))
            quick_site.sub_app("others", models(*more))
            assert quick_site.run("init", env=source.env).code in {0, 1}
            (quick_site.cwd / "asked").unlink(missing_ok=True)
            path = source.revise("Second", "--live")
            assert path is not None
            asked.append((quick_site.cwd / "asked").stat().st_size)
            path.unlink()
        assert asked[0] == asked[1]


class TestWhatIsWritten:
    def test_the_first_one_makes_the_folder_and_pins_what_it_needs(self, source: Source) -> None:
        source.write(models(model("Note", "notes", refers("user", "'users.id'"))))
        done = source.run("revision", "notes", "-m", "Notes of users", "--json")
        assert done.code == 0, done.err
        (path,) = source.files
        text = path.read_text("utf-8")
        assert done.json == {
            "revision": path.name[:12],
            "name": "notes",
            "path": str(path),
            "pins": {"core": ["core0003"]},
        }
        assert text.startswith(f'"""Notes of users\n\nRevision ID: {path.name[:12]}\n')
        assert "opal_depends_on = {'core': ['core0003']}\n" in text
        assert "opal_phase = 'expand'\n" in text

    def test_the_heads_of_those_that_are_required_are_pinned(self, notes: Source) -> None:
        release(notes.site, "base", "1", "", revision("a"), revision("b", "a"), revision("c", "a"))
        notes.write(models(NOTE), requires=("base",))
        assert "opal_depends_on = {'base': ['b', 'c']}" in notes.revised()

    def test_one_that_lives_in_another_database_cannot_be_pinned(self, notes: Source, tmp_path: Path) -> None:
        notes.env["OPAL_BINDS__ANALYTICS__URL"] = f"sqlite:///{tmp_path / 'analytics.db'}"
        notes.write(models(NOTE), requires=("core",), bind="analytics")
        assert "opal_depends_on = {}" in notes.revised()
        assert len(ran(notes.run("upgrade", "--json"))) == 1

    def test_what_was_needed_once_is_there_to_compare_with(self, notes: Source) -> None:
        release(notes.site, "base", "1", models(model("Team", "teams")), revision("a"), create="models")
        notes.write(models(model("Note", "notes", refers("user", "'users.id'"))), requires=("base",))
        notes.revise()
        notes.write(models(NOTED))
        assert "drop_column('user')" in notes.revised()
        assert len(ran(notes.run("upgrade", "notes", "--json"))) == 2

    def test_where_there_is_no_difference_no_file_and_no_folder_are_made(self, notes: Source) -> None:
        notes.write("")
        done = notes.run("revision", "notes", "-m", "Nothing")
        assert (done.code, done.out.strip()) == (
            0,
            "nothing to write: the history of notes and its models say the same",
        )
        assert notes.run("revision", "notes", "-m", "Nothing", "--json").json == {"revision": None}
        assert not (notes.package / "migrations").exists()

    def test_a_truth_is_one_on_every_database(self, notes: Source) -> None:
        """SQLite would have 1 written, which PostgreSQL refuses."""
        notes.write(
            models(model("Note", "notes", "open: orm.Mapped[bool] = orm.mapped_column(server_default=sa.true())"))
        )
        assert "server_default=sa.true()" in notes.revised()

    def test_what_takes_away_is_contract(self, notes: Source) -> None:
        notes.write(models(NOTED))
        notes.revise()
        notes.write(models(NOTE))
        assert "opal_phase = 'contract'\n" in notes.revised()

    def test_an_empty_one_leaves_its_phase_to_what_is_written_into_it(self, notes: Source) -> None:
        notes.write(models(NOTE))
        text = notes.revised("--empty")
        assert "opal_phase" not in text
        assert text.count("    pass\n") == 2
        notes.files[0].write_text(text.replace("pass", "op.drop_table('old')", 1))
        assert notes.run("heads", "--json").json["heads"][-1]["phase"] == "contract"

    @pytest.mark.parametrize(
        "message",
        [
            'Say """hello"""',
            'it ends with "',
            "back\\slash \\N \\x \\",
            "100% ${more} %(x)s",
            "Zürich 東京 🙂",
            "two\nlines",
            "'''",
            "../../etc/passwd",
            "?!",
            "x" * 500,
        ],
    )
    def test_a_message_may_be_anything(self, notes: Source, message: str) -> None:
        notes.write("")
        path = notes.revise(message, "--empty")
        assert path is not None
        assert path.parent == notes.package / "migrations"
        assert len(path.name) < 100
        head = notes.run("heads", "--json").json["heads"][-1]
        assert head["title"] == " ".join(message.split())
        assert ran(notes.run("upgrade", "--json")) == [f"notes@{head['revision']}"]

    def test_its_own_types_are_imported_where_they_are_used(self, source: Source) -> None:
        kinds = """
            import sqlalchemy as sa
            from sqlalchemy.types import UserDefinedType

            class Short(sa.TypeDecorator):
                impl = sa.String(7)
                cache_ok = True

                def __init__(self):
                    super().__init__(7)

            class Sized(sa.TypeDecorator):
                impl = sa.String
                cache_ok = True
        """
        source.site.install("notes_kinds", files={"notes_kinds.py": kinds})
        column = "{0}: orm.Mapped[str | None] = orm.mapped_column({1})"
        lines = [column.format("short", "notes_kinds.Short()"), column.format("sized", "notes_kinds.Sized(30)")]
        source.write(models("import notes_kinds\n", model("Note", "notes", *lines)))
        text = source.revised()
        assert "import notes_kinds\n" in text
        assert len(ran(source.run("upgrade", "--json"))) == 1
        assert source.revise() is None


class TestWhereItIsRefused:
    def complaint(self, source: Source, *arguments: str, code: int = 2) -> str:
        done = source.run("revision", "notes", "-m", "More", *arguments)
        assert (done.code, done.out) == (code, "")
        return done.err

    def test_a_copy_in_site_packages_is_not_written_to(self, notes: Source) -> None:
        release(notes.site, "notes", "1", models(NOTED), revision("n1"))
        said = self.complaint(notes)
        assert "error: the revisions of 'notes' are a copy that was installed: " in said
        assert "mend:  work on its source, installed with: pip install -e FOLDER\n" in said

    def test_one_that_does_not_say_where_its_revisions_are(self, notes: Source) -> None:
        notes.write(models(NOTE), migrations=None, create="models")
        said = self.complaint(notes)
        assert "error: sub-app 'notes' does not say where its revisions are\n" in said
        assert 'mend:  write migrations="notes:migrations" into its SubApp\n' in said

    def test_two_heads_have_to_be_merged_before_or_one_named(self, notes: Source) -> None:
        notes.write(models(NOTE))
        first = notes.revise("First")
        assert first is not None
        one = notes.revise("One", "--empty")
        two = notes.revise("Two", "--empty", "--head", "base", "--branch-label", "side")
        assert one is not None
        assert two is not None
        assert "branch_labels = ('side',)" in two.read_text()
        said = self.complaint(notes, "--empty")
        assert "mend:  opal-db merge notes, or name one with --head: " in said
        assert notes.revise("On the side", "--empty", "--head", "side@head") is not None
        done = notes.run("merge", "notes", "--json")
        assert done.code == 0, done.err
        assert notes.run("heads", "--json").json["heads"][-1]["revision"] == done.json["revision"]
        assert len(ran(notes.run("upgrade", "--json"))) == 5
        assert heads(str(notes.env["OPAL_DATABASE__URL"]), "notes") == [done.json["revision"]]
        done = notes.run("merge", "notes")
        assert (done.code, done.out) == (2, "")
        assert "error: the history of 'notes' has one head\n" in done.err
        assert notes.run("merge", "notes", "--json").json["error"]["exit_code"] == 2

    def test_an_unknown_head_or_a_label_that_is_taken(self, notes: Source) -> None:
        notes.write(models(NOTE))
        notes.revise("First", "--branch-label", "main")
        assert "nowhere" in self.complaint(notes, "--empty", "--head", "nowhere")
        said = self.complaint(notes, "--empty", "--head", "base", "--branch-label", "main")
        assert "error: there is a branch 'main' already: it begins with notes@" in said
        assert len(notes.files) == 1

    def test_a_live_database_that_is_behind_would_have_it_written_twice(self, source: Source) -> None:
        source.write(models(NOTE))
        source.revise("First")
        ran(source.run("upgrade", "--json"))
        source.write(models(NOTED))
        assert source.revise("Second", "--live") is not None
        said = self.complaint(source, "--live")
        assert "error: the database is not at the heads of 'notes', but behind\n" in said
        assert "mend:  opal-db upgrade notes first, or compare without --live\n" in said
        ran(source.run("upgrade", "--json"))
        assert source.revise("Third", "--live") is None


class TestTheScratchDatabase:
    def test_whoever_may_not_create_one_is_told_of_the_live_database(self, quick_site: Site, postgres_url: str) -> None:
        role = f"maker_{postgres_url.rpartition('_')[2]}"
        execute(postgres_url, f"CREATE ROLE {role} LOGIN PASSWORD 'pw'", f"GRANT ALL ON SCHEMA public TO {role}")
        source = Source(quick_site, "notes", postgres_url)
        source.env |= {"OPAL_DATABASE__URL": postgres_url.replace("://postgres", f"://{role}:pw")}
        source.write(models(NOTE))
        done = source.run("revision", "notes", "-m", "First")
        execute(postgres_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
        assert (done.code, done.out) == (4, "")
        assert "revision has --live, which needs none\n" in done.err

    @pytest.mark.mariadb
    def test_nothing_of_a_revision_that_fails_in_it_stays(self, quick_site: Site, mariadb_url: str) -> None:
        source = Source(quick_site, "notes", mariadb_url)
        source.write(models(NOTE))
        path = source.revise("First")
        assert path is not None
        path.write_text(
            path.read_text("utf-8").replace("    # ### end", "    op.execute('nonsense')\n    # ### end", 1)
        )
        done = source.run("revision", "notes", "-m", "Second")
        assert done.code == 4
        assert "nonsense" in done.err
        assert "taken effect" not in done.err
        assert "its first statement has taken effect already" in source.run("upgrade").err


class TestSchemas:
    def test_one_of_its_own_is_compared_and_what_is_gone_from_it_dropped(
        self, quick_site: Site, postgres_url: str
    ) -> None:
        source = Source(quick_site, "notes", postgres_url)
        inside = "__table_args__ = {'schema': 'desk'}"
        source.write(models(model("Note", "notes", inside), model("Gone", "gone", inside)), schema="desk")
        text = source.revised()
        assert "schema='desk'" in text
        ran(source.run("upgrade", "--json"))
        assert source.revise() is None
        source.write(models(model("Note", "notes", inside, TEXT)), schema="desk")
        text = source.revised()
        assert "op.drop_table('gone', schema='desk')" in text
        assert "batch_alter_table('notes', schema='desk')" in text
        assert len(ran(source.run("upgrade", "--json"))) == 1
        assert source.revise() is None
        assert len(ran(source.run("downgrade", "notes@base", "--json"), "taken_back")) == 2

    @pytest.mark.mariadb
    def test_on_mysql_one_would_be_a_real_database(self, quick_site: Site, mariadb_url: str) -> None:
        source = Source(quick_site, "notes", mariadb_url)
        source.write(models(model("Note", "notes", "__table_args__ = {'schema': 'desk'}")), schema="desk")
        done = source.run("revision", "notes", "-m", "First")
        assert (done.code, done.out) == (2, "")
        assert "which a scratch database cannot have: desk\n" in done.err
        assert "mend:  do this on another kind of database; revision has --live\n" in done.err

    def test_the_scratch_database_is_gone_afterwards(self, source: Source, any_database_url: str) -> None:
        source.write(models(NOTE))
        source.revise()
        queries = {
            "postgresql": "SELECT datname FROM pg_database WHERE datname LIKE 'opal_scratch%%'",
            "mysql": "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'opal_scratch%%'",
        }
        for dialect, query in queries.items():
            if any_database_url.startswith(dialect):
                assert rows(any_database_url, query) == []
