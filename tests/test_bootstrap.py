"""``init_shared_db.py`` from a bare Python: what it says, what it sets up, and how it recovers.

The script is run for real, in a checkout of its own. Where pip would fetch the world, the environment's Python is a
stand-in that notes what it was asked to do.
"""

import ast
import fcntl
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "init_shared_db.py"
PYPROJECT = '[project]\nname = "opal-registry"\nversion = "1.0.0"\n'


@dataclass(frozen=True)
class Checkout:
    """A copy of the script with something to install, in a folder whose name needs quoting."""

    root: Path

    @property
    def stamp(self) -> Path:
        return self.root / ".venv" / "opal-set-up.json"

    @property
    def log(self) -> Path:
        return self.root / "asked.log"

    @property
    def asked(self) -> list[list[str]]:
        """What the stand-in was asked to do."""
        return [shlex.split(line) for line in self.log.read_text().splitlines()]

    def load(self) -> Any:
        """The script as a module, whose checkout this is."""
        spec = importlib.util.spec_from_file_location("bootstrap_under_test", self.root / "init_shared_db.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def stand_in(self, reaction: str = "") -> None:
        """Put a stand-in for Python into ``.venv``, that reacts to ``pip install`` with some lines of shell."""
        python = self.root / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(
            "#!/bin/bash\n"
            f"printf '%q ' \"$@\" >> {shlex.quote(str(self.log))}; echo >> {shlex.quote(str(self.log))}\n"
            f'if [ "$3" = pip ]; then :; {reaction}\nfi\n'
            'case "$*" in *init_shared_db.py*) echo "went on with: ${*:2}";; esac\n'
        )
        python.chmod(0o755)

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Run the script by a Python that has the standard library only."""
        return subprocess.Popen(
            [sys.executable, "-S", self.root / "init_shared_db.py", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env={"PATH": os.environ["PATH"], **variables},
            start_new_session=True,
        )

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        with self.start(*arguments, **variables) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "a b" / "opal suite"
    for folder in (root, root / "plugins" / "standup"):
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text(PYPROJECT)
    shutil.copy(SCRIPT, root)
    return Checkout(root)


class TestPythonVersion:
    def test_an_older_python_is_told_which_one_is_needed(self, checkout: Checkout) -> None:
        pretend = "import sys; sys.version_info = (3, 8, 1); sys.argv.pop(0); exec(open(sys.argv[0]).read())"
        done = subprocess.run(
            [sys.executable, "-c", pretend, checkout.root / "init_shared_db.py"],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": ""},
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"init_shared_db.py needs Python 3.11 or newer; this is Python 3.8.1 ({sys.executable}).\n"
            "Run it with a newer one, such as: python3.12 init_shared_db.py\n"
        )

    def test_the_newest_suitable_python_of_the_path_is_suggested(self, tmp_path: Path, checkout: Checkout) -> None:
        for name in ("python3.9", "python3.11", "python3.13"):
            (tmp_path / name).touch(mode=0o755)
        bootstrap = checkout.load()
        assert bootstrap.find_newer_python(f"/nowhere::{tmp_path}") == "python3.13"
        assert bootstrap.find_newer_python("") is None

    def test_python_2_7_can_read_the_script(self) -> None:
        source = SCRIPT.read_bytes().decode("ascii")
        assert _newer_than_python_2(ast.parse(source)) == []

    def test_the_reader_for_python_2_7_notices_what_is_too_new(self) -> None:
        lines = ["f'{x}'", "x: int = 1", "raise A from b", "def f(*, a): pass", "def f(a: int): pass", "[*a, *b]"]
        assert all(_newer_than_python_2(ast.parse(line)) for line in lines)


class TestWhereItRuns:
    def test_an_interpreter_that_has_the_project_is_used_as_it_is(self, checkout: Checkout) -> None:
        done = subprocess.run(
            [sys.executable, checkout.root / "init_shared_db.py", "--help"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "--dry-run" in done.stdout
        assert not (checkout.root / ".venv").exists()

    def test_help_sets_nothing_up(self, checkout: Checkout) -> None:
        code, out, err = checkout.run("--help")
        assert (code, err) == (0, "")
        assert out.startswith("Create the suite's shared database")
        assert not (checkout.root / ".venv").exists()

    def test_a_ready_environment_goes_on_at_once_with_the_same_arguments(self, checkout: Checkout) -> None:
        checkout.stand_in()
        checkout.run("--set-up")
        code, out, err = checkout.run("--config", "my file.yaml")
        assert (code, out, err) == (0, "went on with: --config my file.yaml\n", "")


class TestSetUp:
    def test_everything_is_installed_editable_in_one_go(self, checkout: Checkout) -> None:
        checkout.stand_in()
        code, out, err = checkout.run("--set-up", "test", "lint")
        assert (code, out) == (0, "")
        venv = checkout.root / ".venv"
        assert err.splitlines()[:3] == [
            f"init_shared_db: setting up {venv}; this takes up to a minute, once",
            "init_shared_db:   installing pip and the build tools",
            "init_shared_db:   installing opal_registry, standup, the groups lint, test",
        ]
        installs = [command[command.index("install") + 1 :] for command in checkout.asked if "install" in command]
        assert installs == [
            ["pip>=25.1"],
            ["hatchling>=1.27", "editables>=0.5"],
            [
                *("--no-build-isolation", "--editable", "./[async,fastapi,mysql]", "--editable", "plugins/standup"),
                *("--group", "lint", "--group", "test"),
            ],
        ]

    def test_repeating_does_nothing(self, checkout: Checkout) -> None:
        checkout.stand_in()
        checkout.run("--set-up", "test")
        checkout.log.unlink()
        assert checkout.run("--set-up", "test") == (0, "", "")
        assert checkout.run("--set-up") == (0, "", "")
        assert "pip" not in checkout.log.read_text().split()

    def test_a_new_group_is_added_to_those_that_are_there(self, checkout: Checkout) -> None:
        checkout.stand_in()
        checkout.run("--set-up", "test")
        checkout.run("--set-up", "lint")
        assert json.loads(checkout.stamp.read_text())["groups"] == ["lint", "test"]

    @pytest.mark.parametrize(
        "changed", ["pyproject.toml", "plugins/standup/pyproject.toml", "plugins/new/pyproject.toml"]
    )
    def test_a_changed_project_is_installed_again(self, checkout: Checkout, changed: str) -> None:
        checkout.stand_in()
        checkout.run("--set-up")
        (checkout.root / changed).parent.mkdir(exist_ok=True)
        (checkout.root / changed).write_text(PYPROJECT + "dependencies = []\n")
        _, _, err = checkout.run("--set-up")
        assert "installing opal_registry" in err

    def test_what_pip_said_last_is_shown(self, checkout: Checkout) -> None:
        checkout.stand_in("seq 40; echo 'No route to host'; exit 1")
        code, out, err = checkout.run()
        assert (code, out) == (2, "")
        assert "\n    27\n" in err
        assert "\n    26\n" not in err
        assert err.endswith(
            "    No route to host\n\n"
            "Is the package index reachable (or PIP_INDEX_URL set to a mirror of it), and is there room on the disk?\n"
            "Then run the same command again.\n"
        )

    def test_ctrl_c_ends_it_with_one_line_and_without_a_stamp(self, checkout: Checkout) -> None:
        checkout.stand_in("echo > begun; sleep 60")
        with checkout.start() as process:
            _wait_for(checkout.root / "begun")
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert err.endswith("\ninit_shared_db: interrupted; run the same command again to go on\n")
        assert "Traceback" not in err
        assert "inputs" not in json.loads(checkout.stamp.read_text())

    def test_a_second_process_waits_for_the_first(self, checkout: Checkout) -> None:
        checkout.stand_in()
        held = os.open(checkout.root, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        with checkout.start("--set-up") as process:
            assert process.stderr is not None
            waiting = process.stderr.readline()
            assert waiting == f"init_shared_db: waiting: another process is setting up {checkout.root / '.venv'}\n"
            assert process.poll() is None
            os.close(held)
            process.communicate(timeout=30)
        assert process.returncode == 0
        assert checkout.stamp.exists()

    @pytest.mark.parametrize("module", ["ensurepip", "venv"])
    def test_a_python_without_ensurepip_names_the_package_that_brings_it(
        self, checkout: Checkout, tmp_path: Path, module: str
    ) -> None:
        (tmp_path / f"{module}.py").write_text(f"raise ImportError('no {module}')\n")
        code, out, err = checkout.run(PYTHONPATH=str(tmp_path))
        assert (code, out) == (2, "")
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        assert err.endswith(
            f"init_shared_db: {sys.executable} cannot make virtual environments: its module {module} is missing.\n"
            f"On Debian and Ubuntu: apt install python3-venv (or python{version}-venv, for this very version).\n"
            "Then run the same command again.\n"
        )
        assert not (checkout.root / ".venv").exists()

    def test_a_file_in_the_place_of_the_environment_is_left_alone(self, checkout: Checkout) -> None:
        venv = checkout.root / ".venv"
        venv.write_text("somebody's")
        code, _, err = checkout.run("--set-up")
        assert code == 2
        assert err.endswith(f"init_shared_db: {venv} is a file: move it away, then run the same command again\n")
        assert venv.read_text() == "somebody's"

    def test_a_checkout_that_cannot_be_read_is_named(self, checkout: Checkout) -> None:
        (checkout.root / "pyproject.toml").unlink()
        code, _, err = checkout.run("--set-up")
        assert code == 2
        assert err == (
            f"init_shared_db: {checkout.root / '.venv'} cannot be set up: "
            f"[Errno 2] No such file or directory: '{checkout.root / 'pyproject.toml'}'\n"
        )


class TestWhatIsThere:
    """Why an environment is replaced rather than built on."""

    def test_one_made_by_hand_is_built_on(self, checkout: Checkout) -> None:
        checkout.stand_in()
        assert _why_useless(checkout) is None

    def test_none(self, checkout: Checkout) -> None:
        assert _why_useless(checkout) == "it is not there"

    @pytest.mark.parametrize("content", ["{}", "", "[]", "{broken"])
    def test_one_whose_set_up_was_interrupted(self, checkout: Checkout, content: str) -> None:
        checkout.stand_in()
        checkout.stamp.write_text(content)
        assert _why_useless(checkout) == "an earlier set-up did not finish"

    def test_one_that_was_copied_from_elsewhere(self, checkout: Checkout) -> None:
        checkout.stand_in()
        checkout.stamp.write_text('{"home": "/elsewhere", "inputs": ""}')
        assert _why_useless(checkout) == "it was set up for /elsewhere"

    def test_one_with_a_sub_app_that_is_gone(self, checkout: Checkout) -> None:
        checkout.stand_in()
        checkout.run("--set-up")
        shutil.rmtree(checkout.root / "plugins" / "standup")
        assert _why_useless(checkout) == "it holds sub-apps that are no longer in plugins/"

    def test_one_whose_python_is_gone(self, checkout: Checkout) -> None:
        checkout.stand_in()
        checkout.run("--set-up")
        (checkout.root / ".venv" / "bin" / "python").unlink()
        (checkout.root / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
        assert _why_useless(checkout) == "it has no working Python 3.11 or newer with pip"


def test_no_server_is_installed_where_the_tests_are_told_which_to_use(tmp_path: Path) -> None:
    named = {"OPAL_TEST_MARIADB_BIN": str(tmp_path), "OPAL_TEST_PGBOUNCER_BIN": str(tmp_path)}
    script = ROOT / "tests" / "install_servers.sh"
    done = subprocess.run(
        ["sh", script], capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"], **named}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def _why_useless(checkout: Checkout) -> object:
    bootstrap = checkout.load()
    return bootstrap._why_useless(bootstrap.read_stamp())


def _newer_than_python_2(tree: ast.Module) -> list[str]:
    """The constructs in a program that Python 2.7 cannot read."""
    new = (ast.JoinedStr, ast.AnnAssign, ast.Nonlocal, ast.YieldFrom, ast.NamedExpr, ast.AsyncFunctionDef, ast.Match)
    return [ast.dump(node) for node in ast.walk(tree) if isinstance(node, new) or _is_new_form(node)]


def _is_new_form(node: ast.AST) -> bool:
    match node:
        case ast.Raise(cause=cause):
            return cause is not None
        case ast.arguments(posonlyargs=posonly, kwonlyargs=kwonly):
            return bool(posonly or kwonly)
        case ast.arg(annotation=annotation):
            return annotation is not None
        case ast.FunctionDef(returns=returns):
            return returns is not None
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return any(isinstance(item, ast.Starred) for item in items)
        case ast.Call(args=arguments):
            return any(isinstance(argument, ast.Starred) for argument in arguments[:-1])
    return False


def _wait_for(path: Path, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
