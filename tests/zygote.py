"""Programs that are forked from a process which has imported the libraries already: hundredths of a second, not seconds.

What runs is the same as in a process of its own: no module of a sub-app, and no model, is imported before the fork.
"""

import json
import os
import selectors
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests import zygote_server
from tests.distributions import Finished, Site


class Zygote:
    """The process that forks, seen from outside.

    Args:
        python: The interpreter to run it with.
        folder: Where to keep what programs print.
    """

    def __init__(self, python: Path, folder: Path) -> None:
        self._streams = {name: str(folder / name) for name in ("stdin", "stdout", "stderr")}
        self._process = subprocess.Popen(  # unbuffered: what has been read ahead, nobody could wait for
            [python, zygote_server.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._from, selectors.EVENT_READ)

    def run(
        self, *arguments: str, env: Mapping[str, str], cwd: Path, stdin: str | None = None, timeout: float = 60
    ) -> Finished:
        """Run Python with some arguments (``-m module ...`` or ``-c code ...``), to its end.

        Raises:
            subprocess.TimeoutExpired: If it takes longer.
        """
        Path(self._streams["stdin"]).write_text(stdin or "", "utf-8")
        request = {"arguments": arguments, "env": dict(env), "cwd": str(cwd), "streams": self._streams}
        self._to.write(f"{json.dumps(request)}\n".encode())
        pid = int(self._from.readline())
        late = not self._selector.select(timeout)
        if late:
            with suppress(ProcessLookupError):  # it may have ended just now
                os.kill(pid, signal.SIGKILL)
        code = int(self._from.readline())
        if late:
            raise subprocess.TimeoutExpired(arguments, timeout)
        return Finished(code, *(Path(self._streams[name]).read_text("utf-8") for name in ("stdout", "stderr")))

    def close(self) -> None:
        """End the process."""
        self._selector.close()
        self._to.close()
        self._process.wait()
        self._from.close()


@dataclass(slots=True)
class QuickSite(Site):
    """A site whose programs are forked; what needs the sample sub-apps gets a process of its own as ever.

    Attributes:
        zygote: What they are forked from.
    """

    zygote: Zygote = field(kw_only=True)

    def _finish(
        self,
        command: tuple[str | Path, ...],
        *,
        env: Mapping[str, str | None] | None,
        stdin: str | None,
        cwd: Path | None,
        timeout: float,
    ) -> Finished:
        if command[0] != self.core_python:
            return Site._finish(self, command, env=env, stdin=stdin, cwd=cwd, timeout=timeout)
        arguments = map(str, command[1:])
        return self.zygote.run(*arguments, env=self.environment(env), cwd=cwd or self.cwd, stdin=stdin, timeout=timeout)
