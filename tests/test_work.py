"""What a database still needs, and what its ledger remembers: judged without touching anything."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import sqlalchemy as sa

from opal_registry import work
from opal_registry.discovery import Plugin
from opal_registry.schema.catalog import make_catalog
from opal_registry.store import ledger, tables
from opal_registry.store.journal import OpenStep
from opal_registry.store.ledger import MOST_SOURCES, Entry, Image, own_version
from opal_registry.sub_app import SubApp
from opal_registry.suite import LoadedSubApp
from opal_registry.survey import Survey
from opal_registry.withheld import Withholding
from opal_registry.work import MOST_TABLES, Work

UP_TO_DATE = {table.name: table.columns.keys() for table in tables.metadata.sorted_tables}
"""The columns of the registry's own tables, when nothing is lacking."""


def app(name: str, number: int = 1, *, refers_to: LoadedSubApp | None = None, **record: Any) -> LoadedSubApp:
    """A sub-app with some tables; the first one may refer to the first one of another."""
    metadata = refers_to.tables[0].metadata if refers_to else sa.MetaData()
    made = [sa.Table(f"{name}_{n}", metadata, sa.Column("id", sa.Integer, primary_key=True)) for n in range(number)]
    if refers_to:
        made[0].append_column(sa.Column("other", sa.ForeignKey(refers_to.tables[0].c.id)))
    plugin = Plugin(name, f"{name}.opal", f"opal-{name}", "1.0")
    return LoadedSubApp(SubApp(name=name, **record), plugin, tuple(made), (), 0.0)


def entry(of: LoadedSubApp, **changes: Any) -> Entry:
    """What the ledger says about a complete sub-app."""
    names = tuple(table.name for table in of.tables)
    made = Entry(of.name, of.distribution, of.version, "default", None, "f", names, (), of.version)
    return replace(made, written_by=f"opal-registry {own_version()}", **changes)


def work_of(
    *apps: LoadedSubApp,
    present: Sequence[LoadedSubApp] = (),
    entries: Sequence[Entry] = (),
    steps: Mapping[str, list[OpenStep]] | None = None,
    columns: Mapping[str, Any] = UP_TO_DATE,
    seeds: bool = False,
) -> Work:
    """The work in a database that holds the tables of some of the sub-apps."""
    missing = {one.name: [] if one in present else list(one.tables) for one in apps}
    there = {one.name: list(one.tables) if one in present else [] for one in apps}
    recorded = {found.name: found for found in entries}
    found = Survey(make_catalog("sqlite"), columns, recorded, steps or {}, missing, there)
    return Work(apps, found, {one.name: entry(one) for one in apps}, lambda _: seeds)


def created(found: Work) -> dict[str, list[str]]:
    return {name: [table.name for table in several] for name, several in found.to_create.items()}


class TestNeeds:
    shop = app("shop", 2)

    def test_what_is_there_and_recorded_needs_nothing(self) -> None:
        assert work_of(self.shop, present=[self.shop], entries=[entry(self.shop)]).is_done

    def test_missing_tables_do(self) -> None:
        found = work_of(self.shop, entries=[entry(self.shop)])
        assert (found.is_done, found.number_of_tables) == (False, 2)

    def test_what_is_there_and_not_recorded_does(self) -> None:
        assert not work_of(self.shop, present=[self.shop]).is_done

    def test_a_lacking_column_of_the_ledger_does(self) -> None:
        columns = UP_TO_DATE | {"opal_sub_apps": ["name"]}
        found = work_of(self.shop, present=[self.shop], entries=[entry(self.shop)], columns=columns)
        assert (found.is_done, found.needs(self.shop)) == (False, False)

    @pytest.mark.parametrize(
        ("recorded", "needed"), [({}, False), ({"seeded": "0.9"}, True), ({"version": "2.0", "seeded": "2.0"}, False)]
    )
    def test_first_rows_of_another_version_do_unless_it_is_a_later_one(
        self, recorded: dict[str, str], needed: bool
    ) -> None:
        entries = [entry(self.shop, **recorded)]
        found = work_of(self.shop, present=[self.shop], entries=entries, seeds=True)
        assert found.needs_seed(self.shop) is needed

    def test_what_a_run_had_begun_is_created_again_and_seeded(self) -> None:
        steps = {"shop": [OpenStep("shop", 1, "shop_0", "CREATE TABLE shop_0"), OpenStep("shop", 2, "", "CREATE VIEW")]}
        found = work_of(self.shop, present=[self.shop], entries=[entry(self.shop)], steps=steps, seeds=True)
        assert (found.needs(self.shop), found.needs_seed(self.shop)) == (True, True)
        assert created(found) == {"shop": ["shop_0"]}

    def test_what_a_run_had_only_planned_is_not(self) -> None:
        steps = {"shop": [OpenStep("shop", 0, "", "create 2 tables")]}
        found = work_of(self.shop, present=[self.shop], entries=[entry(self.shop)], steps=steps)
        assert (found.needs(self.shop), created(found)) == (True, {"shop": []})


class TestWithheld:
    outside = app("outside", create="external")
    first = app("first", 2, refers_to=outside)
    second = app("second", refers_to=first)
    free = app("free")

    def test_it_spreads_to_whoever_refers_to_it(self) -> None:
        found = work_of(self.outside, self.first, self.second, self.free)
        assert list(found.withheld) == ["outside", "first", "second"]
        assert created(found) == {"outside": [], "first": [], "second": [], "free": ["free_0"]}
        assert [found.needs(one) for one in found.apps] == [False, False, False, True]

    def test_it_does_not_concern_what_is_there(self) -> None:
        found = work_of(self.outside, self.first, self.second, present=[self.outside, self.first])
        assert (Withholding(found.apps, found.found).reasons, created(found)["second"]) == ({}, ["second_0"])

    def test_a_foreign_key_to_itself_is_no_reason(self) -> None:
        tree = app("tree")
        tree.tables[0].append_column(sa.Column("up", sa.ForeignKey("tree_0.id")))
        assert work_of(tree).withheld == {}


class TestChunks:
    apps = (app("a", 3), app("b", 2), app("c", 0), app("d", 4), app("e", 1))

    def names(self, dialect: str, monkeypatch: pytest.MonkeyPatch, most: int = 5) -> list[list[str]]:
        monkeypatch.setattr(work, "MOST_TABLES", most)
        return [[one.name for one in chunk] for chunk in work_of(*self.apps).chunks(dialect)]

    def test_sqlite_has_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.names("sqlite", monkeypatch) == [["a", "b", "c", "d", "e"]]

    def test_postgresql_has_whole_sub_apps_up_to_a_number_of_tables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.names("postgresql", monkeypatch) == [["a", "b", "c"], ["d", "e"]]

    def test_one_that_is_larger_stays_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.names("postgresql", monkeypatch, most=2) == [["a"], ["b", "c"], ["d"], ["e"]]

    def test_mysql_has_one_for_each(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.names("mysql", monkeypatch) == [["a"], ["b"], ["c"], ["d"], ["e"]]

    @pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql"])
    def test_nobody_is_lost_and_the_order_stays(self, dialect: str) -> None:
        chunks = work_of(*self.apps).chunks(dialect)
        assert tuple(chain(*chunks)) == self.apps
        assert all(chunks)

    def test_five_hundred_fit(self) -> None:
        assert MOST_TABLES == 500
        assert len(work_of(app("a", 500)).chunks("postgresql")) == 1
        assert len(work_of(app("a", 500), app("b", 1)).chunks("postgresql")) == 2

    def test_without_sub_apps_there_is_one_all_the_same(self) -> None:
        assert work_of().chunks("postgresql") == [[]]


def test_a_table_of_another_image_is_taken() -> None:
    shop, gone = app("shop"), Entry("old", "opal-old", "0.3", "default", None, None, ("shop_0", "x"), (), None)
    assert [problem.what for problem in work_of(shop, entries=[gone]).find_taken("here")] == [
        "the table 'shop_0' has two owners: sub-app 'old' (opal-old 0.3), which the ledger knows from another image, and "
        "sub-app 'shop' (opal-shop 1.0)"
    ]
    assert list(work_of(shop, entries=[entry(shop)]).find_taken("here")) == []


class TestWhatTheLedgerRemembers:
    shop = entry(app("shop"))

    def image(self, number: int, *names: str) -> Image:
        return Image(f"{number:064}", dict.fromkeys(names or ("core", "shop"), "1.0"))

    def test_an_image_is_known_by_its_fingerprint_and_its_place_in_it(self) -> None:
        known = self.shop.known_to(self.image(1))
        assert known.knows(self.image(1))
        assert not self.shop.knows(self.image(1))
        assert not known.knows(self.image(2))
        assert not known.knows(self.image(1, "core", "notes", "shop"))
        assert known.sources == {f"{1:064}": [1, 2, "1.0"]}

    def test_the_last_ones_are_kept(self) -> None:
        known = self.shop
        for number in range(MOST_SOURCES + 4):
            known = known.known_to(self.image(number))
        assert list(known.sources) == [f"{number:064}" for number in range(4, MOST_SOURCES + 4)]

    def test_one_that_is_seen_again_is_the_last(self) -> None:
        known = self.shop
        for number in [*range(MOST_SOURCES), 0, MOST_SOURCES]:
            known = known.known_to(self.image(number))
        assert len(known.sources) == MOST_SOURCES
        assert known.knows(self.image(0))
        assert not known.knows(self.image(1))

    def test_the_others_are_forgotten_when_the_tables_change(self) -> None:
        old = self.shop.known_to(self.image(1))
        same = ledger.remembering(replace(self.shop, version="1.1"), old, self.image(2))
        assert [same.knows(self.image(number)) for number in (1, 2)] == [True, True]
        changed = ledger.remembering(replace(self.shop, fingerprint="g"), old, self.image(2))
        assert [changed.knows(self.image(number)) for number in (1, 2)] == [False, True]

    def test_without_an_image_nothing_is_added(self) -> None:
        old = self.shop.known_to(self.image(1))
        assert ledger.remembering(self.shop, old, None).sources == old.sources
        assert ledger.remembering(self.shop, None, None).sources == {}

    @pytest.mark.parametrize(
        ("recorded", "writer", "newer"),
        [
            ("1.1", "opal-registry 0.1", True),
            ("1.0", "opal-registry 99.0", True),
            ("1.0", "opal-registry 0.1", False),
            ("1.0.0", "opal-registry 99.0", True),
            ("0.9", "opal-registry 99.0", False),
            ("1.1rc1", "opal-registry 0.1", True),
            ("1.0", "somebody", False),
            ("1.0", "", False),
            ("yesterday", "opal-registry 99.0", False),
        ],
    )
    def test_a_later_version_is_newer_and_of_one_version_what_a_later_registry_wrote(
        self, recorded: str, writer: str, newer: bool
    ) -> None:
        found = replace(self.shop, version=recorded, written_by=writer)
        assert found.is_newer_than("opal-shop", "1.0") is newer
        assert found.is_newer_than("other-shop", "1.0") is False
