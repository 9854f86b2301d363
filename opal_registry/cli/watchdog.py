"""Ends an import that hangs: the plugin and the place are printed, and the process exits."""

import contextlib
import faulthandler
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import NamedTuple

from opal_registry.cli.output import error_document
from opal_registry.errors import PluginError, Problem

GRACE = 1.0
"""Seconds after which the interpreter itself ends a block that gives no other thread a turn."""

INNERMOST = 8
"""How many frames are shown where those of the plugin cannot be told apart."""

SHOW_CURSOR = "\r\x1b[2K\x1b[?25h"
"""Takes a progress display away; what it hid would stay hidden in the terminal."""


class Watchdog:
    """Gives one block after the other so many seconds; then it ends the process with the exit code of a plugin's fault.

    Only a process of our own may be ended like this, so applications do not use it. The code in the block cannot
    prevent it. Where it gives no other thread a turn (C code that keeps the interpreter's lock), the interpreter ends it
    a second later, with its own report of the stack and exit code 1.

    Args:
        seconds: How long a block may take.
        as_json: Whether to print the error as a document as well.
    """

    def __init__(self, seconds: float, *, as_json: bool = False) -> None:
        self._seconds, self._as_json = seconds, as_json
        self._watched: _Watched | None = None
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    @contextlib.contextmanager
    def watching(self, text: str) -> Iterator[None]:
        """Watch the block.

        Args:
            text: What is being done; it names the plugin.
        """
        if not self._thread.ident:
            self._thread.start()
        self._watched = _Watched(text, time.monotonic() + self._seconds, threading.get_ident())
        faulthandler.dump_traceback_later(self._seconds + GRACE, exit=True, file=2)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._watched = None

    def _watch(self) -> None:
        """Sleep to the end of what is watched; what begins in the meantime ends no sooner than the next look."""
        left = self._seconds
        while True:
            time.sleep(left)
            watched = self._watched
            left = watched.deadline - time.monotonic() if watched else self._seconds
            if watched and left <= 0:
                _end(watched.text, self._seconds, watched.thread, self._as_json)


class _Watched(NamedTuple):
    """What is being done, to the end of what second of the clock, and by which thread."""

    text: str
    deadline: float
    thread: int


def _end(text: str, seconds: float, thread: int, as_json: bool) -> None:
    mend = "leave the plugin out with sub_apps.disabled, or give it longer with sub_apps.import_timeout"
    where = f"this is where it hangs\n{_stack(thread)}"
    error = PluginError(Problem(f"{text} does not end: it was given {seconds:g} s", where, mend))
    if as_json:
        os.write(1, f"{json.dumps({'error': error_document(error)}, indent=2, ensure_ascii=False)}\n".encode())
    os.write(2, f"{SHOW_CURSOR if os.isatty(2) else ''}error: {error}\n".encode())
    os._exit(error.exit_code)


def _stack(thread: int) -> str:
    """What the plugin's code is doing: the frames below the last one of ours."""
    frames = [frame for frame, _ in traceback.walk_stack(sys._current_frames().get(thread))][::-1]
    ours = [number for number, frame in enumerate(frames, 1) if _package(frame.f_globals) == "opal_registry"]
    inner = frames[max(ours, default=0) :] or frames[-INNERMOST:]
    told = [frame for frame in inner if _package(frame.f_globals) not in {"importlib", "pluggy"}]
    lines = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in told).format()
    return "".join(lines).rstrip()


def _package(names: dict[str, object]) -> str:
    return str(names.get("__name__")).partition(".")[0]
