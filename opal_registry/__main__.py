"""The process of the command line: ``opal-db``, and ``python -m opal_registry``."""

import atexit
import contextlib
import gc
import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT


def run() -> NoReturn:
    """Run the command line in this process, and end the process with its exit code.

    Nothing is imported from the folder that it was started in, or that the script lies in, unless ``PYTHONPATH`` names it:
    ``opal-db`` and ``python -m opal_registry`` are the same, wherever they are started.

    Garbage is not collected, and nothing is taken apart in the end: of a thousand mapped classes almost all live as long
    as the process, and looking for those that do not takes as long as making them. Whoever calls
    :func:`opal_registry.cli.main.main` from a program is spared both.
    """
    gc.disable()
    if sys.stdout is None:  # closed by the caller: nobody wants to know
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 -- open to the end
    with contextlib.suppress(OSError):  # the folder that it was started in may be gone
        forget_start()
    end(_main())


def forget_start() -> None:
    """Take from the path what Python puts there for a script or ``-m``, as ``python -P`` does."""
    here, script = Path.cwd(), Path(sys.argv[0]).resolve().parent
    if not sys.flags.safe_path and Path(sys.path[0]).resolve() in {here, script}:
        del sys.path[0]


def _main() -> int:
    """Run the command line; Ctrl-C before it can take care of itself, while its libraries are imported, is told too."""
    try:
        from opal_registry.cli.main import main

        return main()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED


def end(code: int) -> NoReturn:
    """End the process at once, but run what was registered for its end, and lose no output.

    Where other threads are to be waited for, or the output cannot be written, it ends as every Python program does.
    """
    if all(thread.daemon or thread is threading.main_thread() for thread in threading.enumerate()):
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
            os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
