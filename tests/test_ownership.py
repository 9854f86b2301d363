"""Whose table is it? The module body that is being imported decides, whoever imported it, whatever it calls."""

import pytest

from tests.distributions import GROUP, Site
from tests.writing import HEAD, HOOK, NAME, complaint, model, models, owners, quarantined, refers


def test_a_table_without_a_class_belongs_to_the_module_that_makes_it(quick_site: Site) -> None:
    link = (
        "links = sa.Table('alpha_users', Base.metadata,\n"
        "    sa.Column('a', sa.ForeignKey('alphas.id'), primary_key=True),\n"
        "    sa.Column('u', sa.ForeignKey('users.id'), primary_key=True))\n"
    )
    users = "users: orm.Mapped[list['User']] = orm.relationship('User', secondary=lambda: links)"
    source = models("from opal_registry.models import User", model("A", "alphas", users), link)
    quick_site.sub_app("alpha", source)
    assert owners(quick_site)["alpha"] == ["alphas", "alpha_users"]


def test_it_does_not_matter_who_imports_the_models_first(quick_site: Site) -> None:
    quick_site.sub_app("zeta", models(model("Z", "zetas")))
    quick_site.sub_app("alpha", models("from zeta.models import Z", model("A", "alphas", refers("z", "Z.id"))))
    assert owners(quick_site) == {"core": ["users"], "zeta": ["zetas"], "alpha": ["alphas"]}


def test_a_mixin_of_another_sub_app_owns_nothing(quick_site: Site) -> None:
    mixin = "class Named:\n    @orm.declared_attr\n    def name(cls) -> orm.Mapped[str]: return orm.mapped_column(index=True)"
    quick_site.sub_app("alpha", models(mixin, model("A", "alphas", base="Named, Base")))
    quick_site.sub_app("beta", models("from alpha.models import Named", model("B", "betas", base="Named, Base")))
    assert owners(quick_site) == {"alpha": ["alphas"], "beta": ["betas"], "core": ["users"]}


def test_a_base_class_that_writes_the_table_names_owns_nothing(quick_site: Site) -> None:
    base = (
        "class Named(Base):\n    __abstract__ = True\n"
        "    @orm.declared_attr.directive\n    def __tablename__(cls): return cls.__name__.lower()\n"
        "    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)\n"
    )
    quick_site.sub_app("alpha", models(base, "class Apple(Named): pass"))
    quick_site.sub_app("beta", models("from alpha.models import Named", "class Berry(Named): pass"))
    assert owners(quick_site) == {"alpha": ["apple"], "beta": ["berry"], "core": ["users"]}


POLYMORPHIC = "kind: orm.Mapped[str]\n__mapper_args__ = {'polymorphic_on': 'kind', 'polymorphic_identity': 'a'}"


def test_joined_inheritance_gives_each_sub_app_its_own_table(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas", POLYMORPHIC)))
    child = (
        "class B(A):\n    __tablename__ = 'betas'\n    __mapper_args__ = {'polymorphic_identity': 'b'}\n"
        "    id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey('alphas.id'), primary_key=True)\n"
    )
    quick_site.sub_app("beta", models("from alpha.models import A", child))
    assert owners(quick_site) == {"alpha": ["alphas"], "beta": ["betas"], "core": ["users"]}


SINGLE = "class B(A):\n    __mapper_args__ = {'polymorphic_identity': 'b'}\n"


def test_single_table_inheritance_may_add_behaviour(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas", POLYMORPHIC)))
    quick_site.sub_app("beta", models("from alpha.models import A", SINGLE))
    assert owners(quick_site) == {"alpha": ["alphas"], "beta": [], "core": ["users"]}


@pytest.mark.parametrize(
    ("addition", "line", "what"),
    [
        pytest.param(
            f"{SINGLE}    extra: orm.Mapped[int | None]", 5, "the column 'extra'", id="single-table inheritance"
        ),
        pytest.param(
            "A.extra = orm.mapped_column(sa.Integer)", 5, "the column 'extra'", id="an attribute of the class"
        ),
        pytest.param("sa.Index('mine', A.kind)", 5, "the index 'mine'", id="an index"),
        pytest.param(
            "sa.Table('alphas', Base.metadata, sa.Column('extra', sa.Integer), extend_existing=True)",
            5,
            "the column 'extra'",
            id="extend_existing",
        ),
        pytest.param(
            "A.__table__.append_constraint(sa.UniqueConstraint('kind'))",
            5,
            "the unique constraint 'uq_alphas_kind'",
            id="a constraint",
        ),
    ],
)
def test_nobody_adds_to_the_table_of_another(quick_site: Site, addition: str, line: int, what: str) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas", POLYMORPHIC)), version="1.5")
    quick_site.sub_app("beta", models("from alpha.models import A", addition), requires=("alpha",))
    assert complaint(quick_site) == (
        f"sub-app 'beta' (beta 1.0) adds {what} to table 'alphas' of sub-app 'alpha' (alpha 1.5)\n"
        f"  where: beta/models.py:{line}; the table: alpha/models.py:4\n"
        "  mend:  put it into a table of its own that refers to the other, or into the release of the owner"
    )


def test_a_foreign_key_column_on_the_table_of_another_is_one_fault(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas")))
    addition = "A.owner = orm.mapped_column(sa.ForeignKey('users.id'), index=True)"
    quick_site.sub_app("beta", models("from alpha.models import A", addition))
    assert complaint(quick_site) == (
        "sub-app 'beta' (beta 1.0) adds the index 'ix_alphas_owner', the column 'owner', "
        "the foreign key 'fk_alphas_owner_users' to table 'alphas' of sub-app 'alpha' (alpha 1.0)\n"
        "  where: beta/models.py:5; the table: alpha/models.py:4\n"
        "  mend:  put it into a table of its own that refers to the other, or into the release of the owner"
    )


def test_a_sub_app_may_add_to_its_own_tables_later(quick_site: Site) -> None:
    more = "from alpha.models.a import A\nA.extra = orm.mapped_column(sa.Integer)\nsa.Index('more', A.extra)"
    files = {"alpha/models/__init__.py": "", "alpha/models/a.py": models(model("A", "alphas"))}
    quick_site.sub_app("alpha", "x = 1", files=files | {"alpha/models/b.py": models(more), "alpha/models.py": ""})
    assert owners(quick_site)["alpha"] == ["alphas"]


def test_a_reexport_changes_nothing(quick_site: Site) -> None:
    files = {"alpha/inner/tables.py": models(model("A", "alphas")), "alpha/inner/__init__.py": ""}
    quick_site.sub_app("alpha", "from alpha.inner.tables import A", files=files)
    quick_site.sub_app("beta", "from alpha.models import A\n__all__ = ['A']")
    assert owners(quick_site) == {"alpha": ["alphas"], "beta": [], "core": ["users"]}


def test_the_longest_declared_package_wins(quick_site: Site) -> None:
    files = {
        "big/__init__.py": "",
        "big/opal.py": f"{HOOK}    yield SubApp(name='wide', models=('big.models',))\n"
        "    yield SubApp(name='narrow', models=('big.models.special',))",
        "big/models/__init__.py": models(model("A", "wides")),
        "big/models/special/__init__.py": models(model("B", "narrows")),
        "big/models/special/deep.py": models(model("C", "deeps")),
    }
    quick_site.install("big", files=files, entry_points={GROUP: {"big": "big.opal"}})
    assert owners(quick_site) == {"core": ["users"], "narrow": ["deeps", "narrows"], "wide": ["wides"]}


def test_a_helper_of_a_third_package_owns_nothing(quick_site: Site) -> None:
    helper = (
        f"{HEAD}def make(name): return sa.Table(name, Base.metadata, sa.Column('id', sa.Integer, primary_key=True))"
    )
    quick_site.install("helper", files={"helper.py": helper})
    quick_site.sub_app("alpha", "from helper import make\nmake('alphas')")
    quick_site.sub_app("beta", "from helper import make\nmake('betas')")
    assert owners(quick_site) == {"alpha": ["alphas"], "beta": ["betas"], "core": ["users"]}


def test_a_table_made_in_a_function_belongs_to_the_innermost_declared_package(quick_site: Site) -> None:
    quick_site.sub_app(
        "alpha", models("def late(name):\n    return sa.Table(name, Base.metadata, sa.Column('x', sa.Integer))")
    )
    quick_site.sub_app("beta", "import alpha.models\ndef later(): alpha.models.late('lates')")
    done = quick_site.python("""
        from alpha.models import late
        import beta.models
        from opal_registry import Registry
        late("direct"), beta.models.later()
        print({app.name: sorted(table.name for table in app.tables) for app in Registry().suite.sub_apps})
    """)
    assert done.out == "{'alpha': ['direct', 'lates'], 'beta': [], 'core': ['users']}\n", done.err


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(
            models(model("A", "alphas", NAME, base="orm.MappedAsDataclass, Base, kw_only=True")), id="a dataclass"
        ),
        pytest.param(
            models(
                "@Base.registry.mapped\nclass A:\n    __tablename__ = 'alphas'\n    id = sa.Column(sa.Integer, primary_key=True)"
            ),
            id="registry.mapped",
        ),
        pytest.param(
            models(
                "class A: pass",
                "t = sa.Table('alphas', Base.metadata, sa.Column('id', sa.Integer, primary_key=True))",
                "Base.registry.map_imperatively(A, t)",
            ),
            id="imperative",
        ),
        pytest.param(
            models(
                "t = sa.Table('alphas', Base.metadata, sa.Column('id', sa.Integer, primary_key=True))",
                "class A(Base):\n    __table__ = t",
            ),
            id="__table__",
        ),
        pytest.param(
            models(
                "A = type('A', (Base,), {'__tablename__': 'alphas', 'id': orm.mapped_column(sa.Integer, primary_key=True)})"
            ),
            id="type()",
        ),
        pytest.param(models("exec(\"sa.Table('alphas', Base.metadata, sa.Column('id', sa.Integer))\")"), id="exec"),
        pytest.param("from __future__ import annotations\n" + models(model("A", "alphas")), id="lazy annotations"),
    ],
)
def test_a_model_may_be_written_in_many_ways(quick_site: Site, source: str) -> None:
    quick_site.sub_app("alpha", source)
    assert owners(quick_site) == {"alpha": ["alphas"], "core": ["users"]}


def test_info_overrides_the_rule(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models("x = 1"))
    info = "__table_args__ = {'info': {'opal_sub_app': 'alpha'}}"
    quick_site.sub_app("beta", models(model("A", "alphas", info), model("B", "betas")))
    assert owners(quick_site) == {"alpha": ["alphas"], "beta": ["betas"], "core": ["users"]}


def test_info_that_names_nobody_is_an_error(quick_site: Site) -> None:
    quick_site.sub_app("beta", models(model("A", "alphas", "__table_args__ = {'info': {'opal_sub_app': 'ghost'}}")))
    assert complaint(quick_site) == (
        "table 'alphas' names the sub-app 'ghost' as its owner, which is not loaded here\n"
        "  where: beta/models.py:4\n"
        '  mend:  declare its module in SubApp(models=...), or set info={"opal_sub_app": "<name>"} on the table'
    )


def test_a_table_of_nobody_is_an_error_of_whoever_imports_it(quick_site: Site) -> None:
    quick_site.install("stray", files={"stray.py": models(model("S", "strays"))})
    quick_site.sub_app("alpha", "import stray")
    quick_site.sub_app("beta", models(model("B", "betas")))
    assert complaint(quick_site) == (
        "table 'strays' belongs to no sub-app: "
        "no loaded one declares the module 'stray', which sub-app 'alpha' (alpha 1.0) imports\n"
        "  where: stray.py:4\n"
        '  mend:  declare its module in SubApp(models=...), or set info={"opal_sub_app": "<name>"} on the table'
    )
    assert list(quarantined(quick_site)) == ["alpha"]
    assert owners(quick_site, OPAL_SUB_APPS__ON_ERROR="quarantine") == {"beta": ["betas"], "core": ["users"]}


def test_a_table_of_a_script_is_an_error_of_nobody(quick_site: Site) -> None:
    done = quick_site.python("""
        import sqlalchemy as sa
        from opal_registry import Base, OwnershipError, Registry, Settings

        sa.Table("scratch", Base.metadata, sa.Column("id", sa.Integer))
        try:
            Registry().suite
        except OwnershipError as error:
            print(error.problems[0].what)
        suite = Registry(Settings(sub_apps={"on_error": "quarantine"})).suite
        print([out.name for out in suite.quarantined], [app.name for app in suite.sub_apps])
    """)
    assert done.out.splitlines() == [
        "table 'scratch' belongs to no sub-app: no loaded one declares the module '__main__'",
        "['nobody'] ['core']",
    ], done.err


def test_a_table_on_another_base_is_an_error(quick_site: Site) -> None:
    other = "from sqlalchemy import orm\nclass Mine(orm.DeclarativeBase): pass\n"
    source = other + model("A", "alphas", base="Mine") + model("B", "betas", base="Mine")
    quick_site.sub_app("alpha", source)
    assert complaint(quick_site) == (
        "sub-app 'alpha' (alpha 1.0): tables 'alphas', 'betas' are on a Base or MetaData that the registry does not know, "
        "so nobody would create them\n"
        "  where: alpha/models.py:3\n"
        "  mend:  inherit from opal_registry.database.Base, "
        'or adopt that one: SubApp(metadata=("alpha.models:Mine",))'
    )


OTHER = """
import sqlalchemy as sa
from sqlalchemy import orm
mine = sa.MetaData()
sa.Table('others', mine, sa.Column('id', sa.Integer, primary_key=True))
def make():
    raise RuntimeError('no configuration')
def nothing(): pass
class Named(orm.DeclarativeBase): metadata = mine
class Empty(orm.DeclarativeBase): pass
"""


def test_foreign_metadata_is_adopted_by_whoever_declares_it(quick_site: Site) -> None:
    quick_site.install("other", files={"other.py": OTHER})
    quick_site.sub_app("alpha", models(model("A", "alphas")), metadata=("other:mine",))
    assert owners(quick_site)["alpha"] == ["alphas", "others"]


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        pytest.param(
            "other:mine",
            "sub-app 'alpha' (alpha 1.0) and sub-app 'beta' (beta 1.0) both adopt other:mine\n"
            "  where: plugin 'alpha' (alpha 1.0, alpha.opal) and plugin 'beta' (beta 1.0, beta.opal)\n"
            "  mend:  let one of the two adopt it, and the other name that one in requires",
            id="another's",
        ),
        pytest.param(
            "other:Named",
            "sub-app 'alpha' (alpha 1.0) adopts other:mine, and sub-app 'beta' (beta 1.0) adopts other:Named: "
            "they are one MetaData\n"
            "  where: plugin 'alpha' (alpha 1.0, alpha.opal) and plugin 'beta' (beta 1.0, beta.opal)\n"
            "  mend:  let one of the two adopt it, and the other name that one in requires",
            id="another's under another name",
        ),
        pytest.param(
            "opal_registry.database:Base",
            "sub-app 'beta' (beta 1.0) adopts opal_registry.database:Base, which is the shared Base of the suite\n"
            "  where: plugin 'beta' (beta 1.0, beta.opal)\n"
            "  mend:  take it out of SubApp(metadata=...): "
            "a table on it belongs to the sub-app whose module defines it",
            id="the shared one",
        ),
        pytest.param(
            "other:sa",
            "sub-app 'beta' (beta 1.0) adopts other:sa, which is an object of type module\n"
            "  where: plugin 'beta' (beta 1.0, beta.opal)\n"
            "  mend:  name a MetaData, a declarative base, or a function without arguments that returns one of them",
            id="no MetaData",
        ),
        pytest.param(
            "other:Empty",
            "sub-app 'beta' (beta 1.0) adopts other:Empty, which holds no table after all imports, "
            "so nothing would be created\n"
            "  where: plugin 'beta' (beta 1.0, beta.opal)\n"
            "  mend:  name the modules that define its tables in SubApp(models=...), "
            "or adopt a function that imports them first",
            id="an empty one",
        ),
        pytest.param(
            "other:make",
            "calling other:make failed: RuntimeError: no configuration\n"
            "  where: plugin 'beta' (beta 1.0, beta.opal), other.py:7\n"
            "  mend:  mend the plugin, or leave it out with sub_apps.disabled",
            id="a function that raises",
        ),
        pytest.param(
            "other:nothing",
            "sub-app 'beta' (beta 1.0) adopts other:nothing(), which is nothing (None)\n"
            "  where: plugin 'beta' (beta 1.0, beta.opal)\n"
            "  mend:  name a MetaData, a declarative base, or a function without arguments that returns one of them",
            id="a function that returns nothing",
        ),
        pytest.param(
            "other:ghost",
            "other has no attribute 'ghost'\n"
            "  where: plugin 'beta' (beta 1.0, beta.opal)\n"
            "  mend:  correct the name, or reinstall the distribution",
            id="no such attribute",
        ),
        pytest.param(
            "ghost:mine",
            "importing ghost:mine failed: there is no module 'ghost'\n"
            "  where: plugin 'beta' (beta 1.0, beta.opal)\n"
            "  mend:  correct the name, or reinstall the distribution",
            id="no such module",
        ),
    ],
)
def test_metadata_that_cannot_be_adopted_is_named(quick_site: Site, location: str, expected: str) -> None:
    quick_site.install("other", files={"other.py": OTHER})
    quick_site.sub_app("alpha", metadata=("other:mine",))
    quick_site.sub_app("beta", metadata=(location,))
    assert complaint(quick_site) == expected


def test_a_module_that_two_sub_apps_declare_belongs_to_neither(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas")))
    source = f"{HOOK}    yield SubApp(name='beta', models=('alpha.models',))"
    quick_site.install("beta", files={"b.py": source}, entry_points={GROUP: {"beta": "b"}})
    assert complaint(quick_site) == (
        "table 'alphas' lies in a package that sub-app 'alpha' (alpha 1.0) and sub-app 'beta' (beta 1.0) declare both\n"
        "  where: alpha/models.py:4\n"
        '  mend:  declare its module in SubApp(models=...), or set info={"opal_sub_app": "<name>"} on the table'
    )
    assert sorted(quarantined(quick_site)) == ["alpha", "beta"]


def test_two_sub_apps_of_one_distribution_share_a_package(quick_site: Site) -> None:
    files = {
        "pair/__init__.py": "",
        "pair/opal.py": f"{HOOK}    for name in ('left', 'right'): yield SubApp(name=name, models=(f'pair.{{name}}.models',))",
        "pair/left/__init__.py": "",
        "pair/left/models.py": models("import pair.left.more", model("A", "lefts")),
        "pair/left/more.py": models(model("M", "mores")),
        "pair/right/__init__.py": "",
        "pair/right/models.py": models(model("B", "rights")),
    }
    quick_site.install("pair", files=files, entry_points={GROUP: {"pair": "pair.opal"}})
    assert owners(quick_site) == {"core": ["users"], "left": ["lefts", "mores"], "right": ["rights"]}


def test_what_both_of_them_use_must_say_whose_it_is(quick_site: Site) -> None:
    files = {
        "pair/__init__.py": "",
        "pair/opal.py": f"{HOOK}    for name in ('left', 'right'): yield SubApp(name=name, models=(f'pair.{{name}}',))",
        "pair/left.py": "import pair.shared",
        "pair/right.py": "",
        "pair/shared.py": models(model("S", "shareds")),
    }
    quick_site.install("pair", files=files, entry_points={GROUP: {"pair": "pair.opal"}})
    assert complaint(quick_site).startswith(
        "table 'shareds' lies in a package that sub-app 'left' (pair 1.0) and sub-app 'right' (pair 1.0) declare both\n"
    )


def test_a_namespace_package_of_several_distributions_is_nobodys(quick_site: Site) -> None:
    for name in ("alpha", "beta"):
        plugin = f"{HOOK}    yield SubApp(name='{name}', models=('suite.{name}.models',))"
        tables = models(f"import suite.{name}.more", model("M", f"{name}s"))
        more = {f"suite/{name}/more.py": models(model("N", f"{name}_more"))}
        files = {f"suite/{name}/__init__.py": "", f"suite/{name}/opal.py": plugin, f"suite/{name}/models.py": tables}
        quick_site.install(name, files=files | more, entry_points={GROUP: {name: f"suite.{name}.opal"}})
    quick_site.install("stray", files={"suite/stray.py": models(model("S", "strays"))})
    assert owners(quick_site) == {"alpha": ["alpha_more", "alphas"], "beta": ["beta_more", "betas"], "core": ["users"]}
    quick_site.sub_app("gamma", "import suite.stray")
    assert complaint(quick_site).startswith("table 'strays' belongs to no sub-app")


def test_a_declared_prefix_is_checked(quick_site: Site) -> None:
    quick_site.sub_app("standup", models(model("A", "standup_teams"), model("B", "members")), table_prefix="standup_")
    assert complaint(quick_site) == (
        "sub-app 'standup' (standup 1.0): table 'members' does not start with the declared table_prefix 'standup_'\n"
        "  where: standup/models.py:8\n"
        "  mend:  call it 'standup_members'"
    )


@pytest.mark.parametrize("name", ["opal_sub_apps", "opal_events", "opal_revision_core", "OPAL_STEPS"])
def test_the_names_of_the_registrys_own_tables_are_kept(quick_site: Site, name: str) -> None:
    quick_site.sub_app("alpha", models(model("A", name)))
    assert complaint(quick_site) == (
        f"sub-app 'alpha' (alpha 1.0): the name of table '{name}' is kept for the registry's own tables\n"
        "  where: alpha/models.py:4\n"
        "  mend:  rename the table"
    )
    quick_site.sub_app("alpha", models(model("A", "opal_reviews")))
    assert owners(quick_site)["alpha"] == ["opal_reviews"]


def test_owners_are_not_kept_where_migrations_would_render_them(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas")))
    done = quick_site.python("""
        from opal_registry import Base, Registry

        Registry().suite
        print([dict(table.info) for table in Base.metadata.tables.values()])
    """)
    assert done.out == "[{}, {}]\n", done.err
