#!/usr/bin/env python3
"""Create the suite's shared database: the same as ``opal-db init``, from nothing but Python 3.11 or newer.

    python3 init_shared_db.py [options of opal-db init]
    python3 init_shared_db.py --set-up [dependency group ...]

Where opal_registry is installed for the Python that runs this, it is used as it is. Elsewhere the first run sets up
a virtual environment in ``.venv`` beside this file, with opal_registry and the sample sub-apps of ``plugins/``, and
goes on in it; later runs find it ready. ``--set-up`` does no more than that, and adds groups of ``pyproject.toml``,
such as ``test``.
"""

# Only the standard library, and only what Python 2.7 can read: an older Python must be able to say which one is needed.
from __future__ import print_function

import os
import sys

NEEDED = (3, 11)


def explain_version(version, executable, found):
    """The sentence for a Python that is too old, with a command that works if one is known."""
    return (
        "init_shared_db.py needs Python {0}.{1} or newer; this is Python {2} ({3}).\n"
        "Run it with a newer one, such as: {4} init_shared_db.py"
    ).format(NEEDED[0], NEEDED[1], ".".join(str(part) for part in version[:3]), executable, found or "python3.12")


def find_newer_python(path):
    """The name of the newest suitable Python in the folders of a search path, or None."""
    for minor in range(NEEDED[1] + 9, NEEDED[1] - 1, -1):
        name = "python3.{0}".format(minor)
        if any(os.access(os.path.join(folder, name), os.X_OK) for folder in path.split(os.pathsep) if folder):
            return name
    return None


if sys.version_info < NEEDED:
    newer = find_newer_python(os.environ.get("PATH", ""))
    print(explain_version(sys.version_info, sys.executable, newer), file=sys.stderr)
    sys.exit(2)

import fcntl
import hashlib
import json
import shlex
import shutil
import subprocess
import time
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import PathFinder

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "opal-set-up.json")

PIP = "pip>=25.1"  # the first that knows --group
BUILD_TOOLS = ["hatchling>=1.27", "editables>=0.5"]
EXTRAS = "async,fastapi,mysql"  # for development; the database that init creates by default needs none of them
LAST_LINES = 15
ADVICE = """
Is the package index reachable (or PIP_INDEX_URL set to a mirror of it), and is there room on the disk?
Then run the same command again."""

INTERRUPTED = 130


class SetUpError(Exception):
    """The environment cannot be set up; the text says why, and what to do."""


def main(argv):
    """Run ``init``, here or in ``.venv``; returns the exit code, or does not return at all.

    Args:
        argv: The arguments after the program's name.
    """
    if argv[:1] == ["--set-up"]:
        return _guarded(lambda: set_up(argv[1:]))
    reason = _why_not_here()
    if reason is None:
        return import_module("opal_registry.cli.main").main(["init"] + argv)
    if not is_ready([]) and ("--help" in argv or "-h" in argv):
        print(__doc__.strip())
        return 0
    # We are in it, it looks ready, and yet it does not work: what the stamp says cannot be trusted.
    damaged = _is_same(sys.prefix, VENV) and is_ready([])
    code = _guarded(lambda: set_up([], because=reason, afresh=damaged))
    return code or _go_on(argv, ["-P", "-m", "opal_registry", "init"] if damaged else [os.path.abspath(__file__)])


def set_up(groups, because=None, afresh=False):
    """Make ``.venv`` hold the project, the sample sub-apps and some dependency groups; quick if it does already.

    Safe to call from several processes at once, and after an attempt that was interrupted.

    Args:
        groups: Names under ``[dependency-groups]`` of ``pyproject.toml``.
        because: Why it is needed, to be told if anything has to be done.
        afresh: Whether to replace an environment that looks ready.

    Raises:
        SetUpError: If it cannot be done.
    """
    if not afresh and is_ready(groups):
        return
    with _lock() as lock:
        if afresh or not is_ready(groups):
            _set_up_locked(sorted(groups), because, afresh, lock)


def is_ready(groups):
    """Whether ``.venv`` works, is up to date and holds the groups."""
    stamp = read_stamp()
    return (
        stamp.get("inputs") == digest_inputs()
        and stamp.get("home") == ROOT
        and set(groups) <= set(stamp.get("groups", ()))
        and _can_run("import opal_registry")
    )


def digest_inputs():
    """A digest of all that decides what is installed: every ``pyproject.toml``, and this file."""
    digest = hashlib.sha256()
    for path in [os.path.abspath(__file__), _pyproject(ROOT)] + [_pyproject(folder) for folder in find_plugins()]:
        with open(path, "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def find_plugins():
    """The folders of the sample sub-apps, sorted."""
    parent = os.path.join(ROOT, "plugins")
    names = sorted(os.listdir(parent)) if os.path.isdir(parent) else []
    return [os.path.join(parent, name) for name in names if os.path.isfile(_pyproject(os.path.join(parent, name)))]


def read_stamp():
    """What the last set-up wrote down: empty if there was none, without ``inputs`` if it did not finish."""
    try:
        with open(STAMP, encoding="utf-8") as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        stamp = None
    if isinstance(stamp, dict) and "home" in stamp:
        return stamp
    return {"home": ROOT} if os.path.exists(STAMP) else {}


def write_stamp(**stamp):
    """Write the stamp in one step, so that it is there whole or not at all."""
    with open(STAMP + ".new", "w", encoding="utf-8") as file:
        json.dump(stamp, file, indent=2, sort_keys=True)
    os.replace(STAMP + ".new", STAMP)


def _set_up_locked(groups, because, afresh, lock):
    began = time.monotonic()
    if because:
        _say("{0} for {1}".format(because, sys.executable))
    stamp = read_stamp()
    useless = "it does not work" if afresh else _why_useless(stamp)
    _say("setting up {0}; this takes up to a minute, once".format(VENV))
    if useless:
        _check_venv_module()
        _make_venv(lock, replacing=useless)
        stamp = {}
    groups = sorted(set(groups) | set(stamp.get("groups", ())))
    write_stamp(home=ROOT)
    _install(groups, lock)
    write_stamp(home=ROOT, groups=groups, inputs=digest_inputs(), plugins=_plugin_names())
    _say("ready in {0:.0f} s".format(time.monotonic() - began))


def _why_useless(stamp):
    """Why the environment that is there, if any, cannot be built on; None if it can."""
    if not os.path.lexists(VENV):
        return "it is not there"
    if stamp and "inputs" not in stamp:
        return "an earlier set-up did not finish"
    if stamp and stamp.get("home") != ROOT:
        return "it was set up for {0}".format(stamp.get("home"))
    if not set(stamp.get("plugins", ())) <= set(_plugin_names()):
        return "it holds sub-apps that are no longer in plugins/"
    if not _can_run("import pip"):
        return "it has no working Python {0}.{1} or newer with pip".format(*NEEDED)
    return None


def _make_venv(lock, replacing):
    if os.path.lexists(VENV):
        _say("replacing the one that is there: {0}".format(replacing))
        _remove_venv()
    _say("  making the virtual environment, with Python {0}.{1}.{2}".format(*sys.version_info))
    os.mkdir(VENV)
    write_stamp(home=ROOT)
    # From the base Python: the one that runs this may be the one just removed.
    base = getattr(sys, "_base_executable", None) or sys.executable
    try:
        _run([base, "-I", "-m", "venv", VENV], lock)
    except SetUpError:
        _remove_venv()
        raise


def _remove_venv():
    if os.path.islink(VENV):
        os.unlink(VENV)
    elif os.path.isdir(VENV):
        shutil.rmtree(VENV)
    else:
        raise SetUpError("{0} is a file: move it away, then run the same command again".format(VENV))


def _install(groups, lock):
    pip = [PYTHON, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    _say("  installing pip and the build tools")
    _run(pip + [PIP], lock)
    _run(pip + BUILD_TOOLS, lock)
    what = ["opal_registry"] + _plugin_names() + ["the groups " + ", ".join(groups)] * bool(groups)
    _say("  installing " + ", ".join(what))
    project = "./[{0}]".format(EXTRAS) if groups else "./"
    plugins = ["plugins/" + name for name in _plugin_names()]
    targets = [option for path in [project] + plugins for option in ("--editable", path)]
    wanted = [option for name in groups for option in ("--group", name)]
    _run(pip + ["--no-build-isolation"] + targets + wanted, lock)
    _run([PYTHON, "-I", "-c", "import opal_registry.cli.main"], lock, advice="")


def _run(command, lock, advice=ADVICE):
    """Run a program to its end; it keeps the lock for as long as it lives, even if we are killed."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        cwd=ROOT,
        env=_environment(),
        pass_fds=[lock],
    )
    if done.returncode:
        lines = done.stdout.strip().splitlines()[-LAST_LINES:]
        shown = "\n".join("    " + line for line in lines)
        raise SetUpError("this failed: {0}\n\n{1}\n{2}".format(shlex.join(command), shown, advice))


def _environment():
    """Ours, without what would make pip install somewhere else."""
    dropped = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__")
    return dict({name: value for name, value in os.environ.items() if name not in dropped}, PIP_USER="0")


@contextmanager
def _lock():
    """Let one process at a time set up this checkout; the folder itself is what is locked."""
    lock = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting: another process is setting up {0}".format(VENV))
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # a network file system that cannot lock a folder
        yield lock
    finally:
        os.close(lock)


def _check_venv_module():
    missing = _find_missing_module("venv", "ensurepip")
    if missing:
        raise SetUpError(
            "{0} cannot make virtual environments: its module {1} is missing.\n"
            "On Debian and Ubuntu: apt install python3-venv (or python{2}.{3}-venv, for this very version).\n"
            "Then run the same command again.".format(sys.executable, missing, *sys.version_info)
        )


def _find_missing_module(*names):
    for name in names:
        try:
            import_module(name)
        except ImportError:
            return name
    return None


def _why_not_here():
    """Why this very Python cannot run the project; None if it can.

    The folder of this file, which Python puts first on the path, does not count: a package that merely lies there is
    not installed, and has no entry points.
    """
    if PathFinder.find_spec("opal_registry", sys.path[1:]) is None:
        return "opal_registry is not installed"
    try:
        import_module("opal_registry.cli.main")
    except ImportError as missing:
        return "opal_registry cannot be imported ({0})".format(missing)
    return None


def _can_run(code):
    """Whether the environment's Python is new enough and can run a line of code."""
    code = "import sys; assert sys.version_info >= {0}; {1}".format(NEEDED, code)
    try:
        return subprocess.run([PYTHON, "-I", "-c", code], capture_output=True, stdin=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def _go_on(argv, command):
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(PYTHON, [PYTHON] + command + argv)


def _guarded(action):
    """Do something that may fail for a reason outside this program; returns the exit code."""
    try:
        action()
    except SetUpError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail("{0} cannot be set up: {1}".format(VENV, error))
    return 0


def _fail(text):
    _say(text)
    return 2


def _say(text):
    print("init_shared_db: " + text, file=sys.stderr, flush=True)


def _plugin_names():
    return [os.path.basename(folder) for folder in find_plugins()]


def _pyproject(folder):
    return os.path.join(folder, "pyproject.toml")


def _is_same(one, other):
    return os.path.realpath(one) == os.path.realpath(other)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\ninit_shared_db: interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(INTERRUPTED)
