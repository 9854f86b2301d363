"""Finding plugins: each is loaded inside a guard, and what is wrong with one is said in its name."""

import pytest

from tests.distributions import GROUP, Site
from tests.writing import HOOK, complaint, model, models, owners, quarantined


def install(site: Site, source: str | bytes, value: str = "b", *, name: str = "b") -> None:
    """Install the distribution ``opal-b 2.1``: one module ``b``, one entry point."""
    site.install("opal-b", version="2.1", files={"b.py": source}, entry_points={GROUP: {name: value}})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(
            "ghost.opal",
            "importing ghost.opal failed: there is no module 'ghost'\n"
            "  where: plugin 'b' (opal-b 2.1, ghost.opal)\n"
            "  mend:  correct the name, or reinstall the distribution",
            id="no such package",
        ),
        pytest.param(
            "b.opal",
            "importing b.opal failed: there is no module 'b.opal'\n"
            "  where: plugin 'b' (opal-b 2.1, b.opal)\n"
            "  mend:  correct the name, or reinstall the distribution",
            id="no such module",
        ),
        pytest.param(
            "b:plugin",
            "b has no attribute 'plugin'\n"
            "  where: plugin 'b' (opal-b 2.1, b:plugin)\n"
            "  mend:  correct the name, or reinstall the distribution",
            id="no such attribute",
        ),
        pytest.param(
            "b:standup_objct",
            "b has no attribute 'standup_objct'\n"
            "  where: plugin 'b' (opal-b 2.1, b:standup_objct)\n"
            "  mend:  write 'standup_object'",
            id="misspelt attribute",
        ),
        pytest.param(
            "b module!",
            "the entry point cannot be 'b module!'\n"
            "  where: plugin 'b' (opal-b 2.1, b module!)\n"
            "  mend:  write it like standupbot.opal, or standupbot.opal:plugin",
            id="not an entry point",
        ),
    ],
)
def test_an_entry_point_that_leads_nowhere_is_named(quick_site: Site, value: str, expected: str) -> None:
    install(quick_site, "standup_object = None", value)
    assert complaint(quick_site) == expected


@pytest.mark.parametrize(
    ("source", "what", "place", "mend"),
    [
        pytest.param(
            "import numpie",
            "it needs the module 'numpie', which is not installed",
            ", b.py:1",
            "install it, or the extra of the distribution that brings it",
            id="a dependency that is not installed",
        ),
        pytest.param(
            "from json import lods",
            "ImportError: cannot import name 'lods' from 'json'",
            ", b.py:1",
            "mend the plugin, or leave it out with sub_apps.disabled",
            id="another release of a dependency",
        ),
        pytest.param(
            "x = 1\ndef (:",
            "SyntaxError: invalid syntax",
            ", b.py:2",
            "mend the syntax, or install a release for this version of Python",
            id="a syntax error",
        ),
        pytest.param(
            b"x = 1\0",
            "SyntaxError: source code string cannot contain null bytes",
            "",
            "mend the syntax, or install a release for this version of Python",
            id="not text",
        ),
        pytest.param(
            "import sys\nsys.exit('no configuration')",
            "it tried to end the program: sys.exit('no configuration')",
            ", b.py:2",
            "raise an error there instead",
            id="sys.exit with a text",
        ),
        pytest.param(
            "import sys\nsys.exit()",
            "it tried to end the program: sys.exit()",
            ", b.py:2",
            "raise an error there instead",
            id="sys.exit without",
        ),
        pytest.param(
            "class Stop(BaseException): pass\ndef f():\n    raise Stop('a\\nb')\nf()",
            "Stop: a",
            ", b.py:3",
            "mend the plugin, or leave it out with sub_apps.disabled",
            id="a BaseException of several lines",
        ),
        pytest.param(
            "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
            "E",
            ", b.py:3",
            "mend the plugin, or leave it out with sub_apps.disabled",
            id="an error that cannot say what it is",
        ),
        pytest.param(
            "import json\njson.loads('{')",
            "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
            ", b.py:2",
            "mend the plugin, or leave it out with sub_apps.disabled",
            id="an error raised deep in a library",
        ),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named(
    quick_site: Site, source: str | bytes, what: str, place: str, mend: str
) -> None:
    install(quick_site, source)
    said = complaint(quick_site).split("\n")
    assert said[0].partition(" (/")[0] == f"importing b failed: {what}"
    assert said[1:] == [f"  where: plugin 'b' (opal-b 2.1, b){place}", f"  mend:  {mend}"]


def test_the_traceback_is_there_for_whoever_asks(quick_site: Site) -> None:
    install(quick_site, "def check():\n    return 1 / 0\ncheck()")
    assert "Traceback" not in quick_site.run("apps", "list").err
    assert "line 2, in check" in quick_site.run("apps", "list", "--traceback").err


MISSPELT = HOOK.replace("opal_sub_apps", "opal_subapps") + "    return []"
RENAMED = HOOK.replace("opal_sub_apps", "something_else") + "    return []"
WRONG_ARGUMENTS = f"{HOOK}    return []\n@hookimpl\ndef opal_seed(db, sub_app): pass"
NO_MARK = "def opal_sub_apps():\n    return []"
OTHER_MARK = f"import pluggy\n@pluggy.HookimplMarker('pytest')\n{NO_MARK}"
ONE_MARK = f"{HOOK}    return []\ndef opal_seed(session, sub_app): pass"
CLASS = "from opal_registry import SubApp, hookimpl\nclass P:\n    @hookimpl\n    def opal_sub_apps(self): return []"


@pytest.mark.parametrize(
    ("source", "value", "what", "mend"),
    [
        pytest.param(MISSPELT, "b", "there is no hook 'opal_subapps'", "write 'opal_sub_apps'", id="misspelt"),
        pytest.param(
            RENAMED,
            "b",
            "there is no hook 'something_else'",
            "the hooks are: opal_checks, opal_engine_created, opal_seed, opal_sub_apps, opal_tables_created",
            id="quite another",
        ),
        pytest.param(
            WRONG_ARGUMENTS,
            "b",
            "hookimpl definition: opal_seed(db, sub_app): "
            "Argument(s) {'db'} are declared in the hookimpl but can not be found in the hookspec",
            "write it as opal_seed(session, sub_app), or with fewer of these arguments",
            id="wrong arguments",
        ),
        pytest.param(
            NO_MARK,
            "b",
            "opal_sub_apps does not carry @hookimpl, so nobody would call it",
            "write @hookimpl above it, from opal_registry import hookimpl",
            id="no mark",
        ),
        pytest.param(
            OTHER_MARK,
            "b",
            "opal_sub_apps does not carry @hookimpl, so nobody would call it",
            "write @hookimpl above it, from opal_registry import hookimpl",
            id="another project's mark",
        ),
        pytest.param(
            ONE_MARK,
            "b",
            "opal_seed does not carry @hookimpl, so nobody would call it",
            "write @hookimpl above it, from opal_registry import hookimpl",
            id="only one of two is marked",
        ),
        pytest.param(
            "x = 1",
            "b",
            "it implements no hook",
            "let the entry point name the module, or the object, whose functions carry @hookimpl from opal_registry",
            id="nothing at all",
        ),
        pytest.param(
            f"{HOOK}    return []",
            "b:opal_sub_apps",
            "the entry point names a function",
            "let the entry point name the module, or an object, whose functions carry @hookimpl",
            id="the function itself",
        ),
        pytest.param(
            CLASS,
            "b:P",
            "the entry point names a class",
            "let the entry point name the module, or an object, whose functions carry @hookimpl",
            id="a class",
        ),
    ],
)
def test_hooks_that_would_never_be_called_are_errors(
    quick_site: Site, source: str, value: str, what: str, mend: str
) -> None:
    install(quick_site, source, value)
    assert complaint(quick_site) == f"{what}\n  where: plugin 'b' (opal-b 2.1, {value})\n  mend:  {mend}"


@pytest.mark.parametrize(
    ("source", "value"),
    [
        pytest.param(f"{HOOK}    yield SubApp(name='beta')", "b", id="a generator"),
        pytest.param(f"{HOOK}    return [SubApp(name='beta')]", "b", id="a list"),
        pytest.param(
            f"{CLASS.replace('[]', '[SubApp(name=chr(98) + chr(101) + chr(116) + chr(97))]')}\np = P()", "b:p"
        ),
        pytest.param(
            HOOK.replace("@hookimpl\ndef opal_sub_apps", "@hookimpl(specname='opal_sub_apps')\ndef anything")
            + "    yield SubApp(name='beta')",
            "b",
            id="a function of another name",
        ),
        pytest.param(
            f"{HOOK}    yield SubApp(name='beta')\n@hookimpl(optionalhook=True)\ndef opal_tomorrow(): pass",
            "b",
            id="a hook of a later release",
        ),
    ],
)
def test_a_plugin_may_be_written_in_many_ways(quick_site: Site, source: str, value: str) -> None:
    install(quick_site, source, value)
    assert owners(quick_site) == {"beta": [], "core": ["users"]}


def test_a_plugin_may_bring_no_sub_app(quick_site: Site) -> None:
    install(quick_site, "from opal_registry import hookimpl\n@hookimpl\ndef opal_engine_created(engine): pass")
    assert owners(quick_site) == {"core": ["users"]}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("pass", "opal_sub_apps returned nothing (None)"),
        ("return 'standup'", "opal_sub_apps returned an object of type str"),
        ("return {'name': 'standup'}", "opal_sub_apps returned an object of type dict"),
        ("return SubApp(name='beta')", "opal_sub_apps returned an object of type SubApp"),
        ("return 3", "opal_sub_apps returned an object of type int"),
        ("return ['standup']", "opal_sub_apps yielded an object of type str"),
        ("return [{'name': 'standup'}]", "opal_sub_apps yielded an object of type dict"),
        ("return [SubApp]", "opal_sub_apps yielded the class SubApp"),
        ("yield SubApp(name='beta')\n    yield None", "opal_sub_apps yielded nothing (None)"),
    ],
)
def test_a_hook_of_the_wrong_type_is_named(quick_site: Site, body: str, what: str) -> None:
    install(quick_site, f"{HOOK}    {body}")
    assert complaint(quick_site) == (
        f"{what}\n  where: plugin 'b' (opal-b 2.1, b)\n  mend:  yield SubApp(...) objects, imported from opal_registry"
    )


def test_a_hook_that_never_stops_yielding_is_stopped(quick_site: Site) -> None:
    install(quick_site, f"{HOOK}    while True: yield SubApp(name='beta')")
    assert complaint(quick_site) == (
        "opal_sub_apps yielded more than 1000 sub-apps\n  where: plugin 'b' (opal-b 2.1, b)\n  mend:  end the loop"
    )


def test_a_hook_that_fails_midway_contributes_nothing(quick_site: Site) -> None:
    install(quick_site, f"{HOOK}    yield SubApp(name='beta')\n    raise RuntimeError('half')")
    assert complaint(quick_site).startswith("calling opal_sub_apps failed: RuntimeError: half\n")
    assert owners(quick_site, OPAL_SUB_APPS__ON_ERROR="quarantine") == {"core": ["users"]}


def test_all_faults_of_a_record_are_named_at_once(quick_site: Site) -> None:
    install(quick_site, f"{HOOK}    yield SubApp(name='Big Name', models='b.models', requires=('core>>1',), bind='')")
    assert [line for line in complaint(quick_site).split("\n") if not line.startswith("  ")] == [
        "'Big Name' is not a name for a sub-app",
        "error: sub-app 'Big Name': bind cannot be ''",
        "error: sub-app 'Big Name': models cannot be 'b.models'",
        "error: sub-app 'Big Name': requires cannot be 'core>>1'",
    ]


def test_what_a_plugin_prints_does_not_spoil_the_document(quick_site: Site) -> None:
    install(quick_site, f"print('importing')\n{HOOK}    print('asked')\n    yield SubApp(name='b', models=('c',))")
    quick_site.install("c", files={"c.py": "print('models')"})
    done = quick_site.run("apps", "list", "--json")
    assert [app["name"] for app in done.json["sub_apps"]] == ["b", "core"]
    assert done.err == "importing\nasked\nmodels\n"


def test_ctrl_c_during_an_import_is_no_fault_of_the_plugin(quick_site: Site) -> None:
    install(quick_site, "raise KeyboardInterrupt")
    assert complaint(quick_site, code=130) == "interrupted"


def test_one_broken_plugin_does_not_hide_another(quick_site: Site) -> None:
    """Where pluggy's own loader stops at the first one (E6)."""
    quick_site.sub_app("alpha", models(model("A", "alphas")))
    install(quick_site, "import numpie")
    quick_site.install("opal-c", files={"c.py": "import sys; sys.exit()"}, entry_points={GROUP: {"c": "c"}})
    quick_site.sub_app("delta", models(model("D", "deltas")))
    assert complaint(quick_site, "init").count("error: ") == 1
    assert owners(quick_site, OPAL_SUB_APPS__ON_ERROR="quarantine") == {
        "alpha": ["alphas"],
        "core": ["users"],
        "delta": ["deltas"],
    }
    assert quarantined(quick_site, "init") == {
        "b": ["importing b failed: it needs the module 'numpie', which is not installed"],
        "c": ["importing c failed: it tried to end the program: sys.exit()"],
    }


def test_two_entry_points_for_one_module_are_named(quick_site: Site) -> None:
    quick_site.sub_app("alpha")
    quick_site.install("twin", version="3.0", files={}, entry_points={GROUP: {"twin": "alpha.opal"}})
    assert complaint(quick_site) == (
        "it loads the same object as plugin 'alpha' (alpha 1.0, alpha.opal)\n"
        "  where: plugin 'twin' (twin 3.0, alpha.opal)\n"
        "  mend:  keep one of the two entry points"
    )


def test_a_distribution_that_lost_its_metadata_is_still_found(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas")))
    (quick_site.folder / "alpha-1.0.dist-info" / "METADATA").unlink()
    assert owners(quick_site) == {"alpha": ["alphas"], "core": ["users"]}


def test_a_disabled_plugin_is_not_imported_at_all(quick_site: Site) -> None:
    quick_site.sub_app("alpha", "open('models', 'w')", hooks="open('plugin', 'w')")
    assert owners(quick_site, OPAL_SUB_APPS__DISABLED='["alpha"]') == {"core": ["users"]}
    assert not list(quick_site.cwd.iterdir())


def test_a_disabled_sub_app_is_left_out_whatever_its_plugin_is_called(quick_site: Site) -> None:
    install(quick_site, f"{HOOK}    yield SubApp(name='beta')\n    yield SubApp(name='gamma')")
    assert list(owners(quick_site, OPAL_SUB_APPS__DISABLED='["beta"]')) == ["core", "gamma"]


def test_a_disabled_name_that_nobody_has_is_fine_unless_it_looks_like_a_slip(quick_site: Site) -> None:
    quick_site.sub_app("standupbot")
    assert quick_site.run("apps", "list", env={"OPAL_SUB_APPS__DISABLED": '["xrayqc"]'}).err == ""
    done = quick_site.run("apps", "list", env={"OPAL_SUB_APPS__DISABLED": '["standupbto"]'})
    assert done.err == "sub_apps.disabled: no 'standupbto' is installed here; did you mean 'standupbot'?\n"


def test_only_what_is_enabled_is_loaded_and_what_it_requires(quick_site: Site) -> None:
    quick_site.sub_app("alpha")
    quick_site.sub_app("beta", requires=("alpha",))
    quick_site.sub_app("gamma", hooks="raise RuntimeError")
    assert list(owners(quick_site, OPAL_SUB_APPS__ENABLED='["beta"]')) == ["alpha", "beta", "core"]
    assert list(owners(quick_site, OPAL_SUB_APPS__ENABLED="[]")) == ["core"]


def test_a_sub_app_is_found_though_its_entry_point_has_another_name(quick_site: Site) -> None:
    install(quick_site, f"{HOOK}    yield SubApp(name='beta')", name="something")
    quick_site.sub_app("gamma", requires=("beta",))
    assert list(owners(quick_site, OPAL_SUB_APPS__ENABLED='["gamma"]')) == ["beta", "core", "gamma"]


def test_an_enabled_name_that_nobody_has_is_named_with_the_nearest(quick_site: Site) -> None:
    quick_site.sub_app("standupbot")
    assert complaint(quick_site, code=2, OPAL_SUB_APPS__ENABLED='["standup", "xyz"]') == (
        "no sub-app 'standup' is installed here\n"
        "  where: sub_apps.enabled, or the sub_apps of the Registry\n"
        "  mend:  write 'standupbot'\n"
        "error: no sub-app 'xyz' is installed here\n"
        "  where: sub_apps.enabled, or the sub_apps of the Registry\n"
        "  mend:  install it, or choose from: core, standupbot"
    )


def test_a_name_that_is_enabled_and_disabled_is_named(quick_site: Site) -> None:
    quick_site.sub_app("alpha")
    env = {"OPAL_SUB_APPS__ENABLED": '["alpha"]', "OPAL_SUB_APPS__DISABLED": '["alpha"]'}
    assert complaint(quick_site, code=2, **env) == (
        "sub-app 'alpha' is enabled and disabled at once\n"
        "  where: sub_apps.enabled, or the sub_apps of the Registry\n"
        "  mend:  take it out of sub_apps.disabled, or do not ask for it"
    )


def test_the_configuration_admits_an_application_without_an_entry_point(quick_site: Site) -> None:
    quick_site.install("calm", version="3.0", files={"calm/__init__.py": "", "calm/m.py": models(model("C", "calms"))})
    env = {"OPAL_SUB_APPS__MODULES": '{"calmind": ["calm.m"]}'}
    assert owners(quick_site, **env) == {"calmind": ["calms"], "core": ["users"]}
    shown = quick_site.run("apps", "show", "calmind", "--json", env=env).json
    assert (shown["distribution"], shown["version"], shown["plugin"]) == ("calm", "3.0", "calm.m")


@pytest.mark.parametrize(
    ("code", "modules", "expected"),
    [
        pytest.param(
            3,
            '{"calmind": ["ghost.models"]}',
            "importing ghost.models failed: there is no module 'ghost'\n"
            "  where: sub-app 'calmind' (sub_apps.modules in the configuration)\n"
            "  mend:  correct the name, or reinstall the distribution",
            id="no such module",
        ),
        pytest.param(
            2,
            '{"Calm": ["calm"]}',
            "'Calm' is not a name for a sub-app\n"
            "  where: sub_apps.modules in the configuration\n"
            "  mend:  use lower-case letters, digits and underscores, a letter first, at most 30 characters",
            id="bad name",
        ),
        pytest.param(
            2,
            '{"calmind": []}',
            "sub-app 'calmind' lists no modules\n"
            "  where: sub_apps.modules in the configuration\n"
            "  mend:  write it like calmind: [calmind.models], or take it out",
            id="no modules",
        ),
        pytest.param(
            3,
            '{"alpha": ["alpha.models"]}',
            "two sub-apps are called 'alpha'\n"
            "  where: sub-app 'alpha' (sub_apps.modules in the configuration, opal-alpha 1.0)"
            " and plugin 'alpha' (opal-alpha 1.0, alpha.opal)\n"
            "  mend:  rename one, or leave one out with sub_apps.disabled",
            id="there already",
        ),
        pytest.param(
            3,
            '{"core": ["alpha.models"]}',
            "the name 'core' belongs to the built-in sub-app\n"
            "  where: sub-app 'core' (sub_apps.modules in the configuration, opal-alpha 1.0)\n"
            "  mend:  give the sub-app another name",
            id="core",
        ),
    ],
)
def test_a_mistake_in_the_list_of_modules_is_named(quick_site: Site, code: int, modules: str, expected: str) -> None:
    quick_site.sub_app("alpha", "x = 1", distribution="opal-alpha")
    assert complaint(quick_site, code=code, OPAL_SUB_APPS__MODULES=modules) == expected


def test_packages_of_models_are_walked_in_order(quick_site: Site) -> None:
    tables = {f"alpha/models/{path}.py": models(model("M", path.replace("/", "_"))) for path in ("b", "a", "sub/c")}
    others = {"alpha/models/sub/__init__.py": "", "alpha/models/__init__.py": "", "alpha/models/__main__.py": "1 / 0"}
    quick_site.sub_app("alpha", "x = 1", files=tables | others | {"alpha/models.py": ""})
    assert owners(quick_site)["alpha"] == ["a", "b", "sub_c"]


def test_the_revisions_of_a_sub_app_are_no_models(quick_site: Site) -> None:
    files = {
        "alpha/__init__.py": f"{HOOK}    yield SubApp(name='alpha', models=('alpha',), migrations='alpha:migrations')",
        "alpha/tables.py": models(model("A", "alphas")),
        "alpha/migrations/__init__.py": "",
        "alpha/migrations/env.py": "raise RuntimeError('only for Alembic')",
    }
    quick_site.install("alpha", files=files, entry_points={GROUP: {"alpha": "alpha"}})
    assert owners(quick_site)["alpha"] == ["alphas"]


def test_a_module_of_models_that_fails_is_named(quick_site: Site) -> None:
    quick_site.sub_app("alpha", "x = 1", files={"alpha/models.py": "", "alpha/models/__init__.py": ""})
    (quick_site.folder / "alpha" / "models" / "late.py").write_text("import numpie")
    assert complaint(quick_site) == (
        "importing alpha.models.late failed: it needs the module 'numpie', which is not installed\n"
        "  where: plugin 'alpha' (alpha 1.0, alpha.opal), alpha/models/late.py:1\n"
        "  mend:  install it, or the extra of the distribution that brings it"
    )


def test_a_model_that_sqlalchemy_refuses_is_shown_where_it_stands(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models("class A(Base):\n    __tablename__ = 'alphas'\n    name: orm.Mapped[str]"))
    assert complaint(quick_site) == (
        "importing alpha.models failed: ArgumentError: "
        "Mapper Mapper[A(alphas)] could not assemble any primary key columns for mapped table 'alphas'\n"
        "  where: plugin 'alpha' (alpha 1.0, alpha.opal), alpha/models.py:4\n"
        "  mend:  mend the plugin, or leave it out with sub_apps.disabled"
    )
