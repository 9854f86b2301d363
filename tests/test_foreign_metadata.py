"""Packages that bring ``MetaData`` of their own: adopted as it is, owned, ordered and created like everything else."""

import pytest
import sqlalchemy as sa

from tests.databases import engine_of
from tests.distributions import Site
from tests.strangers import ID, adopt, init_twice
from tests.writing import complaint, model, models, owners, quarantined, refers

STRANGER = f"""
import functools
import sqlalchemy as sa
from sqlalchemy import orm

class Mine(orm.DeclarativeBase): pass
class Thing(Mine):
    __tablename__ = "things"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)

class Extension:
    metadata = Mine.metadata
db = Extension()

def make(): return Mine
@functools.lru_cache
def load(): return Mine.metadata

mapped = orm.registry()
late = sa.MetaData()
def fill():
    sa.Table("lates", late, {ID}, sa.Column("thing", sa.ForeignKey(Thing.id)))
    return late
"""


class TestAdopting:
    @pytest.mark.parametrize(
        "location", ["Mine", "Mine.metadata", "Mine.registry", "db", "make", "load", "Mine.registry.generate_base"]
    )
    def test_whatever_leads_to_metadata(self, quick_site: Site, location: str) -> None:
        source = STRANGER.replace("class Mine(orm.DeclarativeBase): pass", "Mine = orm.registry().generate_base()")
        adopt(quick_site, location, source=source)
        assert owners(quick_site) == {"alpha": ["things"], "core": ["users"]}

    def test_any_number_and_one_that_a_function_fills(self, quick_site: Site, database_url: str) -> None:
        adopt(quick_site, "fill", "Mine", source=STRANGER)
        assert init_twice(quick_site, database_url) == ["things", "lates"]

    def test_one_that_another_import_fills(self, quick_site: Site) -> None:
        quick_site.install("filler", files={"filler.py": f"from stranger import *\nsa.Table('filled', late, {ID})"})
        adopt(quick_site, "late", "Mine", source=STRANGER)
        quick_site.sub_app("alpha", metadata=("stranger:late", "filler:Mine"))
        assert owners(quick_site)["alpha"] == ["filled", "things"]

    def test_one_that_the_models_fill(self, quick_site: Site) -> None:
        source = f"from stranger import *\nmapped = sa.Table('mapped', late, {ID})"
        adopt(quick_site, "late", source=STRANGER)
        quick_site.sub_app("alpha", models=source, metadata=("stranger:late",))
        assert owners(quick_site)["alpha"] == ["mapped"]

    def test_an_empty_one_names_the_fuller_one_of_its_package(self, quick_site: Site) -> None:
        adopt(quick_site, "mapped", source=STRANGER)
        assert complaint(quick_site) == (
            "sub-app 'alpha' (alpha 1.0) adopts stranger:mapped, which holds no table after all imports, "
            "so nothing would be created\n"
            "  where: plugin 'alpha' (alpha 1.0, alpha.opal)\n"
            "  mend:  adopt \"stranger:Mine\" (it holds table 'things') in its place; or name the modules that define its "
            "tables in SubApp(models=...), or adopt a function that imports them first"
        )

    def test_models_that_need_their_own_configuration(self, quick_site: Site) -> None:
        adopt(quick_site, "mine", source="import os\nmine = os.environ['STRANGER_CONFIG']")
        assert complaint(quick_site) == (
            "importing stranger:mine failed: KeyError: 'STRANGER_CONFIG'\n"
            "  where: plugin 'alpha' (alpha 1.0, alpha.opal), stranger.py:2\n"
            "  mend:  mend the plugin, or leave it out with sub_apps.disabled"
        )

    def test_neither_of_two_adopters_takes_part(self, quick_site: Site) -> None:
        adopt(quick_site, "Mine", source=STRANGER)
        quick_site.sub_app("beta", metadata=("stranger:make",))
        assert sorted(quarantined(quick_site)) == ["alpha", "beta"]

    def test_it_is_used_as_it_is(self, quick_site: Site) -> None:
        adopt(quick_site, "Mine", source=STRANGER)
        done = quick_site.python("""
            from opal_registry import Registry
            from stranger import Thing

            [table] = Registry().suite.get("alpha").tables
            print(table is Thing.__table__)
        """)
        assert done.out == "True\n", done.err

    def test_a_table_that_another_sub_app_defines_on_it_belongs_to_that_one(self, quick_site: Site) -> None:
        adopt(quick_site, "Mine", source=STRANGER)
        quick_site.sub_app("beta", f"from stranger import *\nsa.Table('betas', Mine.metadata, {ID})")
        assert owners(quick_site) == {"alpha": ["things"], "beta": ["betas"], "core": ["users"]}
        quick_site.sub_app("beta", f"from stranger import *\nsa.Table('betas', Mine.metadata, {ID})\n1 / 0")
        assert owners(quick_site, OPAL_SUB_APPS__ON_ERROR="quarantine") == {"alpha": ["things"], "core": ["users"]}

    def test_a_table_that_is_defined_twice_on_it_is_not_taken_for_one_of_another(self, quick_site: Site) -> None:
        quick_site.sub_app("aaa", models(model("T", "things")))
        table = "sa.Table('things', Mine.metadata, sa.Column('x', sa.Integer))"
        adopt(quick_site, "Mine", source=STRANGER + table)
        assert complaint(quick_site) == (
            "sub-app 'alpha' (alpha 1.0) defines table 'things', which is defined already\n"
            "  where: stranger.py:7 and stranger.py:24\n"
            "  mend:  define it once, in a module that is imported under one name"
        )

    def test_a_package_that_has_users_of_its_own_keeps_them_in_a_database_of_its_own(self, quick_site: Site) -> None:
        source = STRANGER.replace('"things"', '"users"')
        adopt(quick_site, "Mine", source=source)
        assert complaint(quick_site).endswith(
            "stranger.py:7\n"
            "  mend:  rename that of 'alpha', or use the one of 'core', or give one a database of its own (SubApp.bind)"
        )
        adopt(quick_site, "Mine", source=source, bind="other")
        assert owners(quick_site, OPAL_BINDS__OTHER__URL="sqlite://") == {"alpha": ["users"], "core": ["users"]}

    def test_info_overrides_there_too(self, quick_site: Site) -> None:
        adopt(quick_site, "late", source=STRANGER + f"sa.Table('x', late, {ID}, info={{'opal_sub_app': 'ghost'}})")
        assert complaint(quick_site).startswith(
            "table 'x' names the sub-app 'ghost' as its owner, which is not loaded here\n  where: stranger.py:"
        )


FAR = "import sqlalchemy as sa\nmine = sa.MetaData({})\nfrom opal_registry.models import User\n"


class TestForeignKeys:
    def test_given_as_columns_they_lead_anywhere(self, quick_site: Site, database_url: str) -> None:
        source = f"""
            import sqlalchemy as sa
            from opal_registry.models import User
            a, b = sa.MetaData(), sa.MetaData()
            z = sa.Table("as_z", a, {ID}, sa.Column("user", sa.ForeignKey(User.id)))
            y = sa.Table("bs_y", b, {ID}, sa.Column("z", sa.ForeignKey(z.c.id)))
            sa.Table("as_x", a, {ID}, sa.Column("y", sa.ForeignKey(y.c.id)), sa.Column("z", sa.ForeignKey("as_z.id")))
        """
        adopt(quick_site, "b", "a", source=source)
        quick_site.sub_app(
            "aaa", models("from stranger import y", model("A", "aaas", refers("y", "y.c.id"))), requires=("alpha",)
        )
        assert init_twice(quick_site, database_url) == ["as_z", "bs_y", "as_x"]
        assert list(owners(quick_site)) == ["core", "alpha", "aaa"]

    @pytest.mark.parametrize(
        ("schema", "column", "text", "mend"),
        [
            pytest.param(
                "",
                "sa.Column('u', sa.ForeignKey('users.id'))",
                "the foreign key of things.u names table 'users' as text, "
                "but that one, of sub-app 'core' (opal-registry 1.0.0), is on another MetaData",
                "write ForeignKey(User.id), with: from opal_registry.models import User",
                id="of a class",
            ),
            pytest.param(
                "schema='far'",
                "sa.Column('u', sa.ForeignKey('users.id'))",
                "the foreign key of far.things.u names table 'users' as text, "
                "but that one, of sub-app 'core' (opal-registry 1.0.0), is on another MetaData",
                "write ForeignKey(User.id), with: from opal_registry.models import User",
                id="from a MetaData with a schema",
            ),
            pytest.param(
                "",
                "sa.Column('o', sa.ForeignKey('others.id'))",
                "the foreign key of things.o names table 'others' as text, "
                "but that one, of the same sub-app, is on another MetaData",
                "write ForeignKey(others.c.id), with: from stranger import others",
                id="of a table without a class",
            ),
            pytest.param(
                "",
                "sa.Column('o', sa.Integer), sa.Column('p', sa.Integer), "
                "sa.ForeignKeyConstraint(['o', 'p'], ['others.id', 'others.part'])",
                "the foreign key of things.o, things.p names table 'others' as text, "
                "but that one, of the same sub-app, is on another MetaData",
                "write ForeignKeyConstraint(['o', 'p'], [others.c.id, others.c.part]), with: from stranger import others",
                id="of two columns",
            ),
        ],
    )
    def test_text_does_not_reach_into_another_metadata(
        self, quick_site: Site, schema: str, column: str, text: str, mend: str
    ) -> None:
        others = f"other = sa.MetaData()\nothers = sa.Table('others', other, {ID}, sa.Column('part', sa.Integer))\n"
        source = f"{FAR.format(schema)}{others}sa.Table('things', mine, {ID}, {column})"
        adopt(quick_site, "mine", "other", source=source)
        assert complaint(quick_site, "init") == (
            f"sub-app 'alpha' (alpha 1.0): {text}, where text is not looked up\n  where: stranger.py:6\n  mend:  {mend}"
        )
        assert not list(quick_site.cwd.iterdir())

    def test_a_table_whose_metadata_nobody_adopts(self, quick_site: Site) -> None:
        quick_site.install("stranger", files={"stranger.py": STRANGER})
        source = models("from stranger import Thing", model("A", "alphas", refers("t", "Thing.id")))
        quick_site.sub_app("alpha", source)
        assert complaint(quick_site) == (
            "sub-app 'alpha' (alpha 1.0): the foreign key of alphas.t points to table 'things', "
            "which no loaded sub-app owns\n"
            "  where: alpha/models.py:5\n"
            '  mend:  let the sub-app that brings it adopt its MetaData: SubApp(metadata=("stranger:Mine",))'
        )

    def test_sub_apps_that_refer_to_each_other_in_a_circle(self, quick_site: Site) -> None:
        source = f"""
            import sqlalchemy as sa
            a, b = sa.MetaData(), sa.MetaData()
            x = sa.Table("xs", a, {ID}, sa.Column("y", sa.Integer))
            y = sa.Table("ys", b, {ID}, sa.Column("x", sa.ForeignKey(x.c.id)))
            x.append_constraint(sa.ForeignKeyConstraint(["y"], [y.c.id]))
        """
        adopt(quick_site, "a", source=source)
        quick_site.sub_app("beta", metadata=("stranger:b",))
        assert complaint(quick_site) == (
            "the sub-apps need each other in a circle: alpha -> beta -> alpha\n"
            "  where: alpha refers to beta by xs.y; beta refers to alpha by ys.x\n"
            "  mend:  let one of them do without the other: drop the requirement or the foreign key that closes the circle"
        )


SHAPES = {
    "a table called metadata": f"sa.Table('metadata', mine, {ID}, sa.Column('metadata', sa.Integer))",
    "no primary key": "sa.Table('logs', mine, sa.Column('at', sa.DateTime), sa.Column('x', sa.Integer, index=True))",
    "one enum in several tables": """
kind = sa.Enum("a", "b", name="kind")
sa.Table("one", mine, sa.Column("k", kind))
sa.Table("two", mine, sa.Column("k", kind), sa.Column("l", sa.Enum("a", "b", name="kind")))
""",
    "names that the default convention makes too long": f"""
sa.Table("t" * 50, mine, {ID}, sa.Column("c" * 50, sa.Integer, index=True), sa.Column("d" * 50, sa.Integer, index=True))
""",
    "names that its own convention makes too long": f"""
mine.naming_convention = {{"ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s"}}
sa.Table("t" * 50, mine, {ID}, sa.Column("c" * 50, sa.Integer, index=True), sa.Column("d" * 50, sa.Integer, unique=True))
""",
    "a view": f"""
things = sa.Table("things", mine, {ID}, sa.Column("kind", sa.Enum("a", "b", name="kind")))
CreateView(sa.select(things.c.id, things.c.kind).where(things.c.id > 5), "a_view", metadata=mine)
""",
    "tables that refer to each other across MetaData": f"""
other = sa.MetaData()
a = sa.Table("a", mine, {ID}, sa.Column("b", sa.Integer), sa.Column("k", sa.Enum("x", name="k")))
b = sa.Table("b", other, {ID}, sa.Column("a", sa.ForeignKey(a.c.id)), sa.Column("k", sa.Enum("y", name="l")))
sa.Table("c", mine, {ID}, sa.Column("a", sa.ForeignKey("a.id")), sa.Column("b", sa.ForeignKey(b.c.id)))
a.append_constraint(sa.ForeignKeyConstraint(["b"], [b.c.id], name="a_b"))
""",
    "a sequence that no column uses": f"sa.Sequence('numbers', metadata=mine)\nsa.Table('things', mine, {ID})",
    "another's table, kept": f"""
sa.Table("users", Base.metadata, sa.Column("other", sa.Integer), keep_existing=True)
sa.Table("things", mine, {ID}, sa.Column("u", sa.ForeignKey(Base.metadata.tables["users"].c.id)))
""",
}
HEAD = """
import sqlalchemy as sa
from sqlalchemy.schema import CreateView
from opal_registry.database import Base
import opal_registry.models
mine = sa.MetaData()
"""
LISTENERS = f"""
{HEAD}
things = sa.Table("things", mine, {ID})
@sa.event.listens_for(things, "after_create")
def fill(table, connection, **_): connection.execute(table.insert(), [{{"id": 7}}])
sa.event.listen(mine, "after_create", sa.DDL("CREATE VIEW one AS SELECT count(*) AS n FROM things"))
"""


class TestShapesOfRealPackages:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_are_created_and_stay_as_they_are(self, quick_site: Site, database_url: str, shape: str) -> None:
        adopt(quick_site, "mine", *(["other"] if "other =" in SHAPES[shape] else []), source=HEAD + SHAPES[shape])
        assert init_twice(quick_site, database_url)

    def test_listeners_are_left_where_they_are(self, quick_site: Site, database_url: str) -> None:
        adopt(quick_site, "mine", source=LISTENERS)
        assert init_twice(quick_site, database_url) == ["things"]
        engine = engine_of(database_url)
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT n FROM one")) == 1
        engine.dispose()

    def test_two_names_that_a_server_would_cut_to_one(self, quick_site: Site) -> None:
        tables = "\n".join(f"sa.Table('t' * 63 + '{end}', mine, {ID})" for end in "ab")
        adopt(quick_site, "mine", source=HEAD + tables)
        assert complaint(quick_site) == (
            "sub-app 'alpha' (alpha 1.0): a table and another table have one name once cut to 63 bytes: "
            f"'{'t' * 63}a' and '{'t' * 63}b'\n"
            "  where: stranger.py:7 and stranger.py:8\n"
            "  mend:  rename one of them"
        )

    def test_a_view_of_a_table_of_another_sub_app_needs_that_one(self, quick_site: Site) -> None:
        view = "CreateView(sa.select(Base.metadata.tables['zetas'].c.id), 'a_view', metadata=mine)"
        quick_site.sub_app("zeta", models(model("Z", "zetas")))
        adopt(quick_site, "mine", source=HEAD + "import zeta.models\n" + view)
        assert owners(quick_site) == {"core": ["users"], "zeta": ["zetas"], "alpha": ["a_view"]}

    def test_a_view_of_a_table_of_nobody(self, quick_site: Site) -> None:
        others = f"others = sa.Table('others', sa.MetaData(), {ID})\n"
        view = "CreateView(sa.select(others.c.id), 'a_view', metadata=mine)"
        adopt(quick_site, "mine", source=HEAD + others + view)
        assert complaint(quick_site) == (
            "sub-app 'alpha' (alpha 1.0): the view 'a_view' selects from table 'others', which no loaded sub-app owns\n"
            "  where: stranger.py:8\n"
            "  mend:  give its MetaData a name, and let the sub-app that brings it adopt that: SubApp(metadata=...)"
        )

    def test_a_view_that_its_author_executes_by_hand_is_nobodys_business(self, quick_site: Site) -> None:
        view = "CreateView(sa.select(A.id), 'by_hand')"
        quick_site.sub_app(
            "alpha", models("from sqlalchemy.schema import CreateView", model("A", "alphas"), f"v = {view}")
        )
        assert owners(quick_site)["alpha"] == ["alphas"]
