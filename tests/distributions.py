"""Really installed distributions for tests of plugins: a wheel is built from text, and installed beside the suite.

A :class:`Site` is a folder like ``site-packages`` that one test fills. Its programs run in processes of their own, with
that folder first on the path and a clean environment, and see the core and what the test installed: the sample
sub-apps of ``plugins/`` are hidden unless ``suite=True``.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import textwrap
import venv
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import installer
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile
from packaging.utils import canonicalize_name

import opal_registry

GROUP = "opal_registry"
KEPT_VARIABLES = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

Files = Mapping[str, str | bytes]
EntryPoints = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Finished:
    """What a process did: its exit code, its standard output and its standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The standard output, parsed."""
        return json.loads(self.out)


def make_wheel(
    folder: Path,
    name: str,
    *,
    version: str,
    files: Files,
    entry_points: EntryPoints,
    requires: Sequence[str],
) -> Path:
    """Write a wheel into a folder, and return its path."""
    stem = f"{name.replace('-', '_').replace('.', '_')}-{version}"
    info = f"{stem}.dist-info"
    contents = {path: _bytes(source) for path, source in files.items()}
    contents |= {
        f"{info}/METADATA": _metadata(name, version, requires),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if entry_points:
        contents[f"{info}/entry_points.txt"] = _entry_points(entry_points)
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in contents.items())
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in contents.items():
            archive.writestr(path, data)
    return wheel


def _bytes(source: str | bytes) -> bytes:
    return source if isinstance(source, bytes) else textwrap.dedent(source).encode()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _metadata(name: str, version: str, requires: Sequence[str]) -> bytes:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    return "\n".join([*lines, *(f"Requires-Dist: {text}" for text in requires), ""]).encode()


def _entry_points(groups: EntryPoints) -> bytes:
    lines = []
    for group, entries in groups.items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()), ""]
    return "\n".join(lines).encode()


def make_core_environment(folder: Path) -> Path:
    """Make a virtual environment that holds what this one holds, except for the distributions that bring sub-apps.

    It is what an image of an application looks like before the application is installed. Takes a fraction of a second:
    everything is linked, nothing copied.

    Returns:
        Its Python.
    """
    venv.EnvBuilder(symlinks=True).create(folder)
    purelib = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for origin in {Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib"))}:
        for entry in origin.iterdir():
            if entry.suffix != ".pth" and not _brings_sub_apps(entry):
                with suppress(FileExistsError):
                    (purelib / entry.name).symlink_to(entry)
    (purelib / "core.pth").write_text(f"{Path(opal_registry.__file__).parent.parent}\n", "utf-8")
    return folder / "bin" / "python"


def _brings_sub_apps(entry: Path) -> bool:
    if entry.suffix != ".dist-info":
        return False
    found = Distribution.at(entry)
    return canonicalize_name(found.name) != "opal-registry" and bool(found.entry_points.select(group=GROUP))


@dataclass(slots=True)
class Site:
    """A folder of installed distributions, and the way to run programs that see them.

    Attributes:
        folder: Where distributions are installed to.
        cwd: Where programs run; ``$HOME`` too.
        core_python: The Python of an environment without sample sub-apps.
    """

    folder: Path
    cwd: Path
    core_python: Path
    _started: list[subprocess.Popen[str]] = field(default_factory=list, init=False, repr=False)

    def install(
        self,
        name: str,
        *,
        version: str = "1.0",
        files: Files,
        entry_points: EntryPoints | None = None,
        requires: Sequence[str] = (),
    ) -> None:
        """Install a distribution; one of that name that is there already is replaced.

        Args:
            name: Of the distribution.
            version: Of the distribution.
            files: What it brings: the path below ``site-packages``, and the content (text is dedented).
            entry_points: By group: the name, and ``module`` or ``module:attribute``.
            requires: Requirements of the distribution (PEP 508), as metadata only.
        """
        self.uninstall(name)
        wheel = make_wheel(
            self.cwd, name, version=version, files=files, entry_points=entry_points or {}, requires=requires
        )
        scheme = dict.fromkeys(("purelib", "platlib", "headers", "data"), str(self.folder))
        destination = SchemeDictionaryDestination(
            scheme | {"scripts": str(self.folder / "bin")}, interpreter=sys.executable, script_kind="posix"
        )
        with WheelFile.open(wheel) as source:
            installer.install(source, destination, additional_metadata={"INSTALLER": b"tests\n"})
        wheel.unlink()

    def uninstall(self, name: str) -> None:
        """Remove a distribution and the folders it leaves empty; nothing happens if it is not there."""
        wanted = canonicalize_name(name)
        for found in [d for d in distributions(path=[str(self.folder)]) if canonicalize_name(d.name) == wanted]:
            paths = [Path(str(found.locate_file(file))) for file in found.files or ()]
            for path in paths:
                path.unlink(missing_ok=True)
            for parent in sorted({parent for path in paths for parent in path.parents}, reverse=True):
                if parent.is_relative_to(self.folder) and parent != self.folder:
                    with suppress(OSError):
                        parent.rmdir()

    def sub_app(
        self,
        name: str,
        models: str = "",
        *,
        version: str = "1.0",
        distribution: str | None = None,
        distribution_requires: Sequence[str] = (),
        files: Files | None = None,
        hooks: str = "",
        **record: object,
    ) -> None:
        """Install a distribution that contributes one sub-app: the package ``name`` with ``opal.py`` and ``models.py``.

        Args:
            name: Of the sub-app, its package and its entry point.
            models: Source of ``models.py``; empty for a sub-app without models.
            version: Of the distribution.
            distribution: Its name, if not that of the sub-app.
            distribution_requires: Its own requirements (PEP 508).
            files: More files; the path below ``site-packages``. They win over the ones written here.
            hooks: Source to append to ``opal.py``, where ``SubApp`` and ``hookimpl`` are imported.
            **record: Fields of ``SubApp``, such as ``requires=("core>=1.0",)`` or ``table_prefix="standup_"``.
        """
        fields = {"name": name, "models": (f"{name}.models",) if models else (), **record}
        arguments = ", ".join(f"{key}={value!r}" for key, value in fields.items())
        plugin = (
            "from opal_registry import SubApp, hookimpl\n\n\n"
            f"@hookimpl\ndef opal_sub_apps():\n    yield SubApp({arguments})\n"
        )
        written: dict[str, str | bytes] = {
            f"{name}/__init__.py": "",
            f"{name}/opal.py": f"{plugin}\n\n{textwrap.dedent(hooks)}",
        }
        if models:
            written[f"{name}/models.py"] = models
        self.install(
            distribution or name,
            version=version,
            files=written | dict(files or {}),
            entry_points={GROUP: {name: f"{name}.opal"}},
            requires=distribution_requires,
        )

    def environment(self, env: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """The variables that programs get: nothing of ours but what is needed to run, plus ``env``.

        Args:
            env: More variables; None takes one away.
        """
        clean = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        clean |= {"HOME": str(self.cwd), "LC_ALL": "C.UTF-8", "PYTHONPATH": str(self.folder)}
        clean["PYTHONDONTWRITEBYTECODE"] = "1"  # a reinstalled module may have the size and second of the old one
        return {name: value for name, value in (clean | dict(env or {})).items() if value is not None}

    def start(
        self, *command: str | Path, env: Mapping[str, str | None] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start any program without waiting for it; what still runs at the end of the test is killed.

        Returns:
            The process, with pipes to all of its streams.
        """
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=self.environment(env),
            cwd=cwd or self.cwd,
        )
        self._started.append(process)
        return process

    def command(self, *arguments: str | Path, suite: bool = False) -> tuple[str | Path, ...]:
        """The command line of ``opal-db`` with some arguments, for :meth:`start`."""
        return (self._interpreter(suite=suite), "-m", "opal_registry", *arguments)

    def run(
        self,
        *arguments: str | Path,
        env: Mapping[str, str | None] | None = None,
        stdin: str | None = None,
        cwd: Path | None = None,
        timeout: float = 60,
        suite: bool = False,
    ) -> Finished:
        """Run ``opal-db`` with some arguments, to its end.

        Args:
            *arguments: Such as ``"init", "--json"``.
            env: Variables beside the clean environment; None takes one away.
            stdin: What to type; nothing (end of file) by default.
            cwd: Where to run it, if not in :attr:`cwd`.
            timeout: In seconds.
            suite: Whether the sample sub-apps of ``plugins/`` are visible too.

        Raises:
            subprocess.TimeoutExpired: If it takes longer.
        """
        return self._finish(self.command(*arguments, suite=suite), env=env, stdin=stdin, cwd=cwd, timeout=timeout)

    def python(
        self,
        code: str,
        *arguments: str | Path,
        env: Mapping[str, str | None] | None = None,
        stdin: str | None = None,
        cwd: Path | None = None,
        timeout: float = 60,
        suite: bool = False,
    ) -> Finished:
        """Run Python code (dedented) in the same environment as :meth:`run`."""
        command = (self._interpreter(suite=suite), "-c", textwrap.dedent(code), *arguments)
        return self._finish(command, env=env, stdin=stdin, cwd=cwd, timeout=timeout)

    def close(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()
            process.wait()

    def _interpreter(self, *, suite: bool) -> Path:
        return Path(sys.executable) if suite else self.core_python

    def _finish(
        self,
        command: tuple[str | Path, ...],
        *,
        env: Mapping[str, str | None] | None,
        stdin: str | None,
        cwd: Path | None,
        timeout: float,
    ) -> Finished:
        process = self.start(*command, env=env, cwd=cwd)
        out, err = process.communicate(stdin, timeout)
        return Finished(process.returncode, out, err)


__all__ = ["EntryPoints", "Files", "Finished", "Site", "make_core_environment", "make_wheel"]
