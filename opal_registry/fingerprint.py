"""One digest of everything that decides what ``init`` does: what is installed, what is configured, which Python.

Whoever has the same image and the same configuration has the same fingerprint, on whatever machine: no path, no time and
no secret enters it. Nothing is imported for it.

    sys.path -> distributions: a wheel by its RECORD, an editable one by the sources that it leads to
             -> modules that no RECORD vouches for, by their sources
    settings -> which sub-apps take part, and in which databases
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.machinery import PathFinder
from pathlib import Path
from urllib.parse import unquote, urlsplit

from opal_registry.settings.model import Settings

ALWAYS = ("opal_registry", "sqlalchemy")
"""Packages that count however they come to be on the path."""

PASSED_OVER = ("__pycache__", "node_modules", "site-packages")
"""Folders below an editable installation that hold no sources of it; hidden ones and virtual environments are others."""

_INFO = re.compile(r"([^-]+).*\.(dist|egg)-info\Z")
_FINDER = re.compile(r"import\s+(\w+)")
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
    for archive in filter(os.path.isfile, folders):
        whole.update(sha256(_read(archive)).digest())
    return whole.hexdigest()


def _configured(settings: Settings) -> str:
    binds = {bind: database.migration_role for bind, database in settings.databases.items()}
    return json.dumps([settings.environment, settings.sub_apps.model_dump(mode="json"), binds], sort_keys=True)


@dataclass(frozen=True, slots=True)
class _Distribution:
    """One that is installed: its name, the folder on the path, the folder in it that describes it, its RECORD."""

    name: str
    folder: str
    info: str
    record: bytes

    def digest(self) -> bytes:
        """Digest what it brings, without what only says where and how it was installed."""
        lines = self.record.splitlines()
        links = [line for line in lines if b".pth," in line]
        passed_over = (f"{self.info}/".encode(), b"../", b"__pycache__/", b"__editable__", *links)
        files = [line for line in lines if not line.startswith(passed_over)]
        about = "METADATA" if self.info.endswith(".dist-info") else "PKG-INFO"
        sources = map(_digest_sources, self._source_roots(files, links))
        texts = [self.info.encode(), self._read(about), self._read("entry_points.txt"), b"\n".join(files)]
        return _digest([*texts, *sources])

    def brings(self, module: str) -> bool:
        """Whether its RECORD vouches for a module or package."""
        names = (f"{module}/".encode(), f"{module}.py,".encode())
        return self.record.startswith(names) or any(b"\n" + name in self.record for name in names)

    def _source_roots(self, files: Sequence[bytes], links: Sequence[bytes]) -> list[str]:
        """Where its sources are, if they can change without its RECORD; ours, whose project holds more, are a module's."""
        if self.name == ALWAYS[0]:
            return []
        if not self.record:
            modules = self._read("top_level.txt").decode(errors="replace").split() or [self.name]
            return [f"{self.folder}/{module}" for module in modules]
        project = _editable_project(self._read("direct_url.json"))
        if files and not project:
            return []
        names = [line.partition(b",")[0].decode(errors="replace") for line in links]
        return [root for name in names for root in _linked(self.folder, name)] or [project] * bool(project)

    def _read(self, name: str) -> bytes:
        return _read(f"{self.folder}/{self.info}/{name}")


def _iter_distributions(folder: str) -> Iterator[_Distribution]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return
    for name in names:
        if match := _INFO.match(name):
            yield _Distribution(match[1].lower(), folder, name, _read(f"{folder}/{name}/RECORD"))


def _editable_project(direct_url: bytes) -> str:
    """The folder of the project that an editable installation was made of; empty for others."""
    try:
        direct = json.loads(direct_url or "{}")
        return unquote(urlsplit(direct["url"]).path) if direct["dir_info"]["editable"] else ""
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""


def _linked(folder: str, link: str) -> Iterator[str]:
    """The folders and files that a ``.pth`` file leads to, itself or by the finder of setuptools that it imports."""
    for line in _read(f"{folder}/{link}").decode(errors="replace").splitlines():
        if finder := _FINDER.match(line):
            yield from _mapped(_read(f"{folder}/{finder[1]}.py").decode(errors="replace"))
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
    return _digest([name.encode(), *(_digest_sources(at) for at in places if str(Path(at).parent) not in vouched)])


def _digest_sources(root: str) -> bytes:
    """Digest a file (its suffix may be missing), or all Python files below a folder, wherever that is."""
    if not Path(root).is_dir():
        return _digest([_read(root) or _read(f"{root}.py")])
    found = sorted(_iter_sources(root, "", (os.path.realpath(root),)))
    return _digest([text for name in found for text in (os.fsencode(name), _read(root + name))])


def _iter_sources(root: str, inside: str, above: tuple[str, ...]) -> Iterator[str]:
    """Yield the paths of Python files, relative to the root; no link leads back to a folder above."""
    try:
        entries = list(os.scandir(root + inside))
    except OSError:
        return
    if inside and any(entry.name == "pyvenv.cfg" for entry in entries):
        return
    for entry in entries:
        if entry.name.endswith(".py"):
            yield f"{inside}/{entry.name}"
        elif entry.is_dir() and entry.name not in PASSED_OVER and not entry.name.startswith("."):
            real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
            if real not in above:
                yield from _iter_sources(root, f"{inside}/{entry.name}", (*above, real))


def _read(path: str) -> bytes:
    """What a file holds; nothing if it cannot be read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 -- there are hundreds, and a Path takes longer than the reading
            return file.read()
    except (OSError, ValueError):
        return b""


def _digest(texts: Sequence[bytes]) -> bytes:
    """Digest some texts, and how long each is, so that none can lend a part to the next."""
    whole = sha256(" ".join(str(len(text)) for text in texts).encode())
    for text in texts:
        whole.update(text)
    return whole.digest()
