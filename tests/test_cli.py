"""The command line: for people, for pipes, for machines; and how it ends."""

import json
import os
import pty
import re
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from opal_registry.cli.main import main
from opal_registry.cli.output import Output, Sheet
from tests.distributions import Site

Env = dict[str, str | None]
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COMMANDS = [["init"], ["status"], ["ping"], ["wait"], ["apps", "list"], ["apps", "show"], ["config", "show"]]


@pytest.fixture
def env(tmp_path: Path) -> Env:
    """The variables that configure a SQLite file."""
    return {"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'opal.db'}"}


def in_terminal(site: Site, *arguments: str, env: Env, width: int = 100) -> str:
    """Run ``opal-db`` in a terminal, and return what it shows there."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(site.cwd)
        command = [str(part) for part in site.command(*arguments)]
        extra: Env = {**env, "TERM": "xterm-256color", "COLUMNS": str(width)}
        os.execvpe(command[0], command, site.environment(extra))
    shown, end = b"", time.monotonic() + 60
    while time.monotonic() < end and select.select([terminal], [], [], 60)[0]:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.waitpid(pid, 0)
    os.close(terminal)
    return shown.decode()


class TestHelp:
    def test_it_lists_the_commands_and_the_exit_codes(self, quick_site: Site) -> None:
        done = quick_site.run("--help")
        assert done.code == 0
        for word in ("init", "status", "ping", "wait", "apps", "config", "Exit codes", "--json", "--traceback"):
            assert word in done.out

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_each_command_explains_itself_with_examples(self, quick_site: Site, command: list[str]) -> None:
        done = quick_site.run(*command, "--help")
        assert done.code == 0
        assert "Examples:" in done.out
        assert f"  opal-db {' '.join(command)}" in done.out
        assert "--config" in done.out

    def test_it_is_quick(self, site: Site) -> None:
        code = (
            "import sys; from opal_registry.cli.main import main; main(['--help']); print('sqlalchemy' in sys.modules)"
        )
        assert site.python(code).out.splitlines()[-1] == "False"

    def test_no_command_is_a_usage_error_with_help(self, quick_site: Site) -> None:
        done = quick_site.run()
        assert (done.code, done.out) == (2, "")
        assert "Commands:" in done.err

    def test_the_version(self, quick_site: Site) -> None:
        assert quick_site.run("--version").out == "opal-db 1.0.0\n"


class TestUsage:
    @pytest.mark.parametrize("arguments", [["inti"], ["init", "--nope"], ["apps", "show"], ["init", "too", "many"]])
    def test_a_line_that_cannot_be_understood_ends_with_2(
        self, quick_site: Site, env: Env, arguments: list[str]
    ) -> None:
        done = quick_site.run(*arguments, env=env)
        assert (done.code, done.out) == (2, "")
        assert "Usage: opal-db" in done.err
        document = quick_site.run(*arguments, "--json", env=env).json
        assert document["error"]["exit_code"] == 2

    def test_an_unknown_sub_app_names_the_nearest(self, quick_site: Site, env: Env) -> None:
        done = quick_site.run("apps", "show", "cora", env=env)
        assert done.code == 2
        assert "no sub-app 'cora' is installed here" in done.err
        assert "did you mean 'core'?" in done.err

    def test_common_options_stand_before_or_after_the_command(self, quick_site: Site, env: Env) -> None:
        before, after = (quick_site.run(*line, env=env) for line in (("--json", "status"), ("status", "--json")))
        assert before.json == after.json

    def test_main_returns_the_code(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert main(["nope"]) == 2
        assert "No such command" in capsys.readouterr().err


class TestPipes:
    def test_text_is_plain_and_whole(self, quick_site: Site, env: Env) -> None:
        name = "a_very_long_name_of_thirty_cha"
        quick_site.sub_app(name, "x = 1", distribution="opal-" + "long-" * 40 + "name")
        done = quick_site.run("apps", "list", env={**env, "COLUMNS": "40"})
        assert "opal-" + "long-" * 40 + "name" in done.out
        assert done.out.isascii()
        assert not ANSI.search(done.out)
        assert [line.split()[0] for line in done.out.splitlines()] == ["sub-app", name, "core"]
        assert all(line == line.rstrip() for line in done.out.splitlines())

    def test_numbers_of_things_have_their_plural(self, quick_site: Site, env: Env) -> None:
        models = "import sqlalchemy as sa; from opal_registry import Base; sa.Table('t', Base.metadata, sa.Column('x', sa.Integer))"
        assert "1 table created, 0 present, 1 sub-app, " in quick_site.run("init", env=env).out
        quick_site.sub_app("t", models)
        assert "1 table created, 1 present, 2 sub-apps, " in quick_site.run("init", env=env).out

    def test_a_reader_that_goes_away_is_no_error(self, site: Site, env: Env) -> None:
        command = " ".join(map(str, site.command("init", "--dry-run")))
        done = site.start("bash", "-c", f"{command} | head -1; echo ${{PIPESTATUS[0]}}", env=env)
        out, err = done.communicate(timeout=60)
        assert out.splitlines()[0].startswith("-- default: sqlite ")
        assert out.splitlines()[1] in {"0", "141"}
        assert err == ""

    def test_a_reader_that_never_came_is_no_error_either(self, site: Site, env: Env) -> None:
        command = " ".join(map(str, site.command("init", "--dry-run")))
        done = site.start("bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}", env=env)
        out, err = done.communicate(timeout=60)
        assert (out, err) in {("0\n", ""), ("141\n", "")}

    def test_output_that_cannot_be_encoded_is_escaped(self, quick_site: Site, tmp_path: Path) -> None:
        env: Env = {"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'größe.db'}", "PYTHONIOENCODING": "ascii"}
        code = "import sys; from opal_registry.cli.main import main; sys.exit(main(sys.argv[1:]))"
        site = Site(quick_site.folder, quick_site.cwd, quick_site.core_python)
        assert r"gr\xf6\xdfe.db" in site.python(code, "init", env=env).out
        assert site.python(code, "init", "--json", env=env).json["databases"]["default"].endswith("größe.db")


class TestTerminals:
    def test_people_get_a_table(self, site: Site, env: Env) -> None:
        shown = in_terminal(site, "init", env=env)
        assert ANSI.search(shown)
        plain = ANSI.sub("", shown)
        assert "sub-app" in plain
        assert "─" in plain or "━" in plain
        assert "1 table created" in plain

    def test_progress_is_shown_while_it_works(self, site: Site, env: Env) -> None:
        site.sub_app("slow", "x = 1")
        assert "importing slow.models" in ANSI.sub("", in_terminal(site, "init", env=env))

    def test_an_error_is_text_in_a_terminal_too(self, site: Site, tmp_path: Path) -> None:
        shown = in_terminal(site, "ping", env={"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'no.db'}"})
        assert "error: the SQLite file does not exist" in shown


class TestMachines:
    @pytest.mark.parametrize(
        "command", [*COMMANDS[:5], ["apps", "show", "core"], ["config", "show"], ["config", "check"]]
    )
    def test_stdout_is_one_document(self, quick_site: Site, env: Env, command: list[str]) -> None:
        quick_site.run("init", env=env)
        done = quick_site.run(*command, "--json", env=env)
        assert isinstance(json.loads(done.out), dict)
        assert (done.code, done.err) == (0, "")

    @pytest.mark.parametrize("command", COMMANDS[:4], ids=" ".join)
    def test_also_on_an_error(self, quick_site: Site, tmp_path: Path, command: list[str]) -> None:
        env: Env = {"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'no' / 'such' / 'x.db'}"}
        done = quick_site.run(*command, *(("--timeout", "0s") if command == ["wait"] else ()), "--json", env=env)
        assert done.code == 4
        assert done.json["error"]["kind"] == "DatabaseError"
        assert done.err.startswith("error: the directory of the SQLite file does not exist")

    def test_quiet_prints_errors_only(self, quick_site: Site, env: Env) -> None:
        done = quick_site.run("init", "--quiet", env=env)
        assert (done.code, done.out, done.err) == (0, "", "")
        assert "error:" in quick_site.run("ping", "-q", env={"OPAL_DATABASE__URL": "sqlite:////no/such/x.db"}).err


class TestEnds:
    def test_a_traceback_is_shown_only_when_asked_for(self, quick_site: Site) -> None:
        env: Env = {"OPAL_DATABASE__URL": "postgresql://app:hunter2@127.0.0.1:1/x"}
        assert "Traceback" not in quick_site.run("ping", env=env).err
        asked = quick_site.run("ping", "--traceback", env=env)
        assert "Traceback (most recent call last)" in asked.err
        assert "OperationalError" in asked.err
        assert "hunter2" not in asked.err

    def test_what_nobody_expected_is_one_line_and_says_how_to_learn_more(self, quick_site: Site, env: Env) -> None:
        code = """
            import sys
            import opal_registry.status
            opal_registry.status.get_status = lambda registry: 1 / 0
            from opal_registry.cli.main import main
            sys.exit(main(["status"]))
        """
        done = quick_site.python(code, env=env)
        assert done.code == 4
        assert done.err.startswith("error: unexpected ZeroDivisionError: division by zero\n")
        assert "run it again with --traceback" in done.err

    def test_an_interrupt_ends_with_130(self, site: Site, env: Env) -> None:
        site.sub_app("slow", "import sys, time; print('importing', file=sys.stderr, flush=True); time.sleep(60)")
        running = site.start(*site.command("init", "--json"), env=env)
        assert running.stderr is not None
        assert running.stderr.readline() == "importing\n"
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
        assert running.returncode == 130
        assert json.loads(out)["error"]["exit_code"] == 130
        assert err == "error: interrupted\n"


def test_a_sheet_without_rows_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Output().show({}, Sheet(("a",), []), "text")
    assert capsys.readouterr().out == "text\n"


def test_python_dash_m_is_the_same(site: Site) -> None:
    done = site.start(sys.executable, "-m", "opal_registry", "--version")
    assert done.communicate(timeout=30)[0] == "opal-db 1.0.0\n"
