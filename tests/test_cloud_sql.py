"""Cloud SQL through Google's own connector: to real servers, behind a Google of our own."""

import asyncio
import datetime as dt
import gc
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from google.cloud.sql.connector.exceptions import ClosedConnectorError, ConnectorLoopError
from sqlalchemy.ext.asyncio import AsyncEngine

from opal_registry.engines.cloud_sql.connectors import THREAD
from opal_registry.engines.cloud_sql.refusals import find_refusal
from opal_registry.engines.errors.failures import explained
from opal_registry.engines.factory import make_async_engine, make_engine, make_migration_engine
from opal_registry.engines.url import make_url
from opal_registry.errors import ConfigError, DatabaseError
from opal_registry.registry import Registry
from opal_registry.settings.database import DatabaseSettings, PoolSettings
from opal_registry.settings.model import Settings
from opal_registry.transactions import ConnectError
from tests.cloud_sql import PORT, CloudSql, Instance
from tests.distributions import Site
from tests.mariadb import MariaDB
from tests.postgres import Cluster
from tests.test_forks import in_a_child

WHO = "SELECT pg_backend_pid()"


@pytest.fixture(scope="module")
def google(postgres18: Cluster) -> Iterator[CloudSql]:
    with CloudSql() as google:
        google.add("suite", Instance(postgres18.port))
        yield google


@pytest.fixture
def suite(google: CloudSql) -> Instance:
    """The instance, about which nothing is recorded yet."""
    google.requests.clear()
    google["suite"].clients.clear()
    return google["suite"]


def settings_of(google: CloudSql, *, wait: str = "10s", **others: Any) -> DatabaseSettings:
    return DatabaseSettings.model_validate({"cloud_sql": google.settings("suite", **others), "connect_timeout": wait})


def ask(engine: sa.Engine, question: str = WHO) -> Any:
    with engine.connect() as connection:
        return connection.execute(sa.text(question)).scalar()


async def ask_async(engine: AsyncEngine) -> Any:
    async with engine.connect() as connection:
        return await connection.scalar(sa.text(WHO))


def find_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def wait_for_threads() -> None:
    """Let what was given up come to its end; what it waited for must have gone."""
    for thread in find_threads():
        thread.join(10)
    assert not find_threads()
    gc.collect()


UNCLOSED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""For sockets that the connector and pg8000 do not close when connecting fails."""


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"driver": "psycopg"},
        {"driver": "psycopg", "ip_type": "private", "refresh": "background"},
        {"ip_type": "psc", "iam_auth": True},
    ],
    ids=str,
)
def test_an_engine_connects(google: CloudSql, suite: Instance, others: dict[str, Any]) -> None:
    suite.ip_types = ("PSC",) if others.get("ip_type") == "psc" else ("PRIMARY", "PRIVATE")
    engine = make_engine(settings_of(google, **others))
    name = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    assert ask(engine, name).startswith("opal_registry ")
    assert suite.clients == ["iam" if others.get("iam_auth") else "password"]
    engine.dispose()
    suite.ip_types = ("PRIMARY", "PRIVATE")


@pytest.mark.mariadb
def test_mysql_connects_by_pymysql(google: CloudSql, mariadb: MariaDB) -> None:
    google.add("mysql", Instance(mariadb.port, "MYSQL_8_4"))
    given = google.settings("mysql", engine="mysql", user="root", database="mysql")
    engine = make_engine(DatabaseSettings.model_validate({"cloud_sql": given}))
    assert ask(engine, "SELECT database()") == "mysql"
    engine.dispose()


def test_each_event_loop_connects_by_asyncpg(google: CloudSql, suite: Instance) -> None:
    settings = Settings.model_validate({"database": {"cloud_sql": google.settings("suite")}})
    registry = Registry(settings, sub_apps=["core"])

    async def connect() -> Any:
        async with registry.async_session_factory() as session:
            return await session.scalar(sa.text("SELECT 1"))

    assert [asyncio.run(connect()), asyncio.run(connect())] == [1, 1]
    assert suite.clients == ["password", "password"]
    registry.close()


def test_engines_share_a_connector_that_ends_with_the_last_of_them(google: CloudSql, suite: Instance) -> None:
    settings = settings_of(google)
    usual, for_ddl = make_engine(settings), make_migration_engine(settings)
    assert not find_threads()
    ask(usual)
    asked = len(google.requests)
    ask(for_ddl)
    assert len(google.requests) == asked
    usual.dispose()
    assert len(find_threads()) == 1
    for_ddl.dispose()
    assert not find_threads()
    assert ask(usual)
    usual.dispose()


def test_a_child_has_a_connector_of_its_own(google: CloudSql, suite: Instance) -> None:
    engine = make_engine(settings_of(google))
    parent = ask(engine)
    child = in_a_child(lambda: ask(engine))
    assert child.isdigit()
    assert int(child) != parent == ask(engine)
    engine.dispose()


class TestCredentials:
    @pytest.fixture
    def without(self, google: CloudSql, suite: Instance) -> dict[str, Any]:
        """Settings that do not say whose they are."""
        return {key: value for key, value in google.settings("suite").items() if key != "credentials"}

    def test_are_those_of_the_environment(
        self, google: CloudSql, without: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "key.json").write_text(google.key)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
        engine = make_engine(DatabaseSettings.model_validate({"cloud_sql": without}))
        assert ask(engine)
        engine.dispose()

    def test_may_be_a_file_and_act_as_somebody_else(
        self, google: CloudSql, without: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "key.json").write_text(google.key)
        monkeypatch.setattr("google.auth.iam._IAM_ENDPOINT", google.endpoint + "/{}:generateAccessToken")
        others = {"credentials": {"file": str(tmp_path / "key.json")}, "impersonate": "opal@tests", "iam_auth": True}
        engine = make_engine(DatabaseSettings.model_validate({"cloud_sql": without | others}))
        assert ask(engine)
        assert "/opal@tests:generateAccessToken" in google.requests
        engine.dispose()

    def test_that_are_no_json_are_not_shown(self, google: CloudSql) -> None:
        engine = make_engine(settings_of(google, credentials="{hunter2"))
        with pytest.raises(ConfigError, match=r"credentials is not the JSON of Google's credentials") as caught:
            ask(engine)
        assert "hunter2" not in str(caught.value)
        engine.dispose()


@UNCLOSED
def test_what_says_nothing_is_given_up_and_asked_again(google: CloudSql, suite: Instance) -> None:
    """The connector opens its socket where it blocks its event loop."""
    usual, suite.address = suite.address, "127.0.0.1"
    engine = make_engine(settings_of(google, wait="1s"))
    with socket.create_server((suite.address, PORT)):
        with pytest.raises(ConnectError, match="no connection came about in time"):
            ask(engine)
        suite.address = usual
        assert ask(engine)
    engine.dispose()
    wait_for_threads()


@UNCLOSED
@pytest.mark.parametrize("driver", ["pg8000", "psycopg", "asyncpg"])
def test_a_server_that_says_nothing_behind_an_instance_is_given_up(google: CloudSql, driver: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        google.add("silent", Instance(silent.getsockname()[1]))
        settings = settings_of(google, instance=google.settings("silent")["instance"], driver=driver, wait="1s")
        with pytest.raises(ConnectError, match="no connection came about in time"):
            connect(settings, use_async=driver == "asyncpg")
    wait_for_threads()


def connect(settings: DatabaseSettings, *, use_async: bool) -> None:
    if use_async:
        asyncio.run(_connect(settings))
        return
    engine = make_engine(settings)
    try:
        ask(engine)
    finally:
        engine.dispose()


async def _connect(settings: DatabaseSettings) -> None:
    engine = make_async_engine(settings)
    try:
        await ask_async(engine)
    finally:
        await engine.dispose()


def api_says(status: int, message: str) -> Callable[[Instance], None]:
    def say(instance: Instance) -> None:
        instance.answers = [(status, {"error": {"message": message}})] * 2

    return say


def it_is(**about: Any) -> Callable[[Instance], None]:
    def become(instance: Instance) -> None:
        for name, value in about.items():
            setattr(instance, name, value)

    return become


def as_it_is(_: Instance) -> None:
    """Nothing is wrong with the instance."""


HOUR = dt.timedelta(hours=1)
NOT_ENABLED = "Cloud SQL Admin API has not been used in project 1 before or it is disabled."
REFUSALS = [
    (as_it_is, {"instance": "tests:us-east1:odd"}, "the instance is in another region", "correct the region"),
    (as_it_is, {"instance": "tests:us-east1:none"}, "there is no such instance", "gcloud sql instances list"),
    (api_says(403, "not authorized"), {}, "this account may not connect", "roles/cloudsql.client"),
    (api_says(403, NOT_ENABLED), {}, "the Cloud SQL Admin API is not enabled", "gcloud services enable"),
    (api_says(401, "no"), {}, "Google does not accept the credentials", "application-default login"),
    (api_says(429, "no"), {}, "the project has used up its requests", "wait a minute"),
    (api_says(400, "not running"), {}, "Google's API refuses the request", "gcloud sql instances describe"),
    (api_says(200, "something else"), {}, "what Google's API answers cannot be understood", "api_endpoint"),
    (as_it_is, {"ip_type": "psc"}, "the instance has no address of the kind", "ip_type"),
    (it_is(version="MYSQL_8_4"), {}, "the instance is of another database engine", "cloud_sql.engine"),
    (it_is(lifetime=-2 * HOUR), {}, "a certificate is not valid at this time", "clock"),
    (it_is(lifetime=-2 * HOUR), {"driver": "psycopg"}, "the instance cut the connection", "clock"),
    (it_is(lifetime=-2 * HOUR), {"driver": "asyncpg"}, "a certificate is not valid at this time", "clock"),
    (it_is(server_port=1), {}, "the instance cut the connection", "see whether it runs"),
    (it_is(address="127.0.0.1"), {}, "the instance does not answer at its address", "port 3307"),
    (as_it_is, {"api_endpoint": "http://127.0.0.1:1"}, "the Cloud SQL Admin API does not answer", "api_endpoint"),
    (as_it_is, {"credentials": "{}"}, "the credentials are not what Google made", "as Google made it"),
    (as_it_is, {"user": "nobody", "password": "hunter2"}, "the user or the password is wrong", "cloud_sql.user"),
    (as_it_is, {"user": "nobody", "iam_auth": True}, "the instance does not let this account in", "gcloud sql users"),
    (as_it_is, {"database": "none"}, "there is no database of that name", "--create-database"),
]


@UNCLOSED
@pytest.mark.parametrize(
    ("become", "others", "what", "mend"),
    REFUSALS,
    ids=[f"{number} {what}" for number, (_, _, what, _) in enumerate(REFUSALS)],
)
def test_a_refusal_is_said_in_plain_words(
    become: Callable[[Instance], None],
    others: dict[str, Any],
    what: str,
    mend: str,
    google: CloudSql,
    postgres18: Cluster,
) -> None:
    google.add("odd", Instance(postgres18.port))
    become(google["odd"])
    settings = settings_of(google, **{"instance": "tests:europe-west1:odd", **others})
    with pytest.raises(DatabaseError) as caught, explained(make_url(settings)):
        connect(settings, use_async=settings.cloud_sql is not None and settings.cloud_sql.driver == "asyncpg")
    [problem] = caught.value.problems
    assert problem.what.startswith(what)
    assert mend in problem.mend
    assert str(others.get("instance", "tests:europe-west1:odd")) in problem.where
    assert "hunter2" not in str(caught.value)
    gc.collect()


class TestTokens:
    """What Google's token server says of an account."""

    TIME = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."

    @pytest.mark.parametrize(
        ("said", "what"),
        [(TIME, "this machine's clock is wrong"), ("Bad Request", "credentials have expired, or are revoked")],
        ids=["a wrong clock", "revoked"],
    )
    def test_may_be_refused(self, google: CloudSql, said: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(google, "refuse_tokens", {"error": "invalid_grant", "error_description": said})
        with pytest.raises(ConnectError, match=what):
            connect(settings_of(google), use_async=False)

    def test_are_waited_for_without_the_event_loop_standing_still(self, google: CloudSql, suite: Instance) -> None:
        google.may_give_tokens.clear()

        async def work() -> Any:
            engine = make_async_engine(settings_of(google))
            asking = asyncio.create_task(ask_async(engine))
            while "/token" not in google.requests:
                await asyncio.sleep(0.01)
            google.may_give_tokens.set()
            found = await asking
            await engine.dispose()
            return found

        assert asyncio.run(work())

    def test_are_fetched_once_for_all_who_wait(self, google: CloudSql, suite: Instance) -> None:
        engine = make_engine(settings_of(google))
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(lambda _: ask(engine), range(8)))
        assert google.requests.count("/token") == 1
        engine.dispose()


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (ClosedConnectorError("closed"), "the connector was closed"),
        (ConnectorLoopError("other loop"), "an engine is used in another event loop"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_only_the_connector_says_is_known_too(error: Exception, what: str) -> None:
    refusal = find_refusal(error)
    assert refusal is not None
    assert refusal.what.startswith(what)


@UNCLOSED
def test_an_engine_that_is_disposed_of_while_it_connects_goes_on(google: CloudSql, suite: Instance) -> None:
    google.may_give_tokens.clear()
    engine = make_engine(settings_of(google))
    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(ask, engine)
        while "/token" not in google.requests:
            pass
        engine.dispose()
        google.may_give_tokens.set()
        assert asking.result()
    engine.dispose()
    wait_for_threads()


def test_credentials_that_are_not_there_are_named(
    google: CloudSql, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    given = {key: value for key, value in google.settings("suite").items() if key != "credentials"}
    with pytest.raises(ConnectError, match="no credentials of Google are to be found"):
        connect(DatabaseSettings.model_validate({"cloud_sql": given}), use_async=False)


def test_the_extra_is_named_where_it_is_missing(google: CloudSql, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("google.cloud.sql.connector", "pg8000"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"pip install 'opal-registry\[cloudsql\]'"):
        make_engine(settings_of(google))


@pytest.mark.parametrize("engine", ["postgresql", pytest.param("mysql", marks=pytest.mark.mariadb)])
def test_the_command_brings_up_a_database(
    engine: str, google: CloudSql, quick_site: Site, request: pytest.FixtureRequest
) -> None:
    server: Cluster | MariaDB = request.getfixturevalue("postgres18" if engine == "postgresql" else "mariadb")
    version, user = ("POSTGRES_18", "postgres") if engine == "postgresql" else ("MYSQL_8_4", "root")
    google.add(engine, Instance(server.port, version))
    quick_site.sub_app("alpha")
    given = google.settings(engine, engine=engine, user=user, database="fresh")
    env = {"OPAL_DATABASE": json.dumps({"cloud_sql": given})}
    for command in (["init", "--create-database"], ["upgrade"], ["status"]):
        done = quick_site.run(*command, "--json", env=env)
        assert done.code == 0, done.err
    assert [app["state"] for app in done.json["sub_apps"]] == ["ready", "ready"]
    server.drop_database("fresh")


def test_a_password_that_was_replaced_is_read_anew(
    google: CloudSql, suite: Instance, postgres18: Cluster, tmp_path: Path
) -> None:
    postgres18.execute("CREATE ROLE turning LOGIN PASSWORD 'first'")
    file = tmp_path / "password"
    file.write_text("first")
    reference: dict[str, Any] = {"user": "turning", "password": {"file": str(file)}}
    engine = make_engine(settings_of(google, **reference).model_copy(update={"pool": PoolSettings(kind="none")}))
    try:
        assert ask(engine, "SELECT 1") == 1
        postgres18.execute("ALTER ROLE turning PASSWORD 'second'")
        file.write_text("second\n")
        assert ask(engine, "SELECT 1") == 1
    finally:
        engine.dispose()
        postgres18.execute("DROP ROLE turning")
