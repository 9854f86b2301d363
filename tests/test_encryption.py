"""Encryption: what each mode demands with each driver, what is wrong with a certificate, and what doctor sees of it."""

import asyncio
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.doctor import examine
from opal_registry.engines.encryption import STREAMS, judge_encryption
from opal_registry.engines.errors.failures import explain
from opal_registry.engines.errors.neutral import ConnectError
from opal_registry.errors import ConfigError
from tests.databases import database_of, registry_of
from tests.mariadb import MariaDB
from tests.postgres import Cluster
from tests.tls import Authority, EncryptingServer

ASK = sa.text("SELECT 1")
POSTGRES = ["postgresql+psycopg", "postgresql+pg8000", "postgresql+asyncpg"]
LATER = {"postgresql+asyncpg", "mysql+asyncmy"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture(scope="module")
def encrypting() -> Iterator[tuple[MariaDB, Path]]:
    """A MariaDB that encrypts, and the certificate of its authority."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the server runs as another user
        authority = Authority(Path(folder))
        shown = authority.sign("127.0.0.1")
        shown.key.chmod(0o644)
        with MariaDB(ssl_cert=str(shown.cert), ssl_key=str(shown.key), ssl_ca=str(authority.cert)) as server:
            yield server, authority.cert


def connect(driver: str, port: int, name: str = "postgres", **tls: object) -> None:
    user = "postgres" if driver.startswith("postgresql") else "root"
    url = f"{driver}://{user}@127.0.0.1:{port}/{name}"
    with registry_of(url, database={"url": url, "ssl": tls}) as registry:
        if driver not in LATER:
            with registry.engine().connect() as connection:
                assert connection.scalar(ASK) == 1
            return

        async def main() -> None:
            async with registry, registry.async_engine().connect() as connection:
                assert await connection.scalar(ASK) == 1

        asyncio.run(main())


def refusal(driver: str, port: int, name: str = "postgres", **tls: object) -> str:
    with pytest.raises(ConnectError) as caught:
        connect(driver, port, name, **tls)
    return str(explain(caught.value, sa.make_url(f"{driver}://db.example")))


def full(authority: Authority, **others: object) -> dict[str, Any]:
    return {"mode": "verify-full", "root_cert": str(authority.cert)} | others


@pytest.mark.parametrize("driver", POSTGRES)
class TestPostgres:
    def test_a_certificate_that_is_right_is_taken(self, driver: str, authority: Authority, postgres: Cluster) -> None:
        with EncryptingServer(postgres.port, authority.sign("127.0.0.1")) as server:
            connect(driver, server.port, **full(authority))
            connect(driver, server.port, mode="require")

    def test_one_for_another_name_is_taken_if_the_name_is_not_looked_at(
        self, driver: str, authority: Authority, postgres: Cluster
    ) -> None:
        with EncryptingServer(postgres.port, authority.sign("db.example")) as server:
            said = refusal(driver, server.port, **full(authority))
            assert "the server's certificate is for another name" in said
            connect(driver, server.port, mode="verify-ca", root_cert=str(authority.cert))

    def test_one_that_has_expired_is_not(self, driver: str, authority: Authority, postgres: Cluster) -> None:
        with EncryptingServer(postgres.port, authority.sign("127.0.0.1", days=-1)) as server:
            assert re.search(
                "the server's certificate has expired.*mend:  (renew it|look at it)",
                refusal(driver, server.port, **full(authority)),
                re.DOTALL,
            )

    def test_one_of_a_stranger_is_not(
        self, driver: str, authority: Authority, postgres: Cluster, tmp_path: Path
    ) -> None:
        with EncryptingServer(postgres.port, Authority(tmp_path, "stranger").sign("127.0.0.1")) as server:
            said = refusal(driver, server.port, **full(authority))
            assert "not known here" in refusal(driver, server.port, mode="require", root_cert=str(authority.cert))
        assert "signed by an authority that is not known here" in said
        assert "set database.ssl.root_cert" in said

    def test_a_server_that_does_not_encrypt_is_told(self, driver: str, authority: Authority, postgres: Cluster) -> None:
        with EncryptingServer(postgres.port, authority.sign("127.0.0.1"), willing=False) as server:
            assert "the server does not encrypt" in refusal(driver, server.port, mode="require")
            connect(driver, server.port)

    def test_a_client_shows_its_own(self, driver: str, authority: Authority, postgres: Cluster) -> None:
        ada = authority.sign("ada")
        with EncryptingServer(postgres.port, authority.sign("127.0.0.1"), clients=authority.cert) as server:
            connect(driver, server.port, **full(authority, cert=str(ada.cert), key=str(ada.key)))
            if driver == "postgresql+psycopg":  # the others are not told why they are cut off
                assert "set database.ssl.cert" in refusal(driver, server.port, **full(authority))

    def test_disabled_is_disabled(self, driver: str, authority: Authority, postgres: Cluster) -> None:
        with EncryptingServer(postgres.port, authority.sign("127.0.0.1"), needed=True) as server:
            connect(driver, server.port)
            refusal(driver, server.port, mode="disable")


@pytest.mark.parametrize("driver", POSTGRES)
def test_a_key_with_a_pass_phrase_is_told_and_asked_of_nobody(
    driver: str, authority: Authority, postgres: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    ada = authority.sign("ada", phrase=b"secret")
    with EncryptingServer(postgres.port, authority.sign("127.0.0.1"), clients=authority.cert) as server:
        with pytest.raises(ConfigError, match="or one that needs a pass phrase"):
            connect(driver, server.port, **full(authority, cert=str(ada.cert), key=str(ada.key)))
    assert "pass phrase" not in "".join(capfd.readouterr())


def test_a_key_that_others_may_read_is_told(authority: Authority, postgres: Cluster) -> None:
    ada = authority.sign("ada")
    ada.key.chmod(0o644)
    with EncryptingServer(postgres.port, authority.sign("127.0.0.1")) as server:
        said = refusal(POSTGRES[0], server.port, **full(authority, cert=str(ada.cert), key=str(ada.key)))
    assert "others may read the client's key" in said
    assert "mend:  chmod 600" in said


@pytest.mark.parametrize("driver", ["mysql+pymysql", "mysql+asyncmy"])
def test_mariadb(driver: str, encrypting: tuple[MariaDB, Path], tmp_path: Path, mariadb: MariaDB) -> None:
    server, root_cert = encrypting
    connect(driver, server.port, "mysql", mode="verify-full", root_cert=str(root_cert))
    said = refusal(driver, server.port, mode="verify-full", root_cert=str(Authority(tmp_path).cert))
    assert "signed by an authority that is not known here" in said
    assert "the server does not encrypt" in refusal(driver, mariadb.port, mode="require")


class TestDoctor:
    def test_says_what_was_agreed_on(self, encrypting: tuple[MariaDB, Path]) -> None:
        server, root_cert = encrypting
        tls = {"mode": "verify-full", "root_cert": str(root_cert)}
        url = server.url("mysql")
        with registry_of(url, database={"url": url, "ssl": tls}) as registry:
            found = {each.check: each for each in examine(registry).findings}["encryption"]
        assert re.fullmatch(
            r"encrypted \(TLSv1\.\d, \w+\); the server's certificate and its name are verified", found.what
        )
        assert not found.mend

    def test_sees_it_before_a_server_that_does_not_know(self, authority: Authority, postgres: Cluster) -> None:
        with EncryptingServer(postgres.port, authority.sign("127.0.0.1")) as server:
            url = f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
            with registry_of(url, database={"url": url, "ssl": full(authority)}) as registry:
                found = {each.check: each for each in examine(registry).findings}["encryption"]
        assert found.what.startswith("encrypted (up to what stands before the server)")

    def test_knows_that_require_verifies_where_there_is_an_authority(self) -> None:
        url = "postgresql://db.example/x"
        settings = database_of(url, ssl={"mode": "require", "root_cert": "/ca.pem"})
        assert "is verified, but not its name" in judge_encryption("TLSv1.3, X", settings, sa.make_url(url))[0]

    def test_asks_the_server_where_it_does_not_know_the_driver(
        self, encrypting: tuple[MariaDB, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(STREAMS, "pymysql")
        self.test_says_what_was_agreed_on(encrypting)

    def test_asks_the_driver_of_the_application(self, encrypting: tuple[MariaDB, Path]) -> None:
        url = encrypting[0].url("mysql").replace("pymysql", "asyncmy")
        for tls, said in [({}, "not encrypted"), ({"mode": "require"}, "encrypted (TLSv1")]:
            with registry_of(url, database={"url": url, "ssl": tls}) as registry:
                found = {each.check: each for each in examine(registry).findings}["encryption"]
            assert found.what.startswith(said)

    @pytest.mark.parametrize("driver", ["pg8000", "asyncpg"])
    def test_believes_the_driver_and_not_the_server(self, driver: str, authority: Authority, postgres: Cluster) -> None:
        with EncryptingServer(postgres.port, authority.sign("127.0.0.1")) as server:
            url = f"postgresql+{driver}://postgres@127.0.0.1:{server.port}/postgres"
            with registry_of(url, database={"url": url, "ssl": full(authority)}) as registry:
                found = {each.check: each for each in examine(registry).findings}["encryption"]
        assert re.match(r"encrypted \(TLSv1\.\d, \w+\); the server's certificate and its name are verified", found.what)

    @pytest.mark.parametrize(
        ("found", "url", "said"),
        [
            (None, "postgresql://db.example/x", "what goes to db.example and comes back is not encrypted"),
            ("TLSv1.3, X", "postgresql://db.example/x", "nobody looks whose certificate that is (ssl.mode: not set)"),
            ("TLSv1.3, X", "postgresql://db.example/x?sslmode=verify-ca", "verified, but not its name"),
            (None, "postgresql://localhost/x", "not encrypted, and the connection stays on this machine"),
            (None, "postgresql://u@/x?host=/run/postgresql", "stays on this machine"),
            (None, "postgresql://u@/x?host=127.0.0.1,localhost", "stays on this machine"),
            (None, "postgresql://u@/x?host=a,db.example&port=1,2", "what goes to a, db.example and comes back"),
        ],
    )
    def test_judges(self, found: str | None, url: str, said: str) -> None:
        what, mend = judge_encryption(found, database_of(url), sa.make_url(url))
        assert said in what
        assert bool(mend) is ("db.example" in url and "verify" not in url)
