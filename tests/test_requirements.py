"""Names and versions that sub-apps require of each other."""

import pytest

from tests.distributions import GROUP, Site
from tests.writing import HOOK, complaint, model, models, owners, quarantined, refers


@pytest.mark.parametrize(
    ("version", "requirement"),
    [
        ("1.0", "alpha"),
        ("1.0", "alpha>=1,<2"),
        ("1.0", "alpha==1.*"),
        ("2.0", "alpha~=2.0"),
        ("2.0rc1", "alpha"),
        ("2.0rc1", "alpha>=1.0"),
        ("2.0.dev3+local.1", "alpha>=1.5"),
    ],
)
def test_a_requirement_is_met(quick_site: Site, version: str, requirement: str) -> None:
    quick_site.sub_app("alpha", version=version)
    quick_site.sub_app("beta", requires=(requirement,))
    assert list(owners(quick_site)) == ["alpha", "beta", "core"]


@pytest.mark.parametrize(
    ("version", "requirement"),
    [("1.0", "alpha>=2"), ("2.0rc1", "alpha>=2.0"), ("3.0", "alpha<3"), ("1.0", "alpha!=1.0")],
)
def test_a_version_that_does_not_fit_is_named(quick_site: Site, version: str, requirement: str) -> None:
    quick_site.sub_app("alpha", version=version, distribution="opal-alpha")
    quick_site.sub_app("beta", requires=(requirement,), version="0.9")
    assert complaint(quick_site) == (
        f"sub-app 'beta' (beta 0.9) requires '{requirement}', but opal-alpha {version} is installed\n"
        "  where: plugin 'beta' (beta 0.9, beta.opal)\n"
        "  mend:  install a release of opal-alpha that fits, or another one of the distribution that asks for it"
    )


def test_a_sub_app_that_is_not_installed_is_named(quick_site: Site) -> None:
    quick_site.sub_app("beta", requires=("ghost>=1",))
    assert complaint(quick_site) == (
        "sub-app 'beta' (beta 1.0) requires 'ghost>=1', which is not installed here\n"
        "  where: plugin 'beta' (beta 1.0, beta.opal)\n"
        "  mend:  install the distribution that brings 'ghost'"
    )


def test_a_slip_in_a_requirement_is_recognised(quick_site: Site) -> None:
    quick_site.sub_app("standupbot")
    quick_site.sub_app("beta", requires=("standup_bot",))
    assert complaint(quick_site).endswith("write 'standupbot', or install the distribution that brings 'standup_bot'")


def test_a_disabled_sub_app_that_is_required_is_named(quick_site: Site) -> None:
    quick_site.sub_app("alpha")
    quick_site.sub_app("beta", requires=("alpha",))
    assert complaint(quick_site, OPAL_SUB_APPS__DISABLED='["alpha"]') == (
        "sub-app 'beta' (beta 1.0) requires 'alpha', which is disabled\n"
        "  where: plugin 'beta' (beta 1.0, beta.opal)\n"
        "  mend:  take 'alpha' out of sub_apps.disabled, or disable this one too"
    )


def test_an_application_without_a_distribution_has_no_version_to_require(quick_site: Site) -> None:
    (quick_site.folder / "legacy.py").write_text("")
    quick_site.sub_app("beta", requires=("legacy>=1",))
    assert complaint(quick_site, OPAL_SUB_APPS__MODULES='{"legacy": ["legacy"]}') == (
        "sub-app 'beta' (beta 1.0) requires 'legacy>=1', but the version of 'legacy' is not known\n"
        "  where: plugin 'beta' (beta 1.0, beta.opal)\n"
        "  mend:  require it without a version"
    )


def test_all_first_hand_faults_are_told_at_once_and_nothing_else(quick_site: Site) -> None:
    quick_site.install("broken", files={"broken.py": "1 / 0"}, entry_points={GROUP: {"broken": "broken"}})
    quick_site.sub_app("follows", models(model("F", "fs", refers("b", "'brokens.id'"))), requires=("broken>=1",))
    quick_site.sub_app("old", requires=("core>=9", "ghost"))
    quick_site.sub_app("older", requires=("old",))
    quick_site.sub_app("ring_a", requires=("ring_b",))
    quick_site.sub_app("ring_b", requires=("ring_a",))
    quick_site.sub_app("one", models(model("One", "things")))
    quick_site.sub_app("two", models(model("Two", "things")))
    assert [line for line in complaint(quick_site, "init").split("\n") if not line.startswith("  ")] == [
        "importing broken failed: ZeroDivisionError: division by zero",
        "error: sub-app 'old' (old 1.0) requires 'core>=9', but opal-registry 1.0.0 is installed",
        "error: sub-app 'old' (old 1.0) requires 'ghost', which is not installed here",
        "error: the sub-apps need each other in a circle: ring_a -> ring_b -> ring_a",
        "error: the table 'things' has two owners: sub-app 'one' (one 1.0) and sub-app 'two' (two 1.0)",
    ]
    assert not list(quick_site.cwd.iterdir())


def test_quarantine_lists_who_is_out_and_why_and_creates_the_others(quick_site: Site) -> None:
    quick_site.install("broken", files={"broken.py": "1 / 0"}, entry_points={GROUP: {"broken": "broken"}})
    quick_site.sub_app("follows", models(model("F", "follows")), requires=("broken>=1",))
    quick_site.sub_app("last", models(model("L", "lasts")), requires=("follows", "ghost"))
    quick_site.sub_app("good", models(model("G", "goods")))
    assert quarantined(quick_site, "init") == {
        "broken": ["importing broken failed: ZeroDivisionError: division by zero"],
        "follows": ["sub-app 'follows' (follows 1.0) requires 'broken>=1', which is left out"],
        "last": [
            "sub-app 'last' (last 1.0) requires 'follows', which is left out",
            "sub-app 'last' (last 1.0) requires 'ghost', which is not installed here",
        ],
    }
    status = quick_site.run("status", "--json", env={"OPAL_SUB_APPS__ON_ERROR": "quarantine"})
    states = {app["name"]: (app["version"], app["state"]) for app in status.json["sub_apps"]}
    assert status.code == 1
    assert states == {
        "core": ("1.0.0", "ready"),
        "good": ("1.0", "ready"),
        "broken": ("1.0", "quarantined"),
        "follows": ("1.0", "quarantined"),
        "last": ("1.0", "quarantined"),
    }


def test_two_sub_apps_of_one_name_are_named(quick_site: Site) -> None:
    quick_site.sub_app("alpha", distribution="opal-alpha")
    other = {"other.py": f"{HOOK}    yield SubApp(name='alpha')"}
    quick_site.install("other", version="2.0", files=other, entry_points={GROUP: {"other": "other"}})
    quick_site.sub_app("beta", requires=("alpha",))
    assert complaint(quick_site) == (
        "two sub-apps are called 'alpha'\n"
        "  where: plugin 'alpha' (opal-alpha 1.0, alpha.opal) and plugin 'other' (other 2.0, other)\n"
        "  mend:  rename one, or leave one out with sub_apps.disabled"
    )
    assert list(quarantined(quick_site)) == ["alpha", "beta"]
    assert list(owners(quick_site, OPAL_SUB_APPS__DISABLED='["other"]')) == ["alpha", "beta", "core"]


def test_one_plugin_that_brings_two_of_one_name_is_named_once(quick_site: Site) -> None:
    twice = {"b.py": f"{HOOK}    yield SubApp(name='beta')\n    yield SubApp(name='beta')"}
    quick_site.install("opal-b", files=twice, entry_points={GROUP: {"b": "b"}})
    assert complaint(quick_site) == (
        "two sub-apps are called 'beta'\n  where: plugin 'b' (opal-b 1.0, b)\n  mend:  rename one of them"
    )


@pytest.mark.parametrize("name", ["core", "b"])
def test_nobody_else_may_be_core(quick_site: Site, name: str) -> None:
    source = {"b.py": f"{HOOK}    yield SubApp(name='core', models=('b_models',))", "b_models.py": "1 / 0"}
    quick_site.install("opal-b", files=source, entry_points={GROUP: {name: "b"}})
    assert complaint(quick_site) == (
        "the name 'core' belongs to the built-in sub-app\n"
        f"  where: plugin '{name}' (opal-b 1.0, b)\n"
        "  mend:  give the sub-app another name"
    )
    assert owners(quick_site, OPAL_SUB_APPS__ON_ERROR="quarantine") == {"core": ["users"]}


def test_a_sub_app_may_require_itself(quick_site: Site) -> None:
    quick_site.sub_app("alpha", requires=("alpha>=1",))
    assert list(owners(quick_site)) == ["alpha", "core"]
