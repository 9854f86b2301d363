"""``stamp``, ``heads``, ``current``, ``history`` and ``plan``: what is written down, and what is said about it."""

import datetime as dt
import itertools
from typing import Any

import pytest

from tests.deploys import Env, execute, heads, ran, recorded, rows, states, tables
from tests.distributions import Site
from tests.revisions import release, revision
from tests.writing import model, models

CREATE = "op.create_table('{0}', sa.Column('id', sa.Integer(), nullable=False), sa.PrimaryKeyConstraint('id'))"


def creating(id_: str, parents: Any = None, **names: Any) -> str:
    """A revision that creates a table of its name, and drops it again."""
    return revision(id_, parents, CREATE.format(id_), f"op.drop_table('{id_}')", title=f"Make {id_}", **names)


def notes(site: Site, number: int, *, version: str | None = None, **record: Any) -> None:
    """Install a release of notes with so many revisions; the first one needs core0002."""
    ids = [f"n{each}" for each in range(1, number + 1)]
    texts = [
        creating("n1", opal_depends_on={"core": ["core0002"]}),
        *(creating(b, a) for a, b in itertools.pairwise(ids)),
    ]
    source = models(*(model(each.title(), each) for each in ids))
    release(site, "notes", version or f"{number}.0", source, *texts, create="migrations", **record)


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


class TestStamp:
    def test_the_heads_unless_something_else_is_said(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        notes(quick_site, 3)
        quick_site.run("upgrade", "core", env=env)
        for target, at, there in (
            ("notes", ["n3"], ["n1", "n2", "n3"]),
            ("notes@n2", ["n2"], ["n1", "n2"]),
            ("notes@heads", ["n3"], ["n1", "n2", "n3"]),
            ("notes@base", [], []),
            ("notes@n1", ["n1"], ["n1"]),
        ):
            done = quick_site.run("stamp", target, "--json", env=env)
            assert (done.code, done.json) == (0, {"name": "notes", "heads": at}), done.err
            assert (heads(any_database_url, "notes"), recorded(any_database_url, "notes")) == (at, there)
        assert tables(any_database_url) == {"users"}

    def test_the_rest_runs_from_there_on(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        notes(quick_site, 3)
        quick_site.run("upgrade", "core", env=env)
        quick_site.run("stamp", "notes@n2", env=env)
        done = quick_site.run("upgrade", "notes@n3", "--json", env=env)
        assert ran(done) == ["notes@n3"]
        assert tables(any_database_url) == {"users", "n3"}

    def test_it_says_where_it_stands_and_is_among_the_events(self, quick_site: Site, env: Env) -> None:
        notes(quick_site, 1)
        quick_site.run("upgrade", "core", env=env)
        assert quick_site.run("stamp", "notes", env=env).out.strip() == "notes is written down as being at n1"
        assert quick_site.run("stamp", "notes@base", env=env).out.strip() == "notes is written down as being at base"
        events = quick_site.run("events", "--json", env=env).json["events"]
        assert [(each["command"], each["detail"]) for each in events[:2]] == [
            ("stamp", {"revisions": []}),
            ("stamp", {"revisions": ["n1"]}),
        ]

    def test_what_it_needs_of_others_has_to_be_there(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        notes(quick_site, 1)
        done = quick_site.run("stamp", "notes", env=env)
        assert (done.code, done.out) == (3, "")
        assert "error: notes@n1 needs core@core0002, which the database lacks\n" in done.err
        assert "mend:  upgrade 'core' first\n" in done.err
        assert states(quick_site, env)["notes"] == "new"

    def test_it_is_refused_where_others_need_what_would_count_as_gone(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        notes(quick_site, 1)
        ran(quick_site.run("upgrade", "--json", env=env))
        for target in ("core@core0001", "core@base"):
            done = quick_site.run("stamp", target, env=env)
            assert (done.code, done.out) == (3, "")
            assert "error: notes@n1 is applied, and needs core@core0002\n" in done.err
        assert heads(any_database_url, "core") == ["core0003"]

    @pytest.mark.parametrize(
        ("target", "said"),
        [
            ("notes@n9", "notes@n9: No such revision or branch 'n9'"),
            ("nots", "no sub-app 'nots' is installed here"),
            ("plain", "sub-app 'plain' has no migrations"),
            ("", "'' names no sub-app and no revision of one"),
        ],
    )
    def test_what_there_is_not_cannot_be_stamped(self, quick_site: Site, env: Env, target: str, said: str) -> None:
        notes(quick_site, 1)
        quick_site.sub_app("plain", models(model("Plain", "plains")))
        done = quick_site.run("stamp", target, env=env)
        assert done.code == 2
        assert said in done.err

    def test_a_warm_upgrade_looks_again(self, quick_site: Site, env: Env) -> None:
        notes(quick_site, 2)
        ran(quick_site.run("upgrade", "--json", env=env))
        assert quick_site.run("upgrade", "--json", env=env).json["recorded"]
        quick_site.run("stamp", "notes@n1", env=env)
        assert quick_site.run("init", env=env).code == 1
        assert states(quick_site, env)["notes"] == "behind"


class TestCurrent:
    def test_all_that_may_be(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        notes(quick_site, 2)
        assert states(quick_site, env) == {"core": "new", "notes": "new"}
        ran(quick_site.run("upgrade", "--json", env=env))
        assert states(quick_site, env) == {"core": "current", "notes": "current"}
        notes(quick_site, 3)
        done = quick_site.run("current", "--json", env=env)
        assert done.code == 1
        assert done.json["current"][1] == {
            "name": "notes",
            "bind": "default",
            "heads": ["n2"],
            "state": "behind",
            "pending": ["n3"],
            "beyond": [],
            "changed": [],
            "unfinished": [],
        }
        notes(quick_site, 1)
        done = quick_site.run("current", "--json", env=env)
        assert (done.code, done.json["current"][1]["state"], done.json["current"][1]["beyond"]) == (0, "ahead", ["n2"])
        texts = (creating("n1", opal_depends_on={"core": ["core0002"]}), creating("m2", "n1"))
        release(quick_site, "notes", "1.1", models(model("N1", "n1"), model("M2", "m2")), *texts)
        done = quick_site.run("current", "--json", env=env)
        found = done.json["current"][1]
        assert (done.code, found["state"], found["pending"], found["beyond"]) == (1, "diverged", ["m2"], ["n2"])
        quick_site.uninstall("notes")
        assert states(quick_site, env) == {"core": "current", "notes": "not installed here"}
        notes(quick_site, 2)
        execute(
            any_database_url, "DROP TABLE opal_revision_notes", "DELETE FROM opal_revisions WHERE sub_app = 'notes'"
        )
        assert states(quick_site, env)["notes"] == "unknown"

    def test_people_read_it_as_a_table(self, quick_site: Site, env: Env) -> None:
        notes(quick_site, 1)
        ran(quick_site.run("upgrade", "--json", env=env))
        notes(quick_site, 2)
        said = " ".join(quick_site.run("current", env=env).out.split())
        assert "notes n1 behind pending: n2" in said

    def test_of_many_pending_ones_people_read_the_first_few(self, quick_site: Site, env: Env) -> None:
        notes(quick_site, 1)
        ran(quick_site.run("upgrade", "--json", env=env))
        notes(quick_site, 9)
        assert "pending: n2, n3, n4, n5, n6 and 3 more" in quick_site.run("current", env=env).out
        found = quick_site.run("current", "--json", env=env).json["current"]
        assert [len(each["pending"]) for each in found] == [0, 8]


class TestHeadsAndHistory:
    def test_heads_ask_no_database(self, quick_site: Site) -> None:
        notes(quick_site, 2)
        done = quick_site.run("heads", "--json", env={"OPAL_DATABASE__URL": "postgresql://nobody@127.0.0.1:1/nowhere"})
        assert done.code == 0, done.err
        assert done.json["heads"][1] == {
            "name": "notes",
            "revision": "n2",
            "title": "Make n2",
            "phase": "expand",
            "needs": ["notes@n1"],
            "labels": [],
        }

    def test_what_was_applied_when_and_by_which_release(self, quick_site: Site, env: Env) -> None:
        begun = dt.datetime.now(dt.UTC)
        notes(quick_site, 1)
        ran(quick_site.run("upgrade", "--json", env=env))
        notes(quick_site, 2)
        ran(quick_site.run("upgrade", "--json", env=env))
        notes(quick_site, 3)
        found = quick_site.run("history", "notes", "--json", env=env).json
        assert found["name"] == "notes"
        one, two, three = found["revisions"]
        assert (one["id"], one["version"], one["needs"], one["applied"]) == ("n1", "1.0", ["core@core0002"], True)
        assert (two["id"], two["version"], two["title"], two["changed"]) == ("n2", "2.0", "Make n2", False)
        for each in (one, two):
            assert begun <= dt.datetime.fromisoformat(each["applied_at"]) <= dt.datetime.now(dt.UTC)
            assert each["seconds"] >= 0
        assert three == {
            "id": "n3",
            "title": "Make n3",
            "phase": "expand",
            "needs": ["notes@n2"],
            "applied": False,
            "applied_at": None,
            "version": None,
            "seconds": None,
            "installed": True,
            "changed": False,
        }

    def test_a_file_that_was_changed_since_is_named(self, quick_site: Site, env: Env) -> None:
        notes(quick_site, 2)
        ran(quick_site.run("upgrade", "--json", env=env))
        path = quick_site.folder / "notes/migrations/0001.py"
        path.write_text(path.read_text("utf-8") + "# and more\n", "utf-8")
        found = quick_site.run("history", "notes", "--json", env=env).json["revisions"]
        assert [each["changed"] for each in found] == [True, False]
        assert "applied; its file was changed since" in quick_site.run("history", "notes", env=env).out
        current = quick_site.run("current", env=env)
        assert "changed since they were applied: n1" in current.out

    def test_what_only_the_database_has_comes_last(self, quick_site: Site, env: Env) -> None:
        notes(quick_site, 3)
        ran(quick_site.run("upgrade", "--json", env=env))
        notes(quick_site, 1)
        found = quick_site.run("history", "notes", "--json", env=env).json["revisions"]
        assert [(each["id"], each["installed"], each["version"]) for each in found] == [
            ("n1", True, "3.0"),
            ("n2", False, "3.0"),
            ("n3", False, "3.0"),
        ]
        assert "(not in the release that is installed here)" in quick_site.run("history", "notes", env=env).out


class TestPlan:
    def test_it_says_what_comes_where_and_why_and_makes_no_file(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        notes(quick_site, 2)
        done = quick_site.run("plan", "--json", env=env)
        assert done.code == 1
        assert done.json["new"] == [{"name": "core", "bind": "default", "waits": ""}]
        assert [f"{each['name']}@{each['revision']}" for each in done.json["steps"]] == ["notes@n1", "notes@n2"]
        assert done.json["steps"][-1] == {
            "name": "notes",
            "revision": "n2",
            "title": "Make n2",
            "phase": "expand",
            "needs": ["notes@n1"],
            "why": "follows notes@n1",
            "bind": "default",
        }
        if any_database_url.startswith("sqlite"):
            assert not any(quick_site.cwd.parent.glob("*.db"))

    def test_what_it_says_is_what_upgrade_does(self, quick_site: Site, env: Env) -> None:
        notes(quick_site, 3)
        planned = [
            f"{each['name']}@{each['revision']}" for each in quick_site.run("plan", "--json", env=env).json["steps"]
        ]
        assert ran(quick_site.run("upgrade", "--json", env=env)) == planned
        done = quick_site.run("plan", "--json", env=env)
        assert (done.code, done.json["steps"], done.json["new"]) == (0, [], [])


class TestWhereOthersFail:
    def test_a_sub_app_that_was_uninstalled_stops_no_command(self, quick_site: Site, env: Env) -> None:
        """With one version table for all, every command of Alembic fails: "Can't locate revision"."""
        notes(quick_site, 1)
        release(quick_site, "gone", "1", models(model("Gone", "gone")), creating("gone"), create="migrations")
        ran(quick_site.run("upgrade", "--json", env=env))
        quick_site.uninstall("gone")
        notes(quick_site, 2)
        assert ran(quick_site.run("upgrade", "core", "--json", env=env)) == []
        for command in (["current"], ["plan"], ["history", "notes"], ["status"], ["heads"]):
            done = quick_site.run(*command, env=env)
            assert done.code in {0, 1}
            assert done.err == ""
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n2"]
        assert ran(quick_site.run("downgrade", "notes@n1", "--json", env=env), "taken_back") == ["notes@n2"]
        assert quick_site.run("stamp", "notes@n1", env=env).code == 0

    def test_core_is_recorded_although_others_depend_on_it(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        """In one version table for all, a revision that others depend on has no row."""
        notes(quick_site, 2)
        ran(quick_site.run("upgrade", "--json", env=env))
        assert heads(any_database_url, "core") == ["core0003"]
        assert heads(any_database_url, "notes") == ["n2"]
        assert recorded(any_database_url, "core") == ["core0001", "core0002", "core0003"]
        pinned = rows(any_database_url, "SELECT revision FROM opal_revisions WHERE sub_app = 'notes' ORDER BY 1")
        assert pinned == [("n1",), ("n2",)]
