"""A revision that stands for others: fresh databases run it, old ones cross to it, those in between go the old way first."""

import pytest

from tests.deploys import columns, ran, rows, states
from tests.distributions import Site
from tests.revisions import release, revision
from tests.test_upgrade import ADD, CREATE, FIRST, N1, N2, SECOND

Env = dict[str, str | None]
BASELINE = revision(
    "n0",
    None,
    f"{CREATE}\n{ADD}",
    "op.drop_table('notes')",
    opal_replaces=("n1", "n2"),
    opal_depends_on={"core": ["core0003"]},
)
N3 = revision("n3", "n2", "op.add_column('notes', sa.Column('more', sa.Integer()))", "pass")


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


def heads(url: str) -> list[str]:
    return [head for (head,) in rows(url, "SELECT version_num FROM opal_revision_notes")]


def applied(url: str) -> list[str]:
    return [id_ for (id_,) in rows(url, "SELECT revision FROM opal_revisions WHERE sub_app = 'notes' ORDER BY 1")]


def squashed(site: Site, *revisions: str) -> None:
    release(site, "notes", "3.0", SECOND, *revisions, create="migrations")


def test_a_fresh_database_runs_the_one_and_knows_the_others(quick_site: Site, env: Env, any_database_url: str) -> None:
    squashed(quick_site, BASELINE)
    assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n0"]
    assert columns(any_database_url, "notes") == {"id", "user_id", "text"}
    assert applied(any_database_url) == ["n0", "n1", "n2"]


def test_an_old_database_crosses_when_it_goes_on(quick_site: Site, env: Env, any_database_url: str) -> None:
    release(quick_site, "notes", "2.0", SECOND, N1, N2, create="migrations")
    quick_site.run("upgrade", env=env)
    before = quick_site.run("history", "notes", "--json", env=env).json["revisions"]
    squashed(quick_site, BASELINE)
    assert ran(quick_site.run("upgrade", "--json", env=env)) == []
    assert states(quick_site, env)["notes"] == "current"
    (line, *_) = quick_site.run("history", "notes", "--json", env=env).json["revisions"]
    assert (line["applied"], line["changed"]) == (True, False)
    assert line["applied_at"] == max(each["applied_at"] for each in before)
    squashed(quick_site, BASELINE, N3)
    assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n3"]
    assert heads(any_database_url) == ["n3"]
    assert applied(any_database_url) == ["n0", "n1", "n2", "n3"]


def test_one_in_between_goes_the_old_way_first(quick_site: Site, env: Env, any_database_url: str) -> None:
    release(quick_site, "notes", "1.0", FIRST, N1, create="migrations")
    quick_site.run("upgrade", env=env)
    squashed(quick_site, BASELINE, N1, N2, N3)
    assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n2", "notes@n3"]
    assert heads(any_database_url) == ["n3"]


def test_one_in_between_whose_way_is_gone_is_told(quick_site: Site, env: Env, any_database_url: str) -> None:
    release(quick_site, "notes", "1.0", FIRST, N1, create="migrations")
    quick_site.run("upgrade", env=env)
    squashed(quick_site, BASELINE, N3)
    done = quick_site.run("upgrade", env=env)
    assert done.code == 3
    assert "the database is in the midst of what notes@n0 stands for: it lacks n2" in done.err
    assert "upgrade it with a release of 'notes' that still has them, and then with this one" in done.err
    assert heads(any_database_url) == ["n1"]


def test_pins_to_what_it_stands_for_are_met(quick_site: Site, env: Env) -> None:
    squashed(quick_site, BASELINE)
    pinning = revision("t1", None, opal_depends_on={"notes": ["n2"]})
    release(quick_site, "tags", "1.0", "", pinning, create="migrations", requires=("notes",))
    assert ran(quick_site.run("upgrade", "--json", env=env)) == ["notes@n0", "tags@t1"]


def test_an_image_that_still_has_the_old_history_goes_on(quick_site: Site, env: Env) -> None:
    squashed(quick_site, BASELINE)
    quick_site.run("upgrade", env=env)
    release(quick_site, "notes", "2.0", SECOND, N1, N2, create="migrations")
    assert states(quick_site, env)["notes"] == "ahead"
    assert quick_site.run("ready", env=env).code == 0
    assert ran(quick_site.run("upgrade", "--json", env=env)) == []


def test_going_back_to_the_one(quick_site: Site, env: Env, any_database_url: str) -> None:
    release(quick_site, "notes", "2.0", SECOND, N1, N2, create="migrations")
    quick_site.run("upgrade", env=env)
    squashed(quick_site, BASELINE, revision("n3", "n0", "pass"))
    quick_site.run("upgrade", env=env)
    assert quick_site.run("downgrade", "notes@n0", env=env).code == 0
    assert heads(any_database_url) == ["n0"]
    assert quick_site.run("downgrade", "notes@base", env=env).code == 0
    assert heads(any_database_url) == []
