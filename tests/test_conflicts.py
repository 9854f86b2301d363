"""Names that two sub-apps claim: said with both distributions and both places, before any SQL."""

import pytest
from sqlalchemy.schema import conv

from opal_registry.ownership.conflicts import fold
from tests.distributions import Site
from tests.strangers import adopt
from tests.writing import NAME, complaint, model, models, owners, quarantined, refers

RENAME = "\n  mend:  rename one of them; a prefix with the sub-app's name keeps them apart (SubApp.table_prefix)"
WHO = "sub-app 'alpha' (opal-alpha 1.0) and sub-app 'beta' (opal-beta 2.0)"


def install(site: Site, alpha: str, beta: str) -> None:
    """Install two sub-apps, each with a distribution and a version of its own."""
    site.sub_app("alpha", models(alpha), distribution="opal-alpha")
    site.sub_app("beta", models(beta), distribution="opal-beta", version="2.0")


@pytest.mark.parametrize(
    ("alpha", "beta"),
    [
        pytest.param(model("A", "things"), model("B", "things"), id="two classes"),
        pytest.param(
            model("A", "things"), "sa.Table('things', Base.metadata, sa.Column('x', sa.Integer))", id="a class"
        ),
        pytest.param(*["sa.Table('things', Base.metadata, sa.Column('x', sa.Integer))"] * 2, id="no class"),
    ],
)
def test_one_table_with_two_owners(quick_site: Site, alpha: str, beta: str) -> None:
    """Where SQLAlchemy would advise to merge them with extend_existing (E9)."""
    install(quick_site, alpha, beta)
    said = complaint(quick_site, "init")
    assert said == f"the table 'things' has two owners: {WHO}\n  where: alpha/models.py:4 and beta/models.py:4{RENAME}"
    assert "extend_existing" not in said
    assert not list(quick_site.cwd.iterdir())


def test_neither_of_two_owners_takes_part(quick_site: Site) -> None:
    install(quick_site, model("A", "things"), model("B", "things"))
    quick_site.sub_app("gamma", models(model("G", "gammas")))
    assert sorted(quarantined(quick_site, "init")) == ["alpha", "beta"]
    assert owners(quick_site, OPAL_SUB_APPS__ON_ERROR="quarantine") == {"core": ["users"], "gamma": ["gammas"]}


def test_the_table_of_core_is_known_to_all(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "users")))
    assert complaint(quick_site).endswith(
        "alpha/models.py:4\n  mend:  rename that of 'alpha', or use the one of 'core'"
    )
    assert list(quarantined(quick_site)) == ["alpha"]
    assert owners(quick_site, OPAL_SUB_APPS__ON_ERROR="quarantine") == {"core": ["users"]}


def test_a_table_that_one_sub_app_defines_twice(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "things"), model("B", "things")))
    assert complaint(quick_site) == (
        "sub-app 'alpha' (alpha 1.0) defines table 'things', which is defined already\n"
        "  where: alpha/models.py:4 and alpha/models.py:8\n"
        "  mend:  define it once, in a module that is imported under one name"
    )


def test_models_that_fail_are_not_taken_for_a_conflict_when_they_are_imported_again(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas"), "import numpie"))
    quick_site.sub_app("beta", "from alpha.models import A")
    assert complaint(quick_site).partition("error: ")[2] == (
        "importing alpha.models failed: it needs the module 'numpie', which is not installed\n"
        "  where: plugin 'alpha' (alpha 1.0, alpha.opal), alpha/models.py:8\n"
        "  mend:  install it, or the extra of the distribution that brings it"
    )
    assert quarantined(quick_site)["beta"] == [
        "sub-app 'beta' (beta 1.0) imports alpha.models of sub-app 'alpha' (alpha 1.0), which failed before"
    ]


def test_models_that_are_executed_again_are_named(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas")))
    quick_site.sub_app("beta", "import importlib, alpha.models\nimportlib.reload(alpha.models)")
    assert complaint(quick_site).partition("error: ")[2] == (
        "sub-app 'beta' (beta 1.0) defines table 'alphas', which is defined already\n"
        "  where: alpha/models.py:4 and alpha/models.py:4\n"
        "  mend:  define it once, in a module that is imported under one name"
    )


INDEX = "__table_args__ = (sa.Index('by_name', 'name'),)"
UNIQUE = "__table_args__ = (sa.UniqueConstraint('name', name='one_name'),)"
CHECK = "__table_args__ = (sa.CheckConstraint('id > 0', name=sa.schema.conv('positive')),)"
SEQUENCE = "number: orm.Mapped[int] = orm.mapped_column(sa.Sequence('numbers'))"
SERVED = "number: orm.Mapped[int] = orm.mapped_column(server_default=sa.Sequence('numbers').next_value())"
KIND = "kind: orm.Mapped[str] = orm.mapped_column(sa.Enum({}, name='kind'))"


@pytest.mark.parametrize(
    ("alpha", "beta", "what"),
    [
        pytest.param((NAME, INDEX), (NAME, INDEX), "the index 'by_name'", id="index"),
        pytest.param((NAME, UNIQUE), (NAME, UNIQUE), "the constraint 'one_name'", id="unique constraint"),
        pytest.param((CHECK,), (CHECK,), "the constraint 'positive'", id="check constraint"),
        pytest.param((SEQUENCE,), (SEQUENCE,), "the sequence 'numbers'", id="sequence"),
        pytest.param((SEQUENCE,), (SERVED,), "the sequence 'numbers'", id="sequence of the server"),
        pytest.param((KIND.format("'a'"),), (KIND.format("'b'"),), "the enum type 'kind'", id="enum"),
        pytest.param((KIND.format("'a'"),), (KIND.format("'a'"),), "the enum type 'kind'", id="equal enum"),
        pytest.param(
            (KIND.format("'a'"),),
            ("kinds: orm.Mapped[list[str]] = orm.mapped_column(sa.ARRAY(sa.Enum('b', name='kind')))",),
            "the enum type 'kind'",
            id="enum in an array",
        ),
    ],
)
def test_one_name_with_two_owners(quick_site: Site, alpha: tuple[str, ...], beta: tuple[str, ...], what: str) -> None:
    install(quick_site, model("A", "alphas", *alpha), model("B", "betas", *beta))
    expected = f"{what} has two owners: {WHO}\n  where: alpha/models.py:4 and beta/models.py:4{RENAME}"
    assert complaint(quick_site) == expected


@pytest.mark.parametrize(
    ("alpha", "beta", "expected"),
    [
        pytest.param(
            model("A", "things"),
            model("B", "Things"),
            "the table of {} and the table of {} have one name regardless of case: 'things' and 'Things'",
            id="case",
        ),
        pytest.param(
            model("A", "ä" * 31 + "ab"),
            model("B", "ä" * 31 + "ac"),
            "the table of {} and the table of {} have one name once cut to 63 bytes: "
            f"'{'ä' * 31}ab' and '{'ä' * 31}ac'",
            id="63 bytes",
        ),
        pytest.param(
            model("A", "things"),
            model("B", "betas", NAME, "__table_args__ = (sa.Index('things', 'name'),)"),
            "the table of {} and the index of {} have one name, 'things'",
            id="table and index",
        ),
        pytest.param(
            model("A", "kind"),
            model("B", "betas", KIND.format("'b'")),
            "the table of {} and the enum type of {} have one name, 'kind'",
            id="table and enum, which PostgreSQL keeps together",
        ),
        pytest.param(
            model("A", "alphas", SEQUENCE),
            model("B", "betas", NAME, "__table_args__ = (sa.Index('NUMBERS', 'name'),)"),
            "the index of {b} and the sequence of {a} have one name regardless of case: 'NUMBERS' and 'numbers'",
            id="sequence and index",
        ),
    ],
)
def test_names_that_are_one_to_a_database(quick_site: Site, alpha: str, beta: str, expected: str) -> None:
    install(quick_site, alpha, beta)
    a, b = WHO.split(" and ")
    said = complaint(quick_site).split("\n")
    assert sorted(said[0].split()) == sorted(expected.format(a, b, a=a, b=b).split())
    assert len(said) == 3, "what hangs on two tables that collide is no news"


def test_one_sub_app_with_one_name_for_two_things(quick_site: Site) -> None:
    things = model("A", "things", KIND.format("'a'")) + model("B", "others", KIND.format("'b'")) + model("C", "Things")
    quick_site.sub_app("alpha", models(things))
    assert [line for line in complaint(quick_site).split("\n") if not line.startswith("  ")] == [
        "sub-app 'alpha' (alpha 1.0): a table and another table have one name regardless of case: 'things' and 'Things'",
        "error: sub-app 'alpha' (alpha 1.0) defines the enum type 'kind' twice, and not alike: "
        "'a' for table 'things', and 'b' for table 'others'",
    ]


@pytest.mark.parametrize(
    ("alpha", "beta"),
    [
        pytest.param(
            "import enum\nclass Kind(enum.Enum):\n    A = 1\n" + model("A", "alphas", "kind: orm.Mapped[Kind]"),
            "from alpha.models import Kind\n" + model("B", "betas", "kind: orm.Mapped[Kind]"),
            id="an enum that is shared on purpose",
        ),
        pytest.param(
            model(
                "A", "alphas", "kind: orm.Mapped[str] = orm.mapped_column(sa.Enum('a', name='k', native_enum=False))"
            ),
            model("B", "betas", "kind: orm.Mapped[str] = orm.mapped_column(sa.Enum('b', name='k', native_enum=False))"),
            id="enums that are only text",
        ),
        pytest.param(
            model("A", "things", "__table_args__ = {'schema': 'one'}"),
            model("B", "things", "__table_args__ = {'schema': 'two'}"),
            id="tables in two schemas",
        ),
        pytest.param(
            model("A", "alphas", "__table_args__ = (sa.CheckConstraint('id > 0', name='positive'),)"),
            model("B", "betas", "__table_args__ = (sa.CheckConstraint('id > 0', name='positive'),)"),
            id="checks that the convention keeps apart",
        ),
        pytest.param(model("Task", "alpha_tasks"), model("Task", "beta_tasks"), id="two classes of one name"),
        pytest.param(model("A", "straße"), model("B", "strasse"), id="what only Unicode folds"),
    ],
)
def test_what_does_not_collide(quick_site: Site, alpha: str, beta: str) -> None:
    install(quick_site, alpha, beta)
    assert list(owners(quick_site)) == ["alpha", "beta", "core"]


def test_public_is_the_schema_of_those_that_name_none(quick_site: Site) -> None:
    install(quick_site, model("A", "things"), model("B", "things", "__table_args__ = {'schema': 'public'}"))
    assert complaint(quick_site).startswith(f"the table 'things' has two owners: {WHO}\n")


def test_one_enum_in_several_tables_is_one_type(quick_site: Site, postgres_url: str) -> None:
    kinds = (model("A", "alphas", KIND.format("'a', 'b'")), model("B", "betas", KIND.format("'a', 'b'")))
    quick_site.sub_app("alpha", models(*kinds))
    done = quick_site.run("init", "--json", env={"OPAL_DATABASE__URL": postgres_url})
    assert done.code == 0, done.err


def test_names_that_sqlalchemy_shortens_by_itself_stay_apart() -> None:
    long = "ix_" + "x" * 80
    assert fold(long + "a") == fold(long + "b")
    assert fold(conv(long + "a")) != fold(conv(long + "b"))


def test_shortened_names_do_not_collide(quick_site: Site, database_url: str) -> None:
    column = "x" * 50 + "{}: orm.Mapped[str] = orm.mapped_column(index=True)"
    install(quick_site, model("A", "a" * 40, column.format("a")), model("B", "a" * 40 + "b", column.format("b")))
    done = quick_site.run("init", env={"OPAL_DATABASE__URL": database_url})
    assert done.code == 0, done.err


def test_two_owners_of_two_things_are_two_faults(quick_site: Site) -> None:
    alpha = model("A", "things") + model("A2", "alphas", NAME, INDEX)
    beta = model("B", "betas", NAME, INDEX, refers("t", "'things.id'")) + model("B2", "THINGS")
    install(quick_site, alpha, beta)
    assert complaint(quick_site).count("  where: ") == 2


FOREIGN = "import sqlalchemy as sa\nmine = sa.MetaData()\n"


@pytest.mark.parametrize("again", ["sa.Enum('a', 'b', name='kind')", "sa.ARRAY(sa.Enum('a', 'b', name='kind'))"])
def test_one_name_with_equal_values_is_one_type_to_one_sub_app(quick_site: Site, again: str) -> None:
    kind = "class Kind(enum.StrEnum):\n    a = 'x'\n    b = 'y'\n"
    tables = f"sa.Table('one', mine, sa.Column('k', sa.Enum(Kind)))\nsa.Table('two', mine, sa.Column('k', {again}))"
    adopt(quick_site, "mine", source=f"{FOREIGN}import enum\n{kind}{tables}")
    assert owners(quick_site)["alpha"] == ["one", "two"]


def test_with_unlike_values_it_is_an_error_that_names_both(quick_site: Site) -> None:
    tables = [f"sa.Table('{n}s', mine, sa.Column('k', sa.Enum('a', '{n}', name='kind')))\n" for n in "bc"]
    adopt(quick_site, "mine", source=FOREIGN + "".join(tables))
    assert complaint(quick_site) == (
        "sub-app 'alpha' (alpha 1.0) defines the enum type 'kind' twice, and not alike: "
        "'a', 'b' for table 'bs', and 'a', 'c' for table 'cs'\n"
        "  where: stranger.py:3 and stranger.py:4\n"
        "  mend:  make them equal, or rename one of them"
    )


LENT = "from sqlalchemy.dialects import postgresql\nkind = sa.Enum('a', 'b', name='kind')\n"
IMPORTED = "from zeta.models import kind\n"
ELSEWHERE = "from sqlalchemy.dialects import postgresql\nkind = postgresql.ENUM('a', 'b', name='kind', create_type=False).with_variant(sa.String(9), 'sqlite', 'mysql')\n"
ANEW = "kind = sa.Enum('a', 'b', name='kind')\n"
USES = "kind: orm.Mapped[str] = orm.mapped_column(kind)"


@pytest.mark.parametrize("source", [IMPORTED, ELSEWHERE], ids=["the same object", "made elsewhere"])
def test_an_enum_type_of_a_required_sub_app_may_be_used(quick_site: Site, any_database_url: str, source: str) -> None:
    quick_site.sub_app("zeta", models(LENT, model("Z", "zetas", "kind = sa.Column(kind)")))
    for name in ("alpha", "beta"):
        quick_site.sub_app(name, models(source, model("M", f"{name}s", USES)), requires=("zeta",))
    env = {"OPAL_DATABASE__URL": any_database_url}
    done = quick_site.run("init", env=env)
    assert (done.code, done.err) == (0, "")
    assert quick_site.run("init", "--verify", env=env).code == 0


@pytest.mark.parametrize(
    ("source", "requires"),
    [
        pytest.param(IMPORTED, (), id="of one that is not required"),
        pytest.param(ANEW, ("zeta",), id="made anew"),
        pytest.param(ELSEWHERE.replace("'b'", "'c'"), ("zeta",), id="with other values"),
    ],
)
def test_unless_it_is_not_the_same(quick_site: Site, source: str, requires: tuple[str, ...]) -> None:
    quick_site.sub_app("zeta", models(LENT, model("Z", "zetas", "kind = sa.Column(kind)")))
    quick_site.sub_app("alpha", models(source, model("A", "alphas", USES)), requires=requires)
    assert complaint(quick_site).startswith("the enum type 'kind' has two owners: sub-app 'alpha'")
