"""The hooks of a plugin: called for its own sub-apps only, and named when they fail."""

import inspect
import json

import pytest

from opal_registry import hookspecs
from opal_registry.entry_point import HOOKS
from tests.distributions import Site
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
