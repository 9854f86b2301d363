"""A web application under load: a server of its own, and sixteen clients that ask as fast as they are answered."""

import asyncio
import contextlib
import itertools
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.applications import CLIENTS
from benchmarks.environments import ROOT, SetUpError

ROWS = 1000
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
START_UP = 60.0
"""Seconds that a server has to come up."""

SERVERS = {
    "uvicorn": "uvicorn --no-access-log --log-level warning --host 127.0.0.1 --port {port}",
    "gunicorn": "gunicorn --worker-class gthread --threads {clients} --keep-alive 60 --log-level warning --bind 127.0.0.1:{port}",
}
"""One process each. Both keep connections open; the second is for applications that are no ASGI."""


class AnswerError(Exception):
    """A server answered something else than the row."""


@contextlib.contextmanager
def serve(programs: Path, server: str, module: str, environ: dict[str, str]) -> Iterator[int]:
    """Run a server as long as the context lasts, on the last core if there are several; gives its port.

    Raises:
        SetUpError: If it does not come up.
    """
    port = _find_port()
    command = SERVERS[server].format(port=port, clients=CLIENTS).split()
    process = subprocess.Popen(
        [programs / "python", "-m", *command, f"benchmarks.applications.{module}:app"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environ,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: _pin(last=True),
    )
    try:
        _wait(process, port)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def pin_self() -> None:
    """Leave the last core to the servers, and let what is started from now on do so too."""
    _pin(last=False)


async def ask(port: int, path: str, requests: int) -> list[float]:
    """Ask for rows, one after the other with each client.

    Args:
        port: Of the server on 127.0.0.1.
        path: What the number of the row is added to.
        requests: How many, over all clients.

    Returns:
        The seconds that each took, with the whole time at the end.

    Raises:
        AnswerError: If one of them is not answered with the row.
    """
    numbers = itertools.count()
    times: list[float] = []
    began = time.perf_counter()
    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(_ask_on(port, path, requests, numbers, times))
    return [*times, time.perf_counter() - began]


async def _ask_on(port: int, path: str, requests: int, numbers: Iterator[int], times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (number := next(numbers)) < requests:
        row = number * 7919 % ROWS + 1
        began = time.perf_counter()
        writer.write(f"GET {path}{row} HTTP/1.1\r\nHost: benchmark\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        times.append(time.perf_counter() - began)
        if b" 200 " not in head[:15] or b'"name %d"' % row not in body:
            raise AnswerError(f"{path}{row}: {head[:60]!r} {body[:200]!r}")
    writer.close()
    await writer.wait_closed()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + START_UP
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise SetUpError(f"a server did not come up: {process.args!r}")


def _find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _pin(*, last: bool) -> None:
    if hasattr(os, "sched_setaffinity") and len(cores := sorted(os.sched_getaffinity(0))) > 1:
        os.sched_setaffinity(0, cores[-1:] if last else cores[:-1])
