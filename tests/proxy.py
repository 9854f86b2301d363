"""A TCP proxy before a server that cuts a connection at a chosen moment."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self

Moment = Literal["before", "after"]
"""Whether the connection is cut before the server gets the words, or when it has them and begins to answer."""


class Proxy:
    """Passes bytes on to a server on loopback, until a client sends certain words: then that connection is cut.

    Args:
        port: The server's.
        words: What the client sends, such as ``CREATE TABLE``.
        moment: When it is cut.

    Attributes:
        port: Its own.
        cuts: How many connections it has cut.
    """

    def __init__(self, port: int, words: bytes, moment: Moment) -> None:
        self._server, self._words, self._moment = port, words, moment
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        _shut(self._listener)
        self._threads[0].join()
        _shut(*self._sockets)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                server = socket.create_connection(("127.0.0.1", self._server))
                self._sockets.append(server)
                doomed = threading.Event()
                self._start(self._ask, client, server, doomed)
                self._start(self._answer, server, client, doomed)

    def _ask(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 20):
                if self._words in data and not self.cuts:
                    self.cuts += 1
                    doomed.set()
                    if self._moment == "before":
                        break
                server.sendall(data)
        _shut(server, client)

    def _answer(self, server: socket.socket, client: socket.socket, doomed: threading.Event) -> None:
        with suppress(OSError):
            while (data := server.recv(1 << 20)) and not doomed.is_set():
                client.sendall(data)
        _shut(server, client)


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


__all__ = ["Moment", "Proxy"]
