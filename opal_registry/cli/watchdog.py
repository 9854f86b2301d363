"""Ends an import that hangs: the plugin and the place are printed, and the process exits."""

import contextlib
import faulthandler
import json
import os
import sys
import threading
import traceback
from collections.abc import Iterator

from opal_registry.cli.output import error_document
from opal_registry.errors import PluginError, Problem

GRACE = 1.0
"""Seconds after which the interpreter itself ends a block that gives no other thread a turn."""

INNERMOST = 8
"""How many frames are shown where those of the plugin cannot be told apart."""

SHOW_CURSOR = "\r\x1b[2K\x1b[?25h"
"""Takes a progress display away; what it hid would stay hidden in the terminal."""


@contextlib.contextmanager
def watched(text: str, *, seconds: float, as_json: bool = False) -> Iterator[None]:
    """Give the block so many seconds; then end the process with the exit code of a plugin's fault.

    Only a process of our own may be ended like this, so applications do not use it. The code in the block cannot
    prevent it. Where it gives no other thread a turn (C code that keeps the interpreter's lock), the interpreter ends it
    a second later, with its own report of the stack and exit code 1.

    Args:
        text: What is being done; it names the plugin.
        seconds: How long it may take.
        as_json: Whether to print the error as a document as well.
    """
    timer = threading.Timer(seconds, _end, (text, seconds, threading.get_ident(), as_json))
    timer.daemon = True
    timer.start()
    faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        timer.cancel()


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
