"""Google Secret Manager on loopback, for its own client: what is there, what was asked, and what it refuses."""

import base64
import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud import secretmanager
from google.cloud.secretmanager_v1.services.secret_manager_service import transports

STATUS = {403: "PERMISSION_DENIED", 404: "NOT_FOUND", 400: "FAILED_PRECONDITION"}


@dataclass
class SecretManager:
    """A server of secrets.

    Attributes:
        secrets: What each version holds, by its full name; a number is the status with which it is refused.
        asked: The names that were asked for, in order.
        port: Where it listens on 127.0.0.1.
    """

    secrets: dict[str, str | bytes | int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    @contextlib.contextmanager
    def running(self) -> Iterator["SecretManager"]:
        """Serve as long as the context lasts."""
        manager = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.removeprefix("/v1/").partition(":access")[0]
                manager.asked.append(name)
                manager.answer(self, manager.secrets.get(name, 404))

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_port
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            yield self
            server.shutdown()
            thread.join()

    def answer(self, handler: http.server.BaseHTTPRequestHandler, held: str | bytes | int) -> None:
        """Answer as Google does."""
        status, said = 200, dict[str, Any]()
        if isinstance(held, int):
            status, said = held, {"error": {"code": held, "message": "refused", "status": STATUS[held]}}
        else:
            data = held.encode() if isinstance(held, str) else held
            said = {"name": "x", "payload": {"data": base64.b64encode(data).decode()}}
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.wfile.write(json.dumps(said).encode())

    def make_client(self, _location: str) -> secretmanager.SecretManagerServiceClient:
        """Google's client, told to come here."""
        transport = transports.SecretManagerServiceRestTransport(
            host=f"127.0.0.1:{self.port}",
            url_scheme="http",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        )
        return secretmanager.SecretManagerServiceClient(transport=transport)
