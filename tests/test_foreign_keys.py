"""Foreign keys that a database cannot hold, judged by what there is and by what would be compared."""

from itertools import permutations

import pytest
import sqlalchemy as sa

from opal_registry.preflight.foreign_keys import MYSQL_KINDS, POSTGRESQL_KINDS
from tests.distributions import Site
from tests.preflight import connected, look, refusal
from tests.refusals import Word, make
from tests.writing import model, models


def kinds_of(url: str) -> dict[str, str]:
    """Types and what they may be compared with; SQLite compares everything."""
    return {"mysql": MYSQL_KINDS, "postgresql": POSTGRESQL_KINDS}.get(sa.make_url(url).get_backend_name(), {})


def pairs_of(kinds: dict[str, str]) -> list[tuple[str, str]]:
    first = {kind: word for word, kind in reversed(kinds.items())}
    return list(permutations(first.values(), 2))


def points(one: str, other: str) -> sa.MetaData:
    """A foreign key between columns of two types."""
    metadata = sa.MetaData()
    sized = {
        "VARCHAR": "VARCHAR(20)",
        "CHAR": "CHAR(20)",
        "BINARY": "BINARY(16)",
        "VARBINARY": "VARBINARY(16)",
        "DOUBLE": "DOUBLE PRECISION",
    }
    sa.Table("parents", metadata, sa.Column("code", Word(sized.get(other, other)), nullable=False, unique=True))
    sa.Table("items", metadata, sa.Column("x", Word(sized.get(one, one)), sa.ForeignKey("parents.code")))
    return metadata


def test_types_of_different_kinds_are_never_compared(any_database_url: str) -> None:
    for one, other in pairs_of(kinds_of(any_database_url)):
        with connected(any_database_url) as connection:
            metadata = points(one, other)
            assert len(look(metadata.sorted_tables, connection)) == 1, (one, other)
            assert refusal(connection, metadata), (one, other)


def test_types_of_one_kind_are_compared(any_database_url: str) -> None:
    kinds = kinds_of(any_database_url)
    for one, other in permutations(kinds, 2):
        if kinds[one] == kinds[other]:
            with connected(any_database_url) as connection:
                assert look(points(one, other).sorted_tables, connection) == []


def test_a_key_that_only_the_database_has_covers_a_foreign_key(any_database_url: str) -> None:
    metadata = make("a foreign key to a plain column")
    parents, items = metadata.tables["parents"], metadata.tables["items"]
    with connected(any_database_url) as connection:
        parents.create(connection)
        assert [what.partition(", which")[0] for what, _ in look([items], connection)] == [
            "the foreign key of 'x' points to parents(code)"
        ]
        connection.exec_driver_sql("CREATE UNIQUE INDEX uq_by_hand ON parents (code)")
        assert look([items], connection) == []
        items.create(connection)


def test_a_key_that_a_listener_makes_covers_a_foreign_key(any_database_url: str) -> None:
    metadata = make("a foreign key to a plain column")
    by_hand = sa.DDL("CREATE UNIQUE INDEX uq_by_hand ON parents (code)")  # type: ignore[no-untyped-call]
    sa.event.listen(metadata.tables["parents"], "after_create", by_hand)
    with connected(any_database_url) as connection:
        assert look(metadata.sorted_tables, connection) == []
        metadata.create_all(connection)


def test_a_table_that_is_there_is_not_judged_by_its_model(any_database_url: str) -> None:
    metadata = make("a foreign key of text to a number")
    with connected(any_database_url) as connection:
        connection.exec_driver_sql("CREATE TABLE parents (id VARCHAR(20) PRIMARY KEY)")
        assert look([metadata.tables["items"]], connection) == []
        metadata.tables["items"].create(connection)


@pytest.mark.parametrize("late", [True, False], ids=["an index", "a constraint"])
def test_a_table_may_refer_to_itself_by_what_is_unique(quick_site: Site, any_database_url: str, late: bool) -> None:
    """An index comes after its table, so that the foreign key comes after the index."""
    code = f"code: orm.Mapped[str] = orm.mapped_column(sa.String(20), unique=True, index={late})"
    parent = "parent: orm.Mapped[str | None] = orm.mapped_column(sa.String(20), sa.ForeignKey('items.code'))"
    quick_site.sub_app("shop", models(model("Item", "items", code, parent)))
    done = quick_site.run("init", env={"OPAL_DATABASE__URL": any_database_url})
    assert (done.code, done.err) == (0, "")
    with connected(any_database_url) as connection:
        [key] = sa.inspect(connection).get_foreign_keys("items")
        assert (key["referred_table"], key["referred_columns"]) == ("items", ["code"])
    assert quick_site.run("init", "--verify", env={"OPAL_DATABASE__URL": any_database_url}).code == 0
