"""The warm answer: given only where it is certain, from the ledger alone, and leaving no trace."""

import contextlib
import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from opal_registry.cli.recorded import recorded_view
from opal_registry.engines.factory import make_engine
from opal_registry.engines.url import describe_url, make_url
from opal_registry.mixins import utc_now
from opal_registry.settings.database import DatabaseSettings
from opal_registry.settings.model import Settings
from opal_registry.store.tables import sub_apps
from opal_registry.warm import Complete, Recorded, UncertainError, find_complete, make_address, make_arguments
from tests.databases import database_of, engine_of, settings_of
from tests.distributions import Site
from tests.mariadb import MariaDB
from tests.postgres import Cluster
from tests.test_engines import HARD_PASSWORDS
from tests.writing import model, models

NOBODY = 65_534
IMAGE, OTHER = "1" * 64, "2" * 64


def row(name: str, position: int = 0, count: int = 1, **values: Any) -> dict[str, Any]:
    """A row of the ledger: of the sub-app that is number ``position`` of ``count`` in the image."""
    now = utc_now()
    usual = {"distribution": f"opal-{name}", "version": "1.0", "bind": "default", "tables": [f"{name}_a", f"{name}_b"]}
    times = {"installed_at": now, "updated_at": now}
    about = {"min_reader": 1, "written_by": "tests", "sources": {OTHER: [0, 9], IMAGE: [position, count]}}
    return {"name": name, **usual, **times, **about, **values}


def record(url: str, *rows: dict[str, Any]) -> None:
    """Write a ledger as a run does."""
    engine = engine_of(url)
    with engine.begin() as connection:
        sub_apps.create(connection, checkfirst=True)
        for values in rows:
            connection.execute(sa.insert(sub_apps).values(values))
    engine.dispose()


def recorded(name: str, bind: str = "default") -> Recorded:
    return Recorded(name, f"opal-{name}", "1.0", bind, (f"{name}_a", f"{name}_b"))


def find(url: str, fingerprint: str = IMAGE, **others: Any) -> Complete | None:
    return find_complete(settings_of(url, **others), fingerprint)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a SQLite file may come to be."""
    return tmp_path / "suite" / "opal.db"


@pytest.fixture
def file_url(file: Path) -> str:
    """Its URL; its folder is there."""
    file.parent.mkdir()
    return f"sqlite:///{file}"


class TestTheAnswer:
    def test_is_what_the_ledger_says_in_the_order_of_the_image(self, any_database_url: str) -> None:
        record(any_database_url, row("beta", 2, 3), row("core", 0, 3), row("zeta", 1, 3), row("gone", sources=None))

        assert find(any_database_url) == Complete(
            {"default": describe_url(make_url(database_of(any_database_url)))},
            (recorded("core"), recorded("zeta"), recorded("beta")),
        )

    def test_is_given_without_a_trace(self, any_database_url: str) -> None:
        record(any_database_url, row("core"))
        assert find(any_database_url)
        engine = engine_of(any_database_url)
        with engine.begin() as connection:  # would wait for a lock, or for a connection in a transaction
            sub_apps.drop(connection)
        engine.dispose()

        assert find(any_database_url) is None

    def test_has_the_version_of_this_image_where_the_row_is_of_another(self, file_url: str) -> None:
        record(file_url, row("core", version="1.1", sources={IMAGE: [0, 1, "1.0"], OTHER: [0, 1]}))

        for fingerprint, version in ((IMAGE, "1.0"), (OTHER, "1.1")):
            complete = find(file_url, fingerprint)
            assert complete
            assert [app.version for app in complete.sub_apps] == [version]

    def test_counts_no_tables_of_another_release(self, file_url: str) -> None:
        record(file_url, row("core", version="1.1", sources={IMAGE: [0, 1, "1.0"], OTHER: [0, 1, "1.1"]}))

        for fingerprint, tables in ((IMAGE, None), (OTHER, ("core_a", "core_b"))):
            complete = find(file_url, fingerprint)
            assert complete
            assert [app.tables for app in complete.sub_apps] == [tables]
        unknown = Complete({}, (Recorded("core", "", "1.0", "default", None),))
        assert recorded_view(unknown, seconds=0) == [
            "nothing to do: the tables of 1 sub-app are as the ledger says; 0.00 s "
            "(opal-db init --verify looks at them)"
        ]

    def test_is_not_waited_for_where_the_ledger_is_locked(self, postgres_url: str) -> None:
        self.lock_and_find(postgres_url, "LOCK TABLE opal_sub_apps")

    def test_is_not_waited_for_where_mariadb_has_locked_the_ledger(self, mariadb_url: str) -> None:
        self.lock_and_find(mariadb_url, "LOCK TABLES opal_sub_apps WRITE")

    def lock_and_find(self, url: str, lock: str) -> None:
        record(url, row("core"))
        engine = engine_of(url)
        with engine.connect() as connection:
            connection.exec_driver_sql(lock)
            assert find(url) is None
            connection.invalidate()
        engine.dispose()
        assert find(url)

    def test_is_not_given_by_an_empty_database(self, any_database_url: str) -> None:
        assert find(any_database_url) is None

    def test_is_not_given_by_a_ledger_that_is_too_old_to_tell(self, any_database_url: str) -> None:
        record(any_database_url, row("core"))
        engine = engine_of(any_database_url)
        with engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE opal_sub_apps DROP COLUMN sources"))
        engine.dispose()

        assert find(any_database_url) is None

    @pytest.mark.parametrize(
        "rows",
        [
            pytest.param([row("core", 0, 2)], id="one is missing"),
            pytest.param([row("core", 0, 2), row("beta", 1, 3)], id="they disagree on how many there are"),
            pytest.param([row("core", 0, 2), row("beta", 0, 2)], id="two claim one place"),
            pytest.param([row("core", 0, 1), row("beta", 1, 1)], id="there is one too many"),
            pytest.param([row("core", sources={OTHER: [0, 1]})], id="it was another image"),
            pytest.param([row("core", sources={})], id="no image is known"),
            pytest.param([row("core", sources=None)], id="nothing is known"),
            pytest.param([row("core", sources=[IMAGE])], id="what is known makes no sense"),
            pytest.param([row("core", sources={IMAGE: "yes"})], id="the place makes no sense"),
            pytest.param([row("core", sources={IMAGE: [0, 1], OTHER: "no"})], id="another place makes no sense"),
            pytest.param([row("core", sources={IMAGE: [0, 1, 5]})], id="the version makes no sense"),
            pytest.param([row("core", tables="abc")], id="the tables are a text"),
            pytest.param([row("core", tables={"a": 1})], id="the tables are something else"),
            pytest.param([row("core", tables=["a", 1])], id="a table has no name"),
            pytest.param([row("core"), row("gone", sources=None, tables="abc")], id="another row is damaged"),
            pytest.param([row("core"), row("gone", sources=None, min_reader=2)], id="a later release wrote here"),
            pytest.param([row("core", bind="analytics")], id="it was for another bind"),
        ],
    )
    def test_is_not_given_where_it_would_not_be_certain(self, file_url: str, rows: list[dict[str, Any]]) -> None:
        record(file_url, *rows)

        assert find(file_url) is None

    def test_is_not_given_by_a_server_that_refuses_or_is_not_there(self, postgres: Cluster) -> None:
        assert find(postgres.url("no_such_database")) is None
        assert find("postgresql://app:hunter2@127.0.0.1:1/suite") is None

    def test_is_not_given_where_a_secret_is_missing(self, file_url: str) -> None:
        record(file_url, row("core"))

        assert find_complete(Settings.model_validate({"database": {"url": {"env": "NO_SUCH_URL"}}}), IMAGE) is None


class TestSeveralBinds:
    @pytest.fixture
    def urls(self, tmp_path: Path) -> tuple[str, str]:
        """Two SQLite files; the ledgers of both hold a part of the image."""
        urls = (f"sqlite:///{tmp_path / 'a.db'}", f"sqlite:///{tmp_path / 'b.db'}")
        record(urls[0], row("core", 0, 3), row("beta", 2, 3))
        record(urls[1], row("alpha", 1, 3, bind="analytics"))
        return urls

    def test_all_of_them_answer_together(self, urls: tuple[str, str], tmp_path: Path) -> None:
        assert find(urls[0], binds={"analytics": {"url": urls[1]}}) == Complete(
            {"default": f"sqlite {tmp_path / 'a.db'}", "analytics": f"sqlite {tmp_path / 'b.db'}"},
            (recorded("core"), recorded("alpha", "analytics"), recorded("beta")),
        )

    def test_one_alone_is_not_enough_and_neither_are_both_exchanged(self, urls: tuple[str, str]) -> None:
        assert find(urls[0]) is None
        assert find(urls[1], binds={"analytics": {"url": urls[0]}}) is None

    def test_two_that_lead_to_one_database_are_told_apart(self, file_url: str) -> None:
        record(file_url, row("core", 0, 2), row("alpha", 1, 2, bind="analytics"))
        complete = find(file_url, binds={"analytics": {"url": file_url}})

        assert complete
        assert complete.sub_apps == (recorded("core"), recorded("alpha", "analytics"))

    def test_one_without_sub_apps_is_not_asked_when_all_are_found(self, file_url: str, file: Path) -> None:
        record(file_url, row("core"))

        assert find(file_url, binds={"unused": {"url": "postgresql://127.0.0.1:1/x"}}) == Complete(
            {"default": f"sqlite {file}"}, (recorded("core"),)
        )


class TestSqliteFiles:
    def test_none_is_made(self, file_url: str, file: Path) -> None:
        assert find(file_url) is None
        assert not list(file.parent.iterdir())

    def test_nothing_is_left_beside_it(self, file_url: str, file: Path) -> None:
        record(file_url, row("core"))

        assert find(file_url)
        assert list(file.parent.iterdir()) == [file]

    @pytest.mark.parametrize("mode", ["WAL", "DELETE"])
    def test_one_that_others_read_and_write_is_read(self, file_url: str, file: Path, mode: str) -> None:
        record(file_url, row("core"))
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute(f"PRAGMA journal_mode={mode}")
            other.execute("BEGIN IMMEDIATE")
            other.execute("UPDATE opal_sub_apps SET min_reader = 2")
            assert find(file_url)
            other.execute("COMMIT")

        assert find(file_url) is None

    @pytest.mark.parametrize(("mode", "answers"), [("WAL", False), ("DELETE", True)])
    def test_one_that_may_only_be_read_answers_if_it_can(self, mode: str, answers: bool) -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            file = Path(folder, "opal.db")
            record(f"sqlite:///{file}", row("core"))
            with contextlib.closing(sqlite3.connect(file)) as connection:
                connection.execute(f"PRAGMA journal_mode={mode}")
            for path, rights in ((file, 0o444), (file.parent, 0o555)):
                stack.callback(path.chmod, 0o755)
                path.chmod(rights)
            if os.geteuid() == 0:  # whom no rights concern
                stack.callback(os.seteuid, 0)
                os.seteuid(NOBODY)

            assert bool(find(f"sqlite:///{file}")) is answers

    def test_one_that_is_no_database_has_no_answer(self, file_url: str, file: Path) -> None:
        file.write_text("something else")

        assert find(file_url) is None
        assert file.read_text() == "something else"


PLAIN = [
    {"url": "postgresql://db/suite"},
    {"url": "postgres://app@db:5433/suite"},
    {"url": "postgresql+psycopg://app:p%40ss%3A%2F@db.example/suite"},
    {"url": "postgresql+asyncpg://app:hunter2@[::1]:5432/my%20suite"},
    {"url": "postgresql:///suite?host=/cloudsql/project:region:name"},
    {"url": "postgresql://app@/suite?host=a,b&port=1,2&target_session_attrs=read-write&sslmode=require"},
    {"url": "postgresql://app@db/suite?options=-c%20search_path%3Dopal&application_name=mine&connect_timeout=2"},
    {"url": "postgresql://db/suite", "user": "app", "password": "p@ss"},
    {"url": "postgresql://app@db/suite", "connect_timeout": 1, "ssl": {"mode": "verify-full"}},
    {"driver": "postgresql", "host": "/cloudsql/project:region:name", "name": "suite", "user": "a:b", "password": ""},
    {"url": "mysql://app:hunter2@db/suite?charset=latin1&program_name=mine", "ssl": {"mode": "prefer"}},
    {"url": "mariadb+asyncmy://app@db:3307/suite?unix_socket=/tmp/x.sock", "ssl": {"mode": "disable"}},
    {"driver": "mysql+pymysql", "host": "db", "port": 3306, "name": "suite", "user": "app", "password": "p@ss:/?#"},
    {"driver": "mysql", "host": "/cloudsql/project:region:name", "name": "suite", "user": "app"},
]
SEEN = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)
FILES = [
    {"url": "sqlite:////srv/opal.db"},
    {"url": "sqlite+aiosqlite:///./with%20space/a@b:c.db"},
    {"driver": "sqlite", "name": "/srv/100%/opal?.db"},
]


def database(values: dict[str, Any]) -> DatabaseSettings:
    given = {key: value for key, value in values.items() if value != ""}
    return DatabaseSettings.model_validate(given)


def sent_by_an_engine(settings: DatabaseSettings) -> dict[str, Any]:
    """What SQLAlchemy calls the driver with, but for what only SQLAlchemy needs and for the patience."""
    engine, seen = make_engine(settings), {}

    @sa.event.listens_for(engine, "do_connect")
    def stop(_dialect: object, _record: object, _args: object, params: dict[str, Any]) -> None:
        seen.update(params)
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        engine.connect()
    others = {"client_flag", "connect_timeout", "context", "read_timeout", "write_timeout"}
    return {key: value for key, value in seen.items() if key not in others}


class TestTheAddress:
    @pytest.mark.parametrize("values", [*PLAIN, *FILES], ids=str)
    def test_is_described_as_everywhere(self, values: dict[str, Any]) -> None:
        assert str(make_address(database(values))) == describe_url(make_url(database(values)))
        assert "hunter2" not in repr(make_address(database(values)))

    @pytest.mark.parametrize("values", PLAIN, ids=str)
    def test_is_called_as_an_engine_does_but_not_for_long(self, values: dict[str, Any]) -> None:
        settings = database({**values, "application_name": "suite"})
        patience = {"connect_timeout": min(3, values.get("connect_timeout", 3))}

        assert make_arguments(make_address(settings), settings) == sent_by_an_engine(settings) | patience

    @settings(deadline=None, max_examples=50)
    @given(
        user=st.none() | SEEN,
        password=st.none() | SEEN,
        host=st.none() | st.just("::1") | st.from_regex(r"[a-zA-Z0-9./_-]{1,20}", fullmatch=True),
        port=st.none() | st.integers(1, 65_535),
        name=st.from_regex(r"[^\0-\x1f\x7f:]{1,20}", fullmatch=True),
        driver=st.sampled_from(["postgresql", "mysql"]),
    )
    def test_may_be_of_any_parts(self, **parts: Any) -> None:
        given = {key: value for key, value in parts.items() if value is not None}
        settings = DatabaseSettings.model_validate(given | {"application_name": "suite"})
        address = make_address(settings)

        assert str(address) == describe_url(make_url(settings))
        assert make_arguments(address, settings) == sent_by_an_engine(settings) | {"connect_timeout": 3}

    @pytest.mark.parametrize(
        "values",
        [
            {"url": "sqlite://"},
            {"url": "sqlite:///:memory:"},
            {"url": "sqlite:///file:x.db?uri=true"},
            {"url": "sqlite:////srv/x.db?timeout=5"},
            {"driver": "sqlite", "name": ":memory:"},
            {"url": "postgresql+pg8000://db/suite"},
            {"url": "postgresql://db/suite?plugin=audit"},
            {"url": "postgresql://db/suite?sslmode=require&sslmode=disable"},
            {"url": "postgresql://db/suite?host=a:1"},
            {"url": "postgresql://a:b@c@db/suite"},
            {"url": "postgresql://db"},
            {"url": "mysql+mysqldb://db/suite"},
            {"url": "oracle://db/suite"},
            {"url": "suite"},
            {"cloud_sql": {"instance": "project:region1:name", "database": "suite", "user": "app"}},
        ],
        ids=str,
    )
    def test_is_left_to_the_full_path_if_it_is_not_plain(self, values: dict[str, Any]) -> None:
        with pytest.raises((UncertainError, KeyError)):
            make_address(database(values))
        assert find_complete(Settings.model_validate({"database": values}), IMAGE) is None

    @pytest.mark.parametrize(
        ("url", "ssl"),
        [
            ("mysql://app@db/suite", {"mode": "require"}),
            ("mysql://app@db/suite", {"mode": "verify-full", "root_cert": "/ca.pem"}),
            ("postgresql://app@db/suite", {"mode": "require", "cert": "/a.pem", "key": "/a.key"}),
            ("postgresql://app@db/suite?sslmode=disable", {"mode": "require"}),
        ],
    )
    def test_with_encryption_may_be_left_to_the_full_path(self, url: str, ssl: dict[str, str]) -> None:
        settings = database_of(url, ssl=ssl)

        with pytest.raises(UncertainError):
            make_arguments(make_address(settings), settings)

    @pytest.mark.parametrize("password", ["x\0", "x\n"])
    def test_with_a_password_that_cannot_be_seen_is_left_to_the_full_path(self, password: str) -> None:
        with pytest.raises(UncertainError):
            make_address(database_of("postgresql://app@db/suite", password=password))


@pytest.mark.parametrize("password", HARD_PASSWORDS)
def test_every_password_signs_in(postgres18: Cluster, password: str) -> None:
    postgres18.start()
    name = postgres18.create_database()
    record(postgres18.url(name), row("core"))
    quoted = password.replace("'", "''")
    postgres18.execute(f"CREATE ROLE hard LOGIN SUPERUSER PASSWORD '{quoted}'")
    parts = {"driver": "postgresql", "host": "127.0.0.1", "port": postgres18.port, "name": name, "user": "hard"}
    try:
        for values in (
            {**parts, "password": password},
            {"url": postgres18.url(name, user="hard", password=password)},
            {"url": postgres18.url(name, user="hard"), "password": password},
        ):
            assert find_complete(Settings.model_validate({"database": values}), IMAGE)
        assert not find_complete(Settings.model_validate({"database": {**parts, "password": "wrong"}}), IMAGE)
    finally:
        postgres18.execute("DROP ROLE hard")
        postgres18.drop_database(name)


@pytest.mark.parametrize("password", [text for text in HARD_PASSWORDS if text.isascii()])  # PyMySQL knows no others
def test_every_password_signs_in_on_mariadb(mariadb: MariaDB, mariadb_url: str, password: str) -> None:
    record(mariadb_url, row("core"))
    url = sa.make_url(mariadb_url)
    quoted = password.replace("\\", "\\\\").replace("'", "''")
    mariadb.execute(f"CREATE OR REPLACE USER hard IDENTIFIED BY '{quoted}'")
    mariadb.execute("GRANT ALL ON *.* TO hard")
    parts = {"driver": "mariadb", "host": url.host, "port": url.port, "name": url.database, "user": "hard"}

    assert find_complete(Settings.model_validate({"database": {**parts, "password": password}}), IMAGE)
    assert not find_complete(Settings.model_validate({"database": {**parts, "password": "wrong"}}), IMAGE)


@pytest.mark.parametrize(("mode", "answers"), [("disable", True), ("prefer", True), ("require", False)])
def test_a_server_without_encryption_answers_only_if_none_is_asked_for(
    postgres_url: str, mode: str, answers: bool
) -> None:
    record(postgres_url, row("core"))
    settings = Settings.model_validate({"database": {"url": postgres_url, "ssl": {"mode": mode}}})

    assert bool(find_complete(settings, IMAGE)) is answers


def bring_up(site: Site, *options: str, **env: str) -> Any:
    """Run ``init``, and return its document."""
    done = site.run("init", "--json", *options, env=env)
    assert (done.code, done.err) == (0, ""), done
    return done.json


class TestTheCommand:
    """``init`` from end to end, in processes of their own."""

    @pytest.fixture
    def env(self, site: Site, file_url: str) -> dict[str, str]:
        """A database that is complete, of an image with a wheel and an editable installation."""
        site.sub_app("alpha", models(model("A", "alphas")), requires=("core",))
        sources = site.cwd / "beta" / "beta"
        sources.mkdir(parents=True)
        (sources / "__init__.py").touch()
        (sources / "models.py").write_text(models(model("B", "betas")))
        hook = "from opal_registry import SubApp, hookimpl\n@hookimpl\ndef opal_sub_apps():\n"
        (sources / "opal.py").write_text(f"{hook}    yield SubApp(name='beta', models=('beta.models',))\n")
        site.install(
            "beta", files={"_beta.pth": f"{sources.parent}"}, entry_points={"opal_registry": {"beta": "beta.opal"}}
        )
        path = os.pathsep.join((str(site.folder), str(sources.parent)))
        env = {"OPAL_DATABASE__URL": file_url, "PYTHONPATH": path}
        assert bring_up(site, **env)["recorded"] is False
        assert bring_up(site, **env)["recorded"] is True
        return env

    def test_says_the_same_as_after_a_look(self, site: Site, any_database_url: str) -> None:
        site.sub_app("alpha", models(model("A", "alphas"), model("B", "betas")), requires=("core",))
        env = {"OPAL_DATABASE__URL": any_database_url}
        bring_up(site, **env)
        warm, full = bring_up(site, **env), bring_up(site, "--verify", **env)
        for document in (warm, full):
            for measured in (document, *document["sub_apps"]):
                measured.pop("seconds")
                measured.pop("import_seconds", None)

        assert (warm.pop("recorded"), full.pop("recorded")) == (True, False)
        assert warm == full

    def test_tells_people_in_two_lines(self, site: Site, env: dict[str, str], file: Path) -> None:
        where, summary = site.run("init", env=env).out.splitlines()

        assert where == f"default: sqlite {file}"
        assert re.sub(r"\d+\.\d\d s", "0.21 s", summary) == (
            "nothing to do: 3 tables of 3 sub-apps are as the ledger says; 0.21 s (opal-db init --verify looks at them)"
        )
        assert site.run("init", "--quiet", env=env).out == ""

    def test_imports_nothing_that_it_does_not_need(self, site: Site, env: dict[str, str]) -> None:
        heavy = "{'alembic', 'alpha', 'asyncio', 'beta', 'dotenv', 'pluggy', 'psycopg', 'rich', 'sqlalchemy', 'yaml'}"
        code = f"""
            import sys
            from opal_registry.cli.main import main

            print(main(["init", "--quiet"]), sorted({heavy} & sys.modules.keys()))
        """
        done = site.python(code, env=env, cwd=site.folder)  # which "-c" puts on the path, where it is already
        assert done.out == "0 []\n"

    def test_looks_at_the_database_when_told_to(self, site: Site, env: dict[str, str], file: Path) -> None:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("DROP TABLE betas")

        for options, created in (
            ((), []),
            (("--dry-run",), ["betas"]),
            (("--verify",), ["betas"]),
            (("--verify",), []),
        ):
            document = bring_up(site, *options, **env)
            assert document["recorded"] is not bool(options)
            assert [table for app in document["sub_apps"] for table in app["created"]] == created

    def test_notices_every_change(self, site: Site, env: dict[str, str], tmp_path: Path) -> None:
        def change(action: Callable[[], object], **more: str) -> None:
            action()
            assert bring_up(site, **env, **more)["recorded"] is False
            assert bring_up(site, **env, **more)["recorded"] is True

        edited = site.cwd / "beta/beta/models.py"
        change(lambda: site.sub_app("alpha", models(model("A", "alphas")), requires=("core",), version="1.1"))
        change(lambda: edited.write_text(models(model("B", "betas"), model("C", "gammas"))))
        change(lambda: (edited.parent / "tables.json").write_text("[]"))
        change(lambda: site.install("dependency", files={"dependency.py": "x = 1"}))
        change(lambda: site.sub_app("delta", models(model("D", "deltas"))))
        site.uninstall("delta")
        assert bring_up(site, **env)["recorded"] is True  # as it was before, and is known for still
        change(lambda: None, OPAL_SUB_APPS__DISABLED="beta")
        change(lambda: None, OPAL_BINDS__ANALYTICS__URL=f"sqlite:///{tmp_path / 'analytics.db'}")
        change(lambda: None, OPAL_ENVIRONMENT="staging")

    def test_notices_a_change_beside_modules_without_a_distribution(self, site: Site, file_url: str) -> None:
        (site.folder / "calx").mkdir()
        (site.folder / "calx" / "models.py").write_text(f"import shared_defs\n{models(model('C', 'calcs'))}")
        env = {"OPAL_DATABASE__URL": file_url, "OPAL_SUB_APPS__MODULES": '{"calx": ["calx.models"]}'}
        for text, recorded in (("size = 1", False), ("size = 1", True), ("size = 2", False), ("size = 2", True)):
            (site.folder / "shared_defs.py").write_text(text)
            assert bring_up(site, **env)["recorded"] is recorded

    def test_is_the_same_wherever_and_however_it_is_started(
        self, site: Site, env: dict[str, str], tmp_path: Path
    ) -> None:
        place = tmp_path / "elsewhere"
        place.mkdir()
        (place / "another.py").touch()
        (place / "opal-db").write_text("from opal_registry.__main__ import run\nrun()")
        for command, cwd in (
            (site.command("init", "--json"), place),
            ((site.core_python, place / "opal-db", "init", "--json"), site.cwd),
        ):
            out, err = site.start(*command, env=env, cwd=cwd).communicate(timeout=60)
            assert (json.loads(out)["recorded"], err) == (True, "")
