"""Engines: made from settings without connecting, with the right driver, pool and options."""

import asyncio
import re
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import pool

from opal_registry.engines.arguments import make_arguments, make_process_name
from opal_registry.engines.factory import make_async_engine, make_engine, make_server_engines, with_intent
from opal_registry.engines.pools.lingering import LingeringQueuePool
from opal_registry.errors import ConfigError
from opal_registry.settings.database import DatabaseSettings
from tests.databases import database_of, engine_of
from tests.postgres import Cluster
from tests.tls import Authority

HARD_PASSWORDS = [
    "p%41ss",
    "p@ss",
    "a:b",
    "a/b",
    "a#b?c=d&e",
    "two  words",
    "pässwörd🔑",
    "'\"\\",
    "<x>${y}",
    "100%",
    " ",
]


def refusal(url: str, **others: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make_engine(database_of(url, **others), where="opal.yaml:3")
    return str(caught.value)


def test_nothing_is_connected_and_no_file_created(tmp_path: Path) -> None:
    make_engine(database_of(f"sqlite:///{tmp_path / 'x.db'}"))
    make_async_engine(database_of(f"sqlite:///{tmp_path / 'x.db'}"))
    make_engine(database_of("postgresql://nobody@127.0.0.1:1/nothing"))

    assert list(tmp_path.iterdir()) == []


def test_parameters_are_not_shown_in_errors(tmp_path: Path) -> None:
    engine = engine_of(f"sqlite:///{tmp_path / 'x.db'}")
    with engine.connect() as connection, pytest.raises(sa.exc.OperationalError) as caught:
        connection.execute(sa.text("SELECT * FROM nothing WHERE password = :p"), {"p": "hunter2"})
    assert "hunter2" not in str(caught.value)
    engine.dispose()


def test_the_pool_is_as_configured() -> None:
    engine = engine_of("postgresql://db/x", pool={"size": 3, "max_overflow": 4, "timeout": "2s", "recycle": "1m"})

    assert isinstance(engine.pool, LingeringQueuePool)
    assert (engine.pool.size(), engine.pool._kept, engine.pool._timeout) == (7, 3, 2)
    assert engine.pool._recycle == 60
    assert engine.pool._pool.use_lifo


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_memory_database_takes_the_settings_of_a_pool_and_does_without(url: str) -> None:
    assert isinstance(engine_of(url, pool={"size": 3}).pool, pool.StaticPool)


def test_an_intent_shares_the_pool() -> None:
    engine = engine_of("postgresql://db/x")

    assert with_intent(engine, "read_write") is engine
    assert with_intent(engine, "read_only").pool is engine.pool
    assert with_intent(engine, "read_only").get_execution_options()["postgresql_readonly"] is True


@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
def test_a_mysql_engine_is_made(driver: str) -> None:
    settings = database_of(f"mysql+{driver}://db/x")
    engine = make_engine(settings) if driver == "pymysql" else make_async_engine(settings).sync_engine

    assert engine.dialect.driver == driver


def test_a_driver_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    said = refusal("mysql://db/x")

    assert "the driver 'pymysql' needs the module 'pymysql', which is not installed" in said
    assert "mend:  pip install 'opal-registry[mysql]'" in said


def test_a_driver_that_is_not_ours_names_its_module() -> None:
    assert "mend:  pip install psycopg2" in refusal("postgresql+psycopg2://db/x")


def test_a_driver_that_nobody_knows_is_left_out() -> None:
    said = refusal("postgresql+psycopg9://db/x")

    assert "SQLAlchemy knows no driver 'postgresql+psycopg9'" in said
    assert "leave it out: postgresql://..." in said


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("sqlite:///x.db?foo=bar", "Query string argument(s) 'foo' are not accepted by the pysqlite driver"),
        ("sqlite:///x.db?timeout=soon", "could not convert string to float: 'soon'"),
    ],
)
def test_an_option_that_the_driver_cannot_use_is_refused(url: str, what: str) -> None:
    said = refusal(url)

    assert f"the URL holds an option that pysqlite cannot use: {what}" in said
    assert "mend:  correct what follows the '?' in the URL" in said


def test_certificates_that_are_not_there_are_refused() -> None:
    for driver in ("mysql", "postgresql", "postgresql+pg8000"):
        said = refusal(f"{driver}://db/x", ssl={"mode": "verify-full", "root_cert": "/no/such.pem"})
        assert "the file /no/such.pem cannot be used to encrypt: No such file or directory" in said


def told(engine: sa.Engine) -> dict[str, Any]:
    """What a driver is told when it connects."""
    seen: dict[str, Any] = {}

    @sa.event.listens_for(engine, "do_connect")
    def stop(_dialect: object, _record: object, _args: object, params: dict[str, Any]) -> None:
        seen.update(params)
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        engine.connect()
    return seen


def test_tls_settings_reach_the_driver(tmp_path: Path) -> None:
    root_cert = str(Authority(tmp_path).cert)
    seen = told(engine_of("postgresql://db/x", ssl={"mode": "verify-full", "root_cert": root_cert}))
    assert (seen["sslmode"], seen["sslrootcert"], seen["connect_timeout"]) == ("verify-full", root_cert, 10)


def test_files_that_hold_something_else_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ada, bob = authority.sign("ada"), authority.sign("bob")
    for cert, key, what in [
        (ada.key, ada.key, f"the file {ada.key} cannot be used to encrypt: it holds no certificate (PEM)"),
        (ada.cert, ada.cert, f"the file {ada.cert} cannot be used to encrypt: it holds no private key (PEM)"),
        (ada.cert, bob.key, f"the file {bob.key} cannot be used to encrypt: it is not the key of {ada.cert}"),
        (ada.cert, tmp_path, f"the file {tmp_path} cannot be used to encrypt: Is a directory"),
    ]:
        assert what in refusal("postgresql://db/x", ssl={"mode": "require", "cert": str(cert), "key": str(key)})


@pytest.mark.parametrize(
    ("driver", "mode", "told_so"),
    [
        ("pymysql", "disable", {"ssl_disabled": True}),
        ("pymysql", "prefer", {}),
        ("pymysql", "require", (ssl.CERT_NONE, False)),
        ("pymysql", "verify-ca", (ssl.CERT_REQUIRED, False)),
        ("pymysql", "verify-full", (ssl.CERT_REQUIRED, True)),
        ("asyncmy", "allow", {}),
        ("asyncmy", "prefer", (ssl.CERT_NONE, False)),
        ("asyncmy", "verify-full", (ssl.CERT_REQUIRED, True)),
        ("asyncpg", "prefer", {"ssl": "prefer"}),
        ("asyncpg", "require", (ssl.CERT_NONE, False)),
        ("asyncpg", "verify-ca", (ssl.CERT_REQUIRED, False)),
    ],
)
def test_each_driver_is_told_of_encryption_in_its_own_way(driver: str, mode: str, told_so: object) -> None:
    url = sa.make_url(f"{'postgresql' if driver == 'asyncpg' else 'mysql'}+{driver}://db/x")
    arguments = make_arguments(url, database_of(str(url), ssl={"mode": mode}))
    found = {name: value for name, value in arguments.items() if name.startswith("ssl")}
    context = found.get("ssl")
    said = (context.verify_mode, context.check_hostname) if isinstance(context, ssl.SSLContext) else found
    assert said == told_so


@pytest.mark.parametrize(
    ("url", "name", "value"),
    [
        ("postgresql://db/x?application_name=mine&connect_timeout=3", "application_name", "mine"),
        ("postgresql://db/x?application_name=mine&connect_timeout=3", "connect_timeout", "3"),
        ("mysql://db/x?charset=latin1", "charset", "latin1"),
        ("mysql://db/x?connect_timeout=3", "connect_timeout", 3),
    ],
)
def test_what_the_url_says_itself_counts(url: str, name: str, value: object) -> None:
    assert told(engine_of(url))[name] == value


@pytest.mark.parametrize("driver", ["pg8000", "asyncpg"])
def test_every_driver_of_postgresql_knows_the_words_of_libpq(driver: str) -> None:
    url = sa.make_url(f"postgresql+{driver}://db/x?sslmode=require")
    (context,) = [
        each for each in make_arguments(url, database_of(str(url))).values() if isinstance(each, ssl.SSLContext)
    ]
    assert context.verify_mode == ssl.CERT_NONE


def test_libpq_is_told_in_its_words_what_asyncpg_calls_ssl() -> None:
    assert told(engine_of("postgresql+asyncpg://db/x?ssl=require"))["sslmode"] == "require"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db/x?foo=1",
        "postgresql+pg8000://db/x?foo=1",
        "mysql://db/x?sslmode=require",
        "mysql://db/x?ssl_disabled=false",
        "mysql://db/x?ssl=true",
        "postgresql+pg8000://db/x?ssl_context=false",
    ],
)
def test_an_option_that_no_driver_knows_is_refused_before_anything_is_connected(url: str) -> None:
    said = refusal(url)
    assert "the URL holds an option that" in said
    assert next(iter(sa.make_url(url).query)) in said


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db/x?sslmode=disable",
        "mysql://db/x?ssl_check_hostname=false",
        "mysql://db/x?ssl_cert=a.pem&ssl_key=a.key",
    ],
)
def test_an_option_of_the_url_leaves_out_nothing_that_ssl_demands(url: str) -> None:
    said = refusal(url, ssl={"mode": "verify-full"})
    assert re.search("the URL holds an option that (pymysql|psycopg) cannot use: ssl", said)
    assert ", because the section ssl says how to encrypt" in said
    assert "mend:  correct what follows the '?' in the URL" in said


def test_a_driver_that_cannot_be_loaded_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ImportError("no pq wrapper available.\nAttempts made:\n- ...")

    monkeypatch.setattr("sqlalchemy.dialects.postgresql.psycopg.PGDialect_psycopg.import_dbapi", fail)
    assert refusal("postgresql://db/x") == (
        "the driver 'psycopg' cannot be loaded: no pq wrapper available. Attempts made: - ...\n"
        "  where: opal.yaml:3\n"
        "  mend:  install it anew"
    )


@pytest.mark.parametrize("password", HARD_PASSWORDS)
def test_every_password_signs_in(postgres: Cluster, password: str) -> None:
    quoted = password.replace("'", "''")
    postgres.execute(f"CREATE ROLE hard LOGIN PASSWORD '{quoted}'")
    parts = {"driver": "postgresql", "host": "127.0.0.1", "port": postgres.port, "name": "postgres", "user": "hard"}
    try:
        for settings in (
            DatabaseSettings.model_validate({**parts, "password": password}),
            database_of(postgres.url(user="hard", password=password)),
            database_of(postgres.url(user="hard"), password=password),
        ):
            engine = make_engine(settings)
            with engine.connect() as connection:
                assert connection.execute(sa.text("SELECT current_user")).scalar() == "hard"
            engine.dispose()
    finally:
        postgres.execute("DROP ROLE hard")


def test_an_asyncio_engine_signs_in_too(postgres: Cluster) -> None:
    postgres.execute("CREATE ROLE hard LOGIN PASSWORD 'p@ss%:/'")
    url = postgres.url(user="hard", password="p@ss%:/")

    async def who(url: str) -> object:
        engine = make_async_engine(database_of(url))
        async with engine.connect() as connection:
            found = await connection.scalar(sa.text("SELECT current_user"))
        await engine.dispose()
        return found

    try:
        for driver in ("psycopg", "asyncpg"):
            assert asyncio.run(who(url.replace("psycopg", driver))) == "hard"
    finally:
        postgres.execute("DROP ROLE hard")


def test_the_server_sees_who_connects(postgres_url: str) -> None:
    engine = engine_of(postgres_url)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SHOW application_name")).scalar() == make_process_name("opal_registry")
    engine.dispose()


def test_a_connection_that_died_in_the_pool_is_replaced(postgres: Cluster) -> None:
    engine = engine_of(postgres.url(), pool={"ping_after": 0})
    with engine.connect() as connection:
        pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar()
    postgres.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT pg_backend_pid()")).scalar() != pid
    engine.dispose()


def test_other_databases_of_a_server_are_reached_in_the_same_way() -> None:
    settings = database_of("postgresql://app@db/x", password="p@ss", ssl={"mode": "require"})

    assert [engine.url.database for engine in make_server_engines(settings)] == ["postgres", "template1"]
    assert {(engine.url.username, engine.url.password) for engine in make_server_engines(settings)} == {("app", "p@ss")}
    assert make_server_engines(database_of("sqlite:///x.db")) == []


@pytest.mark.parametrize("ask", ["async_engine()", "async_session_scope().__aenter__().send(None)"])
def test_asyncio_without_greenlet_names_the_extra(ask: str) -> None:
    program = f"""
import sys
sys.modules["greenlet"] = None
from opal_registry.registry import Registry
from opal_registry.settings.model import Settings
Registry(Settings(database={{"url": "sqlite://"}}), sub_apps=["core"]).{ask}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "MissingExtraError: SQLAlchemy needs greenlet for asyncio, which is not installed" in done.stderr
    assert done.stderr.rstrip().endswith("mend:  pip install 'opal-registry[async]'")


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("sqlite://", "aiosqlite", "async"),
        ("postgresql+asyncpg://db/x", "asyncpg", "async"),
        ("mysql+pymysql://db/x", "asyncmy", "mysql"),
    ],
)
def test_a_driver_for_asyncio_that_is_not_installed_names_the_extra(
    url: str, driver: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(ConfigError) as caught:
        make_async_engine(database_of(url), where="opal.yaml:3")
    assert f"the driver {driver!r} needs the module {driver!r}, which is not installed" in str(caught.value)
    assert f"mend:  pip install 'opal-registry[{extra}]'" in str(caught.value)
