"""Google Cloud SQL on loopback, as far as Google's own connector can tell: its API, its certificates, and its instances.

The API answers over plain HTTP. Each instance has an address of 127.0.0.0/8 for itself, because the connector knows one port
only; there it demands a certificate that the API made, in TLS 1.3, and passes bytes on to a server of the tests.
"""

import datetime as dt
import json
import os
import random
import re
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)
from cryptography.x509.oid import NameOID

PORT = 3307
"""A constant of the connector."""

REGION = "europe-west1"
ACCOUNT = "opal@tests.iam.gserviceaccount.com"
HOUR = dt.timedelta(hours=1)
ROUTE = re.compile(r"/sql/v1beta4/projects/(?P<project>[^/]+)/instances/(?P<name>[^/:]+)[/:](?P<verb>\w+)")

Answer = tuple[int, dict[str, Any]]


class Authority:
    """Signs certificates."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("authority of the tests")
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        builder = self._begin(self._name, self._key.public_key(), dt.timedelta(), HOUR)
        self.certificate = _pem(builder.add_extension(constraints, critical=True).sign(self._key, hashes.SHA256()))

    def sign(self, common_name: str, public_key: Any, *, since: dt.timedelta, until: dt.timedelta) -> str:
        """A certificate, as PEM, that is valid from then to then, counted from now."""
        builder = self._begin(_name(common_name), public_key, since, until)
        return _pem(builder.sign(self._key, hashes.SHA256()))

    def _begin(self, subject: x509.Name, key: Any, since: dt.timedelta, until: dt.timedelta) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - dt.timedelta(minutes=1) + since).not_valid_after(now + until)


@dataclass
class Instance:
    """A Cloud SQL instance.

    Args:
        server_port: Of the server behind it.
        version: What the API says it is.
        ip_types: The kinds of addresses that it has, as the API calls them.
        since: From when on its own certificate is valid, counted from its start.
        lifetime: For how long the certificates of its clients are.
        answers: What the API answers next, instead of the truth.

    Attributes:
        address: Where it listens.
        clients: Whose certificates its clients had.
    """

    server_port: int
    version: str = "POSTGRES_18"
    ip_types: tuple[str, ...] = ("PRIMARY", "PRIVATE")
    since: dt.timedelta = dt.timedelta()
    lifetime: dt.timedelta = HOUR
    answers: list[Answer] = field(default_factory=list)
    address: str = ""
    clients: list[str] = field(default_factory=list)


class CloudSql:
    """Google's side of the way, for as long as a block.

    Attributes:
        endpoint: The address of its API.
        requests: What the API was asked.
        key: The JSON of a service account's key, whose tokens it gives out, too.
        refuse_tokens: What it says instead of giving out a token.
        may_give_tokens: Until then it says nothing.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.refuse_tokens: dict[str, str] = {}
        self.may_give_tokens = threading.Event()
        self.may_give_tokens.set()
        self._instances: dict[str, Instance] = {}
        self._listeners: list[socket.socket] = []
        self._authority = Authority()
        self._api = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(self._answer))
        self._api_thread = threading.Thread(target=self._api.serve_forever, args=(0.02,))
        self.endpoint = f"http://127.0.0.1:{self._api.server_port}"
        self.key = json.dumps(self._make_key())

    def __enter__(self) -> Self:
        self._api_thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._api.shutdown()
        self._api.server_close()
        self._api_thread.join()
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)

    def add(self, name: str, instance: Instance) -> None:
        """Let there be an instance."""
        self._instances[name] = instance
        listener = _listen()
        instance.address = listener.getsockname()[0]
        self._listeners.append(listener)
        context = self._make_context(name, instance)
        threading.Thread(target=_accept, args=(listener, context, instance), daemon=True).start()

    def __getitem__(self, name: str) -> Instance:
        return self._instances[name]

    def settings(self, name: str, **others: Any) -> dict[str, Any]:
        """The section ``cloud_sql`` of the configuration, for an instance."""
        usual = {"instance": f"tests:{REGION}:{name}", "user": "postgres", "database": "postgres"}
        return usual | {"credentials": self.key, "api_endpoint": self.endpoint} | others

    def _make_key(self) -> dict[str, str]:
        key = rsa.generate_private_key(65537, 2048)
        private = _pem_of_key(key)
        token_uri = f"{self.endpoint}/token"
        return {"type": "service_account", "client_email": ACCOUNT, "private_key": private, "token_uri": token_uri}

    def _answer(self, path: str, body: bytes) -> Answer:
        self.requests.append(path)
        if path == "/token" or path.endswith(":generateAccessToken"):
            return self._answer_token()
        found = ROUTE.fullmatch(path)
        instance = self._instances.get(found["name"]) if found else None
        if found is None or instance is None:
            return 404, {"error": {"message": "The Cloud SQL instance does not exist."}}
        if instance.answers:
            return instance.answers.pop(0)
        return 200, self._describe(instance) if found["verb"] == "connectSettings" else self._certify(instance, body)

    def _answer_token(self) -> Answer:
        if self.refuse_tokens or not self.may_give_tokens.wait(5):
            return 400, self.refuse_tokens
        until = (dt.datetime.now(dt.UTC) + HOUR).strftime("%Y-%m-%dT%H:%M:%SZ")
        usual = {"access_token": "token", "expires_in": 3600, "token_type": "Bearer"}
        return 200, usual | {"accessToken": "token", "expireTime": until}

    def _describe(self, instance: Instance) -> dict[str, Any]:
        addresses = [{"type": kind, "ipAddress": instance.address} for kind in instance.ip_types if kind != "PSC"]
        psc = {"pscEnabled": True, "dnsName": instance.address} if "PSC" in instance.ip_types else {}
        certificate = {"cert": self._authority.certificate}
        about = {"region": REGION, "databaseVersion": instance.version, "serverCaCert": certificate}
        return {**about, "ipAddresses": addresses, **psc}

    def _certify(self, instance: Instance, body: bytes) -> dict[str, Any]:
        asked = json.loads(body)
        name = "iam" if "access_token" in asked else "password"
        key = load_pem_public_key(asked["public_key"].encode())
        since = min(dt.timedelta(), instance.lifetime - HOUR)
        return {"ephemeralCert": {"cert": self._authority.sign(name, key, since=since, until=instance.lifetime)}}

    def _make_context(self, name: str, instance: Instance) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        until = instance.since + HOUR
        certificate = self._authority.sign(name, key.public_key(), since=instance.since, until=until)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self._authority.certificate)
        with TemporaryDirectory() as folder:
            file = Path(folder, "both.pem")
            file.write_text(_pem_of_key(key) + certificate)
            context.load_cert_chain(file)
        return context


def _listen() -> socket.socket:
    while True:
        address = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
        with suppress(OSError):  # somebody else has it
            return socket.create_server((address, PORT))


def _accept(listener: socket.socket, context: ssl.SSLContext, instance: Instance) -> None:
    with listener, suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_serve, args=(client, context, instance), daemon=True).start()


def _serve(client: socket.socket, context: ssl.SSLContext, instance: Instance) -> None:
    with suppress(OSError), context.wrap_socket(client, server_side=True, do_handshake_on_connect=False) as encrypted:
        try:
            encrypted.do_handshake()
        except ssl.SSLError:
            _let_hear(encrypted)
            raise
        subject: Any = (encrypted.getpeercert() or {})["subject"]
        [[(_, name)]] = subject
        instance.clients.append(name)
        with socket.create_connection(("127.0.0.1", instance.server_port)) as server:
            pass_on(encrypted, server)


def _let_hear(encrypted: ssl.SSLSocket) -> None:
    """Keep the connection until the client has gone: what it was told is lost if it is cut while words of it are unread."""
    with socket.socket(fileno=os.dup(encrypted.fileno())) as raw:
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(1 << 16):
            pass


def pass_on(one: socket.socket, other: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, (one, other))
        selector.register(other, selectors.EVENT_READ, (other, one))
        while True:
            for key, _ in selector.select():
                source, target = key.data
                if not (data := source.recv(1 << 16)):  # more than TLS has in one piece
                    return
                target.sendall(data)


def _make_handler(answer: Callable[[str, bytes], Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, document = answer(self.path, body)
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Connection", "close")
            self.end_headers()
            with suppress(OSError):  # who asked has gone
                self.wfile.write(data)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _pem_of_key(key: PrivateKeyTypes) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
