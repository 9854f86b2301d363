"""Passwords that are replaced while an application runs."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.engines.errors.neutral import ConnectError
from opal_registry.registry import Registry
from tests.databases import registry_of
from tests.mariadb import MariaDB
from tests.pgbouncer import PgBouncer
from tests.postgres import Cluster
from tests.secret_manager import SecretManager

ASK = sa.text("SELECT 1")


@pytest.fixture
def role(postgres: Cluster) -> Any:
    postgres.execute("DROP ROLE IF EXISTS turning; CREATE ROLE turning LOGIN PASSWORD 'first'")
    yield postgres
    postgres.execute("DROP ROLE turning")


def registry_with(url: str, password: dict[str, str]) -> Registry:
    return registry_of(url, database={"url": url, "password": password, "pool": {"kind": "none"}})


def sign_in(registry: Registry, driver: str = "psycopg") -> None:
    if driver in {"asyncpg", "asyncmy"}:
        asyncio.run(sign_in_async(registry))
        return
    with registry.engine().connect() as connection:
        assert connection.scalar(ASK) == 1


async def sign_in_async(registry: Registry) -> None:
    async with registry.async_engine().connect() as connection:
        assert await connection.scalar(ASK) == 1


class TestAnotherPassword:
    @pytest.mark.parametrize("driver", ["psycopg", "pg8000"])
    def test_is_read_when_the_old_one_is_refused(self, driver: str, role: Cluster, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text("first\n")
        url = role.url(user="turning").replace("psycopg", driver)
        with registry_with(url, {"file": str(file)}) as registry:
            sign_in(registry)
            file.write_text("unused")
            sign_in(registry)
            role.execute("ALTER ROLE turning PASSWORD 'second'")
            file.write_text("second\n")
            sign_in(registry)
            sign_in(registry)

    def test_also_by_asyncio_and_without_waiting_on_the_loop(
        self, role: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = "projects/opal/secrets/db"

        async def main(registry: Registry, manager: SecretManager) -> None:
            async with registry:
                await asyncio.to_thread(registry.prepare)
                await sign_in_async(registry)
                role.execute("ALTER ROLE turning PASSWORD 'second'")
                manager.secrets[f"{name}/versions/latest"] = "second"
                await asyncio.gather(*(sign_in_async(registry) for _ in range(5)))

        for driver in ("psycopg", "asyncpg"):
            role.execute("ALTER ROLE turning PASSWORD 'first'")
            with SecretManager().running() as manager:
                manager.secrets[f"{name}/versions/latest"] = "first"
                monkeypatch.setattr("opal_registry.references.make_client", manager.make_client)
                registry = registry_with(role.url(user="turning").replace("psycopg", driver), {"gcp": name})
                asyncio.run(main(registry, manager))
                assert len(manager.asked) == 2

    @pytest.mark.pgbouncer
    @pytest.mark.parametrize("driver", ["psycopg", "pg8000", "asyncpg"])
    def test_behind_pgbouncer_which_refuses_in_its_own_way(self, driver: str, role: Cluster, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text("first")
        with PgBouncer(role, users={"turning": "first"}) as pooler:
            url = sa.make_url(pooler.url("postgres")).set(drivername=f"postgresql+{driver}", username="turning")
            with registry_with(url.render_as_string(), {"file": str(file)}) as registry:
                sign_in(registry, driver)
                role.execute("ALTER ROLE turning PASSWORD 'second'")
                pooler.let_in("turning", "second")
                file.write_text("second")
                sign_in(registry, driver)

    def test_on_mariadb(self, mariadb: MariaDB, mariadb_url: str, tmp_path: Path) -> None:
        mariadb.execute("CREATE OR REPLACE USER turning IDENTIFIED BY 'first'")
        mariadb.execute("GRANT ALL ON *.* TO turning")
        file = tmp_path / "password"
        file.write_text("first")
        url = sa.make_url(mariadb_url).set(username="turning").render_as_string()
        with registry_with(url, {"file": str(file)}) as registry:
            sign_in(registry)
            mariadb.execute("ALTER USER turning IDENTIFIED BY 'second'")
            file.write_text("second")
            sign_in(registry)

    @pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
    def test_on_mariadb_may_be_in_any_letters(self, driver: str, mariadb: MariaDB, mariadb_url: str) -> None:
        mariadb.execute("CREATE OR REPLACE USER turning IDENTIFIED BY 'пароль€'")
        mariadb.execute("GRANT ALL ON *.* TO turning")
        url = sa.make_url(mariadb_url).set(drivername=f"mysql+{driver}", username="turning", password="пароль€")
        with registry_of(url.render_as_string(hide_password=False)) as registry:
            sign_in(registry, driver)

    def test_may_stand_in_a_whole_url(self, role: Cluster, tmp_path: Path) -> None:
        file = tmp_path / "url"
        file.write_text(role.url(user="turning", password="first"))
        with registry_of("", database={"url": {"file": str(file)}, "pool": {"kind": "none"}}) as registry:
            sign_in(registry)
            role.execute("ALTER ROLE turning PASSWORD 'second'")
            file.write_text(role.url(user="turning", password="second"))
            sign_in(registry)

    def test_may_come_with_another_user_and_be_half_written_meanwhile(
        self, role: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("opal_registry.engines.rotation.PAUSE", 0.0)
        file = tmp_path / "url"
        file.write_text(role.url(user="turning", password="first"))
        with registry_of("", database={"url": {"file": str(file)}, "pool": {"kind": "none"}}) as registry:
            sign_in(registry)
            role.execute("ALTER ROLE turning NOLOGIN PASSWORD 'none'; CREATE ROLE turned LOGIN PASSWORD 'second'")
            try:
                file.write_text("postgresq")
                with pytest.raises(ConnectError):
                    sign_in(registry)
                assert "cannot be read anew: '********' is not a URL" in caplog.text
                file.write_text(role.url(user="turned", password="second"))
                sign_in(registry)
            finally:
                role.execute("DROP ROLE turned")

    def test_is_taken_whatever_becomes_of_the_other_places(self, role: Cluster, tmp_path: Path) -> None:
        file, other = tmp_path / "password", tmp_path / "other"
        file.write_text("first")
        other.write_text(role.url(user="turning", password="first"))
        url = role.url(user="turning")
        told = {
            "url": url,
            "password": {"file": str(file)},
            "migration_url": {"file": str(other)},
            "pool": {"kind": "none"},
        }
        with registry_of(url, database=told) as registry:
            sign_in(registry)
            role.execute("ALTER ROLE turning PASSWORD 'second'")
            file.write_text("second")
            other.unlink()
            sign_in(registry)


class TestNone:
    def test_the_place_is_not_asked_again_and_again(self, role: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        with SecretManager({"projects/opal/secrets/db/versions/latest": "wrong"}).running() as manager:
            monkeypatch.setattr("opal_registry.references.make_client", manager.make_client)
            with registry_with(role.url(user="turning"), {"gcp": "projects/opal/secrets/db"}) as registry:
                for _ in range(3):
                    with pytest.raises(ConnectError) as caught:
                        registry.engine().connect()
                    assert "wrong" not in str(caught.value).replace("password is wrong", "")
            assert len(manager.asked) == 2

    def test_a_place_that_has_gone_is_told_and_the_old_one_is_kept(
        self, role: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = tmp_path / "password"
        file.write_text("first")
        with registry_with(role.url(user="turning"), {"file": str(file)}) as registry:
            sign_in(registry)
            role.execute("ALTER ROLE turning PASSWORD 'second'")
            file.unlink()
            with caplog.at_level(logging.WARNING), pytest.raises(ConnectError):
                sign_in(registry)
            assert "a password was refused, and cannot be read anew" in caplog.text
            role.execute("ALTER ROLE turning PASSWORD 'first'")
            sign_in(registry)

    def test_a_password_in_plain_text_is_what_it_is(self, role: Cluster) -> None:
        with registry_of(role.url(user="turning", password="other")) as registry:
            with pytest.raises(ConnectError):
                sign_in(registry)
