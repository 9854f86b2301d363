"""The check of authors: models and migrations make the same database, and whatever differs is said in a sentence."""

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.base import NAMING_CONVENTION
from opal_registry.errors import ConfigError
from opal_registry.registry import Registry
from opal_registry.testing import MEND, MigrationsDifferError, check_migrations, find_differences
from tests.databases import registry_of
from tests.made_histories import make_loaded, make_package, registry_with
from tests.revisions import revision

Define = Callable[[sa.MetaData], object]
Make = Callable[[Define, str], Registry]

TEAMS = """
op.create_table(
    "teams",
    sa.Column("id", sa.Integer(), nullable=False),
    sa.Column("name", sa.String(80), nullable=False),
    sa.PrimaryKeyConstraint("id", name="pk_teams"),
)
"""


def teams(metadata: sa.MetaData, *items: sa.schema.SchemaItem, name: str = "teams") -> sa.Table:
    """The models: a table of teams, and what else it has."""
    key = sa.PrimaryKeyConstraint("id", name=f"pk_{name}")
    columns = (sa.Column("id", sa.Integer, nullable=False), sa.Column("name", sa.String(80), nullable=False))
    return sa.Table(name, metadata, *columns, key, *items)


@pytest.fixture
def make(any_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """A registry with the sub-app ``crew`` alone: what defines its models, and what its one revision does."""
    made: list[Registry] = []

    def make(define: Define, upgrade: str) -> Registry:
        metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)
        define(metadata)
        make_package(monkeypatch, tmp_path, "crew", [revision("c1", None, upgrade)])
        made.append(registry_with(any_database_url, make_loaded("crew", metadata.sorted_tables, "crew")))
        return made[-1]

    yield make
    for registry in made:
        registry.close()


def sentences(registry: Registry) -> list[str]:
    return [problem.what for problem in find_differences(registry, "crew")]


@dataclass(frozen=True)
class Case:
    """Models and a revision that differ in one thing, what is said of it, and which databases can tell."""

    models: Define
    upgrade: str
    said: str
    on: frozenset[str] = frozenset({"sqlite", "postgresql", "mysql"})


def only(*names: str) -> frozenset[str]:
    return frozenset(names)


def changed(old: str, new: str) -> str:
    assert old in TEAMS
    return TEAMS.replace(old, new)


def after_create(statement: str) -> Define:
    """Teams, with what a listener adds to them."""

    def define(metadata: sa.MetaData) -> None:
        sa.event.listen(
            teams(metadata), "after_create", lambda _, connection, **__: connection.exec_driver_sql(statement)
        )

    return define


def teams_with(*items: Callable[[], sa.schema.SchemaItem]) -> Define:
    return lambda metadata: teams(metadata, *(item() for item in items))


def is_null(metadata: sa.MetaData) -> None:
    teams(metadata).c.name.nullable = True


def refers(metadata: sa.MetaData) -> None:
    leads = sa.Column("lead_id", sa.Integer)
    teams(metadata, leads, sa.ForeignKeyConstraint(["lead_id"], ["teams.id"], name="fk_lead", ondelete="SET NULL"))


LEAD = changed(
    "sa.PrimaryKey",
    "sa.Column('lead_id', sa.Integer()), "
    "sa.ForeignKeyConstraint(['lead_id'], ['teams.id'], name='fk_lead'), sa.PrimaryKey",
)
LEAD_TYPED = changed(
    "sa.PrimaryKey",
    "sa.Column('mood', sa.Enum('good', 'bad', name='mood', create_constraint=True), nullable=False), sa.PrimaryKey",
)
ADD_ROW = "op.execute(\"INSERT INTO teams (id, name) VALUES (7, 'everybody')\")"

CASES = {
    "a table that no revision makes": Case(
        lambda m: (teams(m), teams(m, name="crews")), TEAMS, "the models make the table crews, the migrations do not"
    ),
    "a table that no model has": Case(
        teams_with(),
        TEAMS + TEAMS.replace("teams", "crews"),
        "the migrations make the table crews, the models do not",
    ),
    "a column that no revision makes": Case(
        teams_with(lambda: sa.Column("motto", sa.String(80))),
        TEAMS,
        "table teams: the models make the column motto, the migrations do not",
    ),
    "a column that no model has": Case(
        teams_with(),
        changed("sa.PrimaryKey", "sa.Column('motto', sa.String(80)), sa.PrimaryKey"),
        "table teams: the migrations make the column motto, the models do not",
    ),
    "a type": Case(
        teams_with(),
        changed("String(80)", "String(40)"),
        "table teams: the type of the column name is VARCHAR(80) by the models, VARCHAR(40) by the migrations",
    ),
    "nullability": Case(
        is_null,
        TEAMS,
        "table teams: the nullability of the column name is NULL by the models, NOT NULL by the migrations",
    ),
    "a server default": Case(
        teams_with(lambda: sa.Column("size", sa.Integer, server_default="5")),
        changed("sa.PrimaryKey", "sa.Column('size', sa.Integer(), server_default='6'), sa.PrimaryKey"),
        "table teams: the server default of the column size is 5 by the models, 6 by the migrations",
    ),
    "a comment of a column": Case(
        teams_with(lambda: sa.Column("size", sa.Integer, comment="in people")),
        changed("sa.PrimaryKey", "sa.Column('size', sa.Integer()), sa.PrimaryKey"),
        "table teams: the comment of the column size is 'in people' by the models, '' by the migrations",
        only("postgresql", "mysql"),
    ),
    "a comment of a table": Case(
        teams_with(),
        changed('"pk_teams"),', '"pk_teams"), comment="who works together",'),
        "table teams: the comment of the table is '' by the models, 'who works together' by the migrations",
        only("postgresql", "mysql"),
    ),
    "a primary key": Case(
        teams_with(),
        changed('"id", name', '"id", "name", name'),
        "table teams: the columns of the primary key is id by the models, id, name by the migrations",
    ),
    "what a foreign key does": Case(
        refers,
        LEAD,
        "table teams: the options of the foreign key fk_lead is ondelete SET NULL by the models, none by the migrations",
    ),
    "a foreign key": Case(
        refers,
        LEAD.replace("sa.ForeignKeyConstraint(['lead_id'], ['teams.id'], name='fk_lead'), ", ""),
        "table teams: the models make the foreign key fk_lead, the migrations do not",
    ),
    "a unique constraint": Case(
        teams_with(lambda: sa.UniqueConstraint("name", name="uq_teams_name")),
        TEAMS,
        "table teams: the models make the unique constraint uq_teams_name, the migrations do not",
    ),
    "an index": Case(
        teams_with(lambda: sa.Index("ix_teams_name", "name")),
        TEAMS,
        "table teams: the models make the index ix_teams_name, the migrations do not",
    ),
    "a check": Case(
        teams_with(lambda: sa.CheckConstraint("length(name) > 1", name="name")),
        TEAMS,
        "table teams: the models make the check ck_teams_name, the migrations do not",
    ),
    "the check of an enum": Case(
        teams_with(lambda: sa.Column("mood", sa.Enum("good", "bad", name="mood"), nullable=False)),
        LEAD_TYPED,
        "table teams: the migrations make the check ck_teams_mood, the models do not",
        only("sqlite"),
    ),
    "a view": Case(
        after_create("CREATE VIEW nobody AS SELECT id FROM teams WHERE id < 0"),
        TEAMS,
        "the models make the view nobody, the migrations do not",
    ),
    "what a view shows": Case(
        after_create("CREATE VIEW names AS SELECT name FROM teams"),
        TEAMS + "op.execute('CREATE VIEW names AS SELECT id FROM teams')",
        "the definition of the view names is ",
    ),
    "a trigger": Case(
        after_create(
            "CREATE TRIGGER hush BEFORE UPDATE ON teams FOR EACH ROW BEGIN DELETE FROM teams WHERE id < 0; END"
        ),
        TEAMS,
        "table teams: the models make the trigger hush, the migrations do not",
        only("sqlite", "mysql"),
    ),
    "a function": Case(
        after_create("CREATE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 1'"),
        TEAMS,
        "the models make the function one(), the migrations do not",
        only("postgresql"),
    ),
    "labels of an enum type": Case(
        teams_with(lambda: sa.Column("mood", sa.Enum("good", "fair", "bad", name="mood"), nullable=False)),
        LEAD_TYPED,
        "the definition of the enum type mood is 'good','fair','bad' by the models, 'good','bad' by the migrations",
        only("postgresql"),
    ),
    "values of an enum": Case(
        teams_with(lambda: sa.Column("mood", sa.Enum("good", "fair", "bad", name="mood"), nullable=False)),
        LEAD_TYPED,
        "table teams: the type of the column mood is ENUM('good','fair','bad') by the models, "
        "ENUM('good','bad') by the migrations",
        only("mysql"),
    ),
    "an enum type that is left": Case(
        teams_with(),
        TEAMS + "sa.Enum('good', 'bad', name='mood').create(op.get_bind())",
        "the migrations make the enum type mood, the models do not",
        only("postgresql"),
    ),
    "a sequence": Case(
        after_create("CREATE SEQUENCE numbers START WITH 5"),
        TEAMS,
        "the models make the sequence numbers, the migrations do not",
        only("postgresql", "mysql"),
    ),
    "a row of the migrations": Case(
        teams_with(), TEAMS + ADD_ROW, "table teams: 1 row is there with the migrations only: (id=7, name='everybody')"
    ),
    "a row of the models": Case(
        after_create("INSERT INTO teams (id, name) VALUES (7, 'everybody')"),
        TEAMS,
        "table teams: 1 row is there with the models only: (id=7, name='everybody')",
    ),
}


SERVERS = {"sqlite": "sqlite", "postgres18": "postgresql", "mariadb": "mysql"}


def iter_cases() -> Iterator[Any]:
    """Each case on each database that can tell."""
    for name, case in CASES.items():
        for fixture, server in SERVERS.items():
            if server in case.on:
                marks = [pytest.mark.mariadb] if fixture == "mariadb" else []
                yield pytest.param(fixture, case, id=f"{name}-{fixture}", marks=marks)


@pytest.mark.parametrize(("any_database_url", "case"), list(iter_cases()), indirect=["any_database_url"])
def test_whatever_differs_is_said(make: Make, case: Case) -> None:
    said = sentences(make(case.models, case.upgrade))
    assert [text for text in said if text.startswith(case.said)], said


def test_what_is_the_same_passes_whatever_the_order_of_columns(make: Make) -> None:
    swapped = TEAMS.replace('sa.Column("id", sa.Integer(), nullable=False),\n', "").replace(
        'sa.Column("name", sa.String(80), nullable=False),',
        'sa.Column("name", sa.String(80), nullable=False), sa.Column("id", sa.Integer(), nullable=False),',
    )
    assert swapped != TEAMS
    check_migrations(make(teams_with(), swapped), "crew")


def test_all_differences_are_told_at_once_with_the_remedy(make: Make) -> None:
    registry = make(teams_with(lambda: sa.Index("ix_teams_name", "name")), changed("String(80)", "String(40)"))
    with pytest.raises(AssertionError) as failed:
        check_migrations(registry)
    assert isinstance(failed.value, MigrationsDifferError)
    where = f"sub-app crew on {registry.migration_engine().dialect.name}"
    assert [(each.where, each.mend) for each in failed.value.problems] == [(where, MEND)] * 2
    assert 'or create="migrations" into the SubApp' in str(failed.value)


def test_moments_of_now_and_random_keys_are_no_difference(make: Make) -> None:
    def define(metadata: sa.MetaData) -> None:
        table = sa.Table(
            "visits",
            metadata,
            sa.Column("key", sa.Uuid, primary_key=True),
            sa.Column("came_at", sa.DateTime, nullable=False),
        )
        sa.event.listen(
            table, "after_create", lambda _table, connection, **_: connection.execute(table.insert(), _row())
        )

    upgrade = """
    visits = op.create_table(
        "visits", sa.Column("key", sa.Uuid(), primary_key=True), sa.Column("came_at", sa.DateTime(), nullable=False)
    )
    from datetime import UTC, datetime
    from uuid import uuid4
    op.bulk_insert(visits, [{"key": uuid4(), "came_at": datetime.now(UTC).replace(tzinfo=None)}])
    """
    assert sentences(make(define, upgrade)) == []


def _row() -> dict[str, object]:
    return {"key": uuid.uuid4(), "came_at": dt.datetime.now(dt.UTC).replace(tzinfo=None)}


def test_what_others_make_is_no_matter_of_the_one_that_is_checked(
    any_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_package(monkeypatch, tmp_path, "base_app", [revision("b1", None, TEAMS.replace("teams", "leftovers"))])
    make_package(monkeypatch, tmp_path, "crew", [revision("c1", None, TEAMS)])
    metadata = sa.MetaData()
    teams(metadata)
    others = make_loaded("base_app", [], "base_app")
    with registry_with(
        any_database_url, others, make_loaded("crew", metadata.sorted_tables, "crew", needs=("base_app",))
    ) as registry:
        assert sentences(registry) == []
        told = [(problem.what, problem.where.split()[1]) for problem in find_differences(registry, "base_app")]
        assert told == [("the migrations make the table leftovers, the models do not", "base_app")]


def test_one_without_migrations_is_an_error(any_database_url: str) -> None:
    with registry_of(any_database_url) as registry, pytest.raises(ConfigError, match="no sub-app 'crew' is installed"):
        check_migrations(registry, "crew")
