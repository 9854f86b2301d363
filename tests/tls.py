"""Certificates made on the fly, and a PostgreSQL that encrypts: the tests' own servers are built without OpenSSL."""

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.cloud_sql import pass_on

DAY = dt.timedelta(days=1)
TLS_WANTED, GSSAPI_WANTED = (8).to_bytes(4) + (80877103).to_bytes(4), (8).to_bytes(4) + (80877104).to_bytes(4)
"""How a client asks PostgreSQL for encryption (protocol 3.0, 54.2.10)."""


@dataclass(frozen=True)
class Certificate:
    """The files of a certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates, as PEM files in a folder.

    Args:
        folder: Where the files go.
        name: Whose name they bear.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder, self._name = folder, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.cert = folder / f"{name}.pem"
        limits = x509.BasicConstraints(ca=True, path_length=None)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = self._begin(self._name, self._key, 30 * DAY).add_extension(limits, critical=True)
        made = made.add_extension(usage, critical=True)
        self.cert.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def sign(self, name: str, *, days: int = 1, phrase: bytes = b"") -> Certificate:
        """A certificate for a host or a client, valid for so many days, which may be over; its key may need a pass phrase."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [x509.DNSName(name)]
        with suppress(ValueError):
            names = [x509.IPAddress(ipaddress.ip_address(name))]
        made = self._begin(subject, key, days * DAY).add_extension(x509.SubjectAlternativeName(names), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = made.add_extension(identifier, critical=False)
        files = Certificate(self._folder / f"{name}{days}.pem", self._folder / f"{name}{days}.key")
        files.cert.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        locked = BestAvailableEncryption(phrase) if phrase else NoEncryption()
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
        files.key.chmod(0o600)
        return files

    def _begin(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, life: dt.timedelta
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number())
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return made.not_valid_before(now - 10 * DAY).not_valid_after(now + life)


class EncryptingServer:
    """A server before a PostgreSQL, which agrees on TLS as that would, and passes on what is said then.

    Args:
        port: PostgreSQL's.
        certificate: What it shows.
        clients: The certificate of the authority whose clients are let in; anybody's if it is not given.
        willing: Whether it encrypts at all.
        needed: Whether it refuses those who do not want to.

    Attributes:
        port: Where it listens on 127.0.0.1.
    """

    def __init__(
        self,
        port: int,
        certificate: Certificate,
        *,
        clients: Path | None = None,
        willing: bool = True,
        needed: bool = False,
    ) -> None:
        self._server, self._willing, self._needed = port, willing, needed
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.cert, certificate.key)
        if clients is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(clients)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            while (wanted := client.recv(8, socket.MSG_PEEK)) == GSSAPI_WANTED or wanted == TLS_WANTED:
                client.recv(8)
                if wanted == TLS_WANTED and self._willing:
                    client.sendall(b"S")
                    with self._context.wrap_socket(client, server_side=True) as encrypted:
                        self._connect(encrypted)
                    return
                client.sendall(b"N")
            if not self._needed:
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._server)) as server:
            pass_on(client, server)
