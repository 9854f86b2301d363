"""The process of the command line: ``opal-db``, and ``python -m opal_registry``."""

import atexit
import contextlib
import gc
import os
import sys
import threading
from pathlib import Path
from typing import NoReturn


def run() -> NoReturn:
    """Run the command line in this process, and end the process with its exit code.

    Garbage is not collected, and nothing is taken apart in the end: of a thousand mapped classes almost all live as long
    as the process, and looking for those that do not takes as long as making them. Whoever calls
    :func:`opal_registry.cli.main.main` from a program is spared both.
    """
    gc.disable()
    if sys.stdout is None:  # closed by the caller: nobody wants to know
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 -- open to the end
    from opal_registry.cli.main import main

    end(main())


def end(code: int) -> NoReturn:
    """End the process at once, but run what was registered for its end, and lose no output.

    Where other threads still run, or the output cannot be written, it ends as every Python program does.
    """
    if threading.active_count() == 1:
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
            os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
