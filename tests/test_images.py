"""Many images, one database: each sees the others in the ledger, and leaves them alone."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.store.locks import hold_lock
from tests.databases import engine_of
from tests.distributions import Finished, Site
from tests.writing import model, models, refers
from tests.zygote import QuickSite, Zygote

Env = dict[str, str | None]
Rows = dict[str, dict[str, Any]]

STANDUP = [model(f"Part{number}", f"standup_part{number}") for number in range(4)]
STANDUP_1_4 = models(*STANDUP, model("Team", "standup_teams", refers("lead", "'users.id'")))
STANDUP_1_5 = models(STANDUP_1_4, model("Mood", "standup_moods"))
SHOP = models(model("Order", "orders", refers("buyer", "'users.id'")))
CALM = models(model("Event", "calm_events"))


def init(site: Site, env: Env, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = site.run("init", "--json", *arguments, env=env)
    assert done.code == code, done
    document: dict[str, Any] = done.json
    return document


def created(document: dict[str, Any]) -> dict[str, list[str]]:
    return {app["name"]: app["created"] for app in document["sub_apps"]}


def states(done: Finished) -> dict[str, tuple[str, str]]:
    return {app["name"]: (app["state"], app["detail"]) for app in done.json["sub_apps"]}


def read(url: str, statement: str) -> list[Any]:
    engine = engine_of(url)
    with engine.connect() as connection:
        found = [dict(row) for row in connection.execute(sa.text(statement)).mappings()]
    engine.dispose()
    return found


def ledger(url: str) -> Rows:
    """The rows of the ledger, without the images that each is complete for."""
    return {row["name"]: row | {"sources": None} for row in read(url, "SELECT * FROM opal_sub_apps")}


def tables(url: str) -> set[str]:
    engine = engine_of(url)
    found = set(sa.inspect(engine).get_table_names())
    engine.dispose()
    return found


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database, the same in every image."""
    return {"OPAL_DATABASE__URL": any_database_url}


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """A SQLite file, for what is the same on every database."""
    return f"sqlite:///{tmp_path / 'opal.db'}"


@pytest.fixture
def image(tmp_path: Path, core_python: Path, zygote: Zygote) -> Callable[[str], Site]:
    """Makes an image: a place of its own to install distributions into."""

    def make(name: str) -> Site:
        folder, cwd = tmp_path / name / "site-packages", tmp_path / name / "work"
        folder.mkdir(parents=True)
        cwd.mkdir()
        return QuickSite(folder, cwd, core_python, zygote=zygote)

    return make


Images = tuple[Site, Site]


@pytest.fixture
def images(image: Callable[[str], Site]) -> Images:
    """Two images, one with StandupBot 1.4 and one with a shop."""
    standup, shop = image("standup"), image("shop")
    standup.sub_app("standupbot", STANDUP_1_4, version="1.4", requires=("core",))
    shop.sub_app("shop", SHOP, version="2.0", distribution="opal-shop", requires=("core",))
    return standup, shop


class TestDifferentSubApps:
    def test_each_says_what_the_other_brought_and_drops_nothing(
        self, images: Images, env: Env, any_database_url: str
    ) -> None:
        standup, shop = images
        first = init(standup, env)
        before = ledger(any_database_url)
        second = init(shop, env)

        assert created(first)["core"] == ["users"]
        assert created(second) == {"core": [], "shop": ["orders"]}
        assert {name: row for name, row in ledger(any_database_url).items() if name != "shop"} == before
        assert len(tables(any_database_url)) == 3 + 1 + 5 + 3
        assert states(shop.run("status", "--json", env=env)) == {
            "core": ("ready", ""),
            "shop": ("ready", ""),
            "standupbot": ("not installed here", "standupbot 1.4, 5 tables"),
        }
        assert states(standup.run("status", "--json", env=env))["shop"] == (
            "not installed here",
            "opal-shop 2.0, 1 table",
        )
        assert "not installed here: standupbot: standupbot 1.4, 5 tables" in shop.run("apps", "list", env=env).out
        [absent] = shop.run("apps", "list", "--json", env=env).json["not_installed_here"]
        assert (absent["name"], absent["state"], absent["tables"]) == ("standupbot", "not installed here", 5)

    def test_in_turn_they_find_nothing_to_do_and_leave_each_others_rows_alone(
        self, images: Images, env: Env, any_database_url: str
    ) -> None:
        for site in images:
            init(site, env)
        before = ledger(any_database_url)
        for site in (*images, *images):
            document = init(site, env)
            assert document["recorded"] is True
            assert "nothing to do: " in site.run("init", env=env).out
        for site in images:
            assert init(site, env, "--verify")["recorded"] is False
        assert ledger(any_database_url) == before
        assert len(read(any_database_url, "SELECT id FROM opal_events")) == 2

    def test_a_third_one_changes_nothing_for_them(
        self, images: Images, image: Callable[[str], Site], env: Env, any_database_url: str
    ) -> None:
        for site in images:
            init(site, env)
        before = ledger(any_database_url)
        third = image("calmind")
        third.sub_app("calmind", CALM)
        assert created(init(third, env)) == {"calmind": ["calm_events"], "core": []}
        assert [init(site, env)["recorded"] for site in (*images, third)] == [True, True, True]
        assert {name: row for name, row in ledger(any_database_url).items() if name != "calmind"} == before
        absent = {name: found for name, found in states(third.run("status", "--json", env=env)).items() if found[1]}
        assert absent == {
            "shop": ("not installed here", "opal-shop 2.0, 1 table"),
            "standupbot": ("not installed here", "standupbot 1.4, 5 tables"),
        }

    def test_a_table_that_another_image_brought_is_not_taken(self, images: Images, file_url: str) -> None:
        standup, shop = images
        env: Env = {"OPAL_DATABASE__URL": file_url}
        init(standup, env)
        shop.sub_app("rival", models(model("Team", "standup_teams")))
        before = ledger(file_url)
        done = shop.run("init", env=env)
        assert done.code == 3
        assert done.err == (
            "error: the table 'standup_teams' has two owners: sub-app 'standupbot' (standupbot 1.4), which the ledger knows "
            "from another image, and sub-app 'rival' (rival 1.0)\n"
            f"  where: sqlite {file_url.removeprefix('sqlite:///')}\n"
            "  mend:  rename one of them, or use a database that the other never used\n"
        )
        assert ledger(file_url) == before


class TestDifferentVersions:
    @pytest.fixture
    def versions(self, image: Callable[[str], Site]) -> Images:
        """Two images with StandupBot 1.4, and 1.5, which has one table more."""
        old, new = image("old"), image("new")
        old.sub_app("standupbot", STANDUP_1_4, version="1.4")
        new.sub_app("standupbot", STANDUP_1_5, version="1.5")
        return old, new

    def test_the_newer_one_adds_its_table_and_both_are_warm(
        self, versions: Images, env: Env, any_database_url: str
    ) -> None:
        old, new = versions
        init(old, env)
        assert created(init(new, env)) == {"core": [], "standupbot": ["standup_moods"]}
        before = ledger(any_database_url)
        assert before["standupbot"]["version"] == "1.5"
        document = init(old, env)
        assert (document["recorded"], created(document)) == (False, {"core": [], "standupbot": []})
        for site in (new, old, new, old):
            assert init(site, env)["recorded"] is True
        assert ledger(any_database_url) == before
        assert states(old.run("status", "--json", env=env))["standupbot"] == (
            "ahead",
            "the database was written by 1.5",
        )
        assert states(new.run("status", "--json", env=env))["standupbot"] == ("ready", "")

    def test_the_older_one_never_overwrites_the_newer_one(
        self, versions: Images, env: Env, any_database_url: str
    ) -> None:
        old, new = versions
        init(new, env)
        before = ledger(any_database_url)
        assert created(init(old, env)) == {"core": [], "standupbot": []}
        assert [init(site, env)["recorded"] for site in (old, new, old)] == [True, True, True]
        assert ledger(any_database_url) == before

    def test_a_column_that_only_the_newer_one_knows(self, image: Callable[[str], Site], env: Env) -> None:
        old, new = image("old"), image("new")
        old.sub_app("shop", models(model("Order", "orders")), version="1.4")
        new.sub_app("shop", models(model("Order", "orders", "note: orm.Mapped[int | None]")), version="1.5")
        init(new, env)
        [difference] = init(old, env)["sub_apps"][1]["differences"]
        assert (difference["column"], difference["harmful"]) == ("note", False)
        assert [init(site, env)["recorded"] for site in (old, new)] == [True, True]

    def test_a_column_that_is_not_there_yet_is_a_finding_every_time(
        self, image: Callable[[str], Site], env: Env
    ) -> None:
        old, new = image("old"), image("new")
        old.sub_app("shop", models(model("Order", "orders")), version="1.4")
        new.sub_app("shop", models(model("Order", "orders", "note: orm.Mapped[int | None]")), version="1.5")
        init(old, env)
        for _ in range(2):
            document = init(new, env, code=1)
            [difference] = document["sub_apps"][1]["differences"]
            assert (document["recorded"], difference["column"], difference["harmful"]) == (False, "note", True)
        assert states(new.run("status", "--json", env=env))["shop"][0] == "differs"


class TestDifferentWords:
    """One version of a sub-app whose definitions two images put in different words, as releases of SQLAlchemy do."""

    @pytest.fixture
    def twins(self, image: Callable[[str], Site]) -> Images:
        """Two images with one shop; a default is quoted in the one and not in the other."""
        one, other = image("one"), image("other")
        for site, default in ((one, "'7'"), (other, "sa.text('7')")):
            column = f"size: orm.Mapped[int] = orm.mapped_column(server_default={default})"
            site.sub_app("shop", models(model("Order", "orders", column)), version="1.4")
        return one, other

    def test_both_are_warm_and_nobody_writes_over_the_other(
        self, twins: Images, env: Env, any_database_url: str
    ) -> None:
        one, other = twins
        assert init(one, env)["recorded"] is False
        before = ledger(any_database_url)
        document = init(other, env)
        assert (document["recorded"], created(document)) == (False, {"core": [], "shop": []})
        assert [init(site, env)["recorded"] for site in (one, other, one, other)] == [True] * 4
        assert [init(site, env, "--verify")["recorded"] for site in (other, one)] == [False] * 2
        assert [init(site, env)["recorded"] for site in (one, other)] == [True] * 2
        assert ledger(any_database_url) == before
        assert len(read(any_database_url, "SELECT id FROM opal_events")) == 1

    def test_a_later_version_with_other_definitions_has_both_look_again(
        self, twins: Images, env: Env, any_database_url: str
    ) -> None:
        one, other = twins
        for site in twins:
            init(site, env)
        other.sub_app("shop", models(model("Order", "orders", "size: orm.Mapped[int]")), version="1.5")
        assert init(other, env)["recorded"] is False
        assert ledger(any_database_url)["shop"]["version"] == "1.5"
        assert [init(site, env)["recorded"] for site in (one, one, other)] == [False, True, True]


SIDES = ["north", "south"]


def test_two_images_that_want_one_table_at_the_same_moment(site: Site, database_url: str) -> None:
    """Both have looked before either has the lock: it is judged again under it."""
    site.sub_app("north", models(model("A", "shared_things")))
    site.sub_app("south", models(model("B", "shared_things", "y: orm.Mapped[str]")))
    images = [{"OPAL_DATABASE__URL": database_url, "OPAL_SUB_APPS__ENABLED": f"core,{name}"} for name in SIDES]
    engine = engine_of(database_url)
    with ExitStack() as lock:
        lock.enter_context(hold_lock(engine, wait=1, where=""))
        runs = [site.start(*site.command("init"), env=image) for image in images]
        for run in runs:
            assert run.stderr is not None
            assert run.stderr.readline().startswith("waiting for another run of opal-db")
    said = [run.communicate(timeout=60)[1] for run in runs]
    engine.dispose()

    assert sorted(run.returncode for run in runs) == [0, 3]
    [loser] = [side for side, run in zip(SIDES, runs, strict=True) if run.returncode == 3]
    assert f"the table 'shared_things' has two owners: sub-app '{SIDES[loser == SIDES[0]]}'" in "".join(said)
    again = [site.run("init", env=image).code for image in images]
    assert again == [run.returncode for run in runs]
