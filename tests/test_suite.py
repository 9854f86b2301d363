"""The suite as a process sees it: only what was asked for is imported, and what is broken stays by itself."""

import textwrap

import pytest

from tests.distributions import Site
from tests.writing import complaint, model, models, owners, quarantined, refers

LOADED = """
    import sys
    from opal_registry import Registry

    suite = Registry(sub_apps=sys.argv[1:]).suite
    print(*(app.name for app in suite.sub_apps))
    print(*sorted(name for name in sys.modules if name in {"alpha.models", "beta.models", "gamma.models"}))
"""


def test_one_application_imports_the_models_of_its_closure_only(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas")))
    quick_site.sub_app("beta", models(model("B", "betas")), requires=("alpha",))
    quick_site.sub_app("gamma", models(model("G", "gammas")))
    assert quick_site.python(LOADED, "beta").out == "alpha beta core\nalpha.models beta.models\n"


def test_one_application_does_not_care_for_what_is_broken_elsewhere(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas")))
    quick_site.sub_app("broken", "1 / 0", hooks="1 / 0")
    quick_site.sub_app("clash", models(model("C", "alphas")))
    quick_site.sub_app("lost", requires=("ghost",))
    assert quick_site.python(LOADED, "alpha").out == "alpha core\nalpha.models\n"


def test_one_application_learns_what_is_wrong_with_it(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas"), "1 / 0"))
    done = quick_site.python(LOADED, "alpha")
    assert done.code == 1
    assert "PluginError: importing alpha.models failed: ZeroDivisionError: division by zero" in done.err


def test_the_tables_of_others_in_the_process_are_no_fault(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas")))
    quick_site.sub_app("beta", models(model("B", "betas")))
    done = quick_site.python("""
        import beta.models
        from opal_registry import Registry

        print([app.name for app in Registry(sub_apps=["alpha"]).suite.sub_apps])
    """)
    assert done.out == "['alpha', 'core']\n", done.err


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_not_collected_while_models_are_imported(quick_site: Site, enabled: bool) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas"), "import gc; was_enabled = gc.isenabled()"))
    done = quick_site.python(f"""
        import gc
        from opal_registry import Registry

        gc.enable() if {enabled} else gc.disable()
        Registry(sub_apps=["alpha"]).suite
        import alpha.models
        print(alpha.models.was_enabled, gc.isenabled())
    """)
    assert done.out == f"False {enabled}\n", done.err


def test_a_suite_is_the_same_every_time(quick_site: Site) -> None:
    for name in ("gamma", "alpha", "beta"):
        quick_site.sub_app(name, models(model(name.title(), f"{name}s", refers("u", "'users.id'"))))
    found = {str(owners(quick_site, PYTHONHASHSEED=str(seed))) for seed in range(3)}
    assert len(found) == 1


def test_the_tables_of_a_sub_app_come_after_those_they_refer_to(quick_site: Site) -> None:
    tables = [model("A", "as_", refers("b", "'bs_.id'")), model("B", "bs_", refers("c", "'cs_.id'")), model("C", "cs_")]
    quick_site.sub_app("alpha", models(*tables))
    assert owners(quick_site)["alpha"] == ["cs_", "bs_", "as_"]


def test_the_import_time_of_each_sub_app_is_shown(quick_site: Site) -> None:
    quick_site.sub_app(
        "slow", "import time\nbegan = time.perf_counter()\nwhile time.perf_counter() < began + 0.2: pass"
    )
    found = {app["name"]: app["import_seconds"] for app in quick_site.run("apps", "list", "--json").json["sub_apps"]}
    assert 0.2 <= found["slow"] < 2
    assert found["core"] > 0
    rows = quick_site.run("apps", "list").out.splitlines()
    assert rows[0].split()[-1] == "import"
    assert float(rows[2].split()[-2]) >= 0.2


QUERY = """
    import sqlalchemy as sa
    from opal_registry import Registry, Settings
    from opal_registry.models import User

    registry = Registry(Settings(sub_apps={"on_error": "quarantine"}, database={"url": "sqlite://"}))
    print(*(app.name for app in registry.suite.sub_apps))
    print(sa.select(User.username).compile())
    print(User(username="ada"))
"""


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("1 / 0", id="an error"),
        pytest.param(model("U", "users"), id="a conflict"),
        pytest.param("class Late(Base):\n    __tablename__ = 'lates'", id="a bad model"),
    ],
)
def test_half_imported_models_do_not_break_the_queries_of_the_others(quick_site: Site, end: str) -> None:
    """SQLAlchemy configures all mappers of a base at once, those of a module that failed included."""
    lines = (refers("u", "'users.id'"), "later: orm.Mapped['Later'] = orm.relationship(back_populates='half')")
    quick_site.sub_app("alpha", models(model("A", "alphas")))
    quick_site.sub_app("half", models(model("Half", "halves", *lines), end))
    done = quick_site.python(QUERY)
    assert done.out.splitlines() == ["alpha core", "SELECT users.username ", "FROM users", "<User None: ada>"], done.err


def test_a_conflict_found_late_takes_out_whoever_follows(quick_site: Site) -> None:
    index = "__table_args__ = (sa.Index('by_id', 'id'),)"
    quick_site.sub_app("alpha", models(model("A", "alphas", index)))
    quick_site.sub_app("beta", models(model("B", "betas", index)))
    quick_site.sub_app("gamma", models(model("G", "gammas")), requires=("beta",))
    quick_site.sub_app("delta", models(model("D", "deltas", refers("g", "'gammas.id'"))))
    quick_site.sub_app("lone", models(model("L", "lones")))
    assert sorted(quarantined(quick_site)) == ["alpha", "beta", "delta", "gamma"]
    assert complaint(quick_site).count("  where: ") == 1
    assert owners(quick_site, OPAL_SUB_APPS__ON_ERROR="quarantine") == {"core": ["users"], "lone": ["lones"]}


def test_the_causes_of_all_faults_are_in_the_traceback(quick_site: Site) -> None:
    quick_site.sub_app("alpha", "1 / 0")
    quick_site.sub_app("beta", "{}['missing']")
    shown = quick_site.run("apps", "list", "--traceback").err
    assert "ZeroDivisionError: division by zero" in shown
    assert "KeyError: 'missing'" in shown


ONE_TABLE = """
    import sqlalchemy as sa
    from opal_registry.database import Base

    things = sa.Table("things", Base.metadata, sa.Column("id", {column}, primary_key=True))
"""


def test_the_tables_that_sqlalchemy_itself_defines_are_nobodys(site: Site) -> None:
    models = "from sqlalchemy.dialects.postgresql import JSONB\n" + textwrap.dedent(
        ONE_TABLE.format(column="sa.Integer")
    )
    site.sub_app("alpha", models)  # in a process that did not import the dialect before
    done = site.run("init")
    assert (done.code, done.err) == (0, "")


def test_a_table_of_another_image_is_not_taken_over(quick_site: Site) -> None:
    quick_site.sub_app("alpha", ONE_TABLE.format(column="sa.Integer"))
    assert quick_site.run("init").code == 0
    quick_site.uninstall("alpha")
    quick_site.sub_app("beta", ONE_TABLE.format(column="sa.Integer"), version="2.0")
    done = quick_site.run("init")
    assert done.code == 3
    assert "the table 'things' has two owners: sub-app 'alpha' (alpha 1.0), which the ledger knows" in done.err
    assert "and sub-app 'beta' (beta 2.0)" in done.err


def test_a_foreign_key_between_binds_is_refused(quick_site: Site) -> None:
    quick_site.sub_app("alpha", ONE_TABLE.format(column='sa.ForeignKey("users.id")'), bind="other")
    done = quick_site.run("init", env={"OPAL_BINDS__OTHER__URL": "sqlite:///other.db"})
    assert done.code == 3
    assert "which lives in another database: bind 'other' and bind 'default'" in done.err


def test_a_table_outside_the_declared_schema_is_named(quick_site: Site) -> None:
    quick_site.sub_app("alpha", ONE_TABLE.format(column="sa.Integer"), schema="shop")
    assert complaint(quick_site, "init") == (
        "sub-app 'alpha' (alpha 1.0): table 'things' is not in the declared schema 'shop'\n"
        "  where: alpha/models.py:5\n"
        "  mend:  write __table_args__ = {\"schema\": 'shop'}, or leave SubApp(schema=...) out"
    )


KINDS = """
    from opal_registry import Registry

    for app in Registry().suite.sub_apps:
        print(app.name, app.is_created_here, *(table.name for table in app.tables), *app.needs)
"""


def test_tables_that_come_to_be_elsewhere_are_owned_and_ordered_as_usual(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas", refers("b", "'betas.id'"))))
    quick_site.sub_app(
        "beta",
        models(model("B", "betas", refers("g", "'gammas.id'"))),
        create="migrations",
        migrations="beta:migrations",
    )
    quick_site.sub_app("gamma", models(model("G", "gammas")), create="external")
    assert quick_site.python(KINDS).out.splitlines() == [
        "core True users",
        "gamma False gammas",
        "beta False betas gamma",
        "alpha True alphas beta",
    ]


def test_enum_types_in_variants_collide_too(quick_site: Site) -> None:
    for name, values in (("alpha", '"a"'), ("beta", '"b"')):
        column = f'sa.String(1).with_variant(sa.Enum({values}, name="kind"), "postgresql")'
        quick_site.sub_app(name, ONE_TABLE.format(column=column).replace('"things"', f'"{name}s"'))
    done = quick_site.run("init")
    assert done.code == 3
    assert "the enum type 'kind' has two owners" in done.err
