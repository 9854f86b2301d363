"""A network with a delay: a TCP proxy on loopback that holds back each direction by half a round trip, and counts.

Threads that sleep, and no event loop: ``epoll`` waits in whole milliseconds, and half a round trip may be less.
"""

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Self

POSTGRES_READY = b"Z\0\0\0\5I"
"""What PostgreSQL sends when a connection is set up: ReadyForQuery, idle."""

CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Trips:
    """Round trips: what a client sent and the server answered, however many messages and packets that were.

    Args:
        total: All of them, those for setting up connections included; the TCP handshake does not count.
        after_start: Those after the server had said that the connection is ready.
    """

    total: int = 0
    after_start: int = 0

    def __sub__(self, other: "Trips") -> "Trips":
        return Trips(self.total - other.total, self.after_start - other.after_start)


class DelayProxy:
    """A context manager: while it is open, what connects to ``port`` reaches the server, later.

    A client that sends something opens a question; the first thing of the server that reaches it afterwards closes the
    question, and is one round trip. What nobody answers, such as a farewell, is none.

    Args:
        server: The port of the server on 127.0.0.1.
        seconds: How long a round trip takes.
        ready: What ends the server's part of setting up a connection; empty if nothing does.

    Attributes:
        port: Where clients connect to, on 127.0.0.1.
    """

    def __init__(self, server: int, *, seconds: float, ready: bytes = POSTGRES_READY) -> None:
        self._server = server
        self._delay = seconds / 2
        self._ready = ready
        self._lock = threading.Lock()
        self._total = self._starting = 0
        self._talks: set[_Talk] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def trips(self) -> Trips:
        """The round trips so far, of all connections."""
        with self._lock:
            return Trips(self._total, self._total - self._starting)

    def close(self) -> None:
        """Stop listening, cut what is still connected, and wait for its threads."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        for talk in self._open_talks():
            talk.cut()
        for talk in self._open_talks():
            talk.join()

    def _open_talks(self) -> "list[_Talk]":
        with self._lock:
            return list(self._talks)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server))
            except OSError:
                client.close()
                continue
            talk = _Talk(self, client, server)
            with self._lock:
                self._talks.add(talk)
            talk.start()

    def _count(self, *, starting: bool) -> None:
        with self._lock:
            self._total += 1
            self._starting += starting

    def _forget(self, talk: "_Talk") -> None:
        with self._lock:
            self._talks.discard(talk)


class _Talk:
    """One connection: two directions, each with a thread that receives and one that delivers, late and in order."""

    def __init__(self, proxy: DelayProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client, self._server = client, server
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._is_cut = threading.Event()
        self._asked = False
        self._said = b""
        self._starting = bool(proxy._ready)
        self._threads = [
            threading.Thread(target=part, args=(*ends, queue), daemon=True)
            for ends in ((client, server), (server, client))
            for queue in (SimpleQueue[tuple[float, bytes]](),)
            for part in (self._receive, self._deliver)
        ]
        self._delivering = 2

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def cut(self) -> None:
        self._is_cut.set()
        for each in (self._client, self._server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _receive(self, source: socket.socket, _target: socket.socket, queue: SimpleQueue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(CHUNK)
            except OSError:
                data = b""
            if data and source is self._client:
                self._asked = True
            queue.put((time.monotonic() + self._proxy._delay, data))

    def _deliver(self, source: socket.socket, target: socket.socket, queue: SimpleQueue[tuple[float, bytes]]) -> None:
        with suppress(OSError):
            while True:
                due, data = queue.get()
                if self._is_cut.wait(max(0.0, due - time.monotonic())) or not data:
                    target.shutdown(socket.SHUT_WR)
                    break
                if source is self._server:
                    self._note_answer(data)  # before the client can go on
                target.sendall(data)
        self._end()

    def _note_answer(self, data: bytes) -> None:
        if self._asked:
            self._asked = False
            self._proxy._count(starting=self._starting)
        if self._starting:
            self._said += data
            self._starting = self._proxy._ready not in self._said

    def _end(self) -> None:
        with self._proxy._lock:
            self._delivering -= 1
            last = not self._delivering
        if last:
            self._client.close()
            self._server.close()
            self._proxy._forget(self)
