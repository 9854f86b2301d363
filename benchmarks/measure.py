"""One run of one process: how long it took, and how much processor time it needed."""

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.proxy import Trips

LAST_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Run:
    """What one process did.

    Args:
        wall: Seconds from its start to its end.
        cpu: Seconds of processor time, user and system, of it and of its children.
        code: Its exit code.
        stopped: Whether it took longer than it may, and was killed.
        output: The end of what it printed.
        trips: The round trips to the server, where they were counted.
    """

    wall: float
    cpu: float
    code: int
    stopped: bool = False
    output: str = ""
    trips: Trips | None = None

    @property
    def succeeded(self) -> bool:
        """Whether it came to a good end by itself."""
        return self.code == 0 and not self.stopped


def run(argv: Sequence[str | Path], *, environ: Mapping[str, str], cwd: Path, timeout: float) -> Run:
    """Run a program to its end.

    Args:
        argv: The program and its arguments.
        environ: All of its variables.
        cwd: Where it runs.
        timeout: After how many seconds it is killed, with all that it started.
    """
    stopped = threading.Event()
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environ,
            cwd=cwd,
            start_new_session=True,
        )
        timer = threading.Timer(timeout, _stop, (process.pid, stopped))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:  # such as Ctrl-C, which a session of its own does not get
            _stop(process.pid, stopped)
            process.wait()
            raise
        finally:
            timer.cancel()
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode(errors="replace")[-LAST_CHARACTERS:]
    return Run(wall, usage.ru_utime + usage.ru_stime, process.returncode, stopped.is_set(), said)


def _stop(pid: int, stopped: threading.Event) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
        stopped.set()
