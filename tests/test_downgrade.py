"""``opal-db downgrade``: revisions are taken back, never from under somebody who needs them."""

import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.errors import PluginError
from opal_registry.migrations.downgrade import downgrade
from opal_registry.migrations.look import Target
from opal_registry.upgrade import upgrade
from tests.deploys import Env, columns, execute, heads, ran, recorded, rows, states, tables
from tests.distributions import Site
from tests.made_histories import make_loaded, make_package, registry_with
from tests.revisions import release, revision
from tests.writing import model, models, refers

CREATE = "op.create_table('{0}', sa.Column('id', sa.Integer(), nullable=False), sa.PrimaryKeyConstraint('id'))"


def creating(id_: str, parents: Any = None, **names: Any) -> str:
    """A revision that creates a table of its name, and drops it again."""
    return revision(id_, parents, CREATE.format(id_), f"op.drop_table('{id_}')", **names)


def labelled(*names: str) -> str:
    """Models for some of those tables."""
    return models(*(model(name.title(), name) for name in names))


def chain(site: Site, name: str, *ids: str, version: str = "1.0", requires: tuple[str, ...] = (), **pins: str) -> None:
    """Install a release whose revisions follow each other; ``x2="base@b"`` pins."""
    texts: list[str] = []
    for parent, id_ in zip((None, *ids), ids, strict=False):
        app, _, pinned = pins.get(id_, "").partition("@")
        pinning = {"opal_depends_on": {app: [pinned]}} if app else {}
        texts.append(creating(id_, parent, **pinning))
    release(site, name, version, labelled(*ids), *texts, requires=requires, create="migrations")


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


class TestOneSubApp:
    @pytest.fixture(autouse=True)
    def start(self, quick_site: Site, env: Env) -> None:
        chain(quick_site, "notes", "n1", "n2", "n3")
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n1", "notes@n2", "notes@n3"]

    @pytest.mark.parametrize(
        ("target", "taken", "left"),
        [
            ("-1", ["notes@n3"], ["n1", "n2"]),
            ("-2", ["notes@n3", "notes@n2"], ["n1"]),
            ("n1", ["notes@n3", "notes@n2"], ["n1"]),
            ("base", ["notes@n3", "notes@n2", "notes@n1"], []),
        ],
    )
    def test_what_lies_above_the_target_goes_and_comes_again(
        self, quick_site: Site, env: Env, any_database_url: str, target: str, taken: list[str], left: list[str]
    ) -> None:
        assert ran(quick_site.run("downgrade", f"notes@{target}", "--json", env=env), "taken_back") == taken
        assert tables(any_database_url) == {"users", *left}
        assert recorded(any_database_url, "notes") == left
        assert heads(any_database_url, "notes") == left[-1:]
        assert ran(quick_site.run("upgrade", "--json", env=env)) == taken[::-1]
        assert states(quick_site, env) == {"core": "current", "notes": "current"}
        assert heads(any_database_url, "notes") == ["n3"]

    def test_a_warm_init_does_not_say_that_there_is_nothing_to_do(self, quick_site: Site, env: Env) -> None:
        quick_site.run("upgrade", env=env)
        assert quick_site.run("init", "--json", env=env).json["recorded"]
        quick_site.run("downgrade", "notes@-1", env=env)
        done = quick_site.run("init", env=env)
        assert done.code == 1
        assert "1 revision pending: opal-db upgrade (n3)" in done.out
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n3"]

    def test_there_is_nothing_to_take_back_twice(self, quick_site: Site, env: Env) -> None:
        quick_site.run("downgrade", "notes@base", env=env)
        done = quick_site.run("downgrade", "notes@base", env=env)
        assert (done.code, done.out.strip()) == (0, "nothing to take back")

    @pytest.mark.parametrize(
        ("target", "said"),
        [
            ("notes@n9", "notes@n9: Can't locate revision identified by 'n9'"),
            ("notes@-4", "notes@-4: Relative revision -4 didn't produce 4 migrations"),
            ("notes", "'notes' names no revision"),
            ("note@-1", "no sub-app 'note' is installed here"),
        ],
    )
    def test_where_there_is_no_way_back_nothing_happens(
        self, quick_site: Site, env: Env, any_database_url: str, target: str, said: str
    ) -> None:
        done = quick_site.run("downgrade", target, env=env)
        assert done.code == 2
        assert said in done.err
        assert recorded(any_database_url, "notes") == ["n1", "n2", "n3"]

    def test_a_mistyped_revision_is_one_where_nothing_is_applied_as_well(self, quick_site: Site, env: Env) -> None:
        quick_site.run("downgrade", "notes@base", env=env)
        done = quick_site.run("downgrade", "notes@n9", env=env)
        assert done.code == 2
        assert "notes@n9: No such revision or branch 'n9'" in done.err

    def test_a_database_that_is_ahead_is_left_alone(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        chain(quick_site, "notes", "n1", "n2", version="0.9")
        done = quick_site.run("downgrade", "notes@n1", env=env)
        assert done.code == 2
        assert "error: the database has revisions of 'notes' that the installed 0.9 lacks: n3 (of 1.0)\n" in done.err
        assert "take those back first, with the release that has them" in done.err
        assert recorded(any_database_url, "notes") == ["n1", "n2", "n3"]

    def test_it_is_among_the_events(self, quick_site: Site, env: Env) -> None:
        quick_site.run("downgrade", "notes@-1", env=env)
        event = quick_site.run("events", "--json", env=env).json["events"][0]
        assert (event["command"], event["outcome"], event["detail"]) == (
            "downgrade",
            "done",
            {"revisions": ["notes@n3"]},
        )


class TestBranches:
    @pytest.fixture(autouse=True)
    def start(self, quick_site: Site, env: Env) -> None:
        texts = [
            creating("a"),
            creating("b", "a", branch_labels="left"),
            creating("c", "a", branch_labels="right"),
            creating("d", "c"),
            revision("m", ("b", "d")),
        ]
        release(quick_site, "notes", "1.0", labelled("a", "b", "c", "d"), *texts, create="migrations")
        quick_site.run("upgrade", env=env)

    def take_back(self, site: Site, env: Env, target: str) -> list[str]:
        return ran(site.run("downgrade", f"notes@{target}", "--json", env=env), "taken_back")

    def test_a_merge_is_taken_apart_and_put_together(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        assert self.take_back(quick_site, env, "d") == ["notes@m"]
        assert heads(any_database_url, "notes") == ["b", "d"]
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@m"]
        assert heads(any_database_url, "notes") == ["m"]

    def test_one_step_back_from_a_merge_leaves_all_that_it_follows(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        assert self.take_back(quick_site, env, "-1") == ["notes@m"]
        assert heads(any_database_url, "notes") == ["b", "d"]

    def test_which_way_to_go_beyond_a_merge_has_to_be_said(self, quick_site: Site, env: Env) -> None:
        done = quick_site.run("downgrade", "notes@-2", env=env)
        assert (done.code, done.out) == (2, "")
        assert "notes@-2: m is a merge of b and d; name the one to go back to" in done.err

    def test_one_branch_goes_by_its_label_and_the_other_stays(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        self.take_back(quick_site, env, "d")
        assert self.take_back(quick_site, env, "right@-1") == ["notes@d"]
        assert heads(any_database_url, "notes") == ["b", "c"]
        assert self.take_back(quick_site, env, "right@a") == ["notes@c"]
        assert heads(any_database_url, "notes") == ["b"]
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@c", "notes@d", "notes@m"]

    def test_all_of_it_goes_down_to_base(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        taken = self.take_back(quick_site, env, "base")
        assert taken[0] == "notes@m"
        assert taken[-1] == "notes@a"
        assert set(taken) == {f"notes@{each}" for each in "abcdm"}
        assert (heads(any_database_url, "notes"), tables(any_database_url)) == ([], {"users"})

    def test_which_of_two_heads_is_meant_has_to_be_said(self, quick_site: Site, env: Env) -> None:
        self.take_back(quick_site, env, "d")
        done = quick_site.run("downgrade", "notes@-1", env=env)
        assert (done.code, done.out) == (2, "")
        assert "notes@-1: there is more than one head: b, d; say which branch by its label" in done.err


class TestOthersThatNeedIt:
    """Base has a b c; above has x1, which needs b, and x2, which needs c; on top of it stands y1, which needs x2."""

    @pytest.fixture(autouse=True)
    def start(self, quick_site: Site, env: Env) -> None:
        chain(quick_site, "base", "a", "b", "c")
        chain(quick_site, "above", "x1", "x2", version="2.1", requires=("base",), x1="base@b", x2="base@c")
        chain(quick_site, "top", "y1", version="7", requires=("above",), y1="above@x2")
        assert len(ran(quick_site.run("upgrade", "--json", env=env))) == 6

    def is_untouched(self, url: str) -> bool:
        return [recorded(url, app) for app in ("base", "above", "top")] == [["a", "b", "c"], ["x1", "x2"], ["y1"]]

    def test_they_are_named_with_the_way_to_take_them_along(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        done = quick_site.run("downgrade", "base@a", env=env)
        assert (done.code, done.out) == (3, "")
        needing = "top@y1 (needs above@x2), above@x2 (comes after above@x1), above@x1 (needs base@b)"
        assert f"error: others are applied that need what would be taken back: {needing}\n" in done.err
        assert "mend:  opal-db downgrade base@a --cascade takes them back as well\n" in done.err
        assert done.err.count("error: ") == 1
        assert self.is_untouched(any_database_url)

    def test_one_that_is_not_installed_here_is_named_with_its_release(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        quick_site.uninstall("top")
        for options in ((), ("--cascade", "--yes")):
            done = quick_site.run("downgrade", "base@b", *options, env=env)
            assert (done.code, done.out) == (3, "")
            assert "error: top@y1 (7) is applied, needs above@x2, and is not installed here\n" in done.err
            assert "mend:  take it back first, from an image that has 'top'\n" in done.err
        assert self.is_untouched(any_database_url)

    def test_one_whose_release_here_is_too_old_is_not_taken_from_under_its_own_later_revisions(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        quick_site.uninstall("top")
        execute(any_database_url, "DELETE FROM opal_revisions WHERE sub_app = 'top'")
        chain(quick_site, "above", "x1", version="2.0", requires=("base",), x1="base@b")
        for target in ("base@b", "base@a"):
            done = quick_site.run("downgrade", target, "--cascade", "--yes", env=env)
            assert (done.code, done.out) == (3, "")
            assert "above@x2" in done.err
            assert "2.1" in done.err
        assert recorded(any_database_url, "above") == ["x1", "x2"]

    def test_nor_where_those_need_nothing_that_goes(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        chain(quick_site, "late", "z1", "z2", version="1.4", requires=("base",), z1="base@c")
        ran(quick_site.run("upgrade", "--json", env=env))
        chain(quick_site, "late", "z1", version="1.3", requires=("base",), z1="base@c")
        done = quick_site.run("downgrade", "base@b", "--cascade", "--yes", env=env)
        assert (done.code, done.out) == (3, "")
        assert "error: the database has revisions of 'late' that the installed 1.3 lacks: z2 (of 1.4)\n" in done.err
        assert recorded(any_database_url, "late") == ["z1", "z2"]

    def test_what_nobody_needs_goes_without_them(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        assert ran(quick_site.run("downgrade", "top@base", "--json", env=env), "taken_back") == ["top@y1"]
        assert ran(quick_site.run("downgrade", "above@x1", "--json", env=env), "taken_back") == ["above@x2"]
        assert ran(quick_site.run("downgrade", "base@b", "--json", env=env), "taken_back") == ["base@c"]
        assert tables(any_database_url) == {"users", "a", "b", "x1"}

    def test_all_go_together_the_last_ones_first_and_come_again(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        done = quick_site.run("downgrade", "base@a", "--cascade", "--yes", "--json", env=env)
        assert ran(done, "taken_back") == ["top@y1", "above@x2", "base@c", "above@x1", "base@b"]
        assert tables(any_database_url) == {"users", "a"}
        assert [recorded(any_database_url, app) for app in ("base", "above", "top")] == [["a"], [], []]
        assert ran(quick_site.run("upgrade", "--json", env=env)) == [
            "base@b",
            "above@x1",
            "base@c",
            "above@x2",
            "top@y1",
        ]
        assert self.is_untouched(any_database_url)

    def test_nobody_is_asked_who_could_not_answer(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        done = quick_site.run("downgrade", "base@a", "--cascade", env=env)
        assert (done.code, done.out) == (2, "")
        assert "revisions of other sub-apps would be taken back, and nobody is there to be asked" in done.err
        assert "mend:  add --yes" in done.err
        assert self.is_untouched(any_database_url)

    def test_nothing_is_asked_where_nobody_else_is_concerned(self, quick_site: Site, env: Env) -> None:
        done = quick_site.run("downgrade", "top@base", "--cascade", "--json", env=env)
        assert ran(done, "taken_back") == ["top@y1"]


class TestTablesWithoutHistory:
    """Tags have tables that refer to notes, and no revisions; labels hang on base as well."""

    @pytest.fixture(autouse=True)
    def start(self, quick_site: Site, env: Env) -> None:
        chain(quick_site, "base", "a")
        chain(quick_site, "notes", "n1", "n2", requires=("base",), n1="base@a")
        source = models(model("Tag", "tags", refers("note", "'n1.id'")))
        quick_site.sub_app("tags", source, version="3.2", requires=("notes",))
        ran(quick_site.run("upgrade", "--json", env=env))

    @pytest.mark.parametrize("options", [("notes@base",), ("base@base", "--cascade", "--yes")])
    @pytest.mark.parametrize("is_here", [True, False], ids=["installed", "not installed"])
    def test_what_they_refer_to_does_not_vanish(
        self, quick_site: Site, env: Env, any_database_url: str, options: tuple[str, ...], is_here: bool
    ) -> None:
        if not is_here:
            quick_site.uninstall("tags")
        done = quick_site.run("downgrade", *options, env=env)
        assert (done.code, done.out) == (3, "")
        assert "error: tables of tags (tags 3.2) refer to n1\n" in done.err
        assert "mend:  take 'tags' out of the database first\n" in done.err
        assert tables(any_database_url) == {"users", "a", "n1", "n2", "tags"}

    def test_they_do_not_mind_the_rest(self, quick_site: Site, env: Env) -> None:
        assert ran(quick_site.run("downgrade", "notes@n1", "--json", env=env), "taken_back") == ["notes@n2"]


class TestProduction:
    @pytest.mark.parametrize("environment", ["production", "Production"])
    def test_a_machine_has_to_say_yes_beforehand(self, quick_site: Site, tmp_path: Path, environment: str) -> None:
        chain(quick_site, "notes", "n1", "n2")
        url = f"sqlite:///{tmp_path / 'production.db'}"
        env: Env = {"OPAL_DATABASE__URL": url, "OPAL_ENVIRONMENT": environment}
        assert quick_site.run("upgrade", env=env).code == 0
        done = quick_site.run("downgrade", "notes@-1", env=env)
        assert (done.code, done.out) == (2, "")
        assert "these are taken back:\n  notes@n2  (back to notes@-1)\n" in done.err
        assert "error: this is production, and nobody is there to be asked\n  mend:  add --yes\n" in done.err
        assert recorded(url, "notes") == ["n1", "n2"]
        assert ran(quick_site.run("downgrade", "notes@-1", "--yes", "--json", env=env), "taken_back") == ["notes@n2"]


class TestAPersonIsAsked:
    @pytest.mark.parametrize(("answer", "left"), [("y", {"users"}), ("n", {"users", "a", "x1"})])
    def test_and_answers(self, site: Site, database_url: str, answer: str, left: set[str]) -> None:
        env: Env = {"OPAL_DATABASE__URL": database_url}
        chain(site, "base", "a")
        chain(site, "above", "x1", requires=("base",), x1="base@a")
        ran(site.run("upgrade", "--json", env=env))
        said, code = typed(site, env, answer, "downgrade", "base@base", "--cascade")
        assert "these are taken back:" in said
        assert said.index("  above@x1  (") < said.index("  base@a  (")
        assert "go on? [y/N]" in said
        assert code == (0 if answer == "y" else 1)
        assert tables(database_url) == left


def typed(site: Site, env: Env, answer: str, *arguments: str) -> tuple[str, int]:
    """Run a command in a terminal, answer what it asks, and return what was to be read there, and its exit code."""
    master, slave = pty.openpty()
    program = subprocess.Popen(
        site.command(*arguments), stdin=slave, stdout=slave, stderr=slave, env=site.environment(env), cwd=site.cwd
    )
    os.close(slave)
    os.write(master, f"{answer}\n".encode())
    said = b""
    try:
        while part := os.read(master, 4096):
            said += part
    except OSError:  # how Linux says that the other side has gone
        pass
    os.close(master)
    return said.decode().replace("\r\n", "\n"), program.wait(60)


class TestRowsAndKeys:
    def test_a_rebuild_on_the_way_back_loses_no_row_of_others(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        add = "with op.batch_alter_table('n1') as t:\n    t.add_column(sa.Column('text', sa.String(9)))"
        drop = "with op.batch_alter_table('n1', recreate={}) as t:\n    t.drop_column('text')".format(
            "'always' if op.get_context().dialect.name == 'sqlite' else 'never'"
        )
        texts = (creating("n1"), revision("n2", "n1", add, drop))
        release(quick_site, "notes", "1", labelled("n1"), *texts, create="migrations")
        cascade = ", ondelete='CASCADE'"
        quick_site.sub_app(
            "tags", models(model("Tag", "tags", refers("note", "'n1.id'", cascade))), requires=("notes",)
        )
        ran(quick_site.run("upgrade", "--json", env=env))
        execute(any_database_url, "INSERT INTO n1 (id) VALUES (1)", "INSERT INTO tags (id, note) VALUES (1, 1)")
        assert ran(quick_site.run("downgrade", "notes@n1", "--json", env=env), "taken_back") == ["notes@n2"]
        assert columns(any_database_url, "n1") == {"id"}
        assert rows(any_database_url, "SELECT id, note FROM tags") == [(1, 1)]

    def test_one_that_fails_leaves_what_was_taken_back_before_it(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        texts = (
            creating("n1"),
            revision("n2", "n1", downgrade="raise ValueError('no way back')"),
            creating("n3", "n2"),
        )
        release(quick_site, "notes", "1", labelled("n1", "n3"), *texts, create="migrations")
        quick_site.run("upgrade", env=env)
        done = quick_site.run("downgrade", "notes@base", env=env)
        assert done.code == 3
        assert "error: taking back the revision notes@n2 failed: ValueError: no way back" in done.err
        assert (recorded(any_database_url, "notes"), heads(any_database_url, "notes")) == (["n1", "n2"], ["n2"])
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n3"]

    def test_one_without_a_way_back_says_so(self, quick_site: Site, env: Env) -> None:
        text = revision("n2", "n1").partition("def downgrade")[0]
        release(quick_site, "notes", "1", labelled("n1"), creating("n1"), text, create="migrations")
        quick_site.run("upgrade", env=env)
        done = quick_site.run("downgrade", "notes@n1", env=env)
        assert done.code == 3
        assert "notes@n2 has no function downgrade" in done.err


LOW = "op.create_table('low', sa.Column('id', sa.Integer(), primary_key=True))"
HIGH = "op.create_table('high', sa.Column('id', sa.Integer(), sa.ForeignKey('low.id'), primary_key=True))"


def test_one_that_was_taken_back_holds_nobody_any_more(
    any_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger goes on knowing its tables."""
    metadata = sa.MetaData()
    low = sa.Table("low", metadata, sa.Column("id", sa.Integer, primary_key=True))
    high = sa.Table("high", metadata, sa.Column("id", sa.ForeignKey(low.c.id), primary_key=True))
    make_package(monkeypatch, tmp_path, "low", [revision("l1", None, LOW, "op.drop_table('low')")])
    make_package(monkeypatch, tmp_path, "high", [revision("h1", None, HIGH, "op.drop_table('high')")])
    apps = make_loaded("low", [low], "low"), make_loaded("high", [high], "high", needs=("low",))
    with registry_with(any_database_url, *apps) as registry:
        upgrade(registry)
        with pytest.raises(PluginError, match=r"tables of high .* refer to low"):
            downgrade(registry, Target("low", "base"))
        downgrade(registry, Target("high", "base"))
        downgrade(registry, Target("low", "base"))
        with registry.migration_engine().connect() as connection:
            assert not {"low", "high"} & set(sa.inspect(connection).get_table_names())
