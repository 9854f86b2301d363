"""A table moves from one sub-app to another, and a sub-app gets another name: the tables stay as they are."""

import pytest

from tests.deploys import columns, execute, heads, ran, recorded, rows, states, tables
from tests.distributions import Site
from tests.revisions import release, revision
from tests.writing import model, models

Env = dict[str, str | None]
LABELS = "op.create_table('labels', sa.Column('id', sa.Integer(), nullable=False), sa.PrimaryKeyConstraint('id'))"
NOTES = "op.create_table('notes', sa.Column('id', sa.Integer(), nullable=False), sa.PrimaryKeyConstraint('id'))"
BOTH = models(model("Note", "notes"), model("Label", "labels"))
ONE = models(model("Note", "notes"))
TAGS = models(model("Label", "labels"), model("Tag", "tags"))
N1 = revision("n1", None, f"{NOTES}\n{LABELS}", "op.drop_table('labels')\nop.drop_table('notes')")
GIVES = revision("n2", "n1", opal_gives={"labels": "tags"})
MAKES = "op.create_table('tags', sa.Column('id', sa.Integer(), nullable=False), sa.PrimaryKeyConstraint('id'))"
TAKES = revision("t1", None, MAKES, opal_takes={"labels": "notes"}, opal_depends_on={"notes": ["n2"]})


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


def before(site: Site, **record: str) -> None:
    release(site, "notes", "1.0", BOTH, N1, **record)


def after(site: Site, **record: str) -> None:
    release(site, "notes", "2.0", ONE, N1, GIVES, **record)
    release(site, "tags", "1.0", TAGS, TAKES, requires=("notes>=2",), **record)


class TestATable:
    def test_its_rows_stay_where_they_are(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        before(quick_site)
        quick_site.run("upgrade", env=env)
        execute(any_database_url, "INSERT INTO labels (id) VALUES (7)")
        after(quick_site)
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n2"]
        assert rows(any_database_url, "SELECT id FROM labels") == [(7,)]
        assert columns(any_database_url, "tags") == {"id"}
        assert states(quick_site, env) == {"core": "current", "notes": "current", "tags": "current"}
        owned = {
            app["name"]: app["present"]
            for app in quick_site.run("init", "--verify", "--json", env=env).json["sub_apps"]
        }
        assert (owned["notes"], sorted(owned["tags"])) == (["notes"], ["labels", "tags"])

    @pytest.mark.parametrize("taker", ["models", "migrations"])
    @pytest.mark.parametrize("giver", ["models", "migrations"])
    def test_a_fresh_database_has_it_once(
        self, quick_site: Site, env: Env, any_database_url: str, giver: str, taker: str
    ) -> None:
        release(quick_site, "notes", "2.0", ONE, N1, GIVES, create=giver)
        release(quick_site, "tags", "1.0", TAGS, TAKES, requires=("notes>=2",), create=taker)
        done = quick_site.run("upgrade", env=env)
        assert done.code == 0, (done.out, done.err)
        assert columns(any_database_url, "labels") == columns(any_database_url, "tags") == {"id"}
        assert states(quick_site, env) == {"core": "current", "notes": "current", "tags": "current"}

    def test_the_former_release_may_still_be_run(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        before(quick_site)
        quick_site.run("upgrade", env=env)
        after(quick_site)
        quick_site.run("upgrade", env=env)
        quick_site.uninstall("tags")
        before(quick_site)
        for command in ("upgrade", "init", "status", "ready"):
            done = quick_site.run(command, env=env)
            assert done.code == 0, (command, done.out, done.err)
        assert columns(any_database_url, "labels") == {"id"}
        after(quick_site)
        assert quick_site.run("upgrade", env=env).code == 0

    def test_its_new_owner_may_drop_it_on_the_way(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        before(quick_site)
        quick_site.run("upgrade", env=env)
        release(quick_site, "notes", "2.0", ONE, N1, GIVES)
        drops = revision("t2", "t1", "op.drop_table('labels')")
        kept = models(model("Tag", "tags"))
        release(quick_site, "tags", "2.0", kept, TAKES, drops, requires=("notes>=2",), create="migrations")
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n2", "tags@t1", "tags@t2"]
        assert tables(any_database_url) == {"notes", "tags", "users"}

    def test_it_is_not_taken_away_with_the_one_that_made_it(self, quick_site: Site, env: Env) -> None:
        after(quick_site, create="migrations")
        quick_site.run("upgrade", env=env)
        done = quick_site.run("downgrade", "notes@base", env=env)
        assert done.code == 3
        assert "others are applied that need what would be taken back: tags@t1 (needs notes@n2)" in done.err


class TestAName:
    def test_the_history_goes_on_under_the_new_one(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        before(quick_site)
        pinning = revision("p1", None, opal_depends_on={"notes": ["n1"]})
        release(quick_site, "pins", "1.0", "", pinning, create="migrations", requires=("notes",))
        quick_site.run("upgrade", env=env)
        quick_site.uninstall("notes")
        quick_site.uninstall("pins")
        more = revision("n2", "n1", "op.add_column('notes', sa.Column('more', sa.Integer()))")
        wider = models(model("Note", "notes", "more: orm.Mapped[int | None]"), model("Label", "labels"))
        release(quick_site, "papers", "2.0", wider, N1, more, renamed_from=("notes",))
        init = quick_site.run("init", env=env)
        assert init.code == 1
        assert "the database knows it as 'notes': opal-db upgrade renames what it knows" in init.out
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["papers@n2"]
        assert heads(any_database_url, "papers") == ["n2"]
        assert recorded(any_database_url, "notes") == []
        assert states(quick_site, env) == {"core": "current", "papers": "current", "pins": "not installed here"}
        refused = quick_site.run("downgrade", "papers@base", env=env)
        assert "pins@p1 (1.0) is applied, needs papers@n1, and is not installed here" in refused.err

    def test_pins_to_the_former_name_are_met(self, quick_site: Site, env: Env) -> None:
        release(quick_site, "papers", "2.0", BOTH, N1, renamed_from=("notes",))
        pinning = revision("p1", None, opal_depends_on={"notes": ["n1"]})
        release(quick_site, "pins", "1.0", "", pinning, create="migrations", requires=("papers",))
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["pins@p1"]

    def test_a_database_that_knows_both_is_refused(self, quick_site: Site, env: Env) -> None:
        before(quick_site)
        release(quick_site, "papers", "2.0", "", revision("x"), create="migrations")
        quick_site.run("upgrade", env=env)
        quick_site.uninstall("notes")
        release(quick_site, "papers", "2.0", "", revision("x"), create="migrations", renamed_from=("notes",))
        done = quick_site.run("upgrade", env=env)
        assert done.code == 3
        assert "the database knows 'papers' by its former name 'notes' as well" in done.err
