"""What a PostgreSQL server lacks or has: extensions, and types that come to be on the way."""

import sqlalchemy as sa

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
