"""Subqueries, and functions whose value changes: only those that are certain are refused."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from opal_registry.preflight.expressions import make_expression, strip_quoted
from opal_registry.preflight.functions import CHANGING, WORDS, list_takers
from opal_registry.preflight.places import has_subquery, iter_changing
from opal_registry.preflight.target import MYSQL
from tests.preflight import connected, look, refusal
from tests.refusals import Word


def words_in(text: str) -> list[str]:
    return [name for name, _ in iter_changing(make_expression("check", "the check", sa.text(text)))]


def generated(text: str, *, persisted: bool = True) -> sa.MetaData:
    metadata = sa.MetaData()
    made = sa.Computed(text, persisted=persisted)
    sa.Table(
        "items", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("y", Word("VARCHAR(60)"), made)
    )
    return metadata


def test_what_only_looks_like_a_subquery_or_a_function_is_taken(any_database_url: str) -> None:
    metadata = sa.MetaData()
    sa.Table(
        "items",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("x", sa.String(50), server_default="(select 1)"),
        sa.Column("random", sa.Integer),
        sa.Column("now", sa.Integer, server_default=sa.text("'0'")),
        sa.Column("selected", sa.Integer),
        sa.Column("y", sa.Integer, sa.Computed("random + 1", persisted=True)),
        sa.Column("z", sa.String(90), sa.Computed("coalesce(x, '(select now())''random()')", persisted=True)),
        sa.CheckConstraint("x <> '(select 1)' AND x <> 'now()' AND x <> 'CURRENT_DATE'"),
        sa.CheckConstraint("x <> 'it''s (select 1)' /* now() and (select 1) */"),
        sa.CheckConstraint("(selected) > 0 AND (random) > (now)\n-- don't say uuid() or (SELECT 1)\n"),
        sa.Index("ix_x", "x", postgresql_where=(where := sa.text("x <> '(select random())'")), sqlite_where=where),
        sa.Index("ix_some", "random", sqlite_where=sa.text("random > 0"), postgresql_where=sa.text("random > 0")),
    )
    with connected(any_database_url) as connection:
        assert look(metadata.sorted_tables, connection) == []
        assert refusal(connection, metadata) == ""


def test_quoted_names_are_no_subqueries() -> None:
    dialects: list[tuple[Any, str]] = [(sqlite, '"'), (postgresql, '"'), (mysql, "`")]
    for module, quote in dialects:
        texts = [f"{quote}(select 1){quote} > 0", f"{quote}random(){quote} > 0", f"{quote}now(){quote} > 0"]
        checks = [sa.CheckConstraint(text) for text in texts]
        table = sa.Table("items", sa.MetaData(), sa.Column("x", sa.Integer, primary_key=True), *checks)
        assert look([table], dialect=module.dialect()) == []
    assert not has_subquery(make_expression("check", "the check", sa.text("[a (select] > 0 AND [random()] > 1")))
    assert words_in("[a (select] > 0 AND [random()] > 1") == []


@pytest.mark.parametrize(
    "text",
    [
        r"x = 'it\'s' AND y IN (SELECT 'a')",
        "x <> $$don't$$ AND y IN (SELECT 'a')",
        "x > 0 # don't\n AND y IN (SELECT 'a')",
        "x > 0 /* a /* b */ (SELECT 1) */",
        "x > 0 /* (SELECT 1)",
        "x > 'a (SELECT 1)",
    ],
)
def test_what_databases_read_differently_is_left_to_them(text: str) -> None:
    assert strip_quoted(text) == ""
    assert not has_subquery(make_expression("check", "the check", sa.text(text)))


def test_a_path_into_json_is_read() -> None:
    assert (
        strip_quoted("data #>> '{a}' <> ARRAY['b', 'c'] [1] AND x[2] > y")
        == "data #>> '' <> ARRAY['', ''] [] AND x[2] > y"
    )


def test_what_belongs_to_a_table_or_a_schema_or_is_a_parameter_is_no_function_of_the_database() -> None:
    assert words_in("x.current_date > shop.now() AND shop.random() > @current_time AND random(1, 6) > rand(3)") == []
    assert words_in("x = any_now() OR my_current_date > 0 OR current_date_of(x)") == []
    assert words_in("x > Now ( ) OR y = current_date OR now() > z") == ["now()", "CURRENT_DATE"]


def test_whatever_is_said_to_change_is_refused_by_all_who_have_it(any_database_url: str) -> None:
    """Each word and function in turn, in a stored column."""
    with connected(any_database_url) as connection:
        name = "mariadb" if connection.dialect.name in MYSQL else connection.dialect.name
    for call, databases in {**WORDS, **{f"{name}()": takers for name, takers in CHANGING.items()}}.items():
        if name in databases:
            with connected(any_database_url) as connection:
                metadata = generated(call)
                found = look(metadata.sorted_tables, connection)
                said = refusal(connection, metadata)
            assert len(found) == 1, call
            assert found[0][0].split(" says: ")[1].rpartition(")")[0] in said, call


def test_mariadb_computes_what_changes_when_it_is_read(mariadb_url: str) -> None:
    for call in [name for name, databases in WORDS.items() if "mariadb" in databases]:
        with connected(mariadb_url) as connection:
            metadata = generated(call, persisted=False)
            assert look(metadata.sorted_tables, connection) == []
            assert refusal(connection, metadata) == ""


def test_an_index_of_a_subquery_is_left_to_mariadb(mariadb_url: str) -> None:
    index = sa.Index("ix_x", sa.text("(coalesce(id, (SELECT 1)))"))
    table = sa.Table("items", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), index)
    with connected(mariadb_url) as connection:
        assert look([table], connection) == []
    assert look([table], dialect=mysql.dialect()) == []


def test_nobody_is_said_to_take_what_is_not_certain() -> None:
    assert list_takers("unix_timestamp", "index") == list_takers("hex", "condition") - {"sqlite"} == frozenset()
    assert list_takers("to_timestamp", "stored column") == list_takers("uuidv7", "check") == frozenset()
    assert list_takers("uuid", "check") == list_takers("my_function", "default") == frozenset()
    assert list_takers("md5", "stored column") == {"postgresql", "mysql", "mariadb"}


def test_mysql_refuses_what_changes_whether_it_is_stored_or_not() -> None:
    """MySQL itself is not run here: this is from its manual."""
    dialect = mysql.dialect()
    assert look(generated("now()", persisted=False).sorted_tables, dialect=dialect) == []
    stored = (
        "the generated column 'y' says now(), whose value changes",
        "make it an ordinary column with a default, or compute it in Python",
    )
    assert look(generated("now()").sorted_tables, dialect=dialect) == [stored]
    dialect.server_version_info = (8, 4, 0)
    assert look(generated("now()", persisted=False).sorted_tables, dialect=dialect) == [
        (f"{stored[0]}; MariaDB would take it", stored[1])
    ]
