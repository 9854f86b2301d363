"""SQLite files that can be looked at, though nothing beside them can be made: on a read-only file system, say.

A file in WAL mode needs two others beside it, even for those who only read. Where these cannot be made, SQLite reads it
all the same if it is told that nobody changes it ("immutable"; its documentation, "Read-Only WAL-Mode Databases").
"""

import os
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from opal_registry.engines.url import get_sqlite_path

WAL_MARK = (18, 2)
"""Where the header of a file says that it is in WAL mode, and how ("Database File Format", 1.3.3)."""


def is_frozen(path: Path) -> bool:
    """Whether a file is in WAL mode, nothing can be made beside it, and nothing of it is anywhere else."""
    return _is_wal(path) and not _is_writable(path.parent) and not _has_log(path)


def open_frozen(path: Path) -> sa.engine.interfaces.DBAPIConnection:
    """Connect to such a file; nothing is locked, and nothing is made."""
    import sqlite3

    return sqlite3.connect(  # type: ignore[return-value]
        f"file:{quote(str(path.absolute()))}?immutable=1", uri=True, check_same_thread=False
    )


def explain_place(url: sa.URL) -> tuple[str, str] | None:
    """What is wrong with the place of a SQLite file that cannot be opened or written, and what to do; None if nothing is."""
    path = get_sqlite_path(url)
    if path is None or _is_writable(path.parent):
        return None
    if is_read_only(path.parent):
        what, mend = "the file system is read-only here", "mount it so that it can be written to, or use another path"
    else:
        what, mend = "the directory of the file may not be written to", "let this user write to the directory"
    if _has_log(path):
        what += f", and what was written last is in {path.name}-wal, which cannot be looked at then"
    return what, mend


def is_read_only(folder: Path) -> bool:
    """Whether the file system of a folder is mounted so that nobody can write to it."""
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except (OSError, AttributeError):  # there is no such thing on Windows
        return False


def _is_wal(path: Path) -> bool:
    at, mark = WAL_MARK
    try:
        with path.open("rb") as file:
            return file.read(at + 1)[at:] == bytes([mark])
    except OSError:
        return False


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _has_log(path: Path) -> bool:
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size > 0
    except OSError:
        return False
