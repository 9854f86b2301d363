"""What ``opal-db lint`` proposes, and what it knows from a database, on real servers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from opal_registry.migrations.environment import run_revisions
from opal_registry.migrations.lint.known import read_not_null, read_sizes
from tests.databases import engine_of
from tests.lint_cases import NOT_NULL, Example, iter_examples, judge
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
