"""One digest of everything that decides what ``init`` does: what is installed, what is configured, which Python.

Whoever has the same image and the same configuration has the same fingerprint, on whatever machine: no path, no time and
no secret enters it. Nothing is imported for it.

    sys.path -> distributions: a wheel by its RECORD, an editable one by the files that it leads to
             -> modules beside them that no RECORD vouches for, by their sources
    settings -> which sub-apps take part, and in which databases
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.machinery import PathFinder
from pathlib import Path
from urllib.parse import unquote, urlsplit

from opal_registry.digests import digest_files, digest_modules, digest_texts, read_file
from opal_registry.settings.model import Settings

ALWAYS = ("opal_registry", "sqlalchemy")
"""Packages that count however they come to be on the path."""

STANDARD_LIBRARY = os.path.dirname(os.path.realpath(os.__file__))  # noqa: PTH120 -- compared with texts
"""It comes with Python, whose version counts."""

_INFO = re.compile(r"([^-]+).*\.(dist|egg)-info\Z")
_FINDER = re.compile(r"import\s+(\w+)")
_CLAIMED = re.compile(rb'^"?([^/,\r\n]+)', re.MULTILINE)
_OURS = re.compile(rb"""^name *= *["']opal[-_.]registry["']""", re.MULTILINE)
_MAPPING = re.compile(r"^MAPPING\b[^=\n]*=\s*(\{.*\})\s*$", re.MULTILINE)


def make_image_fingerprint(settings: Settings, path: Sequence[str] | None = None) -> str:
    """Digest what is installed, configured and running.

    Args:
        settings: The configuration; of it count the sub-apps, the binds with their roles, and the environment.
        path: Where distributions and modules are looked for; ``sys.path`` unless given.

    Returns:
        64 hexadecimal digits (SHA-256).

    Example:
        >>> made = make_image_fingerprint(Settings())
        >>> made == make_image_fingerprint(Settings(database={"url": "postgresql://app:hunter2@db/suite"}))
        True
        >>> made == make_image_fingerprint(Settings(sub_apps={"disabled": ["calmind"]}))
        False
    """
    folders = list(dict.fromkeys(map(os.path.realpath, sys.path if path is None else path)))
    distributions = [found for folder in folders for found in _iter_distributions(folder)]
    modules = {name.partition(".")[0] for names in settings.sub_apps.modules.values() for name in names}
    whole = sha256(f"{sys.implementation.name} {sys.version_info[:2]} {_configured(settings)}".encode())
    for found in sorted(distributions, key=lambda found: found.name):  # stable: which of two equals comes first counts
        whole.update(found.digest())
    for name in sorted({*ALWAYS, *filter(None, modules)}):
        whole.update(_digest_module(name, folders, distributions))
    covered = {os.path.realpath(root) for found in distributions for root in found.roots}
    for folder in folders:
        if folder not in covered:
            whole.update(_digest_folder(folder, distributions))
    return whole.hexdigest()


def _configured(settings: Settings) -> str:
    binds = {bind: database.migration_role for bind, database in settings.databases.items()}
    return json.dumps([settings.environment, settings.sub_apps.model_dump(mode="json"), binds], sort_keys=True)


@dataclass(frozen=True)
class _Distribution:
    """One that is installed: its name, the folder on the path, the folder in it that describes it, its RECORD."""

    name: str
    folder: str
    info: str
    record: bytes

    def digest(self) -> bytes:
        """Digest what it brings, without what only says where and how it was installed."""
        about = "METADATA" if self.info.endswith(".dist-info") else "PKG-INFO"
        texts = [self.info.encode(), self._read(about), self._read("entry_points.txt"), b"\n".join(self._lines[0])]
        is_ours = self.name == ALWAYS[0]  # whose project holds more than the package, which counts as a module
        return digest_texts([*texts, *map(digest_files, () if is_ours else self.roots)])

    def brings(self, module: str) -> bool:
        """Whether its RECORD vouches for a module or package."""
        names = (f"{module}/".encode(), f"{module}.py,".encode())
        return self.record.startswith(names) or any(b"\n" + name in self.record for name in names)

    def claims(self) -> set[str]:
        """The entries of its folder that its digest covers already."""
        if self.record:
            return set(map(os.fsdecode, set(_CLAIMED.findall(self.record))))
        return {entry for name in self._modules() for entry in (name, f"{name}.py")}

    @cached_property
    def roots(self) -> list[str]:
        """Where its files are, if they can change without its RECORD."""
        if not self.record:
            return [f"{self.folder}/{name}" for name in self._modules()]
        files, links = self._lines
        project = _editable_project(self._read("direct_url.json"))
        if files and not project:
            return []
        names = [line.partition(b",")[0].decode(errors="replace") for line in links]
        return [root for name in names for root in _linked(self.folder, name)] or [project] * bool(project)

    @cached_property
    def _lines(self) -> tuple[list[bytes], list[bytes]]:
        """Those of its RECORD that name what it brings, and those that name what leads to it."""
        lines = self.record.splitlines()
        links = [line for line in lines if b".pth," in line]
        passed_over = (f"{self.info}/".encode(), b"../", b"__pycache__/", b"__editable__", *links)
        return [line for line in lines if not line.startswith(passed_over)], links

    def _modules(self) -> list[str]:
        return self._read("top_level.txt").decode(errors="replace").split() or [self.name]

    def _read(self, name: str) -> bytes:
        return read_file(f"{self.folder}/{self.info}/{name}")


def _iter_distributions(folder: str) -> Iterator[_Distribution]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return
    for name in names:
        if match := _INFO.match(name):
            yield _Distribution(match[1].lower(), folder, name, read_file(f"{folder}/{name}/RECORD"))


def _editable_project(direct_url: bytes) -> str:
    """The folder of the project that an editable installation was made of; empty for others."""
    try:
        direct = json.loads(direct_url or "{}")
        return unquote(urlsplit(direct["url"]).path) if direct["dir_info"]["editable"] else ""
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""


def _linked(folder: str, link: str) -> Iterator[str]:
    """The folders and files that a ``.pth`` file leads to, itself or by the finder of setuptools that it imports."""
    for line in read_file(f"{folder}/{link}").decode(errors="replace").splitlines():
        if finder := _FINDER.match(line):
            yield from _mapped(read_file(f"{folder}/{finder[1]}.py").decode(errors="replace"))
        elif line.strip() and not line.startswith("#"):
            yield str(Path(folder, line.strip()))


def _mapped(finder: str) -> list[str]:
    from ast import literal_eval  # rarely needed

    found = _MAPPING.search(finder)
    try:
        mapping = literal_eval(found[1]) if found else {}
        return [str(mapping[name]) for name in sorted(mapping)]
    except (ValueError, SyntaxError, TypeError):
        return []


def _digest_module(name: str, folders: Sequence[str], distributions: Sequence[_Distribution]) -> bytes:
    """Digest the sources of a module or package, unless a RECORD beside it vouches for it."""
    spec = PathFinder.find_spec(name, folders)
    places = list(spec.submodule_search_locations or filter(None, [spec.origin])) if spec else []
    vouched = {found.folder for found in distributions if found.brings(name)}
    return digest_texts([name.encode(), *(digest_files(at) for at in places if str(Path(at).parent) not in vouched)])


def _digest_folder(folder: str, distributions: Sequence[_Distribution]) -> bytes:
    """Digest what can be imported from a folder or an archive on the path, and belongs to no distribution there."""
    if folder == STANDARD_LIBRARY or _OURS.search(read_file(f"{folder}/pyproject.toml")):
        return b""
    if os.path.isfile(folder):  # noqa: PTH113
        return digest_texts([read_file(folder)])
    claimed = {name for found in distributions if found.folder == folder for name in found.claims()}
    return digest_modules(folder, claimed)
