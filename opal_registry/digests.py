"""Digests of files and folders of sources, wherever they lie."""

import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from stat import S_ISREG

PASSED_OVER = ("__pycache__", "node_modules", "site-packages")
"""Folders that hold no sources of what they lie in; hidden ones and virtual environments are others."""

CHANGES_BY_ITSELF = (".pyc", ".pyo", ".log", ".db", ".sqlite", ".sqlite3", "-journal", "-wal", "-shm", "-lock", "~")
"""How the names of files end that come to be in a package while it is used."""

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

    The folder may be anything, the root of a machine too. So it is searched no further than folders that hold Python
    files themselves, and packages with an ``__init__.py``.

    Args:
        folder: Which.
        claimed: The names of entries that do not count.

    Returns:
        32 bytes; none if there are no such files.
    """
    entries = [entry for entry in _scan(folder) if entry.name not in claimed]
    found = list(_iter_modules(folder, "", entries, (os.path.realpath(folder),)))
    return _digest(folder, found) if found else b""


def _iter_modules(root: str, inside: str, entries: Sequence[os.DirEntry[str]], above: tuple[str, ...]) -> Iterator[str]:
    yield from (f"{inside}/{entry.name}" for entry in entries if _is_module(entry))
    for entry in entries:
        if entry.name.isidentifier() and _is_searched(entry):
            below, real = _scan(entry.path), _real(entry)
            path = f"{inside}/{entry.name}"
            if any(found.name == "__init__.py" for found in below):
                yield from _iter_files(root, path, (*above, real), data=False)
            elif real not in above and any(map(_is_module, below)):
                yield from _iter_modules(root, path, below, (*above, real))


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
    return read_file(path, most=None if path.endswith(".py") else LARGE)
