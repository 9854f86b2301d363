"""``opal-db upgrade``: releases of sub-apps with histories, one after the other, in one database."""

from typing import Any

import pytest

from tests.deploys import Env, columns, execute, ran, rows, states
from tests.distributions import Site
from tests.revisions import release, revision
from tests.writing import model, models, refers

USER = "user_id: orm.Mapped[int | None] = orm.mapped_column(sa.ForeignKey('users.id'))"
TEXT = "text: orm.Mapped[str | None] = orm.mapped_column(sa.String(80))"
CREATE = """
op.create_table(
    'notes',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('user_id', sa.Integer(), sa.ForeignKey('users.id')),
    sa.PrimaryKeyConstraint('id'),
)
"""
ADD = "op.add_column('notes', sa.Column('text', sa.String(80)))"
DROP = "with op.batch_alter_table('notes') as notes:\n    notes.drop_column('text')"

N1 = revision("n1", None, CREATE, "op.drop_table('notes')", title="Notes", opal_depends_on={"core": ["core0003"]})
N2 = revision("n2", "n1", ADD, DROP, title="Their text")
FIRST = models(model("Note", "notes", USER))
SECOND = models(model("Note", "notes", USER, TEXT))


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


def first(site: Site, **record: Any) -> None:
    release(site, "notes", "1.0", FIRST, N1, **record)


def second(site: Site, **record: Any) -> None:
    release(site, "notes", "2.0", SECOND, N1, N2, **record)


class TestFresh:
    def test_tables_come_from_the_models_and_the_histories_are_at_their_heads(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        second(quick_site)
        assert ran(quick_site.run("upgrade", "--json", env=env)) == []
        assert columns(any_database_url, "notes") == {"id", "user_id", "text"}
        assert rows(any_database_url, "SELECT version_num FROM opal_revision_notes") == [("n2",)]
        assert rows(any_database_url, "SELECT version_num FROM opal_revision_core") == [("core0003",)]
        recorded = rows(
            any_database_url, "SELECT revision, version FROM opal_revisions WHERE sub_app = 'notes' ORDER BY 1"
        )
        assert recorded == [("n1", "2.0"), ("n2", "2.0")]
        assert states(quick_site, env) == {"core": "current", "notes": "current"}

    def test_a_second_time_the_ledger_alone_knows(self, quick_site: Site, env: Env) -> None:
        second(quick_site)
        quick_site.run("upgrade", env=env)
        found = quick_site.run("upgrade", "--json", env=env).json
        assert (found["recorded"], found["revisions"], found["held_back"]) == (True, [], [])
        assert quick_site.run("init", "--json", env=env).json["recorded"]

    def test_a_sub_app_that_says_so_is_migrated_from_its_first_revision_on(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        second(quick_site, create="migrations")
        done = quick_site.run("init", env=env)
        assert done.code == 1
        assert "comes from its migrations: opal-db upgrade (notes)" in done.out
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n1", "notes@n2"]
        assert columns(any_database_url, "notes") == {"id", "user_id", "text"}
        assert quick_site.run("upgrade", "--json", env=env).json["recorded"]

    def test_one_that_needs_it_waits_for_it(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        first(quick_site, create="migrations")
        quick_site.sub_app("tags", models(model("Tag", "tags", refers("note", "'notes.id'"))), requires=("notes",))
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n1"]
        assert columns(any_database_url, "tags") == {"id", "note"}

    def test_all_that_it_created_is_reported_whatever_is_run_in_between(self, quick_site: Site, env: Env) -> None:
        first(quick_site, create="migrations")
        quick_site.sub_app("tags", models(model("Tag", "tags", refers("note", "'notes.id'"))), requires=("notes",))
        done = quick_site.run("upgrade", "--json", env=env)
        assert ran(done) == ["notes@n1"]
        found = {each["name"]: (each["created"], each["present"]) for each in done.json["sub_apps"]}
        assert found == {"core": (["users"], []), "notes": ([], ["notes"]), "tags": (["tags"], [])}
        events = quick_site.run("events", "--json", env=env).json["events"]
        assert [(each["command"], each["outcome"], each["detail"]) for each in reversed(events)] == [
            ("upgrade", "done", {"created": {"core": ["users"]}}),
            ("upgrade", "done", {"revisions": ["notes@n1"]}),
            ("upgrade", "done", {"created": {"tags": ["tags"]}}),
        ]


class TestTheNextRelease:
    @pytest.fixture(autouse=True)
    def start(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        first(quick_site)
        assert quick_site.run("init", env=env).code == 0
        execute(any_database_url, "INSERT INTO notes (id) VALUES (1)")

    def test_init_runs_nothing_and_names_the_command_that_does(self, quick_site: Site, env: Env) -> None:
        second(quick_site)
        done = quick_site.run("init", env=env)
        assert done.code == 1
        assert "1 revision pending: opal-db upgrade (n2)" in done.out
        assert quick_site.run("status", env=env).code == 1

    def test_plan_shows_it_and_changes_nothing(self, quick_site: Site, env: Env) -> None:
        second(quick_site)
        done = quick_site.run("plan", "--json", env=env)
        assert done.code == 1
        assert [(each["name"], each["revision"], each["why"]) for each in done.json["steps"]] == [
            ("notes", "n2", "nothing before it is pending")
        ]
        assert states(quick_site, env)["notes"] == "behind"

    def test_upgrade_runs_it_and_keeps_the_rows(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        second(quick_site)
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n2"]
        assert rows(any_database_url, "SELECT id, text FROM notes") == [(1, None)]
        assert quick_site.run("status", env=env).code == 0
        assert rows(any_database_url, "SELECT version FROM opal_sub_apps WHERE name = 'notes'") == [("2.0",)]
        assert quick_site.run("upgrade", "--json", env=env).json["recorded"]

    def test_only_rows_that_it_changes_are_counted(self, quick_site: Site, env: Env) -> None:
        release(
            quick_site, "notes", "2.0", SECOND, N1, N2, revision("n3", "n2", "op.execute('UPDATE notes SET id = 7')")
        )
        done = quick_site.run("upgrade", "--json", env=env)
        assert [(each["revision"], each["rows"]) for each in done.json["revisions"]] == [("n2", 0), ("n3", 1)]

    def test_a_table_of_the_models_that_is_in_no_revision_is_not_created(self, quick_site: Site, env: Env) -> None:
        release(quick_site, "notes", "2.0", SECOND + model("Label", "labels"), N1, N2)
        quick_site.run("upgrade", env=env)
        done = quick_site.run("init", env=env)
        assert done.code == 1
        assert "1 table is in the models, but in no revision: opal-db revision notes -m TEXT (labels)" in done.out

    def test_one_that_somebody_dropped_is_made_again(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        execute(any_database_url, "DROP TABLE notes")
        assert quick_site.run("init", "--verify", env=env).code == 0
        assert columns(any_database_url, "notes") == {"id", "user_id"}

    def test_without_its_version_table_nobody_guesses(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        execute(
            any_database_url, "DROP TABLE opal_revision_notes", "DELETE FROM opal_revisions WHERE sub_app = 'notes'"
        )
        second(quick_site)
        done = quick_site.run("upgrade", env=env)
        assert done.code == 1
        assert "its tables are there, but not which of its revisions they are at (opal-db adopt notes)" in done.out
        assert states(quick_site, env)["notes"] == "unknown"


class TestOthers:
    def test_one_that_vanished_stops_nobody(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        first(quick_site)
        release(quick_site, "tags", "1.0", models(model("Tag", "tags")), revision("t1"))
        quick_site.run("upgrade", env=env)
        quick_site.uninstall("tags")
        second(quick_site)
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n2"]
        assert states(quick_site, env) == {"core": "current", "notes": "current", "tags": "not installed here"}
        assert rows(any_database_url, "SELECT version_num FROM opal_revision_tags") == [("t1",)]

    def test_one_that_was_rolled_back_stops_nobody_and_is_named(self, quick_site: Site, env: Env) -> None:
        second(quick_site)
        quick_site.run("upgrade", env=env)
        first(quick_site)
        done = quick_site.run("upgrade", env=env)
        assert done.code == 0, done.out
        current = quick_site.run("current", env=env)
        assert current.code == 0
        assert "ahead" in current.out
        assert "the database also has n2, written by 2.0" in current.out
        assert quick_site.run("status", "--json", env=env).json["sub_apps"][1]["state"] == "ahead"

    def test_a_fresh_database_runs_in_the_order_of_one_that_was_upgraded(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        a, b, c = (revision(id_, parent) for id_, parent in (("a", None), ("b", "a"), ("c", "b")))
        x = revision("x1", None, opal_depends_on={"base": ["b"]})
        y = revision("x2", "x1", opal_depends_on={"base": ["c"]})
        release(quick_site, "base", "3", "", a, b, c, create="migrations")
        release(quick_site, "above", "2", "", x, y, create="migrations", requires=("base",))
        assert ran(quick_site.run("upgrade", "--json", env=env)) == [
            "base@a",
            "base@b",
            "above@x1",
            "base@c",
            "above@x2",
        ]

    def test_only_what_one_needs_is_upgraded(self, quick_site: Site, env: Env) -> None:
        release(quick_site, "base", "3", "", revision("a"), revision("b", "a"), create="migrations")
        x = revision("x1", None, opal_depends_on={"base": ["a"]})
        release(quick_site, "above", "2", "", x, revision("x2", "x1"), create="migrations", requires=("base",))
        release(quick_site, "other", "1", "", revision("o"), create="migrations")
        assert ran(quick_site.run("upgrade", "above@x1", "--json", env=env)) == ["base@a", "above@x1"]
        assert ran(quick_site.run("upgrade", "above", "--json", env=env)) == ["above@x2", "base@b"]
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["other@o"]

    def test_a_pin_that_nobody_has_is_refused_before_anything_is_run(self, quick_site: Site, env: Env) -> None:
        x = revision("x1", None, opal_depends_on={"core": ["core9999"]})
        release(quick_site, "above", "2", "", x, create="migrations")
        done = quick_site.run("upgrade", env=env)
        assert done.code == 3
        assert (
            "error: above@x1 needs core@core9999, which neither the database nor the installed core 1.0.0 has"
            in done.err
        )


class TestPhases:
    def test_expand_holds_back_what_takes_away(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        first(quick_site)
        quick_site.run("init", env=env)
        drop = revision("n3", "n2", DROP)
        release(quick_site, "notes", "3.0", FIRST, N1, N2, drop)
        done = quick_site.run("upgrade", "--phase", "expand", "--json", env=env)
        assert ran(done) == ["notes@n2"]
        assert done.json["held_back"] == ["notes@n3"]
        assert columns(any_database_url, "notes") == {"id", "user_id", "text"}
        assert ran(quick_site.run("upgrade", "--phase", "contract", "--json", env=env)) == ["notes@n3"]
        assert columns(any_database_url, "notes") == {"id", "user_id"}

    def test_new_code_can_work_before_the_contraction(self, quick_site: Site, env: Env) -> None:
        release(quick_site, "notes", "2.0", SECOND, N1, N2)
        quick_site.run("upgrade", env=env)
        release(quick_site, "notes", "3.0", FIRST, N1, N2, revision("n3", "n2", DROP))
        assert quick_site.run("upgrade", "--phase", "expand", env=env).code == 0
        done = quick_site.run("ready", "--json", env=env)
        [notes] = [app for app in done.json["sub_apps"] if app["name"] == "notes"]
        assert (done.code, notes["verdict"], notes["detail"]) == (0, "ready", "for the phase contract: n3")
        for command in ("init", "status", "init"):
            assert quick_site.run(command, env=env).code == 0
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n3"]

    def test_new_code_cannot_work_before_a_name_is_changed(self, quick_site: Site, env: Env) -> None:
        first(quick_site)
        quick_site.run("upgrade", env=env)
        renames = revision("n2", "n1", "op.alter_column('notes', 'user_id', new_column_name='owner')")
        release(quick_site, "notes", "2.0", FIRST, N1, renames)
        done = quick_site.run("ready", "--json", env=env)
        assert (done.code, done.json["verdict"]) == (1, "behind")

    def test_there_are_no_others(self, quick_site: Site, env: Env) -> None:
        done = quick_site.run("upgrade", "--phase", "later", env=env)
        assert (done.code, done.err) == (
            2,
            "error: --phase cannot be 'later'\n  mend:  choose one of expand, contract\n",
        )


class TestWhatGoesWrong:
    def fails(self, site: Site, env: Env, body: str, code: int) -> str:
        """Upgrade to a release whose second revision does something else."""
        first(site)
        site.run("init", env=env)
        release(site, "notes", "2.0", SECOND, N1, revision("n2", "n1", body))
        done = site.run("upgrade", env=env)
        assert done.code == code, (done.out, done.err)
        assert states(site, env)["notes"] == "behind"
        return done.err.replace(f"{site.folder}/", "")

    def test_a_revision_that_raises_is_named_and_taken_back(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        said = self.fails(quick_site, env, f"{ADD}\nraise ValueError('no')", 3)
        stays = "; its first statement has taken effect already: the next run goes on after that"
        stays += "; or finish it by hand, and write that down: opal-db stamp notes@n2"
        assert said == (
            "error: running the revision notes@n2 failed: ValueError: no\n"
            "  where: notes/migrations/0002.py, notes/migrations/0002.py:10\n"
            f"  mend:  mend the plugin, or leave it out with sub_apps.disabled{stays if 'mysql' in any_database_url else ''}\n"
        )
        if "mysql" not in any_database_url:
            assert columns(any_database_url, "notes") == {"id", "user_id"}
        second(quick_site)
        assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n2"]

    def test_a_statement_that_is_refused_is_shown(self, quick_site: Site, env: Env) -> None:
        said = self.fails(quick_site, env, "op.execute('SELECT * FROM nowhere')", 4)
        assert "running the revision notes@n2 (notes/migrations/0002.py:9)" in said
        assert "statement: SELECT * FROM nowhere" in said

    @pytest.mark.parametrize("body", ["op.get_bind().commit()", "op.execute('COMMIT')", "op.get_bind().rollback()"])
    def test_a_revision_does_not_end_its_transaction(self, quick_site: Site, env: Env, body: str) -> None:
        said = self.fails(quick_site, env, body, 3)
        assert "running the revision notes@n2 failed: RuntimeError: " in said
        assert "must not be" in said

    def test_one_that_is_no_python_is_named_before_anything_is_run(self, quick_site: Site, env: Env) -> None:
        release(quick_site, "notes", "1.0", FIRST, N1, "revision = 'n2'\ndown_revision = 'n1'\ndef upgrade(:\n")
        done = quick_site.run("upgrade", env=env)
        assert done.code == 3
        assert "a revision of 'notes' cannot be read: invalid syntax" in done.err

    def test_what_was_recorded_of_a_run_that_failed(self, quick_site: Site, env: Env) -> None:
        self.fails(quick_site, env, "raise ValueError('no')", 3)
        events = quick_site.run("events", "--json", env=env).json["events"]
        assert [(event["command"], event["outcome"]) for event in events[:1]] == [("upgrade", "failed")]
