"""What a PostgreSQL server lacks or has: extensions, and types that come to be on the way."""

import pytest
import sqlalchemy as sa

from tests.distributions import Site
from tests.preflight import connected, look
from tests.refusals import Word, make


def test_types_that_the_run_makes_are_no_suspicion(postgres_url: str) -> None:
    metadata = make("a type that nobody has")
    sa.event.listen(metadata, "before_create", sa.DDL("CREATE TYPE mood AS ENUM ('good')"))  # type: ignore[no-untyped-call]
    mixed = sa.MetaData()
    sa.Enum("b", name="kind", metadata=mixed)
    sa.Table("colours", mixed, sa.Column("colour", sa.Enum("red", name="colour")))
    plain = [sa.Column("x", Word("colour")), sa.Column("y", Word("kind")), sa.Column("z", Word("colours"))]
    sa.Table("items", mixed, *plain)
    with connected(postgres_url) as connection:
        assert look(metadata.sorted_tables, connection) == []
        metadata.create_all(connection)
        assert look(mixed.sorted_tables, connection) == []


def test_an_installed_extension_is_taken_and_one_that_is_not_searched_is_named(postgres_url: str) -> None:
    metadata = make("a type of an extension that is offered")
    sa.Index("ix_near", sa.text("x vector_l2_ops"), postgresql_using="hnsw", _table=metadata.tables["items"])
    with connected(postgres_url) as connection:
        connection.exec_driver_sql("CREATE SCHEMA extra")
        connection.exec_driver_sql("CREATE EXTENSION vector SCHEMA extra")
        lack = "of the extension 'vector', which is installed in the schema 'extra', and that is not searched"
        mend = "put 'extra' on the search_path, or run ALTER EXTENSION vector SET SCHEMA public;"
        assert look(metadata.sorted_tables, connection) == [
            (f"column 'x' has the type vector(3) {lack} (PostgreSQL says: type \"vector\" does not exist)", mend),
            (
                f"the index 'ix_near' has the operator class vector_l2_ops {lack} "
                '(PostgreSQL says: operator class "vector_l2_ops" does not exist)',
                mend,
            ),
        ]
        qualified = sa.Table("items", sa.MetaData(), sa.Column("x", Word("extra.vector(3)")))
        assert look([qualified], connection) == []
        connection.exec_driver_sql("ALTER EXTENSION vector SET SCHEMA public")
        assert look(metadata.sorted_tables, connection) == []
        metadata.create_all(connection)


MAKES_MOOD = """
    import sqlalchemy as sa
    from opal_registry import Base

    first = sa.Table("{name}_first", Base.metadata, sa.Column("id", sa.Integer, primary_key=True))
    {statement}
"""
LISTENS = "sa.event.listen(first, 'before_create', sa.DDL(\"CREATE TYPE mood AS ENUM ('good')\"))"
HAS_MOOD = """
    import sqlalchemy as sa
    from opal_registry import Base

    class Mood(sa.types.UserDefinedType):
        cache_ok = True

        def get_col_spec(self, **_):
            return "mood"

    sa.Table("the_second", Base.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("x", Mood))
"""
FINISH = """
    @hookimpl
    def opal_tables_created(connection, sub_app, tables):
        connection.exec_driver_sql("CREATE TYPE mood AS ENUM ('good')")
"""


def test_a_type_that_another_table_of_the_sub_app_brings_is_no_suspicion(quick_site: Site, postgres_url: str) -> None:
    quick_site.sub_app("shop", MAKES_MOOD.format(name="shop", statement=LISTENS) + HAS_MOOD)
    done = quick_site.run("init", env={"OPAL_DATABASE__URL": postgres_url})
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(("statement", "hooks"), [(LISTENS, ""), ("", FINISH)], ids=["a listener", "a hook"])
def test_nor_is_one_that_a_sub_app_brings_which_is_needed(
    quick_site: Site, postgres_url: str, statement: str, hooks: str
) -> None:
    quick_site.sub_app("base", MAKES_MOOD.format(name="base", statement=statement), hooks=hooks)
    quick_site.sub_app("middle", requires=("base",))
    quick_site.sub_app("shop", HAS_MOOD, requires=("middle",))
    done = quick_site.run("init", env={"OPAL_DATABASE__URL": postgres_url})
    assert (done.code, done.err) == (0, "")


def test_one_that_nobody_brings_whom_it_needs_is(quick_site: Site, postgres_url: str) -> None:
    quick_site.sub_app("base", MAKES_MOOD.format(name="base", statement=LISTENS))
    quick_site.sub_app("shop", HAS_MOOD)
    done = quick_site.run("init", env={"OPAL_DATABASE__URL": postgres_url})
    assert done.code == 3
    assert "column 'x' has the type mood, which does not exist in this database" in done.err
