"""The hooks of a plugin: called for its own sub-apps only, and named when they fail."""

import inspect
import json

import pytest

from opal_registry import hookspecs
from opal_registry.entry_point import HOOKS
from tests.distributions import Site
from tests.snapshots import rows_of
from tests.writing import complaint, model, models, owners

NOTE = """
import json, pathlib

def note(*what):
    with pathlib.Path("notes").open("a") as file:
        print(json.dumps([*what]), file=file)
"""


def notes(site: Site) -> list[list[object]]:
    """What plugins noted down, in order."""
    return [json.loads(line) for line in (site.cwd / "notes").read_text().splitlines()]


def test_a_hook_reaches_the_sub_apps_of_its_own_plugin_only(quick_site: Site) -> None:
    for name in ("alpha", "beta"):
        hooks = (
            f"{NOTE}\n@hookimpl\ndef opal_tables_created(connection, sub_app, tables):\n"
            f"    note('{name}', sub_app.name, [table.name for table in tables])\n"
            "@hookimpl(specname='opal_seed')\ndef first_rows(sub_app):\n"
            f"    note('{name} seeds', sub_app.name)\n"
        )
        quick_site.sub_app(name, models(model("M", f"{name}s")), hooks=hooks)
    assert quick_site.run("init").code == 0
    assert notes(quick_site) == [
        ["alpha", "alpha", ["alphas"]],
        ["alpha seeds", "alpha"],
        ["beta", "beta", ["betas"]],
        ["beta seeds", "beta"],
    ]


def test_an_object_may_be_a_plugin(quick_site: Site) -> None:
    source = (
        "from opal_registry import SubApp, hookimpl\n"
        "class Plugin:\n"
        "    def __init__(self, *names): self.names = names\n"
        "    @hookimpl\n    def opal_sub_apps(self):\n        for name in self.names: yield SubApp(name=name)\n"
        "plugin = Plugin('alpha', 'beta')\n"
    )
    quick_site.install("p", files={"p.py": source}, entry_points={"opal_registry": {"p": "p:plugin"}})
    assert list(owners(quick_site)) == ["alpha", "beta", "core"]


@pytest.mark.parametrize(
    ("hook", "what"),
    [
        ("opal_seed(session, sub_app)", "calling opal_seed failed: RuntimeError: no"),
        ("opal_tables_created(connection)", "calling opal_tables_created failed: RuntimeError: no"),
    ],
)
def test_a_hook_that_fails_is_named_and_nothing_stays(quick_site: Site, hook: str, what: str) -> None:
    hooks = f"@hookimpl\ndef {hook}:\n    raise RuntimeError('no')"
    quick_site.sub_app("alpha", models(model("A", "alphas")), hooks=hooks, version="1.2")
    said = complaint(quick_site, "init")
    assert said.startswith(f"{what}\n  where: plugin 'alpha' (alpha 1.2, alpha.opal), alpha/opal.py:11\n")
    found = quick_site.python(
        "import sqlite3; print(sqlite3.connect('opal_suite.db').execute(\"SELECT name FROM sqlite_master\").fetchall())"
    )
    assert found.out == "[]\n"


def test_each_hook_shows_how_it_is_written() -> None:
    assert set(HOOKS) == {"opal_checks", "opal_engine_created", "opal_seed", "opal_sub_apps", "opal_tables_created"}
    for name in HOOKS:
        text = inspect.getdoc(getattr(hookspecs, name)) or ""
        example = text.partition("::\n")[2]
        assert f"def {name}({', '.join(inspect.signature(getattr(hookspecs, name)).parameters)}):" in example
        assert "from opal_registry import" in example
        assert "@hookimpl" in example


ROW = "session.execute(sa.text(\"INSERT INTO users (username, roles) VALUES ('ada', '[]')\"))"
USER = "from opal_registry.models import User\n    session.add(User(username='ada', roles=[]))"
READ = "session.execute(sa.text('SELECT * FROM users')).all()"


def seeding(*lines: str) -> str:
    return "import sqlalchemy as sa\n@hookimpl\ndef opal_seed(session):\n    " + "\n    ".join(lines)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((ROW, "session.rollback()"), id="rolled back"),
        pytest.param((ROW, "session.close()"), id="closed"),
        pytest.param((USER, "session.rollback()"), id="rolled back before it was sent"),
        pytest.param((USER, "session.flush()", "session.close()"), id="an object"),
        pytest.param(
            (ROW, "with session.begin_nested(): session.execute(sa.text('DELETE FROM users'))", "session.close()"),
            id="after a savepoint",
        ),
    ],
)
def test_a_seed_that_undoes_what_it_put_in_is_named_and_not_recorded(
    quick_site: Site, any_database_url: str, lines: tuple[str, ...]
) -> None:
    quick_site.sub_app("alpha", hooks=seeding(*lines), requires=("core",))
    said = complaint(quick_site, "init", OPAL_DATABASE__URL=any_database_url)
    assert said.startswith("calling opal_seed failed: RuntimeError: what it put in was rolled back, or lost because ")
    assert "plugin 'alpha' (alpha 1.0, alpha.opal)" in said
    quick_site.sub_app("alpha", hooks=seeding(ROW), requires=("core",))
    assert quick_site.run("init", env={"OPAL_DATABASE__URL": any_database_url}).code == 0
    assert [row["username"] for row in rows_of(any_database_url, "users")] == ["ada"]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((READ, "session.close()"), id="it has only read"),
        pytest.param((ROW, "session.commit()", "session.close()"), id="it has committed"),
        pytest.param((ROW, "session.rollback()", ROW), id="it has put something in again"),
        pytest.param(
            (
                "try:",
                "    with session.begin_nested():",
                f"        {ROW}",
                "        1 / 0",
                "except ZeroDivisionError:",
                "    pass",
            ),
            id="it was a part only",
        ),
    ],
)
def test_a_seed_may_undo_a_part_and_close_its_session(quick_site: Site, lines: tuple[str, ...]) -> None:
    quick_site.sub_app("alpha", hooks=seeding(*lines), requires=("core",))
    done = quick_site.run("init")
    assert (done.code, done.err) == (0, "")
