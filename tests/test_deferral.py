"""Whether a constraint may be checked at the end of a transaction."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.compiler import compiles

from tests.preflight import connected, look, refusal

WORDS = [*product((None, True, False), (None, "DEFERRED", "immediate"))]


class QuietForeignKey(sa.ForeignKeyConstraint):
    """A foreign key that leaves out what MySQL does not know, as SQLAlchemy's documentation recommends."""


@compiles(QuietForeignKey, "mysql")
def _leave_out(element: Any, compiler: Any, **options: Any) -> str:
    element.deferrable = element.initially = None
    return str(compiler.visit_foreign_key_constraint(element, **options))


def iter_constraints(options: dict[str, Any]) -> Iterator[tuple[str, sa.MetaData]]:
    """One table for each kind of constraint."""
    unique = sa.UniqueConstraint("x", name="uq_x", **options)
    check = sa.CheckConstraint("x > 0", name="ck_x", **options)
    of_column = sa.CheckConstraint("x > 0", **options)
    key = sa.ForeignKeyConstraint(["x"], ["items.id"], name="fk_x", **options)
    for kind, item in {"unique": unique, "check": check, "of column": of_column, "foreign key": key}.items():
        metadata = sa.MetaData()
        parts: list[Any] = (
            [sa.Column("x", sa.Integer, item)] if kind == "of column" else [sa.Column("x", sa.Integer), item]
        )
        sa.Table("items", metadata, sa.Column("id", sa.Integer, primary_key=True), *parts)
        yield kind, metadata
    metadata = sa.MetaData()
    sa.Table("items", metadata, sa.Column("x", sa.Integer), sa.PrimaryKeyConstraint("x", **options))
    yield "primary key", metadata


def test_every_constraint_is_judged_as_the_database_judges_it(any_database_url: str) -> None:
    for deferrable, initially in WORDS:
        for kind, metadata in iter_constraints({"deferrable": deferrable, "initially": initially}):
            with connected(any_database_url) as connection:
                found = look(metadata.sorted_tables, connection)
                assert bool(found) == bool(refusal(connection, metadata)), (kind, deferrable, initially)


def test_mysql_takes_no_constraint_that_says_when_it_is_checked() -> None:
    found = [
        look(metadata.sorted_tables, dialect=mysql.dialect()) for _, metadata in iter_constraints({"deferrable": True})
    ]
    assert [len(problems) for problems in found] == [1, 1, 1, 1, 1]
    assert found[3][0][0] == (
        "the foreign key of 'x' says DEFERRABLE, which MySQL or MariaDB does not take there; SQLite and PostgreSQL would "
        "take it"
    )


def test_what_a_model_leaves_out_of_the_ddl_is_not_refused(any_database_url: str) -> None:
    metadata = sa.MetaData()
    key = QuietForeignKey(["x"], ["items.id"], deferrable=True, initially="DEFERRED")
    columns = [sa.Column("id", sa.Integer, primary_key=True), sa.Column("x", sa.Integer)]
    sa.Table("items", metadata, *columns, key)
    with connected(any_database_url) as connection:
        assert look(metadata.sorted_tables, connection) == []
        assert refusal(connection, metadata) == ""


def test_a_constraint_for_another_database_is_not_refused() -> None:
    unique = sa.UniqueConstraint("x", deferrable=True).ddl_if(dialect="postgresql")
    table = sa.Table("items", sa.MetaData(), sa.Column("x", sa.Integer, primary_key=True), unique)
    assert look([table], dialect=sqlite.dialect()) == look([table], dialect=mysql.dialect()) == []


def test_a_key_that_sqlite_counts_up_says_nothing() -> None:
    key = sa.PrimaryKeyConstraint("x", deferrable=True)
    table = sa.Table("items", sa.MetaData(), sa.Column("x", sa.Integer), key, sqlite_autoincrement=True)
    assert look([table], dialect=sqlite.dialect()) == []


@pytest.mark.parametrize("dialect", [sqlite.dialect, postgresql.dialect, mysql.dialect])
def test_words_that_no_database_knows_are_left_to_it(dialect: Any) -> None:
    unique = sa.UniqueConstraint("x", initially="SOMETIME")
    table = sa.Table("items", sa.MetaData(), sa.Column("x", sa.Integer, primary_key=True), unique)
    assert look([table], dialect=dialect()) == []
