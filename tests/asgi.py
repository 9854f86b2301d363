"""Requests to an application without a server, so that whoever asks sees when what is sent, and may leave."""

import asyncio
from collections.abc import Callable
from typing import Any


class Exchange:
    """A request to an application, and what comes back; whoever waits for ``body`` may leave before all is there."""

    def __init__(self, app: Any, path: str, method: str = "GET", *, on_start: Callable[[], Any] = lambda: None) -> None:
        self.app, self.on_start = app, on_start
        self.status, self.body, self.headers = 0, b"", dict[bytes, bytes]()
        self.at_start: Any = None
        self.first, self.left = asyncio.Event(), asyncio.Event()
        self.asked = False
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [],
            "scheme": "http",
            "server": ("opal", 80),
            "client": ("ada", 1),
        }

    async def receive(self) -> dict[str, Any]:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers, self.at_start = message["status"], dict(message["headers"]), self.on_start()
        else:
            self.body += message.get("body", b"")
            self.first.set()

    async def run(self) -> "Exchange":
        await self.app(self.scope, self.receive, self.send)
        return self
