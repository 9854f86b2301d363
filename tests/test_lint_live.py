"""What ``opal-db lint`` proposes, and what it knows from a database, on real servers."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.migrations.environment import run_revisions
from opal_registry.migrations.lint.conversions import is_free
from opal_registry.migrations.lint.known import read_not_null, read_sizes
from opal_registry.store import tables
from tests.databases import engine_of
from tests.lint_cases import NOT_NULL, Example, iter_examples, judge, rules
from tests.postgres import Cluster
from tests.revisions import make_history, revision

TABLES = (
    "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY)",
    "CREATE TABLE notes (id INTEGER NOT NULL PRIMARY KEY, user_id INTEGER, mood VARCHAR(20))",
    "CREATE INDEX ix_mood ON notes (mood)",
)
COPIED = {
    family: [
        pytest.param(example, id=name)
        for name, dialect, example in iter_examples()
        if dialect == family and example.copied
    ]
    for family in ("postgresql", "mysql")
}
NUMBERS = {
    "postgresql": "INSERT INTO notes SELECT n, NULL, 'x' FROM generate_series(1, 30000) AS n",
    "mariadb": "INSERT INTO notes SELECT seq, NULL, 'x' FROM seq_1_to_30000",
}


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    engine = engine_of(url)
    with engine.connect() as connection:
        for statement in TABLES:
            connection.exec_driver_sql(statement)
        tables.metadata.create_all(connection)
        connection.commit()
        yield connection
    engine.dispose()


def run(connection: sa.Connection, folder: Path, name: str, body: str) -> None:
    history = make_history(folder, name, revision("r1", None, body))
    run_revisions(connection, history, list(history.revisions.values()), record=lambda *_: None)


def proposed(folder: Path, example: Example, dialect: str) -> str:
    (folder / "judged").mkdir()
    (rewrite,) = [each.rewrite for each in judge(folder / "judged", example.bad, dialect) if each.rule == example.rule]
    return rewrite


@pytest.mark.parametrize("example", COPIED["postgresql"])
def test_what_is_proposed_runs_on_postgresql(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example: Example
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with connected(postgres_url) as connection:
        run(connection, tmp_path, f"p{abs(hash((example, postgres_url)))}", proposed(tmp_path, example, "postgresql"))


@pytest.mark.parametrize("example", COPIED["mysql"])
def test_what_is_proposed_runs_on_mariadb(
    mariadb_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example: Example
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with connected(mariadb_url) as connection:
        run(connection, tmp_path, f"m{abs(hash((example, mariadb_url)))}", proposed(tmp_path, example, "mysql"))


def test_a_column_becomes_not_null_as_it_is_proposed_and_the_check_is_gone(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (minded,) = judge(tmp_path, NOT_NULL)
    with connected(postgres_url) as connection:
        run(connection, tmp_path, f"n{abs(hash(postgres_url))}", minded.rewrite)
        inspector = sa.inspect(connection)
        assert not {each["name"]: each["nullable"] for each in inspector.get_columns("notes")}["mood"]
        assert inspector.get_check_constraints("notes") == []


def test_sizes_are_known_with_and_without_statistics(postgres_url: str) -> None:
    with connected(postgres_url) as connection:
        assert read_sizes(connection)["notes"] == 0
        connection.exec_driver_sql(NUMBERS["postgresql"])
        assert 30_000 <= read_sizes(connection)["notes"] <= 60_000  # as many as the pages can hold
        connection.exec_driver_sql("ANALYZE notes")
        sizes = read_sizes(connection)
        assert sizes["notes"] == sizes["public.notes"] == 30_000


def test_sizes_are_known_on_mariadb(mariadb_url: str) -> None:
    with connected(mariadb_url) as connection:
        assert read_sizes(connection)["users"] == 0
        connection.exec_driver_sql(NUMBERS["mariadb"])
        connection.commit()
        connection.exec_driver_sql("ANALYZE TABLE notes").all()
        connection.rollback()
        assert 20_000 <= read_sizes(connection)["notes"] <= 40_000


def test_only_a_validated_check_of_one_column_proves_that_it_holds_no_null(postgres_url: str) -> None:
    checks = {
        "a": "CHECK (mood IS NOT NULL) NOT VALID",
        "b": "CHECK (user_id IS NOT NULL OR user_id IS NOT NULL)",
        "c": "CHECK (mood <> 'a IS NOT NULL')",
    }
    with connected(postgres_url) as connection:
        for name, check in checks.items():
            connection.execute(sa.text(f"ALTER TABLE notes ADD CONSTRAINT {name} {check}"))
        assert read_not_null(connection) == set()
        connection.exec_driver_sql("ALTER TABLE notes VALIDATE CONSTRAINT a")
        assert read_not_null(connection) == {("notes", "mood"), ("public.notes", "mood")}


CONVERSIONS = [
    (sa.String(20), sa.String(40)),
    (sa.String(40), sa.String(20)),
    (sa.String(60), sa.String(80)),
    (sa.String(80), sa.String(120)),
    (sa.String(80), sa.Text()),
    (sa.Integer(), sa.BigInteger()),
    (sa.Numeric(8, 2), sa.Numeric(10, 2)),
    (sa.Numeric(8, 2), sa.Numeric(10, 3)),
    (sa.DateTime(), sa.Date()),
]
WORDS = [f"{old!r} to {new!r}" for old, new in CONVERSIONS]


def files(connection: sa.Connection, table: str) -> int:
    """Where PostgreSQL keeps the rows of a table: elsewhere, once they were written anew."""
    return int(connection.execute(sa.select(sa.func.pg_relation_filenode(table))).scalar_one())


@pytest.mark.parametrize(("old", "new"), CONVERSIONS, ids=WORDS)
def test_postgresql_writes_rows_anew_where_a_type_is_not_free(postgres18: Cluster, old: Any, new: Any) -> None:
    name = postgres18.create_database()
    with connected(postgres18.url(name)) as connection:
        dialect = connection.dialect
        before, after = (each.compile(dialect=dialect) for each in (old, new))
        connection.exec_driver_sql(f"CREATE TABLE typed (c {before})")
        connection.exec_driver_sql("INSERT INTO typed VALUES (NULL)")
        there = files(connection, "typed")
        connection.exec_driver_sql(f"ALTER TABLE typed ALTER COLUMN c TYPE {after}")
        assert is_free(old, new, dialect) == (files(connection, "typed") == there)
    postgres18.drop_database(name)


@pytest.mark.parametrize(("old", "new"), CONVERSIONS, ids=WORDS)
def test_what_is_free_on_mysql_mariadb_does_where_the_table_is_while_others_write(
    mariadb_url: str, old: Any, new: Any
) -> None:
    with connected(mariadb_url) as connection:
        dialect = connection.dialect
        before, after = (each.compile(dialect=dialect) for each in (old, new))
        connection.exec_driver_sql(f"CREATE TABLE typed (c {before}) CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC")
        change = sa.text(f"ALTER TABLE typed MODIFY c {after}, ALGORITHM=INPLACE, LOCK=NONE")
        with nullcontext() if is_free(old, new, dialect) else pytest.raises(sa.exc.DBAPIError, match="INPLACE"):
            connection.execute(change)


@pytest.mark.parametrize(
    "definition",
    [
        "sa.DateTime(), server_default=sa.func.now()",
        "sa.DateTime(), server_default=sa.text(\"date_trunc('day', now())\")",
        "sa.String(9), server_default='f()'",
        "sa.JSON(), server_default=sa.text(\"json_build_object('a', 1)\")",
        "sa.Uuid(), server_default=sa.text('gen_random_uuid()')",
        "sa.DateTime(), server_default=sa.text('clock_timestamp()')",
        "sa.Integer(), sa.Identity()",
        "sa.Integer(), sa.Computed('id + 1', persisted=True)",
        "sa.Integer()",
    ],
)
def test_postgresql_writes_rows_anew_where_a_new_column_is_minded(
    postgres18: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, definition: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    body = f"op.add_column('notes', sa.Column('c', {definition}))"
    name = postgres18.create_database()
    with connected(postgres18.url(name)) as connection:
        connection.exec_driver_sql("INSERT INTO notes VALUES (1, NULL, NULL)")
        there = files(connection, "notes")
        connection.commit()
        run(connection, tmp_path, f"c{abs(hash(definition))}", body)
        (tmp_path / "judged").mkdir()
        minded = {"opal.M110", "opal.M111"} & set(rules(judge(tmp_path / "judged", body)))
        assert bool(minded) == (files(connection, "notes") != there)
    postgres18.drop_database(name)
