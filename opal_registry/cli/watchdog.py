"""Ends an import that hangs: the plugin and the place are printed, and the process exits."""

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Iterator

from opal_registry.errors import PluginError


@contextlib.contextmanager
def watched(text: str, *, seconds: float) -> Iterator[None]:
    """Give the block so many seconds; then end the process with the exit code of a plugin's fault.

    Only a process of our own may be ended like this, so applications do not use it. The code in the block cannot
    prevent it, as long as it gives other threads a turn.

    Args:
        text: What is being done; it names the plugin.
        seconds: How long it may take.
    """
    timer = threading.Timer(seconds, _end, (text, seconds, threading.get_ident()))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(text: str, seconds: float, thread: int) -> None:
    frame = sys._current_frames().get(thread)
    stack = "".join(traceback.format_stack(frame)[-8:]) if frame else ""
    lines = (
        f"error: {text} does not end: it was given {seconds:g} s",
        f"  where: this is where it hangs\n{stack.rstrip()}",
        "  mend:  leave the plugin out with sub_apps.disabled, or raise sub_apps.import_timeout",
    )
    os.write(2, ("\n".join(lines) + "\n").encode())
    os._exit(PluginError.exit_code)
