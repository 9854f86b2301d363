"""``init``: everything that is missing comes to be, or nothing does; and what is there is left alone."""

import contextlib
import hashlib
import json
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.init import init
from opal_registry.registry import Registry
from tests.databases import engine_of, registry_of, settings_of
from tests.distributions import Finished, Site
from tests.postgres import Cluster
from tests.test_schemas import run_script

HEAD = """
    import sqlalchemy as sa
    from opal_registry import Base
    from sqlalchemy.orm import Mapped, mapped_column

"""
SHOP = (
    HEAD
    + """
    class Product(Base):
        __tablename__ = "products"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(80), unique=True)

    class Order(Base):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)
        product_id: Mapped[int] = mapped_column(sa.ForeignKey("products.id"))
        user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), index=True)
"""
)
OWN = ["opal_events", "opal_revisions", "opal_steps", "opal_sub_apps"]
"""The registry's own tables."""

CORE = ["opal_events", "opal_revision_core", "opal_revisions", "opal_steps", "opal_sub_apps"]
"""Those of a database in which ``core`` is, which has a history."""

NOTES = (
    HEAD
    + """
    class Note(Base):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)
"""
)
Env = dict[str, str | None]


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """A SQLite file, for what is the same on every database."""
    return f"sqlite:///{tmp_path / 'opal.db'}"


@pytest.fixture
def file_env(file_url: str) -> Env:
    """The variables that configure it."""
    return {"OPAL_DATABASE__URL": file_url}


@pytest.fixture
def postgres_env(postgres_url: str) -> Env:
    """The same for PostgreSQL only."""
    return {"OPAL_DATABASE__URL": postgres_url}


def names(url: str) -> list[str]:
    """The tables that are there."""
    engine = engine_of(url)
    try:
        return sorted(sa.inspect(engine).get_table_names())
    finally:
        engine.dispose()


def execute(url: str, *statements: str) -> Any:
    engine = engine_of(url)
    with engine.begin() as connection:
        results = [connection.exec_driver_sql(statement) for statement in statements]
        found = results[-1].all() if results[-1].returns_rows else None
    engine.dispose()
    return found


def report_of(done: Finished, code: int = 0) -> dict[str, Any]:
    assert done.code == code, done
    return {sub_app["name"]: sub_app for sub_app in done.json["sub_apps"]}


class TestCreating:
    def test_every_table_of_every_sub_app_comes_to_be(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        quick_site.sub_app("shop", SHOP, requires=("core",))
        report = report_of(quick_site.run("init", "--json", env=env))
        assert {name: found["created"] for name, found in report.items()} == {
            "core": ["users"],
            "shop": ["products", "orders"],
        }
        assert names(any_database_url) == [*CORE, "orders", "products", "users"]

    def test_a_second_run_finds_everything_present(self, quick_site: Site, env: Env) -> None:
        quick_site.sub_app("shop", SHOP, requires=("core",))
        quick_site.run("init", env=env)
        assert "nothing to do: 3 tables of 2 sub-apps are as the ledger says" in quick_site.run("init", env=env).out
        report = report_of(quick_site.run("init", "--verify", "--json", env=env))
        assert [found["created"] for found in report.values()] == [[], []]
        assert [found["present"] for found in report.values()] == [["users"], ["products", "orders"]]
        assert "nothing to create" in quick_site.run("init", "--verify", env=env).out

    def test_a_sub_app_that_comes_later_is_added(self, quick_site: Site, file_env: Env) -> None:
        quick_site.run("init", env=file_env)
        quick_site.sub_app("shop", SHOP, requires=("core",))
        report = report_of(quick_site.run("init", "--json", env=file_env))
        assert (report["core"]["created"], report["shop"]["created"]) == ([], ["products", "orders"])

    def test_a_table_dropped_behind_the_ledgers_back_is_found_by_verifying(
        self, quick_site: Site, file_env: Env, file_url: str
    ) -> None:
        quick_site.sub_app("shop", SHOP, requires=("core",))
        quick_site.run("init", env=file_env)
        execute(file_url, "DROP TABLE orders")
        assert quick_site.run("init", "--json", env=file_env).json["recorded"] is True
        report = report_of(quick_site.run("init", "--verify", "--json", env=file_env))
        assert (report["shop"]["created"], report["shop"]["present"]) == (["orders"], ["products"])

    def test_nothing_to_do_takes_no_lock(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        quick_site.run("init", env=env)
        engine = engine_of(any_database_url)
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE opal_sub_apps SET bind = bind")
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("LOCK TABLE users IN SHARE MODE")
            assert quick_site.run("init", env={**env, "OPAL_LOCKS__WAIT": "0s"}).code == 0
        engine.dispose()

    def test_each_bind_has_its_tables_and_its_ledger(self, quick_site: Site, env: Env, tmp_path: Path) -> None:
        other = f"sqlite:///{tmp_path / 'analytics.db'}"
        quick_site.sub_app("notes", NOTES, bind="analytics")
        done = quick_site.run("init", "--json", env={**env, "OPAL_BINDS__ANALYTICS__URL": other})
        assert list(done.json["databases"]) == ["default", "analytics"]
        assert names(other) == ["notes", *OWN]
        assert names(str(env["OPAL_DATABASE__URL"])) == [*CORE, "users"]

    def test_a_report_names_what_was_found_created_and_where(self, quick_site: Site, tmp_path: Path) -> None:
        quick_site.sub_app("shop", SHOP, version="1.4", requires=("core",))
        done = quick_site.run("init", env={"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'x.db'}"})
        lines = done.out.splitlines()
        assert lines[0] == f"default: sqlite {tmp_path / 'x.db'}"
        assert lines[1].split() == ["sub-app", "version", "tables", "created", "present", "seeded", "import", "time"]
        assert lines[3].split()[:5] == ["shop", "1.4", "2", "2", "0"]
        assert lines[4].startswith("3 tables created, 0 present, 2 sub-apps, ")
        assert (done.err, len(lines)) == ("", 5)


class TestDryRun:
    def test_a_file_that_is_not_there_is_not_made(self, quick_site: Site, tmp_path: Path) -> None:
        done = quick_site.run("init", "--dry-run", env={"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'new' / 'x.db'}"})
        assert done.code == 4
        (tmp_path / "new").mkdir()
        done = quick_site.run("init", "--dry-run", env={"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'new' / 'x.db'}"})
        assert done.code == 0
        assert list((tmp_path / "new").iterdir()) == []

    @pytest.mark.parametrize("mode", ["DELETE", "WAL"])
    def test_a_file_that_is_there_is_not_changed(self, quick_site: Site, tmp_path: Path, mode: str) -> None:
        path = tmp_path / "x.db"
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA journal_mode={mode}")
            connection.execute("CREATE TABLE theirs (x)")
        connection.close()
        before = hashlib.sha256(path.read_bytes()).hexdigest()
        for arguments in (("init", "--dry-run"), ("status",), ("ping",)):
            quick_site.run(*arguments, env={"OPAL_DATABASE__URL": f"sqlite:///{path}"})
        assert hashlib.sha256(path.read_bytes()).hexdigest() == before
        assert sorted(entry.name for entry in path.parent.glob("x.db*")) == ["x.db"]

    def test_the_script_makes_what_init_makes(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        quick_site.sub_app("shop", SHOP, requires=("core",))
        script = quick_site.run("init", "--dry-run", env=env).out
        assert names(any_database_url) == [] if "sqlite" not in any_database_url else True
        run_script(any_database_url, script)
        assert names(any_database_url) == [*CORE, "orders", "products", "users"]
        report = report_of(quick_site.run("init", "--json", env=env))
        assert [(found["created"], found["differences"]) for found in report.values()] == [([], []), ([], [])]
        assert quick_site.run("status", env=env).code == 0

    def test_nothing_is_made_for_what_is_there(self, quick_site: Site, file_env: Env) -> None:
        quick_site.run("init", env=file_env)
        quick_site.sub_app("notes", NOTES)
        document = quick_site.run("init", "--dry-run", "--json", env=file_env).json
        assert document["bookkeeping"] == []
        assert [len(sub_app["statements"]) for sub_app in document["sub_apps"]] == [0, 1]

    def test_what_belongs_to_all_is_made_once(self, quick_site: Site, postgres_env: Env) -> None:
        models = HEAD + '    size = sa.Enum("s", "m", name="size", metadata=Base.metadata)\n'
        models += '    sa.Sequence("numbers", metadata=Base.metadata)\n'
        models += '    sa.Table("shoes", Base.metadata, sa.Column("size", size))\n'
        quick_site.sub_app("shoes", models)
        quick_site.sub_app("notes", NOTES)
        script = quick_site.run("init", "--dry-run", env=postgres_env).out
        assert (script.count("CREATE TYPE size"), script.count("CREATE SEQUENCE numbers")) == (1, 1)
        assert quick_site.run("init", env=postgres_env).code == 0
        assert report_of(quick_site.run("init", "--dry-run", "--json", env=postgres_env))["shoes"]["statements"] == []

    def test_findings_are_comments_of_the_script(self, quick_site: Site, file_env: Env, file_url: str) -> None:
        execute(file_url, "CREATE TABLE users (id INTEGER PRIMARY KEY)")
        done = quick_site.run("init", "--dry-run", env=file_env)
        assert done.code == 1
        assert "-- differs: sub-app 'core', users.username: the model has this column" in done.out


HALF = (
    NOTES
    + """
    class Other(Base):
        __tablename__ = "others"
        id: Mapped[int] = mapped_column(primary_key=True)
"""
)


def hook(name: str, body: str) -> str:
    arguments = {"opal_seed": "session, sub_app", "opal_tables_created": "connection, sub_app, tables"}[name]
    return f"""
    import sqlalchemy as sa

    @hookimpl
    def {name}({arguments}):
        {body}
"""


KILL = 'connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))'


class TestAllOrNothing:
    @pytest.fixture
    def env(self, database_url: str) -> Env:
        """The variables that configure a database that takes DDL back."""
        return {"OPAL_DATABASE__URL": database_url}

    def fails(self, site: Site, env: Env, *, code: int) -> str:
        """Run ``init``, which leaves nothing behind, and return what it says."""
        done = site.run("init", env=env)
        assert done.code == code, done
        assert "Traceback" not in done.err
        assert done.out == ""
        assert names(str(env["OPAL_DATABASE__URL"])) == []
        return done.err

    @pytest.mark.parametrize("name", ["opal_seed", "opal_tables_created"])
    def test_a_hook_that_raises_undoes_everything(self, quick_site: Site, env: Env, name: str) -> None:
        quick_site.sub_app("zz_last", HALF, version="3.1", hooks=hook(name, "raise ValueError('not today')"))
        said = self.fails(quick_site, env, code=3)
        assert f"calling {name} failed: ValueError: not today" in said
        assert "zz_last 3.1" in said

    def test_a_hook_that_commits_is_refused(self, quick_site: Site, env: Env) -> None:
        quick_site.sub_app("zz_last", HALF, hooks=hook("opal_tables_created", "connection.commit()"))
        assert "the connection must not be committed here" in self.fails(quick_site, env, code=3)

    def test_a_seed_that_breaks_a_constraint_is_the_plugins_fault(self, quick_site: Site, env: Env) -> None:
        body = "session.execute(sa.text('INSERT INTO notes (id) VALUES (1), (1)'))"
        quick_site.sub_app("zz_last", HALF, hooks=hook("opal_seed", body))
        assert "calling opal_seed failed: UniqueError" in self.fails(quick_site, env, code=3)

    @pytest.mark.parametrize("name", ["opal_seed", "opal_tables_created"])
    def test_a_connection_that_is_cut_is_not(self, quick_site: Site, postgres_env: Env, name: str) -> None:
        body = KILL if name == "opal_tables_created" else KILL.replace("connection", "session")
        quick_site.sub_app("zz_last", HALF, hooks=hook(name, body))
        said = self.fails(quick_site, postgres_env, code=4)
        assert said.startswith("error: the connection was cut: ")
        assert f"calling {name} of sub-app 'zz_last'" in said
        assert "run the command again" in said

    def test_a_full_disk_undoes_everything(self, quick_site: Site, tmp_path: Path) -> None:
        listener = """
            import sqlalchemy as sa

            @hookimpl
            def opal_engine_created(engine, bind):
                sa.event.listen(engine, "connect", lambda c, _: c.execute("PRAGMA max_page_count=8"))
        """
        quick_site.sub_app("zz_last", HALF, hooks=listener)
        said = self.fails(quick_site, {"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'x.db'}"}, code=4)
        assert said.startswith("error: the disk is full: ")
        assert "creating the tables of sub-app" in said

    def test_a_table_that_the_server_refuses_undoes_everything(self, quick_site: Site, postgres_env: Env) -> None:
        models = HALF + '    sa.Index("broken", sa.text("no_such_function(id)"), _table=Note.__table__)\n'
        quick_site.sub_app("zz_last", models)
        said = self.fails(quick_site, postgres_env, code=4)
        assert "lacks a type or a function that the models use" in said
        assert "creating the tables of sub-app 'zz_last'; statement: CREATE INDEX broken" in said

    def test_what_cannot_be_is_said_before_the_first_statement(self, quick_site: Site, tmp_path: Path) -> None:
        models = HEAD + '    sa.Table("odd", Base.metadata, sa.Column("x", sa.ARRAY(sa.Integer)), schema=None)\n'
        quick_site.sub_app("odd", models)
        done = quick_site.run("init", env={"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'x.db'}"})
        assert done.code == 3
        assert "sub-app 'odd': table 'odd': column 'x' has the type ARRAY, which SQLite does not have" in done.err
        assert not (tmp_path / "x.db").exists()

    def test_a_name_that_postgresql_would_cut_is_said_too(self, quick_site: Site, postgres_env: Env) -> None:
        quick_site.sub_app("odd", HEAD + f'    sa.Table("{"ä" * 32}", Base.metadata, sa.Column("x", sa.Integer))\n')
        assert "is 64 bytes long, PostgreSQL allows 63" in self.fails(quick_site, postgres_env, code=3)


class TestListeners:
    def test_they_are_handed_a_connection_that_can_all_a_connection_can(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        models = (
            NOTES
            + """
    @sa.event.listens_for(Note.__table__, "after_create")
    def fill(table, connection, **options):
        assert isinstance(connection, sa.Connection)
        assert sa.inspect(connection).has_table("notes")
        with connection.begin_nested():
            connection.execute(table.insert().values(id=1))
        with sa.orm.Session(connection) as session:
            assert session.get(Note, 1)
"""
        )
        quick_site.sub_app("notes", models)
        assert quick_site.run("init", env=env).code == 0
        assert execute(any_database_url, "SELECT id FROM notes") == [(1,)]


class TestWhatIsThere:
    def test_another_shape_is_reported_and_never_altered(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        quick_site.sub_app("shop", SHOP, requires=("core",))
        execute(any_database_url, "CREATE TABLE products (id INTEGER PRIMARY KEY, name INTEGER, price INTEGER)")
        done = quick_site.run("init", env=env)
        assert done.code == 1
        assert re.search(
            r"differs: sub-app 'shop', products\.name: the type is INTEGER(\(11\))?, the model says VARCHAR\(80\)",
            done.out,
        )
        assert "products.name: the column may be NULL, the model says it may not be NULL" in done.out
        assert "note: sub-app 'shop', products.price: the table has this column" in done.out
        assert "mend:" in done.out
        assert execute(any_database_url, "SELECT id, name, price FROM products") == []
        assert "orders" in names(any_database_url)

    def test_a_column_too_many_that_harms_nobody_is_a_note(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        quick_site.run("init", env=env)
        execute(any_database_url, "ALTER TABLE users ADD COLUMN shoe_size INTEGER")
        done = quick_site.run("init", "--verify", env=env)
        assert done.code == 0
        assert "note: sub-app 'core', users.shoe_size" in done.out

    def test_a_database_of_the_original_suite_is_recognised(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        execute(
            any_database_url,
            """CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, username VARCHAR(50) NOT NULL UNIQUE,
               hashed_password VARCHAR(99), first_name VARCHAR(50), last_name VARCHAR(50))""",
            "INSERT INTO users (id, username) VALUES (1, 'ada')",
        )
        done = quick_site.run("init", "--json", env=env)
        differences = report_of(done, code=1)["core"]["differences"]
        lacking = {d["column"] for d in differences if "it is the table of the original suite" in d["what"]}
        assert lacking == {"email", "is_active", "roles", "created_at", "updated_at"}
        assert execute(any_database_url, "SELECT username FROM users") == [("ada",)]

    def test_a_view_in_place_of_a_table(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        execute(any_database_url, "CREATE VIEW users AS SELECT 1 AS id")
        done = quick_site.run("init", env=env)
        assert done.code == 1
        assert "users: there is a view of that name" in done.out

    def test_another_thing_of_that_name(self, quick_site: Site, postgres_env: Env, postgres_url: str) -> None:
        execute(postgres_url, "CREATE SEQUENCE users")
        done = quick_site.run("init", env=postgres_env)
        assert done.code == 4
        assert "something of that name is there already" in done.err

    def test_tables_of_strangers_are_left_alone(self, quick_site: Site, file_env: Env, file_url: str) -> None:
        execute(file_url, "CREATE TABLE theirs (x INTEGER)")
        assert quick_site.run("init", env=file_env).code == 0
        assert "theirs" in names(file_url)


class TestSeeds:
    SEED = hook("opal_seed", "session.execute(sa.text('INSERT INTO notes (id) VALUES (1)'))")

    def test_first_rows_are_put_in_once(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        quick_site.sub_app("notes", NOTES, hooks=self.SEED)
        assert report_of(quick_site.run("init", "--json", env=env))["notes"]["seeded"] is True
        assert report_of(quick_site.run("init", "--json", env=env))["notes"]["seeded"] is False
        assert execute(any_database_url, "SELECT id FROM notes") == [(1,)]

    def test_a_session_may_be_committed_and_rolled_back_inside(
        self, quick_site: Site, env: Env, any_database_url: str
    ) -> None:
        body = "[session.execute(sa.text('INSERT INTO notes VALUES (1)')), session.commit()]; "
        body += (
            "part = session.begin_nested(); session.execute(sa.text('INSERT INTO notes VALUES (2)')); part.rollback()"
        )
        quick_site.sub_app("notes", NOTES, hooks=hook("opal_seed", body))
        assert quick_site.run("init", env=env).code == 0
        assert execute(any_database_url, "SELECT id FROM notes") == [(1,)]

    def test_what_hooks_print_does_not_disturb_the_document(self, quick_site: Site, file_env: Env) -> None:
        quick_site.sub_app("notes", NOTES, hooks=hook("opal_seed", "print('hello from', sub_app.name)"))
        done = quick_site.run("init", "--json", env=file_env)
        assert done.json["exit_code"] == 0
        assert done.err == "hello from notes\n"

    def test_models_can_be_used(self, quick_site: Site, file_env: Env, file_url: str) -> None:
        body = "from notes.models import Note; session.add(Note(id=7))"
        quick_site.sub_app("notes", NOTES, hooks=hook("opal_seed", body))
        assert quick_site.run("init", env=file_env).code == 0
        assert execute(file_url, "SELECT id FROM notes") == [(7,)]


OF_AN_EXPRESSION = 'sa.Index("lowered", sa.text("(n + 1)"))'
"""An index that MariaDB does not have."""

HARD = (
    HEAD
    + f"""
    key = lambda: sa.Column("id", sa.Integer, primary_key=True)
    sa.Table("Order", Base.metadata, sa.Column("select", sa.Integer, primary_key=True), sa.Column("größe %", sa.String(9)))
    sa.Table("{"t" * 63}", Base.metadata, sa.Column("{"c" * 63}", sa.Integer, primary_key=True),
             sa.Column("{"d" * 60}", sa.Integer, index=True, unique=True))
    sa.Table("without_key", Base.metadata, sa.Column("x", sa.Integer))
    sa.Table("tree", Base.metadata, key(), sa.Column("up", sa.ForeignKey("tree.id")))
    for a, b in (("hens", "eggs"), ("eggs", "hens")):
        sa.Table(a, Base.metadata, key(), sa.Column("f", sa.ForeignKey(b + ".id", use_alter=True)))
    kind = sa.Enum("a", "b", name="kind", create_constraint=True)
    for name in ("one", "two"):
        sa.Table(name, Base.metadata, key(), sa.Column("kind", kind))
    sa.Table("full", Base.metadata, sa.Column("id", sa.Integer, sa.Identity(), primary_key=True, comment="it's 100%"),
             sa.Column("n", sa.Numeric(8, 2), sa.CheckConstraint("n > 0"), server_default="1.5"),
             sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now()),
             *[{OF_AN_EXPRESSION}], comment="full of things")
"""
)
ON_POSTGRESQL = (
    HEAD
    + """
    numbers = sa.Sequence("numbers", start=100)
    sa.Table("items", Base.metadata, sa.Column("id", sa.Integer, numbers, primary_key=True), schema="shop floor")
    sa.Table("items", Base.metadata, sa.Column("id", sa.ForeignKey("shop floor.items.id"), primary_key=True))
"""
)


class TestHardModels:
    """Reserved, mixed, foreign and long names; no key, self references, cycles, shared types, defaults, comments."""

    def brings_up(self, site: Site, env: Env, models: str) -> None:
        site.sub_app("hard", models)
        assert site.run("init", env=env).code == 0
        again = site.run("init", "--json", env=env)
        assert [(s["created"], s["differences"]) for s in again.json["sub_apps"]] == [([], []), ([], [])]
        assert site.run("status", env=env).code == 0

    def test_they_come_to_be_and_are_ready(self, quick_site: Site, env: Env, any_database_url: str) -> None:
        self.brings_up(quick_site, env, HARD.replace(OF_AN_EXPRESSION, "") if "mysql" in any_database_url else HARD)

    def test_sequences_and_schemas_do_too(self, quick_site: Site, postgres_env: Env) -> None:
        self.brings_up(quick_site, postgres_env, ON_POSTGRESQL)


class TestCreateDatabase:
    @pytest.mark.parametrize("name", ["opal_made", "Opal & Größe"])
    def test_the_database_is_made_where_it_is_missing(self, quick_site: Site, postgres: Cluster, name: str) -> None:
        env: Env = {"OPAL_DATABASE__URL": postgres.url(name)}
        try:
            done = quick_site.run("init", "--create-database", "--dry-run", env=env)
            assert done.code == 0, done
            assert "(does not exist yet)" in done.out.splitlines()[0]
            assert "CREATE TABLE users" in done.out
            missing = quick_site.run("init", env=env)
            assert missing.code == 4
            assert "there is no database of that name" in missing.err
            assert "create it (opal-db init --create-database)" in missing.err
            assert quick_site.run("init", "--create-database", env=env).code == 0
            assert quick_site.run("init", "--create-database", env=env).code == 0
            assert names(postgres.url(name)) == [*CORE, "users"]
        finally:
            postgres.drop_database(name)

    def test_who_may_not_make_one_is_told(self, quick_site: Site, postgres: Cluster) -> None:
        postgres.execute("CREATE ROLE app LOGIN PASSWORD 'hunter2'")
        url = postgres.url("opal_made", user="app", password="hunter2")
        done = quick_site.run("init", "--create-database", env={"OPAL_DATABASE__URL": url})
        postgres.execute("DROP ROLE app")
        assert done.code == 4
        assert "the user may not do this: permission denied to create database" in done.err
        assert "creating the database" in done.err
        assert "CREATEDB" in done.err
        assert "hunter2" not in done.err

    def test_a_wrong_password_is_a_wrong_password(self, quick_site: Site, postgres: Cluster) -> None:
        postgres.execute("CREATE ROLE app LOGIN PASSWORD 'hunter2'")
        url = postgres.url("opal_made", user="app", password="guess")
        done = quick_site.run("init", "--create-database", env={"OPAL_DATABASE__URL": url})
        postgres.execute("DROP ROLE app")
        assert done.code == 4
        assert "the user or the password is wrong" in done.err


class TestRefusals:
    def said(self, site: Site, env: Env, code: int = 4) -> str:
        done = site.run("init", "--json", env=env)
        assert done.code == code, done
        document = done.json["error"]
        assert document["exit_code"] == code
        assert document["problems"][0]["what"] in done.err
        assert "Traceback" not in done.err
        assert document["problems"][0]["mend"]
        return done.err

    def test_no_right_to_create_tables(self, quick_site: Site, postgres: Cluster) -> None:
        postgres.execute("CREATE ROLE app LOGIN PASSWORD 'hunter2'")
        name = postgres.create_database()
        said = self.said(quick_site, {"OPAL_DATABASE__URL": postgres.url(name, user="app", password="hunter2")})
        postgres.drop_database(name)
        postgres.execute("DROP ROLE app")
        assert "the user may not do this: permission denied for schema public" in said
        assert "GRANT CREATE ON SCHEMA" in said

    def test_a_server_that_is_down(self, quick_site: Site) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        said = self.said(quick_site, {"OPAL_DATABASE__URL": f"postgresql://app:hunter2@127.0.0.1:{port}/opal"})
        assert "no server answers there" in said
        assert f"postgresql+psycopg://app:********@127.0.0.1:{port}/opal" in said

    def test_a_missing_directory(self, quick_site: Site, tmp_path: Path) -> None:
        said = self.said(quick_site, {"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'no' / 'x.db'}"})
        assert f"mkdir -p {tmp_path / 'no'}" in said

    def test_a_directory_in_place_of_the_file(self, quick_site: Site, tmp_path: Path) -> None:
        assert "is not a file" in self.said(quick_site, {"OPAL_DATABASE__URL": f"sqlite:///{tmp_path}"})

    def test_not_a_database(self, quick_site: Site, tmp_path: Path) -> None:
        (tmp_path / "x.db").write_bytes(b"PK\3\4" * 500)
        said = self.said(quick_site, {"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'x.db'}"})
        assert "the file is not a SQLite database" in said
        assert (tmp_path / "x.db").read_bytes() == b"PK\3\4" * 500

    def test_a_file_that_is_read_only(self, quick_site: Site, tmp_path: Path) -> None:
        sqlite3.connect(tmp_path / "x.db").close()
        (tmp_path / "x.db").touch()
        url = f"sqlite:///file:{tmp_path / 'x.db'}?mode=ro&uri=true"
        assert "the database is read-only here" in self.said(quick_site, {"OPAL_DATABASE__URL": url})


def test_processes_that_start_at_once_agree_on_one_creator(site: Site, env: Env, any_database_url: str) -> None:
    body = "session.execute(sa.text(\"INSERT INTO products (id, name) VALUES (1, 'x')\"))"
    site.sub_app("shop", SHOP, requires=("core",), hooks=hook("opal_seed", body))
    processes = [site.start(*site.command("init", "--json"), env=env) for _ in range(6)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, outputs
    created = sorted(json.loads(out)["sub_apps"][1]["created"] for out, _ in outputs)
    assert created == [[]] * 5 + [["products", "orders"]]
    assert execute(any_database_url, "SELECT count(*) FROM products") == [(1,)]


class TestLocks:
    @pytest.fixture
    def holder(self, any_database_url: str) -> Iterator[ExitStack]:
        """A transaction that keeps the lock of a run."""
        from opal_registry.store.locks import hold_lock

        engine = engine_of(any_database_url)
        with ExitStack() as stack:
            stack.enter_context(hold_lock(engine, wait=1, where=""))
            yield stack
        engine.dispose()

    def test_a_run_that_waits_too_long_says_for_what(
        self, quick_site: Site, env: Env, holder: ExitStack, any_database_url: str
    ) -> None:
        done = quick_site.run("init", env={**env, "OPAL_LOCKS__WAIT": "200ms"})
        assert done.code == 5
        assert re.search(r"error: another run of opal-db \(.+\) holds this database for longer than 0.2 s", done.err)
        assert "mend:  run the command again when it has ended, or raise locks.wait" in done.err
        assert re.search(r"where: (sqlite /|postgresql\+psycopg://|mysql\+pymysql://)", done.err)

    def test_a_run_that_waits_long_enough_goes_on(self, site: Site, env: Env, holder: ExitStack) -> None:
        waiting = site.start(*site.command("init"), env=env)
        assert waiting.stderr is not None
        assert waiting.stderr.readline().startswith("waiting for another run of opal-db: ")
        assert waiting.poll() is None
        holder.close()
        _, err = waiting.communicate(timeout=30)
        assert (waiting.returncode, err) == (0, "")

    def test_a_table_in_use_is_not_waited_for_without_end(
        self, quick_site: Site, postgres_env: Env, postgres_url: str
    ) -> None:
        quick_site.run("init", env=postgres_env)
        quick_site.sub_app("shop", SHOP, requires=("core",))
        env = {**postgres_env, "OPAL_LOCKS__DDL_LOCK_TIMEOUT": "50ms", "OPAL_LOCKS__RETRIES": "1"}
        engine = engine_of(postgres_url)
        with engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO users (username, roles) VALUES ('ada', '[]')")
            done = quick_site.run("init", env=env)
            assert done.code == 5
            assert "something else holds a lock for too long" in done.err
            assert "creating the tables of sub-app 'shop'" in done.err
        engine.dispose()
        assert quick_site.run("init", env=env).code == 0


def test_a_program_may_call_it(any_database_url: str) -> None:
    with registry_of(any_database_url) as registry:
        report = init(registry)
        assert [(sub_app.app.name, sub_app.created) for sub_app in report.sub_apps] == [("core", ("users",))]
        assert init(registry).sub_apps[0].present == ("users",)


def test_a_program_may_watch_it(tmp_path: Path) -> None:
    seen: list[str] = []

    def step(text: str) -> contextlib.AbstractContextManager[object]:
        seen.append(text)
        return contextlib.nullcontext()

    with Registry(settings_of(f"sqlite:///{tmp_path / 'x.db'}"), sub_apps=["core"]) as registry:
        init(registry, step=step)
    assert seen == [f"looking at sqlite {tmp_path / 'x.db'}", "bringing up core"]
