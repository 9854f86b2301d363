"""The engine that DDL goes through: where it leads, as whom it works, and how little it asks."""

import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from opal_registry.engines.factory import make_engine, make_migration_engine, make_server_engines, with_intent
from opal_registry.engines.migration import make_migration_url
from opal_registry.errors import ConfigError, DatabaseError
from opal_registry.registry import Registry
from opal_registry.settings.database import DatabaseSettings
from opal_registry.settings.sources import reserved_in_use
from tests.databases import database_of, registry_of, settings_of
from tests.distributions import Site
from tests.mariadb import MariaDB
from tests.pgbouncer import PgBouncer
from tests.postgres import Cluster

POOLER = "postgresql+psycopg://app:hunter2@pooler:6432/suite"


class TestWhereItLeads:
    @pytest.mark.parametrize(
        ("settings", "url"),
        [
            ({"url": POOLER}, POOLER),
            ({"url": POOLER, "migration_url": "postgresql://db:5432"}, "app:hunter2@db:5432/suite"),
            ({"url": POOLER, "migration_url": "postgresql://app@db/suite"}, "app:hunter2@db/suite"),
            ({"url": POOLER, "migration_url": "postgresql://deploy@db"}, "deploy@db/suite"),
            ({"url": POOLER, "migration_url": "postgres://deploy:p%40ss@db/real"}, "deploy:p%40ss@db/real"),
            ({"url": POOLER, "migration_url": "postgresql+asyncpg://db/x"}, "app:hunter2@db/x"),
            (
                {"url": "postgresql://p", "user": "app", "password": "a", "migration_url": "postgresql://db/x"},
                "app:a@db/x",
            ),
            (
                {"driver": "mysql", "name": "x", "user": "app", "migration_url": "mariadb://db"},
                "mariadb+pymysql://app@db/x",
            ),
            ({"url": "sqlite+aiosqlite:///x.db", "migration_url": "sqlite:///x.db"}, "sqlite+pysqlite:///x.db"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_it_lacks_is_that_of_the_usual_url(self, settings: dict[str, Any], url: str) -> None:
        made = make_migration_url(DatabaseSettings.model_validate(settings))

        assert made.render_as_string(hide_password=False) == url if "://" in url else f"postgresql+psycopg://{url}"

    @pytest.mark.parametrize(
        ("url", "migration_url", "said"),
        [
            (
                POOLER,
                "mysql://app:hunter2@db/suite",
                "migration_url leads to mysql, but the database is postgresql\n"
                "  where: opal.yaml:3\n"
                "  mend:  give another way to the same database, or take it out",
            ),
            (
                "sqlite:////srv/x.db",
                "sqlite:////srv/y.db",
                "migration_url leads to sqlite /srv/y.db, but the database is sqlite /srv/x.db\n"
                "  where: opal.yaml:3\n"
                "  mend:  take it out: there is one way only to a SQLite file",
            ),
            (
                POOLER,
                "db.example",
                "'********' is not a URL: there is no '://'\n"
                "  where: opal.yaml:3\n"
                "  mend:  write it like postgresql://user@host:5432/database or sqlite:///file.db",
            ),
        ],
        ids=["another kind", "another file", "no URL"],
    )
    def test_one_that_leads_elsewhere_is_refused(self, url: str, migration_url: str, said: str) -> None:
        with pytest.raises(ConfigError) as caught:
            make_migration_engine(database_of(url, migration_url=migration_url), where="opal.yaml:3")
        assert str(caught.value) == said

    def test_a_registry_says_where_it_stands(self, tmp_path: Path) -> None:
        config = tmp_path / "opal.yaml"
        config.write_text("database:\n  url: postgresql://db/x\n  migration_url: mysql://db/x\n")
        registry = Registry.from_config(config, sub_apps=["core"])

        assert registry.engine().url.host == "db"
        with pytest.raises(ConfigError, match=r"where: .*opal\.yaml:3"):
            registry.migration_engine()

    def test_other_databases_of_the_server_are_reached_in_the_same_way(self) -> None:
        engines = make_server_engines(database_of(POOLER, migration_url="postgresql://db"))

        assert [engine.url.render_as_string() for engine in engines] == [
            "postgresql+psycopg://app:***@db/postgres",
            "postgresql+psycopg://app:***@db/template1",
        ]

    def test_both_settings_are_in_use(self) -> None:
        settings = settings_of(POOLER, binds={"other": {"url": POOLER, "migration_role": "owner"}})
        assert reserved_in_use(settings.model_copy(update={"database": settings.binds["other"]})) == []


class TestWhatARegistryDoes:
    def test_it_is_made_once_beside_the_other_one_and_closed_with_it(self, any_database_url: str) -> None:
        with registry_of(any_database_url) as registry:
            engine = registry.migration_engine()
            assert registry.migration_engine() is engine
            assert registry.engine() is not engine
            assert repr(registry) == "<Registry with 2 engines>"
            with engine.begin() as connection:
                connection.exec_driver_sql("CREATE TABLE t (x INTEGER)")
            with registry.session_scope() as session:
                assert session.execute(sa.text("SELECT count(*) FROM t")).scalar() == 0
        assert repr(registry) == "<Registry with 0 engines>"
        assert registry.migration_engine() is not engine

    def test_a_database_in_memory_has_one_engine(self) -> None:
        with registry_of("sqlite://") as registry:
            assert registry.migration_engine() is registry.engine()

    def test_a_bind_that_is_not_configured_names_those_that_are(self) -> None:
        with pytest.raises(ConfigError, match="no database is configured for the bind 'other'"):
            registry_of("sqlite://").migration_engine("other")

    def test_plugins_are_told_of_it(self, quick_site: Site) -> None:
        hooks = "@hookimpl\ndef opal_engine_created(engine, bind):\n    print(bind, type(engine.pool).__name__)\n"
        quick_site.sub_app("listener", hooks=hooks)
        code = """
            from opal_registry import Registry, Settings
            with Registry(Settings(database={"url": "sqlite:///x.db"})) as registry:
                registry.migration_engine(); registry.engine(); registry.migration_engine()
            with Registry(Settings(database={"url": "sqlite://"})) as registry:
                registry.migration_engine(); registry.engine(); registry.migration_engine()
        """
        done = quick_site.python(code)
        assert (done.code, done.err) == (0, "default NullPool\ndefault LingeringQueuePool\ndefault StaticPool\n"), done


class TestWhatItAsks:
    def test_one_question_instead_of_nine(self, postgres: Cluster) -> None:
        with counted(postgres.port) as proxy:
            url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
            engine = make_migration_engine(database_of(url))
            with engine.connect():
                assert proxy.take() == ["connect", "SELECT current_schema(), current_setting('transaction_isolation')"]
            with engine.begin() as connection:
                connection.exec_driver_sql("SELECT 1")
            assert proxy.take() == ["connect", "BEGIN", "SELECT 1", "COMMIT"]

    def test_a_role_costs_nothing(self, postgres: Cluster, owner: str) -> None:
        with counted(postgres.port) as proxy:
            url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
            engine = make_migration_engine(database_of(url, migration_role=owner))
            with engine.connect():
                proxy.take()
            with engine.begin() as connection:
                connection.exec_driver_sql("SELECT 1")
            assert proxy.take() == ["connect", 'BEGIN; SET LOCAL ROLE "100% ""owner"""', "SELECT 1", "COMMIT"]

    def test_it_knows_of_the_server_what_others_know(self, postgres_url: str) -> None:
        settings = database_of(postgres_url + "?options=-csearch_path%3Dpg_catalog")
        known = []
        for engine in (make_engine(settings), make_migration_engine(settings)):
            with engine.connect() as connection:
                dialect: Any = connection.dialect
                assert connection.in_transaction() is False
            engine.dispose()
            known.append(
                {name: value for name, value in vars(dialect).items() if isinstance(value, (bool, str, tuple))}
            )
        usual, here = known
        assert (here["default_schema_name"], here["default_isolation_level"]) == ("pg_catalog", "READ COMMITTED")
        assert usual | {"use_native_hstore": False} == here | {"_has_native_hstore": False}

    def test_a_server_with_other_defaults_is_understood(self, postgres_url: str) -> None:
        options = "?options=-cstandard_conforming_strings%3Doff%20-cdefault_transaction_isolation%3Dserializable"
        with make_migration_engine(database_of(postgres_url + options)).connect() as connection:
            dialect: Any = connection.dialect
            assert (dialect._backslash_escapes, connection.default_isolation_level) == (True, "SERIALIZABLE")

    def test_the_server_sees_which_process_it_is(self, postgres_url: str) -> None:
        engine = make_migration_engine(database_of(postgres_url + "?application_name=mine"))
        with engine.connect() as connection:
            name = connection.exec_driver_sql("SHOW application_name").scalar_one()
        assert name.startswith("opal-db ")
        assert name.endswith(f":{os.getpid()}")

    @pytest.mark.parametrize("driver", ["postgresql+psycopg", "mysql+pymysql"])
    def test_a_long_name_of_a_machine_is_cut(self, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("socket.gethostname", lambda: "rechner-ä" * 9)
        name = told(make_migration_engine(database_of(f"{driver}://db/x")))
        assert name[:20] == "opal-db rechner-ärec"
        assert 61 < len(name.encode()) <= 63

    def test_nothing_is_prepared_and_no_connection_kept(self, postgres_url: str) -> None:
        engine = make_migration_engine(database_of(postgres_url))
        with engine.connect() as connection:
            assert connection.connection.driver_connection.prepare_threshold is None  # type: ignore[union-attr]
            pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar()
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT pg_backend_pid()")).scalar() != pid


@pytest.fixture
def owner(postgres: Cluster) -> Iterator[str]:
    """A role whose name needs quoting; nobody may take it but the superuser."""
    postgres.execute('CREATE ROLE "100% ""owner""" NOLOGIN')
    yield '100% "owner"'
    postgres.execute('DROP OWNED BY "100% ""owner"""')
    postgres.execute('DROP ROLE "100% ""owner"""')


class TestRoles:
    def test_tables_belong_to_the_role(self, postgres: Cluster, owner: str) -> None:
        name = postgres.create_database()
        postgres.execute('GRANT CREATE ON SCHEMA public TO "100% ""owner"""', database=name)
        engine = make_migration_engine(database_of(postgres.url(name), migration_role=owner))
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t (x int)")
        with engine.connect() as connection:
            with connection.begin():
                connection.exec_driver_sql("CREATE TABLE u (x int)")
            with connection.begin(), connection.begin_nested():
                connection.exec_driver_sql("CREATE TABLE v (x int)")
        owners = postgres.execute(
            "SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'public'", database=name
        )
        assert sorted(owners) == [("t", owner), ("u", owner), ("v", owner)]
        postgres.drop_database(name)

    def test_a_failure_leaves_nothing_behind(self, postgres_url: str, owner: str) -> None:
        engine = make_migration_engine(database_of(postgres_url, migration_role=owner))
        with engine.connect() as connection:
            with pytest.raises(sa.exc.ProgrammingError), connection.begin():
                connection.exec_driver_sql("CREATE TEMP TABLE t (x int); SELECT * FROM no_such_table")
            assert connection.exec_driver_sql("SELECT to_regclass('t')").scalar() is None

    def test_transactions_begin_as_they_are_meant(self, postgres_url: str, owner: str) -> None:
        engine = make_migration_engine(database_of(postgres_url, migration_role=owner))
        ask = "SELECT current_user || ' ' || current_setting('transaction_isolation') || ' ' || current_setting(%s)"
        reading = with_intent(engine, "read_only")
        careful = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_deferrable=True)
        for meant, setting, expected in [
            (reading, "transaction_read_only", "read committed on"),
            (careful, "transaction_deferrable", "repeatable read on"),
            (engine, "transaction_read_only", "read committed off"),
        ]:
            with meant.connect() as connection:
                for _ in range(2):
                    assert connection.exec_driver_sql(ask, (setting,)).scalar() == f"{owner} {expected}"
                    connection.rollback()

    @pytest.mark.parametrize(
        ("role", "why"),
        [("no_such", 'role "no_such" does not exist'), ("postgres", 'permission denied to set role "postgres"')],
    )
    def test_a_role_that_cannot_be_taken_is_named(self, postgres: Cluster, role: str, why: str) -> None:
        postgres.execute("CREATE ROLE app LOGIN PASSWORD 'hunter2'")
        url = postgres.url(user="app", password="hunter2")
        engine = make_migration_engine(database_of(url, migration_role=role))
        with pytest.raises(DatabaseError) as caught, engine.begin():
            pass
        assert str(caught.value) == (
            f"the user 'app' cannot take the role {role!r} of migration_role: {why}\n"
            f"  where: postgresql+psycopg://app:********@127.0.0.1:{postgres.port}/postgres\n"
            "  mend:  grant the role to the user, or correct migration_role"
        )
        postgres.execute("DROP ROLE app")

    def test_what_is_no_matter_of_roles_stays_what_it_is(self, postgres_url: str, owner: str) -> None:
        engine = make_migration_engine(database_of(postgres_url, migration_role=owner))
        with engine.connect() as connection:
            connection.connection.driver_connection.close()  # type: ignore[union-attr]
            with pytest.raises(sa.exc.OperationalError, match="the connection is closed"):
                connection.begin()
            assert connection.closed

    def test_outside_a_transaction_there_is_no_role(self, postgres_url: str, owner: str) -> None:
        engine = make_migration_engine(database_of(postgres_url, migration_role=owner))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            with pytest.raises(DatabaseError, match="lasts for a transaction, and here none is begun"):
                connection.exec_driver_sql("SELECT 1")
            with pytest.raises(sa.exc.ResourceClosedError):
                connection.exec_driver_sql("SELECT 1")

    @pytest.mark.pgbouncer
    def test_a_role_is_not_left_behind_in_pgbouncer(self, pgbouncer: PgBouncer, pgbouncer_url: str) -> None:
        pgbouncer.cluster.execute("CREATE ROLE owner NOLOGIN")
        engine = make_migration_engine(database_of(pgbouncer_url, migration_role="owner"))
        pgbouncer.execute("SET default_pool_size = 1")
        try:
            with psycopg.connect(pgbouncer_url.replace("+psycopg", "")) as other:
                before = other.execute("SELECT pg_backend_pid(), current_user").fetchone()
                other.commit()
                for _ in range(8):
                    with engine.begin() as connection:
                        found = connection.exec_driver_sql("SELECT pg_backend_pid(), current_user").one()
                    assert before == (found[0], "postgres")
                    assert found[1] == "owner"
                    assert other.execute("SELECT pg_backend_pid(), current_user").fetchone() == before
                    other.commit()
        finally:
            pgbouncer.execute("SET default_pool_size = 20")
            pgbouncer.cluster.execute("DROP ROLE owner")

    def test_sqlite_has_none(self, tmp_path: Path) -> None:
        settings = database_of(f"sqlite:///{tmp_path / 'x.db'}", migration_role="owner")
        with pytest.raises(ConfigError) as caught:
            make_migration_engine(settings)
        assert str(caught.value) == (
            "migration_role is 'owner', but SQLite has no roles\n"
            f"  where: sqlite {tmp_path / 'x.db'}\n"
            "  mend:  take it out"
        )


class TestRolesOfMariaDB:
    @pytest.fixture
    def app(self, mariadb: MariaDB) -> Iterator[str]:
        """A URL of a user who may enter a database and take the role `100% owner`, which may do everything there."""
        name = mariadb.create_database()
        mariadb.execute("CREATE ROLE `100% owner`")
        mariadb.execute(f"GRANT ALL ON {name}.* TO `100% owner`")
        mariadb.execute("CREATE USER app IDENTIFIED BY 'hunter2'")
        mariadb.execute("GRANT `100% owner` TO app")
        mariadb.execute(f"CREATE TABLE {name}.open (x int)")
        mariadb.execute(f"GRANT SELECT ON {name}.open TO app")
        yield mariadb.url(name, user="app", password="hunter2")
        mariadb.execute("DROP USER app")
        mariadb.execute("DROP ROLE `100% owner`")
        mariadb.drop_database(name)

    def test_a_connection_has_its_rights(self, app: str) -> None:
        engine = make_migration_engine(database_of(app, migration_role="100% owner"))
        with engine.begin() as connection:
            assert connection.exec_driver_sql("SELECT CURRENT_ROLE()").scalar() == "100% owner"
            connection.exec_driver_sql("CREATE TABLE t (x int)")

    def test_a_database_is_made_as_the_role(self, app: str, mariadb: MariaDB) -> None:
        mariadb.execute("GRANT CREATE, DROP ON other.* TO `100% owner`")
        (server,) = make_server_engines(database_of(app, migration_role="100% owner"))
        with server.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE other")
            connection.exec_driver_sql("DROP DATABASE other")

    def test_a_role_that_cannot_be_taken_is_named(self, app: str) -> None:
        engine = make_migration_engine(database_of(app, migration_role="no`such"))
        with pytest.raises(DatabaseError) as caught, engine.connect():
            pass
        assert "the user 'app' cannot take the role 'no`such' of migration_role: (1959, " in str(caught.value)


def told(engine: sa.Engine) -> str:
    """The name under which an engine would introduce itself."""
    names: list[str] = []

    @sa.event.listens_for(engine, "do_connect")
    def stop(_dialect: object, _record: object, _args: object, params: dict[str, Any]) -> None:
        names.append(params.get("application_name") or params["program_name"])
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        engine.connect()
    return names[0]


class Counting:
    """A proxy before a PostgreSQL server that takes down what the server is asked: a line for each round trip."""

    def __init__(self, server: int) -> None:
        self._server, self._asked = server, list[str]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def take(self) -> list[str]:
        """What was asked since the last time."""
        asked, self._asked = self._asked, []
        return asked

    def close(self) -> None:
        """Stop listening; the connections have been closed by then."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server))
            self._threads.append(threading.Thread(target=self._pass_on, args=(client, server), daemon=True))
            self._threads[-1].start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is client and data[:1] != b"X":
                        kinds = {b"Q": data[5:-1].decode(errors="replace"), b"\0": "connect"}
                        self._asked.append(kinds.get(data[:1], "a message of another kind"))
                    (server if source is client else client).sendall(data)


@contextmanager
def counted(port: int) -> Iterator[Counting]:
    """Such a proxy, for a while."""
    proxy = Counting(port)
    try:
        yield proxy
    finally:
        proxy.close()
