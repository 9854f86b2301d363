"""Sequences and enum types that no column uses have an owner too."""

from tests.distributions import Site
from tests.strangers import adopt
from tests.writing import complaint, model, models

HEAD = "import sqlalchemy as sa\nmine = sa.MetaData()\n"
SPARES = """
    from opal_registry import Registry

    print({app.name: [item.name for item in app.spares] for app in Registry().suite.sub_apps})
"""


class TestSequencesAndTypesThatNoColumnUses:
    def test_belong_to_whoever_adopts_them_or_holds_them(self, quick_site: Site) -> None:
        adopt(quick_site, "mine", source=f"{HEAD}sa.Sequence('foreign', metadata=mine)")
        used = "number: orm.Mapped[int] = orm.mapped_column(server_default=used.next_value())"
        source = "kind = sa.Enum('a', name='kind', metadata=Base.metadata)\n"
        source += "numbers, used = (sa.Sequence(name, metadata=Base.metadata) for name in ('numbers', 'used'))\n"
        quick_site.sub_app("zeta", models(source, model("Z", "zetas", used)))
        quick_site.sub_app("beta", models("from zeta.models import numbers"), requires=("zeta",))
        done = quick_site.python(SPARES)
        assert done.out == "{'alpha': ['foreign'], 'core': [], 'zeta': ['numbers', 'kind'], 'beta': []}\n", done.err

    def test_belong_to_whoever_brought_them_where_nobody_holds_them(self, quick_site: Site) -> None:
        quick_site.sub_app("alpha", models("sa.Sequence('numbers', metadata=Base.metadata)"))
        quick_site.sub_app("beta", models(model("B", "betas")))
        assert quick_site.python(SPARES).out == "{'alpha': ['numbers'], 'beta': [], 'core': []}\n"

    def test_of_one_name_have_two_owners(self, quick_site: Site) -> None:
        adopt(quick_site, "mine", source=f"{HEAD}sa.Sequence('numbers', metadata=mine)")
        quick_site.sub_app("beta", models("numbers = sa.Sequence('numbers', metadata=Base.metadata)"))
        assert complaint(quick_site) == (
            "the sequence 'numbers' has two owners: sub-app 'alpha' (alpha 1.0) and sub-app 'beta' (beta 1.0)\n"
            "  where: plugin 'alpha' (alpha 1.0, alpha.opal) and plugin 'beta' (beta 1.0, beta.opal)\n"
            "  mend:  rename one of them; a prefix with the sub-app's name keeps them apart (SubApp.table_prefix), "
            "or give one a database of its own (SubApp.bind)"
        )
