"""The shared base: a name for every constraint, and bases that know nothing of each other."""

import enum
import re

import pytest
import sqlalchemy as sa
from sqlalchemy import orm as sa_orm
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from opal_registry.base import Base, make_base


class Colour(enum.Enum):
    RED = 1


def ddl(*parts: sa.schema.SchemaItem, table: str = "things") -> str:
    """The statements for a table of some parts; there is a table ``others`` to refer to."""
    metadata = make_base().metadata
    sa.Table("others", metadata, sa.Column("x", sa.Integer), sa.Column("y", sa.Integer))
    made = sa.Table(table, metadata, *parts)
    statements: list[sa.schema.ExecutableDDLElement] = [CreateTable(made), *map(CreateIndex, made.indexes)]
    return "\n".join(str(statement.compile(dialect=postgresql.dialect())) for statement in statements)  # type: ignore[no-untyped-call]


def check_name(text: str) -> str:
    """The name of a CHECK that was given none."""
    found = re.search(r"CONSTRAINT (ck_\w+)", ddl(sa.Column("a", sa.Integer), sa.CheckConstraint(text)))
    assert found
    return found[1]


def test_a_primary_key_is_named_after_its_table() -> None:
    assert "CONSTRAINT pk_things PRIMARY KEY (id)" in ddl(sa.Column("id", sa.Integer, primary_key=True))


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (sa.UniqueConstraint("a", "b"), "uq_things_a_b"),
        (sa.Index(None, "a", "b"), "ix_things_a_b"),
        (sa.ForeignKeyConstraint(["a", "b"], ["others.x", "others.y"]), "fk_things_a_b_others"),
        (sa.CheckConstraint("a > 0", name="positive"), "ck_things_positive"),
    ],
    ids=["unique", "index", "foreign key", "check"],
)
def test_a_constraint_is_named_after_what_it_is_about(part: sa.schema.SchemaItem, name: str) -> None:
    assert name in ddl(sa.Column("a", sa.Integer), sa.Column("b", sa.Integer), part)


def test_flags_on_a_column_name_what_they_make() -> None:
    text = ddl(sa.Column("a", sa.ForeignKey("others.x"), unique=True), sa.Column("b", sa.Integer, index=True))

    assert "CONSTRAINT uq_things_a UNIQUE (a)" in text
    assert "CONSTRAINT fk_things_a_others FOREIGN KEY(a) REFERENCES others (x)" in text
    assert "CREATE INDEX ix_things_b ON things (b)" in text


def test_a_check_without_a_name_gets_one_that_its_text_decides() -> None:
    assert check_name("a > 0") == check_name("a > 0") == "ck_things_4ead0c05"
    assert check_name("a > 1") != check_name("a > 0")


def test_checks_of_booleans_and_enums_are_named() -> None:
    letters = sa.Enum("x", native_enum=False, create_constraint=True, name="letters")
    text = ddl(
        sa.Column("a", sa.Enum(Colour, native_enum=False, create_constraint=True)),
        sa.Column("b", letters),
        sa.Column("c", sa.Enum("x", native_enum=False, create_constraint=True)),
    )

    assert "CONSTRAINT ck_things_colour CHECK (a IN ('RED'))" in text
    assert "CONSTRAINT ck_things_letters CHECK (b IN ('x'))" in text
    assert re.search(r"CONSTRAINT ck_things_[0-9a-f]{8} CHECK \(c IN \('x'\)\)", text)


def test_two_booleans_of_a_table_have_checks_of_their_own() -> None:
    flags: list[sa.Column[bool]] = [sa.Column(name, sa.Boolean(create_constraint=True)) for name in "ab"]
    table = sa.Table("flags", make_base().metadata, *flags)
    text = str(CreateTable(table).compile(dialect=sqlite.dialect()))

    assert len(set(re.findall(r"CONSTRAINT ck_flags_[0-9a-f]{8} CHECK", text))) == 2


def test_an_index_of_an_expression_is_named_after_its_column() -> None:
    table = sa.Table("people", make_base().metadata, sa.Column("email", sa.String))
    index = sa.Index(None, sa.func.lower(table.c.email))

    assert "ix_people_email" in str(CreateIndex(index))


def test_an_index_of_plain_text_has_to_be_named() -> None:
    assert "CREATE INDEX lowered ON things (lower(a))" in ddl(
        sa.Column("a", sa.String), sa.Index("lowered", sa.text("lower(a)"))
    )


def test_names_that_were_given_stay() -> None:
    text = ddl(
        sa.Column("a", sa.Integer),
        sa.UniqueConstraint("a", name="mine"),
        sa.Index("my_index", "a"),
        sa.PrimaryKeyConstraint("a", name="my_key"),
    )

    assert "CONSTRAINT mine UNIQUE" in text
    assert "CREATE INDEX my_index ON" in text
    assert "CONSTRAINT my_key PRIMARY KEY" in text


def test_a_name_that_is_too_long_is_cut_and_stays_unique() -> None:
    columns = [sa.Column(f"{letter * 40}", sa.Integer, index=True) for letter in "ab"]
    indexes = [line for line in ddl(*columns, table="t" * 30).splitlines() if line.startswith("CREATE INDEX")]

    assert len({line.split()[2] for line in indexes}) == 2
    assert all(len(line.split()[2]) <= 63 for line in indexes)


def test_bases_know_nothing_of_each_other() -> None:
    first, second = make_base(), make_base()

    class Thing(first):  # type: ignore[misc, valid-type]
        __tablename__ = "things"
        id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)

    class Other(second):  # type: ignore[misc, valid-type]
        __tablename__ = "things"
        name: sa_orm.Mapped[str] = sa_orm.mapped_column(primary_key=True)

    assert first.metadata.tables["things"] is not second.metadata.tables["things"]
    assert "Thing" not in second.registry._class_registry
    assert "things" not in Base.metadata.tables


def test_a_base_may_have_a_schema() -> None:
    class Thing(make_base(schema="shop")):  # type: ignore[misc]
        __tablename__ = "things"
        id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)

    assert Thing.__table__.fullname == "shop.things"
