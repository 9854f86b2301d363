"""A history that cannot be read: whom it stops, and whom it does not."""

from typing import Any

import pytest

from tests.deploys import Env, ran, tables
from tests.distributions import Site
from tests.revisions import release, revision
from tests.writing import model, models, refers

CREATE = "op.create_table('{0}', sa.Column('id', sa.Integer(), nullable=False), sa.PrimaryKeyConstraint('id'))"
BROKEN = {
    "a syntax error": ("def (", "cannot be read: invalid syntax"),
    "a missing parent": (revision("t1", "t0"), "tags@t1 follows the revision 't0', which is not there"),
    "no base": (revision("t1", "t1"), "tags@t1 follows itself"),
}


def make(site: Site, name: str, *texts: str, others: str = "", **record: Any) -> None:
    """Install a sub-app that comes from its migrations; the first revision makes its table."""
    first = revision(f"{name}1", None, CREATE.format(name), f"op.drop_table('{name}')")
    release(
        site,
        name,
        "1.0",
        models(model(name.title(), name), others),
        *(texts or (first,)),
        create="migrations",
        **record,
    )


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


@pytest.fixture
def lenient(env: Env) -> Env:
    """The same where faults are quarantined."""
    return env | {"OPAL_SUB_APPS__ON_ERROR": "quarantine"}


@pytest.fixture
def site(quick_site: Site) -> Site:
    """Where bee is, and tags, whose history is broken, and cards, which need them."""
    make(quick_site, "bee")
    make(quick_site, "tags", BROKEN["a syntax error"][0])
    quick_site.sub_app("cards", models(model("Card", "cards", refers("tag", "'tags.id'"))), requires=("tags",))
    return quick_site


@pytest.mark.parametrize("broken", BROKEN)
def test_it_is_quarantined_with_those_that_need_it(
    site: Site, lenient: Env, any_database_url: str, broken: str
) -> None:
    text, said = BROKEN[broken]
    make(site, "tags", text)
    done = site.run("upgrade", "--json", env=lenient)
    assert ran(done) == ["bee@bee1"]
    assert tables(any_database_url) == {"users", "bee"}
    found = {out["name"]: out["problems"][0]["what"] for out in done.json["quarantined"]}
    assert said in found["tags"]
    assert found["cards"] == "sub-app 'cards' needs 'tags', which is left out"
    assert site.run("plan", env=lenient).code == 0
    assert site.run("ready", env=lenient).code == 0, site.run("ready", env=lenient)
    assert site.run("init", env=lenient).code == 0
    assert "tags: not judged, because it is quarantined" in site.run("lint", env=lenient).err


def test_a_folder_that_is_not_there_is_one_of_them(site: Site, lenient: Env) -> None:
    make(site, "tags", migrations="tags:nowhere")
    assert ran(site.run("upgrade", "--json", env=lenient)) == ["bee@bee1"]


def test_a_pin_to_a_revision_that_is_gone_is_one_of_them(site: Site, lenient: Env, any_database_url: str) -> None:
    make(
        site, "tags", revision("t1", None, CREATE.format("tags"), opal_depends_on={"bee": ["bee0"]}), requires=("bee",)
    )
    planned = site.run("plan", "--json", env=lenient).json
    assert [each["revision"] for each in planned["steps"]] == ["bee1"]
    assert [each["name"] for each in planned["quarantined"]] == ["tags", "cards"]
    done = site.run("upgrade", "--json", env=lenient)
    assert ran(done) == ["bee@bee1"]
    (first, *_) = done.json["quarantined"]
    assert "tags@t1 needs bee@bee0, which neither the database nor the installed bee" in first["problems"][0]["what"]
    assert tables(any_database_url) == {"users", "bee"}
    assert site.run("upgrade", env=lenient | {"OPAL_SUB_APPS__ON_ERROR": "raise"}).code == 3


def test_once_it_is_mended_the_rest_comes(site: Site, lenient: Env, any_database_url: str) -> None:
    assert ran(site.run("upgrade", "--json", env=lenient)) == ["bee@bee1"]
    make(site, "tags")
    assert ran(site.run("upgrade", "--json", env=lenient)) == ["tags@tags1"]
    assert tables(any_database_url) == {"users", "bee", "tags", "cards"}


def test_it_is_named_to_whoever_asks_for_it(site: Site, lenient: Env) -> None:
    for arguments in (("upgrade", "tags"), ("upgrade", "cards"), ("stamp", "tags"), ("history", "tags")):
        done = site.run(*arguments, env=lenient)
        assert (done.code, done.out) == (3, ""), arguments
        assert "tags" in done.err


def test_otherwise_it_stops_everything_but_those_that_do_without(site: Site, env: Env, any_database_url: str) -> None:
    for arguments in (("upgrade",), ("plan",), ("init",), ("lint",), ("upgrade", "cards"), ("upgrade", "tags")):
        done = site.run(*arguments, env=env)
        assert (done.code, done.out) == (3, ""), arguments
        assert "cannot be read: invalid syntax" in done.err
    assert site.run("plan", "bee", env=env).code == 1
    assert ran(site.run("upgrade", "bee", "--json", env=env)) == ["bee@bee1"]
    assert tables(any_database_url) == {"bee"}
    assert site.run("lint", "bee", env=env).code == 0
    assert "bee1" in site.run("history", "bee", env=env).out


def test_reports_name_it_beside_the_others(site: Site, env: Env) -> None:
    assert site.run("upgrade", "bee", env=env).code == 0
    status = site.run("status", "--json", env=env)
    found = {each["name"]: each["state"] for each in status.json["sub_apps"]}
    assert (status.code, found["bee"], found["tags"]) == (1, "ready", "quarantined")
    current = site.run("current", "--json", env=env)
    states = {each["name"]: each["state"] for each in current.json["current"]}
    assert (current.code, states["bee"], states["tags"]) == (1, "current", "quarantined")
    heads = site.run("heads", "--json", env=env)
    assert (heads.code, [each["name"] for each in heads.json["heads"]]) == (1, ["bee", "core"])
    assert [each["name"] for each in heads.json["quarantined"]] == ["tags", "cards"]
    ready = site.run("ready", env=env)
    assert ready.code == 1
    assert "the history of tags is at fault: a revision of 'tags' cannot be read" in ready.out
