"""An image goes back to an earlier release: it finds a database that is ahead, says so, and stops nobody."""

from typing import Any

import pytest

from tests.deploys import Env, columns, ran, states, tables
from tests.distributions import Finished, Site
from tests.revisions import release, revision
from tests.writing import model, models

COLOUR = "colour: orm.Mapped[str | None] = orm.mapped_column(sa.String(80))"
CREATE = """
op.create_table(
    'notes',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('colour', sa.String(80)),
    sa.PrimaryKeyConstraint('id'),
)
"""
DROP_COLUMN = "with op.batch_alter_table('notes') as notes:\n    notes.drop_column('colour')"
OLD, NEW = models(model("Note", "notes", COLOUR)), models(model("Note", "notes"))
N1 = revision("n1", None, CREATE)
DROPS = revision("n2", "n1", DROP_COLUMN)
ADDS = revision(
    "n2", "n1", "op.add_column('notes', sa.Column('size', sa.Integer(), nullable=False, server_default='0'))"
)
SIZED = models(model("Note", "notes", COLOUR, "size: orm.Mapped[int] = orm.mapped_column(server_default='0')"))


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


def found(done: Finished, app: str) -> dict[str, Any]:
    """What a document says of one sub-app."""
    (one,) = (each for each in done.json["sub_apps"] if each["name"] == app)
    return dict(one)


def deploy(site: Site, env: Env, version: str, source: str, *revisions: str) -> Finished:
    """Install a release, and upgrade."""
    release(site, "notes", version, source, *revisions)
    return site.run("upgrade", "--json", env=env)


class TestEarlierRelease:
    @pytest.mark.parametrize(("revision", "source"), [(DROPS, NEW), (ADDS, SIZED)], ids=["dropped", "added"])
    def test_a_changed_column_is_no_fault_of_it(self, quick_site: Site, env: Env, revision: str, source: str) -> None:
        deploy(quick_site, env, "1.1", OLD, N1)
        assert ran(deploy(quick_site, env, "1.2", source, N1, revision)) == ["notes@n2"]
        release(quick_site, "notes", "1.1", OLD, N1)
        ahead = "the database is ahead of the installed 1.1: n2, written by 1.2"
        status = quick_site.run("status", "--json", env=env)
        notes = found(status, "notes")
        assert (status.code, notes["state"], notes["detail"], notes["differences"]) == (0, "ahead", ahead, [])
        for command in (["upgrade"], ["init", "--verify"]):
            done = quick_site.run(*command, "--json", env=env)
            notes = found(done, "notes")
            assert (done.code, done.json["exit_code"], notes["ahead"]) == (0, 0, ahead)
            assert (notes["differences"], notes["withheld"]) == ([], "")
        said = quick_site.run("init", "--verify", env=env).out
        assert f"ahead: sub-app 'notes': {ahead}\n" in said
        assert "ALTER TABLE" not in said

    def test_others_go_on(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        deploy(quick_site, env, "1.1", OLD, N1)
        deploy(quick_site, env, "1.2", NEW, N1, DROPS)
        release(quick_site, "notes", "1.1", OLD, N1)
        release(quick_site, "tags", "1.0", models(model("Tag", "tags")), revision("t1"))
        done = quick_site.run("upgrade", "--json", env=env)
        assert (done.code, found(done, "tags")["created"]) == (0, ["tags"])
        assert columns(any_database_url, "notes") == {"id"}

    def test_a_table_that_a_later_release_dropped_stays_away(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        deploy(quick_site, env, "1.1", OLD, N1)
        deploy(quick_site, env, "1.2", "", N1, revision("n2", "n1", "op.drop_table('notes')"))
        done = deploy(quick_site, env, "1.1", OLD, N1)
        ahead = "the database is ahead of the installed 1.1: n2, written by 1.2; it does not have notes"
        assert (done.code, found(done, "notes")["ahead"]) == (0, ahead)
        assert found(quick_site.run("status", "--json", env=env), "notes")["state"] == "ahead"
        assert tables(any_database_url) == {"users"}

    def test_it_is_ahead_under_the_same_version_as_well(self, quick_site: Site, env: Env) -> None:
        two = models(model("Note", "notes", COLOUR), model("Tag", "tags"))
        makes = "op.create_table('tags', sa.Column('id', sa.Integer(), nullable=False), sa.PrimaryKeyConstraint('id'))"
        deploy(quick_site, env, "1.1", OLD, N1)
        deploy(quick_site, env, "1.1", two, N1, revision("n2", "n1", makes))
        release(quick_site, "notes", "1.1", OLD, N1)
        notes = found(quick_site.run("status", "--json", env=env), "notes")
        assert (notes["state"], notes["detail"]) == (
            "ahead",
            "the database is ahead of the installed 1.1: n2, written by 1.1",
        )
        assert "ahead" in quick_site.run("current", env=env).out


class TestEarlierName:
    BEE = revision("b1", None, CREATE)
    LATER = "this database knows 'bee' as 'wasp' now: written by wasp 2.0"

    @pytest.fixture(autouse=True)
    def start(self, quick_site: Site, env: Env) -> None:
        """Rename, and go back."""
        release(quick_site, "bee", "1.0", OLD, self.BEE)
        ran(quick_site.run("upgrade", "--json", env=env))
        quick_site.uninstall("bee")
        release(quick_site, "wasp", "2.0", NEW, self.BEE, revision("w2", "b1", DROP_COLUMN), renamed_from=("bee",))
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["wasp@w2"]
        quick_site.uninstall("wasp")
        release(quick_site, "bee", "1.0", OLD, self.BEE)

    def test_it_is_named_and_stops_nobody(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        release(quick_site, "tags", "1.0", models(model("Tag", "tags")), revision("t1"), requires=("bee",))
        for _ in range(2):
            done = quick_site.run("upgrade", "--json", env=env)
            assert (done.code, found(done, "bee")["ahead"]) == (0, f"{self.LATER}; install that release"), done.err
        assert tables(any_database_url) == {"users", "notes", "tags"}
        status = quick_site.run("status", "--json", env=env)
        bee = found(status, "bee")
        assert (status.code, bee["state"], bee["detail"]) == (0, "ahead", f"{self.LATER}; install that release")
        assert self.LATER in quick_site.run("current", env=env).out

    def test_the_probe_says_that_it_is_ahead(self, quick_site: Site, env: Env) -> None:
        assert found(quick_site.run("ready", "--json", env=env), "bee")["verdict"] == "ahead"

    @pytest.mark.parametrize("command", [["downgrade", "bee@-1"], ["stamp", "bee"], ["adopt", "bee"]])
    def test_what_is_known_of_it_stays_as_it_is(self, quick_site: Site, env: Env, command: list[str]) -> None:
        done = quick_site.run(*command, env=env)
        assert done.code == 2, done.err
        assert f"error: {self.LATER}\n" in done.err
        assert "mend:  install that release\n" in done.err

    def test_the_later_release_goes_on_where_it_was(self, quick_site: Site, env: Env) -> None:
        quick_site.run("upgrade", env=env)
        quick_site.uninstall("bee")
        release(quick_site, "wasp", "2.0", NEW, self.BEE, revision("w2", "b1", DROP_COLUMN), renamed_from=("bee",))
        assert ran(quick_site.run("upgrade", "--json", env=env)) == []
        assert quick_site.run("status", env=env).code == 0


def test_a_rename_that_is_pending_is_in_the_plan(quick_site: Site, env: Env) -> None:
    bee = revision("b1", None, CREATE)
    release(quick_site, "bee", "1.0", OLD, bee)
    ran(quick_site.run("upgrade", "--json", env=env))
    quick_site.uninstall("bee")
    release(quick_site, "wasp", "2.0", OLD, bee, renamed_from=("bee",))
    assert "to be renamed: bee is wasp\n" in quick_site.run("plan", env=env).out
    plan = quick_site.run("plan", "--json", env=env)
    renames = [{"name": "wasp", "formerly": "bee", "bind": "default"}]
    assert (plan.code, plan.json["renames"], plan.json["steps"], plan.json["new"]) == (1, renames, [], [])
    current = quick_site.run("current", env=env)
    assert "'bee' in this database: opal-db upgrade renames what it knows" in current.out
    assert states(quick_site, env) == {"core": "current", "wasp": "current"}
    release(quick_site, "wasp", "2.1", NEW, bee, revision("w2", "b1", DROP_COLUMN), renamed_from=("bee",))
    plan = quick_site.run("plan", "--json", env=env)
    assert ([each["revision"] for each in plan.json["steps"]], plan.json["renames"]) == (["w2"], renames)
    assert ran(quick_site.run("upgrade", "--json", env=env)) == ["wasp@w2"]
    plan = quick_site.run("plan", "--json", env=env)
    assert (plan.code, plan.json["renames"]) == (0, [])


def test_current_answers_where_both_names_are_known(quick_site: Site, env: Env) -> None:
    for name in ("bee", "wasp"):
        release(quick_site, name, "1.0", "", revision(f"{name}1"), create="migrations")
    ran(quick_site.run("upgrade", "--json", env=env))
    quick_site.uninstall("bee")
    release(quick_site, "wasp", "1.1", "", revision("wasp1"), create="migrations", renamed_from=("bee",))
    assert states(quick_site, env) == {"core": "current", "wasp": "current", "bee": "not installed here"}
