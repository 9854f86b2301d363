"""The process of the command line: how it begins, how it ends, and what it leaves to programs that call it."""

import os
import shlex
import tomllib
from pathlib import Path

import pytest

from tests.distributions import Finished, Site

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))["project"]

OUTPUTS = [["--help"], ["config", "show"], ["config", "show", "--json"]]


def shell(site: Site, line: str, *arguments: str) -> tuple[int, str]:
    """Run ``opal-db`` with some arguments, and with the rest of a line of shell; what it says on stderr counts."""
    command = " ".join(map(str, site.command(*arguments)))
    done = site.start("bash", "-c", f"{command} {line}")
    err = done.communicate(timeout=60)[1]
    return done.returncode, err


def test_the_script_of_the_distribution_is_the_same(site: Site) -> None:
    module, _, function = PROJECT["scripts"]["opal-db"].partition(":")
    code = f"import sys; sys.argv = ['opal-db', '--version']; from {module} import {function}; {function}()"

    assert site.python(code).out == f"opal-db {PROJECT['version']}\n"


def test_a_program_that_calls_main_keeps_its_garbage_collector_and_goes_on(site: Site) -> None:
    done = site.python("import gc; from opal_registry.cli.main import main; print(main(['--version']), gc.isenabled())")

    assert done.out == f"opal-db {PROJECT['version']}\n0 True\n"


def test_what_is_registered_for_the_end_is_run(site: Site) -> None:
    site.sub_app("alpha", hooks="import atexit, sys\natexit.register(print, 'the end', file=sys.stderr)")
    done = site.run("init", "--dry-run", "--quiet")

    assert (done.code, done.err) == (0, "the end\n")


def test_a_thread_that_still_works_is_waited_for(site: Site) -> None:
    wait = "threading.main_thread().join(); print('done', file=sys.stderr)"
    site.sub_app(
        "alpha", hooks=f"import sys, threading\ndef work():\n    {wait}\nthreading.Thread(target=work).start()"
    )
    done = site.run("init", "--dry-run", "--quiet")

    assert (done.code, done.err) == (0, "done\n")


@pytest.mark.parametrize("safe", [None, "1"])
def test_nothing_is_imported_from_where_it_is_started(site: Site, safe: str | None) -> None:
    (site.cwd / "calx.py").write_text("")
    env = {"OPAL_SUB_APPS__MODULES": '{"calx": ["calx"]}', "PYTHONSAFEPATH": safe}

    assert "there is no module 'calx'" in site.run("apps", "list", env=env).err
    here = {"PYTHONPATH": f"{site.folder}{os.pathsep}{site.cwd}"}
    assert site.run("apps", "list", env=env | here).code == 0


def test_it_may_be_started_where_nothing_is_any_more(site: Site) -> None:
    done = site.start(
        "bash", "-c", f"mkdir gone; cd gone; rmdir ../gone; {shlex.join(map(str, site.command('--help')))}"
    )

    assert done.communicate(timeout=60)[1] == ""
    assert done.returncode == 0


def test_ctrl_c_is_told_in_one_line_while_libraries_are_imported(site: Site) -> None:
    blocked = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    (site.folder / "typer.py").write_text(blocked)
    done = site.run("init", "--json")

    assert done == Finished(130, "", "error: interrupted\n")


def test_the_exit_code_survives(site: Site) -> None:
    assert site.run("no-such-command").code == 2
    assert site.run("ping", env={"OPAL_DATABASE__URL": "sqlite:////no/such/file.db"}).code == 4


@pytest.mark.parametrize("arguments", OUTPUTS, ids=" ".join)
def test_a_device_that_is_full_is_an_error_in_one_line(site: Site, arguments: list[str]) -> None:
    assert shell(site, ">/dev/full", *arguments) == (
        4,
        "error: the output cannot be written: No space left on device\n",
    )


@pytest.mark.parametrize("arguments", OUTPUTS, ids=" ".join)
def test_closed_output_is_no_error(site: Site, arguments: list[str]) -> None:
    assert shell(site, ">&-", *arguments) == (0, "")
