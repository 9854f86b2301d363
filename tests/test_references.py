"""Foreign keys and relationships between sub-apps, and those that lead nowhere."""

import pytest

from tests.distributions import Site
from tests.writing import NAME, complaint, model, models, owners, quarantined, refers


@pytest.mark.parametrize(
    ("lines", "columns", "target", "mend"),
    [
        pytest.param((refers("g", "'ghosts.id'"),), "alphas.g", "ghosts", "correct the name", id="nobody's"),
        pytest.param((refers("u", "'user.id'"),), "alphas.u", "user", "write 'users'", id="a slip"),
        pytest.param((refers("u", "'Users.id'"),), "alphas.u", "Users", "write 'users'", id="another case"),
        pytest.param((refers("g", "'other.things.id'"),), "alphas.g", "other.things", "correct the name", id="schema"),
        pytest.param(
            (
                "a: orm.Mapped[int]",
                "b: orm.Mapped[int]",
                "__table_args__ = (sa.ForeignKeyConstraint(['b', 'a'], ['g.b', 'g.a']),)",
            ),
            "alphas.a, alphas.b",
            "g",
            "correct the name",
            id="two columns",
        ),
    ],
)
def test_a_foreign_key_to_a_table_of_nobody_is_named(
    quick_site: Site, lines: tuple[str, ...], columns: str, target: str, mend: str
) -> None:
    """Where SQLAlchemy would create none of the tables (E9)."""
    quick_site.sub_app("alpha", models(model("A", "alphas", *lines)))
    assert complaint(quick_site, "init") == (
        f"sub-app 'alpha' (alpha 1.0): the foreign key of {columns} points to table '{target}', "
        "which no loaded sub-app owns\n"
        "  where: alpha/models.py:4\n"
        f"  mend:  {mend}, or install the sub-app that owns the table and name it in requires"
    )
    assert not list(quick_site.cwd.iterdir())


def test_the_supplier_is_named_where_requires_says_who_it_is(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas", refers("g", "'ghosts.id'"))), requires=("ghost>=2",))
    assert complaint(quick_site) == (
        "sub-app 'alpha' (alpha 1.0) requires 'ghost>=2', which is not installed here\n"
        "  where: plugin 'alpha' (alpha 1.0, alpha.opal)\n"
        "  mend:  install the distribution that brings 'ghost'\n"
        "error: sub-app 'alpha' (alpha 1.0): the foreign key of alphas.g points to table 'ghosts', "
        "which no loaded sub-app owns\n"
        "  where: alpha/models.py:4\n"
        "  mend:  install the sub-app that brings it: 'alpha' requires 'ghost'"
    )


def test_a_missing_column_is_named_with_those_that_are_there(quick_site: Site) -> None:
    quick_site.sub_app("zeta", models(model("Z", "zetas", NAME)))
    quick_site.sub_app("alpha", models(model("A", "alphas", refers("z", "'zetas.title'"))))
    assert complaint(quick_site) == (
        "sub-app 'alpha' (alpha 1.0): the foreign key of alphas.z points to zetas.title, "
        "but 'zetas' has no such column\n"
        "  where: alpha/models.py:4\n"
        "  mend:  its columns are: id, name"
    )


def test_who_points_to_what_is_left_out_is_left_out_too_but_has_no_fault_of_its_own(quick_site: Site) -> None:
    quick_site.sub_app("zeta", models(model("Z", "zetas"), "1 / 0"))
    quick_site.sub_app("alpha", models(model("A", "alphas", refers("z", "'zetas.id'"))))
    assert "alphas" not in complaint(quick_site)
    [said] = quarantined(quick_site)["alpha"]
    assert said == (
        "sub-app 'alpha' (alpha 1.0): the foreign key of alphas.z points to table 'zetas' of sub-app 'zeta', "
        "which is left out"
    )


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(refers("z", "'zetas.id'"), id="text"),
        pytest.param(refers("z", "'zetas'"), id="the table alone"),
        pytest.param(refers("z", "('zetas', 'id')"), id="tokens"),
        pytest.param(refers("z", "Z.id"), id="an attribute"),
        pytest.param(refers("z", "Z.__table__.c.id"), id="a column"),
        pytest.param(refers("z", "'zetas.title'", ", link_to_name=True"), id="the name of a column with another key"),
    ],
)
def test_a_foreign_key_may_be_written_in_many_ways(quick_site: Site, source: str) -> None:
    title = "heading: orm.Mapped[int] = orm.mapped_column('title', key='heading', unique=True)"
    quick_site.sub_app("zeta", models(model("Z", "zetas", title, "z: orm.Mapped[int | None]")))
    quick_site.sub_app("alpha", models("from zeta.models import Z", model("A", "alphas", source)))
    if source == refers("z", "'zetas'"):  # means the column of the same name
        assert list(owners(quick_site)) == ["core", "zeta", "alpha"]
        return
    done = quick_site.run("init")
    assert done.code == 0, done.err
    assert list(owners(quick_site)) == ["core", "zeta", "alpha"]


def test_a_foreign_key_into_adopted_metadata_is_given_as_a_column(quick_site: Site) -> None:
    other = "import sqlalchemy as sa\nmine = sa.MetaData()\nt = sa.Table('others', mine, sa.Column('id', sa.Integer, primary_key=True))"
    quick_site.sub_app("zeta", other, metadata=("zeta.models:mine",))
    quick_site.sub_app("alpha", models("from zeta.models import t", model("A", "alphas", refers("o", "t.c.id"))))
    done = quick_site.run("init")
    assert done.code == 0, done.err
    assert owners(quick_site) == {"core": ["users"], "zeta": ["others"], "alpha": ["alphas"]}


CHILD = refers("parent", "'as_.id'")
CYCLE = model("A", "as_", refers("b", "'bs_.id'")) + model("B", "bs_", refers("a", "'as_.id'"))
ALTER = model("A", "as_", refers("b", "'bs_.id'", ", use_alter=True")) + model("B", "bs_", refers("a", "'as_.id'"))
ODD = model("Order", "order", "select: orm.Mapped[str]", "Group: orm.Mapped[str]") + model(
    "Ü", "Größe Ünï", "ß: orm.Mapped[str]"
)
NO_KEY = "sa.Table('log', Base.metadata, sa.Column('at', sa.DateTime), sa.Column('x', sa.Integer, index=True))"


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(model("A", "as_", CHILD), id="self reference"),
        pytest.param(CYCLE, id="cycle"),
        pytest.param(ALTER, id="cycle with use_alter"),
        pytest.param(ODD, id="reserved, mixed-case and non-ASCII names"),
        pytest.param(NO_KEY, id="no primary key"),
    ],
)
def test_awkward_tables_are_created_and_stay_as_they_are(quick_site: Site, database_url: str, source: str) -> None:
    quick_site.sub_app("alpha", models(source))
    env = {"OPAL_DATABASE__URL": database_url}
    first, second = (quick_site.run("init", "--json", env=env) for _ in range(2))
    assert (first.code, second.code) == (0, 0), (first.err, second.err, second.out)
    tables = [[app["created"], app["present"]] for app in second.json["sub_apps"] if app["name"] == "alpha"]
    assert tables == [[[], owners(quick_site)["alpha"]]]


NOTE = (refers("t", "'betas.id'"), "task = orm.relationship({})")


def two_tasks(site: Site, *lines: str, prefix: str = "") -> None:
    """Install two sub-apps with a class ``Task`` each; the second refers to its own."""
    site.sub_app("alpha", models(model("Task", "alphas")))
    site.sub_app(
        "beta", prefix + models(model("Task", "betas"), model("Note", "notes", refers("t", "'betas.id'"), *lines))
    )


@pytest.mark.parametrize(
    ("line", "prefix"),
    [
        pytest.param("task = orm.relationship('Task')", "", id="text"),
        pytest.param("task: orm.Mapped['Task'] = orm.relationship()", "", id="annotation"),
        pytest.param("task: orm.Mapped[Task] = orm.relationship()", "from __future__ import annotations\n", id="lazy"),
        pytest.param("task: orm.Mapped['list[Task]'] = orm.relationship(viewonly=True)", "", id="list"),
    ],
)
def test_a_relationship_that_could_mean_two_classes_is_named(quick_site: Site, line: str, prefix: str) -> None:
    two_tasks(quick_site, line, prefix=prefix)
    assert complaint(quick_site) == (
        "sub-app 'beta' (beta 1.0): the relationship Note.task says 'Task', "
        "which could mean beta.models.Task or alpha.models.Task\n"
        f"  where: beta/models.py:{9 if prefix else 8}\n"
        "  mend:  write the whole path, as in relationship('beta.models.Task')"
    )


@pytest.mark.parametrize("argument", ["'beta.models.Task'", "lambda: Task", "Task"])
def test_a_relationship_that_is_clear_is_fine(quick_site: Site, argument: str) -> None:
    two_tasks(quick_site, f"task = orm.relationship({argument})")
    done = quick_site.python("""
        import sqlalchemy.orm
        from opal_registry import Registry

        suite = Registry().suite
        sqlalchemy.orm.configure_mappers()
    """)
    assert (done.code, done.err) == (0, "")


def test_a_relationship_to_a_class_of_nobody_is_named(quick_site: Site) -> None:
    lines = (refers("u", "'users.id'"), "u_: orm.Mapped['Usr'] = orm.relationship()")
    quick_site.sub_app("alpha", models(model("A", "alphas", *lines)))
    assert complaint(quick_site) == (
        "sub-app 'alpha' (alpha 1.0): the relationship A.u_ says 'Usr', which is the name of no model\n"
        "  where: alpha/models.py:4\n"
        "  mend:  write 'User', or install the sub-app that defines it"
    )
