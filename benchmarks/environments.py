"""Where contestants live: a virtual environment for each, and the generated suite as installed wheels beside it."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.generate import Distribution
from tests.distributions import make_wheel

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "benchmarks"
"""Ignored by git. What is in it is used again as long as nothing that it was made from has changed."""

STAMP = "made-from"


class SetUpError(Exception):
    """A program that sets something up failed; the text holds its command and the end of its output."""


@contextmanager
def hold_folder() -> Iterator[None]:
    """Keep other runs out of the folder: they would replace what is being measured, and share its processors.

    Raises:
        SetUpError: If another run has it.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = os.open(FOLDER, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise SetUpError(f"another run is measuring in {FOLDER}; wait for its end, or stop it") from None
    finally:
        os.close(folder)


def make_environment(name: str, requirements: Sequence[str]) -> Path:
    """A virtual environment with some distributions and what they need, in their newest versions.

    Args:
        name: What to call it.
        requirements: PEP 508.

    Returns:
        Its folder of programs.

    Raises:
        SetUpError: If something cannot be installed.
    """

    def fill(folder: Path) -> None:
        venv.EnvBuilder(symlinks=True, with_pip=True).create(folder)
        if requirements:
            _pip(folder / "bin", "install", *requirements)

    folder = FOLDER / "environments" / name
    _make_once(folder, [sys.version, *requirements], fill)
    return folder / "bin"


def install_project(programs: Path, project: Path) -> None:
    """Build a wheel of opal_registry, and install it, in place of an older one, with what it needs.

    Args:
        programs: Of the environment.
        project: A checkout of it.

    Raises:
        SetUpError: If it cannot be built or installed.
    """
    folder = FOLDER / "opal_registry"
    shutil.rmtree(folder, ignore_errors=True)
    command = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, project)
    run_quietly(sys.executable, *command)
    (wheel,) = folder.glob("*.whl")
    _pip(programs, "install", wheel)
    _pip(programs, "install", "--force-reinstall", "--no-deps", wheel)


def make_site(
    name: str, programs: Path, distributions: Sequence[Distribution], finish: Callable[[Path], None] | None = None
) -> Path:
    """A folder like ``site-packages``, to be put on ``PYTHONPATH``, with distributions that pip installed from wheels.

    Args:
        name: What to call it.
        programs: Of the environment that it belongs to.
        distributions: What to build wheels of.
        finish: What else has to be done in it.

    Raises:
        SetUpError: If something cannot be installed.
    """

    def fill(folder: Path) -> None:
        wheels = folder.with_name(f"{name}-wheels")
        wheels.mkdir(exist_ok=True)
        made = [_make_wheel(wheels, distribution) for distribution in distributions]
        _pip(programs, "install", "--no-index", "--no-deps", "--target", folder, *made)
        shutil.rmtree(wheels)
        if finish:
            finish(folder)

    folder = FOLDER / "sites" / name
    _make_once(folder, [sys.version, *map(repr, distributions)], fill)
    return folder


def run_quietly(*command: str | Path, **environ: str) -> str:
    """Run a program that sets something up, and return what it printed.

    Raises:
        SetUpError: If it fails.
    """
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environ or None, check=False
    )
    if done.returncode:
        shown = " ".join(map(str, command))
        raise SetUpError(f"this failed ({done.returncode}): {shown[:500]}\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def find_versions(programs: Path, names: Sequence[str]) -> dict[str, str]:
    """The versions of distributions in an environment."""
    code = "import json, sys, importlib.metadata as m; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    found: dict[str, str] = json.loads(run_quietly(programs / "python", "-c", code, *names))
    return found


def _make_once(folder: Path, made_from: Sequence[str], fill: Callable[[Path], None]) -> None:
    digest = hashlib.sha256("\n".join(made_from).encode()).hexdigest()
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text() == digest:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fill(folder)
    stamp.write_text(digest)


def _pip(programs: Path, *arguments: str | Path) -> None:
    run_quietly(programs / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def _make_wheel(folder: Path, distribution: Distribution) -> Path:
    return make_wheel(
        folder,
        distribution.name,
        version="1.0",
        files=distribution.files,
        entry_points=distribution.entry_points,
        requires=(),
    )
