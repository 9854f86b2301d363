"""The tests' own installed distributions."""

import signal
from pathlib import Path

import pytest

from tests.distributions import Site

SUB_APPS = """
    from importlib.metadata import entry_points

    for entry in sorted(entry_points(group="opal_registry"), key=lambda entry: entry.name):
        print(entry.name, entry.dist.name, entry.dist.version, entry.value)
"""


def test_programs_see_the_core_and_what_was_installed(site: Site) -> None:
    site.sub_app("standup", "x = 1", version="2.5", distribution="standup-bot", requires=("core>=1.0",))
    done = site.python(SUB_APPS)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "core opal-registry 1.0.0 opal_registry.builtin",
        "standup standup-bot 2.5 standup.opal",
    ]


def test_a_sub_app_contributes_its_record(site: Site) -> None:
    site.sub_app("standup", "x = 1", requires=("core>=1.0",), hooks="SEEN = True")
    done = site.python("from standup import opal; [a] = opal.opal_sub_apps(); print(a.models, a.requires, opal.SEEN)")
    assert done.out == "('standup.models',) ('core>=1.0',) True\n", done


def test_a_distribution_is_replaced_and_removed_whole(site: Site) -> None:
    site.install("standup", files={"standup/__init__.py": "", "standup/old.py": ""})
    site.install("standup", version="2.0", files={"standup/__init__.py": ""}, requires=("click>=8",))
    assert [path.name for path in (site.folder / "standup").iterdir()] == ["__init__.py"]
    assert site.python("from importlib.metadata import version; print(version('standup'))").out == "2.0\n"
    site.uninstall("Standup")
    assert list(site.folder.iterdir()) == []


def test_a_module_is_imported_anew_after_it_was_replaced(site: Site) -> None:
    for value in "12":
        site.install("standup", files={"standup.py": f"VALUE = {value}"})
        assert site.python("import standup; print(standup.VALUE)").out == f"{value}\n"


def test_the_environment_is_clean(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPAL_DATABASE__URL", "sqlite:///leak.db")
    monkeypatch.setenv("DATABASE_URL", "sqlite:///leak.db")
    seen = site.python("import os; print(sorted(os.environ)); print(os.getcwd())", env={"OPAL_ENV": "x", "HOME": None})
    names, cwd = seen.out.splitlines()
    assert "OPAL_ENV" in names
    assert not {"OPAL_DATABASE__URL", "DATABASE_URL", "HOME"} & set(names.split("'"))
    assert Path(cwd) == site.cwd


def test_json_and_typed_input_are_passed_through(site: Site) -> None:
    done = site.python("print('{\"typed\": \"' + input() + '\"}')", stdin="yes\n")
    assert done.json == {"typed": "yes"}


def test_what_still_runs_is_killed(site: Site) -> None:
    process = site.start(site.core_python, "-c", "import time; time.sleep(600)")
    site.close()
    assert process.returncode == -signal.SIGKILL
