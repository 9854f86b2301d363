"""Digests of files and folders of sources, wherever they lie."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from stat import S_ISREG

PASSED_OVER = ("__pycache__", "dist-packages", "node_modules", "site-packages")
"""Folders that hold no sources of what they lie in; hidden ones and virtual environments are others."""

CHANGES_BY_ITSELF = (".pyc", ".pyo", ".log", ".db", ".sqlite", ".sqlite3", "-journal", "-wal", "-shm", "-lock", "~")
"""How the names of files end that come to be in a package while it is used."""

DEEPEST = 5
"""So many folders deep Python files are looked for where folders on the way to them hold none."""

MOST_FOLDERS = 300
"""In so many folders at most, on each folder of the path."""

LARGE = 1_000_000
"""Of a file with more bytes than this that is no Python only the size counts."""


def digest_texts(texts: Sequence[bytes]) -> bytes:
    """Digest some texts, and how long each is, so that none can lend a part to the next.

    Example:
        >>> digest_texts([b"ab", b"c"]) == digest_texts([b"a", b"bc"])
        False
    """
    whole = sha256(" ".join(str(len(text)) for text in texts).encode())
    for text in texts:
        whole.update(text)
    return whole.digest()


def read_file(path: str, *, most: int | None = None) -> bytes:
    """What a regular file holds; nothing if it is none, or cannot be read.

    Args:
        path: Of the file.
        most: Of a file with more bytes only the size is told.

    Example:
        >>> read_file(os.devnull)
        b''
    """
    try:
        status = os.stat(path)  # noqa: PTH116 -- there are hundreds, and a Path takes longer than the reading
        if not S_ISREG(status.st_mode):  # a pipe would be waited for
            return b""
        if most is not None and status.st_size > most:
            return str(status.st_size).encode()
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read()
    except (OSError, ValueError):
        return b""


def digest_files(root: str) -> bytes:
    """Digest a module (its suffix may be missing), or all Python files below a folder and what lies in its packages."""
    if not os.path.isdir(root):  # noqa: PTH112
        return digest_texts([read_file(root) or read_file(f"{root}.py")])
    is_package = os.path.isfile(f"{root}/__init__.py")  # noqa: PTH113
    return _digest(root, _iter_files(root, "", (os.path.realpath(root),), data=True, is_package=is_package))


def digest_modules(folder: str, claimed: set[str]) -> bytes:
    """Digest the Python files of the modules and packages that a folder on the path holds.

    The folder may be anything, the root of a machine too. So folders without Python files of their own (they may lead to
    namespace packages) are searched as deep as :data:`DEEPEST` and not more than :data:`MOST_FOLDERS` of them; of what is
    beyond, the names of folders count.

    Args:
        folder: Which.
        claimed: The names of entries that do not count.

    Returns:
        32 bytes; none if there are no such files.
    """
    entries = [entry for entry in _scan(folder) if entry.name not in claimed]
    found = list(_iter_modules(folder, entries))
    return _digest(folder, found) if found else b""


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder that modules are looked for in.

    Args:
        inside: Where it is, below the root.
        entries: What it holds.
        above: Itself and those above it, as they really are.
        bare: How many folders without Python files end in this one; 0 if it has some.
    """

    inside: str
    entries: Sequence[os.DirEntry[str]]
    above: tuple[str, ...]
    bare: int = 0


def _iter_modules(root: str, entries: Sequence[os.DirEntry[str]]) -> Iterator[str]:
    """Yield the paths of Python files, relative to the root, level by level; what is only named ends in a slash."""
    left = MOST_FOLDERS
    waiting = deque([_Folder("", entries, (os.path.realpath(root),))])
    while waiting:
        folder = waiting.popleft()
        yield from (f"{folder.inside}/{entry.name}" for entry in folder.entries if _is_module(entry))
        for entry in _packages(folder.entries):
            left -= bool(folder.bare)
            if left < 0:
                yield f"{folder.inside}/{entry.name}/"
            else:
                yield from _look_into(root, folder, entry, waiting)


def _look_into(root: str, folder: _Folder, entry: os.DirEntry[str], waiting: deque[_Folder]) -> Iterator[str]:
    """Yield what a package holds, or the names of what is too deep; let any other folder wait until it is searched."""
    below, path, real = _scan(entry.path), f"{folder.inside}/{entry.name}", _real(entry)
    names, above = {found.name for found in below}, (*folder.above, real)
    if "pyvenv.cfg" in names or real in folder.above:
        return
    if "__init__.py" in names:
        yield from _iter_files(root, path, above, data=False)
    elif any(map(_is_module, below)):
        waiting.append(_Folder(path, below, above))
    elif folder.bare < DEEPEST:
        waiting.append(_Folder(path, below, above, folder.bare + 1))
    else:
        yield from (f"{path}/{found.name}/" for found in _packages(below))


def _packages(entries: Sequence[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """The folders that can be imported, by name."""
    found = (entry for entry in entries if entry.name.isidentifier() and _is_searched(entry))
    return sorted(found, key=lambda entry: entry.name)


def _iter_files(
    root: str, inside: str, above: tuple[str, ...], *, data: bool, is_package: bool = False
) -> Iterator[str]:
    """Yield the paths of files, relative to the root; no link leads back to a folder above.

    Beside Python files these are, where ``data`` count, those in packages: folders below the root that hold Python files,
    and whatever is in them.
    """
    entries = _scan(root + inside)
    if inside and any(entry.name == "pyvenv.cfg" for entry in entries):
        return
    is_package = data and (is_package or bool(inside and any(map(_is_module, entries))))
    for entry in entries:
        if _is_module(entry) or (is_package and _is_data(entry)):
            yield f"{inside}/{entry.name}"
        elif _is_searched(entry) and (real := _real(entry)) not in above:
            below = (*above, real)
            yield from _iter_files(root, f"{inside}/{entry.name}", below, data=data, is_package=is_package)


def _scan(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder, without what is hidden."""
    try:
        return [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError:
        return []


def _is_module(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(".py") and entry.is_file()


def _is_data(entry: os.DirEntry[str]) -> bool:
    return not entry.name.endswith(CHANGES_BY_ITSELF) and entry.is_file()


def _is_searched(entry: os.DirEntry[str]) -> bool:
    return entry.name not in PASSED_OVER and entry.is_dir()


def _real(entry: os.DirEntry[str]) -> str:
    return os.path.realpath(entry.path) if entry.is_symlink() else entry.path


def _digest(root: str, found: Iterator[str] | Sequence[str]) -> bytes:
    return digest_texts([text for name in sorted(found) for text in (os.fsencode(name), _content(root + name))])


def _content(path: str) -> bytes:
    if path.endswith("/"):
        return b""
    return read_file(path, most=None if path.endswith(".py") else LARGE)
