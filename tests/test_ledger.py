"""The ledger: what the database knows about its sub-apps, also about those that this image lacks."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry.store.ledger import Entry, as_kept, make_fingerprint, needs_writing
from opal_registry.store.tables import sub_apps as table
from tests.databases import engine_of
from tests.distributions import Site

MODELS = """
    import sqlalchemy as sa
    from opal_registry import Base
    from sqlalchemy.orm import Mapped, mapped_column

    class Ticket(Base):
        __tablename__ = "tickets"
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
"""
SEED = """
    @hookimpl
    def opal_seed(session, sub_app):
        print("seeding", sub_app.name)
"""


def entry(**changes: Any) -> Entry:
    facts: dict[str, Any] = {
        "name": "shop",
        "distribution": "opal-shop",
        "version": "1.0",
        "bind": "default",
        "schema": None,
        "fingerprint": "f",
        "tables": ("tickets",),
        "foreign_columns": (),
        "seeded": "1.0",
    }
    return Entry(**(facts | changes))


def rows(url: str) -> dict[str, dict[str, Any]]:
    engine = engine_of(url)
    with engine.connect() as connection:
        found = connection.execute(sa.select(table)).mappings().all()
    engine.dispose()
    return {row["name"]: dict(row) for row in found}


def without_sources(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: row | {"sources": None} for name, row in found.items()}


def execute(url: str, statement: sa.Executable) -> None:
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.execute(statement)
    engine.dispose()


@pytest.fixture
def env(any_database_url: str) -> dict[str, str | None]:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """A SQLite file, for what is the same on every database."""
    return f"sqlite:///{tmp_path / 'opal.db'}"


@pytest.fixture
def file_env(file_url: str) -> dict[str, str | None]:
    """The variables that configure it."""
    return {"OPAL_DATABASE__URL": file_url}


@pytest.mark.parametrize(
    ("change", "written"),
    [
        ({}, False),
        ({"version": "1.1"}, True),
        ({"version": "0.9"}, False),
        ({"version": "0.9", "fingerprint": "g"}, False),
        ({"fingerprint": "g"}, False),
        ({"version": "1.1", "fingerprint": "g"}, True),
        ({"tables": ("tickets", "notes")}, True),
        ({"distribution": "other-shop", "version": "0.1"}, True),
        ({"version": "not a version"}, True),
        ({"version": "1.0.0"}, True),
        ({"installed_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}, False),
    ],
    ids=str,
)
def test_only_news_are_written_and_never_over_what_a_later_release_wrote(change: dict[str, Any], written: bool) -> None:
    assert needs_writing(entry(**change), entry()) is written


def test_a_sub_app_that_is_not_there_yet_is_news() -> None:
    assert needs_writing(entry(), None)


def test_a_fingerprint_is_of_the_statements_whatever_their_order() -> None:
    assert make_fingerprint(["a", "b"]) == make_fingerprint(["b", "a"]) != make_fingerprint(["a"])


def test_init_writes_a_row_for_each_sub_app(
    quick_site: Site, any_database_url: str, env: dict[str, str | None]
) -> None:
    quick_site.sub_app("shop", MODELS, version="1.4", distribution="opal-shop", requires=("core",))
    assert quick_site.run("init", env=env).code == 0

    found = rows(any_database_url)
    assert sorted(found) == ["core", "shop"]
    shop = found["shop"]
    assert (shop["distribution"], shop["version"], shop["bind"], shop["schema"]) == (
        "opal-shop",
        "1.4",
        "default",
        None,
    )
    assert (shop["tables"], shop["foreign_columns"], shop["seeded"]) == (["tickets"], ["users.id"], "1.4")
    assert (shop["min_reader"], shop["written_by"]) == (1, "opal-registry 1.0.0")
    assert len(shop["fingerprint"]) == 64
    assert shop["installed_at"] == shop["updated_at"]


def test_a_second_run_writes_nothing(quick_site: Site, any_database_url: str, env: dict[str, str | None]) -> None:
    quick_site.run("init", env=env)
    before = rows(any_database_url)
    assert quick_site.run("init", env=env).code == 0
    assert rows(any_database_url) == before


def test_what_one_image_installs_does_not_change_the_rows_of_another(
    quick_site: Site, file_url: str, file_env: dict[str, str | None]
) -> None:
    quick_site.run("init", env=file_env)
    before = rows(file_url)
    quick_site.sub_app(
        "shop", MODELS + '\n    sa.Sequence("shop_numbers", metadata=Base.metadata)\n', requires=("core",)
    )
    assert quick_site.run("init", env=file_env).code == 0
    after = rows(file_url)["core"]
    assert len(after["sources"]) == 2
    assert after | {"sources": None} == before["core"] | {"sources": None}


def test_a_new_version_is_recorded_and_seeds_again(
    quick_site: Site, file_url: str, file_env: dict[str, str | None]
) -> None:
    quick_site.sub_app("shop", MODELS, version="1.0", hooks=SEED)
    assert "seeding shop" in quick_site.run("init", env=file_env).err
    first = rows(file_url)["shop"]
    assert "seeding" not in quick_site.run("init", env=file_env).err
    quick_site.sub_app("shop", MODELS, version="1.1", hooks=SEED)
    assert "seeding shop" in quick_site.run("init", env=file_env).err
    second = rows(file_url)["shop"]
    assert (second["version"], second["seeded"], second["installed_at"]) == ("1.1", "1.1", first["installed_at"])
    assert second["updated_at"] > first["updated_at"]


def test_an_older_package_neither_writes_nor_seeds(
    quick_site: Site, file_url: str, file_env: dict[str, str | None]
) -> None:
    quick_site.sub_app("shop", MODELS, version="2.0", hooks=SEED)
    quick_site.run("init", env=file_env)
    before = rows(file_url)
    quick_site.sub_app("shop", MODELS, version="1.9", hooks=SEED)
    done = quick_site.run("init", env=file_env)
    assert (done.code, "seeding" in done.err) == (0, False)
    assert without_sources(rows(file_url)) == without_sources(before)
    [_, shop] = quick_site.run("status", "--json", env=file_env).json["sub_apps"]
    assert (shop["state"], shop["detail"]) == ("ahead", "the database was written by 2.0")


def test_a_sub_app_that_is_gone_is_not_installed_here(
    quick_site: Site, file_url: str, file_env: dict[str, str | None]
) -> None:
    quick_site.sub_app("shop", MODELS, version="1.4", distribution="opal-shop")
    quick_site.run("init", env=file_env)
    before = rows(file_url)
    quick_site.uninstall("opal-shop")
    done = quick_site.run("status", "--json", env=file_env)
    assert done.code == 0
    assert [(s["name"], s["state"], s["tables"]) for s in done.json["sub_apps"]] == [
        ("core", "ready", 1),
        ("shop", "not installed here", 1),
    ]
    assert done.json["sub_apps"][1]["detail"] == "opal-shop 1.4, 1 table"
    assert quick_site.run("init", env=file_env).code == 0
    assert rows(file_url)["shop"] == before["shop"]


def test_a_ledger_that_asks_for_a_later_release_is_refused(
    quick_site: Site, file_url: str, file_env: dict[str, str | None]
) -> None:
    quick_site.run("init", env=file_env)
    execute(file_url, sa.update(table).values(min_reader=2, written_by="opal-registry 3.0"))
    for command in ("init", "status"):
        done = quick_site.run(command, env=file_env)
        assert done.code == 4
        assert "the ledger was written by opal-registry 3.0, which this release does not understand" in done.err
        assert "mend:  install that release, or a later one" in done.err


def test_columns_that_a_later_release_added_do_no_harm(
    quick_site: Site, any_database_url: str, env: dict[str, str | None]
) -> None:
    quick_site.run("init", env=env)
    execute(any_database_url, sa.text("ALTER TABLE opal_sub_apps ADD COLUMN mood VARCHAR(10)"))
    quick_site.sub_app("shop", MODELS)
    assert quick_site.run("init", env=env).code == 0
    assert quick_site.run("status", env=env).code == 0


def test_a_table_of_that_name_that_is_no_ledger_is_reported(
    quick_site: Site, any_database_url: str, env: dict[str, str | None]
) -> None:
    execute(any_database_url, sa.text("CREATE TABLE opal_sub_apps (id INTEGER)"))
    done = quick_site.run("init", env=env)
    assert done.code == 4
    assert "opal_sub_apps" in done.err
    assert "Traceback" not in done.err


LONG = "1.0+" + "build" * 30


def test_a_version_that_is_too_long_for_the_ledger_stops_no_run(
    quick_site: Site, env: dict[str, str | None], any_database_url: str
) -> None:
    quick_site.sub_app("shop", MODELS, version=LONG, requires=("core",), hooks=SEED)
    assert "seeding shop" in quick_site.run("init", env=env).err
    [row] = [row for name, row in rows(any_database_url).items() if name == "shop"]
    assert (len(row["version"]), row["version"][:8], row["seeded"]) == (100, "1.0+buil", row["version"])
    assert quick_site.run("init", "--json", env=env).json["recorded"] is True
    done = quick_site.run("init", "--verify", env=env)
    assert (done.code, "seeding" in done.err) == (0, False), done
    assert rows(any_database_url)["shop"] == row
    assert quick_site.run("status", env=env).code == 0


def test_another_version_that_is_as_long_is_another_one(quick_site: Site, env: dict[str, str | None]) -> None:
    for version in (LONG, LONG + "2"):
        quick_site.sub_app("shop", MODELS, version=version, requires=("core",), hooks=SEED)
        assert "seeding shop" in quick_site.run("init", env=env).err


def test_a_distribution_may_have_a_long_name(
    quick_site: Site, env: dict[str, str | None], any_database_url: str
) -> None:
    quick_site.sub_app("shop", MODELS, distribution="shop-" + "x" * 215, requires=("core",))
    assert quick_site.run("init", env=env).code == 0
    assert len(rows(any_database_url)["shop"]["distribution"]) == 200
    assert quick_site.run("init", "--json", env=env).json["recorded"] is True
    assert quick_site.run("init", "--verify", "--json", env=env).code == 0


def test_a_later_version_is_later_however_long_it_is() -> None:
    assert entry(version=as_kept("1.1+" + "x" * 200, "version")).is_newer_than("opal-shop", "1.0+" + "x" * 200)
