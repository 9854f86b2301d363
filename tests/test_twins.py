"""Tables that a sub-app defines twice, on two ``MetaData``: one table if they are alike, an error if they are not."""

import pytest
import sqlalchemy as sa

from tests.databases import engine_of
from tests.distributions import Site
from tests.strangers import adopt, init_twice
from tests.writing import complaint, models, owners

TAGS = """
sa.Table("tags", {metadata}, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(20), nullable=False, server_default="x", index=True),
    sa.Column("kind", sa.Enum("a", "b", name="kind"), comment="of tag"), sa.CheckConstraint("id > 0", name="positive"),
    sa.UniqueConstraint("name", name="one_name"))
"""
ONE, TWO = TAGS.format(metadata="one"), TAGS.format(metadata="two")
TWICE = (
    f"import sqlalchemy as sa\none, two = sa.MetaData(), sa.MetaData()\nfirst = {ONE.strip()}\nsecond = {TWO.strip()}"
)
REFERS = """
sa.Table("firsts", one, sa.Column("tag", sa.ForeignKey("tags.id")))
sa.Table("seconds", two, sa.Column("tag", sa.ForeignKey("tags.id")))
"""


class TestTablesDefinedTwice:
    def test_alike_they_are_one(self, quick_site: Site, database_url: str) -> None:
        adopt(quick_site, "one", "two", source=TWICE + REFERS)
        assert init_twice(quick_site, database_url) == ["tags", "firsts", "seconds"]
        engine = engine_of(database_url)
        keys = sa.inspect(engine).get_foreign_keys("seconds")
        engine.dispose()
        assert [key["referred_table"] for key in keys] == ["tags"]

    def test_the_first_one_stands_for_both(self, quick_site: Site) -> None:
        adopt(quick_site, "two", "one", source=TWICE)
        done = quick_site.python("""
            from opal_registry import Registry
            from stranger import first, second

            app = Registry().suite.get("alpha")
            print(app.tables == (second,), dict(app.twins) == {first: second}, app.owns(first), app.owns(second))
        """)
        assert done.out == "True True True True\n", done.err

    def test_on_the_shared_base_too_where_the_names_are_the_same(self, quick_site: Site) -> None:
        table = "sa.Table('tags', {}, sa.Column('id', sa.Integer), sa.PrimaryKeyConstraint('id', name='pk_tags'))"
        quick_site.install(
            "stranger", files={"stranger.py": f"import sqlalchemy as sa\nmine = sa.MetaData()\n{table.format('mine')}"}
        )
        quick_site.sub_app("alpha", models(table.format("Base.metadata")), metadata=("stranger:mine",))
        assert owners(quick_site)["alpha"] == ["tags"]

    @pytest.mark.parametrize(
        ("old", "new", "differences"),
        [
            pytest.param(
                "sa.String(20), nullable=False",
                "sa.String(30)",
                "column 'name' is VARCHAR(20) DEFAULT 'x' NOT NULL in the first and VARCHAR(30) DEFAULT 'x' in the second",
                id="type and nullability",
            ),
            pytest.param(
                '"a", "b"',
                '"a"',
                "column 'kind' is ENUM('a','b') COMMENT 'of tag' in the first and ENUM('a') COMMENT 'of tag' in the second",
                id="the values of an enum",
            ),
            pytest.param("index=True", "", "only the first has index 'ix_tags_name'", id="an index"),
            pytest.param(
                '("name", name="one_name")',
                '("name", name="its_name"), sa.Column("more", sa.Text)',
                "only the first has unique constraint 'one_name'; only the second has column 'more'; "
                "only the second has unique constraint 'its_name'",
                id="a constraint and a column",
            ),
            pytest.param(
                'comment="of tag"',
                "",
                "column 'kind' is kind, commented 'of tag' in the first and kind in the second",
                id="a comment",
            ),
        ],
    )
    def test_unlike_they_are_an_error(self, quick_site: Site, old: str, new: str, differences: str) -> None:
        adopt(quick_site, "one", "two", source=TWICE.replace(TWO.strip(), TWO.strip().replace(old, new)))
        assert complaint(quick_site) == (
            f"sub-app 'alpha' (alpha 1.0) defines the table 'tags' twice, and not alike: {differences}\n"
            "  where: stranger.py:3 and stranger.py:7\n"
            "  mend:  make them equal, or rename one of them"
        )

    def test_two_sub_apps_are_two_owners(self, quick_site: Site) -> None:
        adopt(quick_site, "one", source=TWICE)
        quick_site.sub_app("beta", metadata=("stranger:two",))
        assert complaint(quick_site) == (
            "the table 'tags' has two owners: sub-app 'alpha' (alpha 1.0) and sub-app 'beta' (beta 1.0)\n"
            "  where: stranger.py:3 and stranger.py:7\n"
            "  mend:  rename one of them; a prefix with the sub-app's name keeps them apart (SubApp.table_prefix), "
            "or give one a database of its own (SubApp.bind)"
        )
