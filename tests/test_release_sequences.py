"""Whatever way a database came to its releases, it is the same database: random histories of sub-apps, and some by hand.

Base stands for core; above and side need it, and top needs base and above. Each release of one of them changes its tables
by one revision, which pins the heads of those that it needs at that moment.
"""

import importlib
import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opal_registry.base import NAMING_CONVENTION
from opal_registry.discovery import Plugin
from opal_registry.registry import Registry
from opal_registry.sub_app import SubApp
from opal_registry.suite import LoadedSubApp, Suite
from opal_registry.upgrade import upgrade
from tests.databases import settings_of
from tests.deploys import Env, columns, heads, ran, recorded, tables
from tests.distributions import Site
from tests.revisions import release, revision
from tests.snapshots import snapshot
from tests.writing import model, models, refers

NEEDS = {"base": (), "above": ("base",), "side": ("base",), "top": ("above", "base")}
KINDS = {"number": "sa.Integer()", "short": "sa.String(20)", "filled": "sa.String(9), server_default='x'"}
ACTIONS = ("add a column", "drop a column", "add a table", "drop a table", "widen a column")
Shape = dict[str, dict[str, str]]
"""The tables of a sub-app, each with its columns beside ``id``, as Python."""


@dataclass
class Released:
    """What one release of a sub-app brings."""

    app: str
    texts: tuple[str, ...]
    shape: Shape


@dataclass
class World:
    """All sub-apps as their authors write them."""

    releases: list[Released] = field(default_factory=list)

    def latest(self, app: str) -> Released | None:
        return next((each for each in reversed(self.releases) if each.app == app), None)

    def release(self, app: str, action: str) -> None:
        """Release a sub-app once more, changed in one way; those that it needs come before."""
        for need in NEEDS[app]:
            if self.latest(need) is None:
                self.release(need, action)
        before = self.latest(app)
        texts = before.texts if before else ()
        shape = {name: dict(held) for name, held in before.shape.items()} if before else {}
        number = len(texts) + 1
        up = _change(app, action, shape, number) if before else _found(app, shape)
        pins = {need: [f"{need}{len(found.texts)}"] for need in NEEDS[app] if (found := self.latest(need))}
        parent = f"{app}{number - 1}" if before else None
        text = revision(f"{app}{number}", parent, up, opal_depends_on=pins)
        self.releases.append(Released(app, (*texts, text), shape))


def _found(app: str, shape: Shape) -> str:
    shape[app] = {f"{need}_id": f"sa.Integer(), sa.ForeignKey('{need}.id')" for need in NEEDS[app]}
    return _create(app, shape[app])


def _create(name: str, held: Mapping[str, str]) -> str:
    made = ", ".join(f"sa.Column('{column}', {kind})" for column, kind in held.items())
    return f"op.create_table('{name}', sa.Column('id', sa.Integer(), primary_key=True), {made})"


def _change(app: str, action: str, shape: Shape, number: int) -> str:
    """Change the tables of a sub-app, and return what does the same to a database."""
    free = [(table, name) for table, held in shape.items() for name, kind in held.items() if "ForeignKey" not in kind]
    short = [(table, name) for table, name in free if shape[table][name] == KINDS["short"]]
    spare = [table for table in shape if table != app]
    if action == "add a table" or (action == "drop a table" and not spare):
        shape[f"{app}_{number}"] = {"short": KINDS["short"]}
        return _create(f"{app}_{number}", shape[f"{app}_{number}"])
    if action == "drop a table":
        del shape[spare[0]]
        return f"op.drop_table('{spare[0]}')"
    if action == "drop a column" and free:
        table, name = free[-1]
        del shape[table][name]
        return f"with op.batch_alter_table('{table}') as t:\n    t.drop_column('{name}')"
    if action == "widen a column" and short:
        table, name = short[0]
        shape[table][name] = "sa.String(200)"
        return f"with op.batch_alter_table('{table}') as t:\n    t.alter_column('{name}', existing_type=sa.String(20), type_=sa.String(200))"
    table = list(shape)[number % len(shape)]
    kind = list(KINDS)[number % len(KINDS)]
    shape[table][f"c{number}"] = KINDS[kind]
    return f"op.add_column('{table}', sa.Column('c{number}', {KINDS[kind]}))"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the path, for the packages and databases of all examples."""
    folder = tmp_path_factory.mktemp("packages")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


class Deploys:
    """The images of one world, and databases that they are deployed to, one after the other."""

    numbers = itertools.count()

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder, self.package = world, folder, f"suite_{next(self.numbers)}"
        self.discovery = Registry(settings_of("sqlite://"), sub_apps=["core"]).suite.discovery
        for number, each in enumerate(world.releases):
            place = folder / self.package / f"r{number}"
            place.mkdir(parents=True)
            for index, text in enumerate(each.texts):
                (place / f"{index:04}.py").write_text(text, "utf-8")
        (folder / self.package / "__init__.py").touch()
        importlib.invalidate_caches()

    def image(self, until: int, *, without: tuple[str, ...] = (), create: str) -> Suite:
        """The sub-apps as they are after so many releases."""
        latest = {each.app: number for number, each in enumerate(self.world.releases[:until])}
        metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)
        apps = [self._load(app, latest[app], metadata, create) for app in NEEDS if app in latest and app not in without]
        return Suite(tuple(apps), (), self.discovery)

    def _load(self, app: str, number: int, metadata: sa.MetaData, create: Any) -> LoadedSubApp:
        made = [self._table(name, held, metadata) for name, held in self.world.releases[number].shape.items()]
        sub_app = SubApp(name=app, migrations=f"{self.package}:r{number}", create=create)
        return LoadedSubApp(sub_app, Plugin(app, app, app, str(number)), tuple(made), NEEDS[app], 0.0)

    def _table(self, name: str, held: Mapping[str, str], metadata: sa.MetaData) -> sa.Table:
        made = [eval(f"sa.Column({column!r}, {kind})", {"sa": sa}) for column, kind in held.items()]
        return sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True), *made)

    def deploy(self, name: str, *images: Suite) -> tuple[dict[str, Any], list[str]]:
        """Upgrade a database to one image after the other; returns what it is in the end, and what was run."""
        url, done = f"sqlite:///{self.folder / self.package / name}.db", list[str]()
        for number, image in enumerate(images):
            with Registry(settings_of(url), sub_apps=["core"]).elsewhere(settings_of(url), image) as registry:
                report = upgrade(registry, fingerprint=f"image {number}")
            assert report.exit_code == 0, [each.withheld for each in report.brought_up.sub_apps]
            done += [str(each.revision) for _, each in report.ran]
        found = snapshot(url)
        kept = {key: value for key, value in found.items() if not key.startswith("rows of") or "opal_revision_" in key}
        return kept | {"recorded": [recorded(url, app) for app in NEEDS]}, done


RELEASES = st.lists(st.tuples(st.sampled_from(list(NEEDS)), st.sampled_from(ACTIONS)), min_size=3, max_size=9)


@settings(max_examples=12, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(releases=RELEASES, choice=st.data())
def test_every_way_leads_to_the_same_database(
    packages: Path, releases: list[tuple[str, str]], choice: st.DataObject
) -> None:
    world = World()
    for app, action in releases:
        world.release(app, action)
    deploys, number = Deploys(world, packages), len(world.releases)
    points = list(range(1, number))
    chosen = choice.draw(st.lists(st.sampled_from(points), unique=True).map(sorted) if points else st.just([]))
    absent = choice.draw(
        st.lists(st.sampled_from([("top",), ("side",), ("top", "above"), ("top", "side")]), max_size=3)
    )

    one_by_one, order = deploys.deploy(
        "each", *(deploys.image(until, create="migrations") for until in range(1, number + 1))
    )
    fresh, fresh_order = deploys.deploy("migrations", deploys.image(number, create="migrations"))
    from_models, nothing = deploys.deploy("models", deploys.image(number, create="models"))
    skipped, _ = deploys.deploy("skipped", *(deploys.image(each, create="models") for each in [*chosen, number]))
    lacking, _ = deploys.deploy(
        "lacking",
        *(deploys.image(each, without=without, create="models") for each, without in zip(chosen, absent, strict=False)),
        deploys.image(number, create="models"),
    )
    assert one_by_one == fresh
    assert one_by_one == from_models
    assert one_by_one == skipped
    assert one_by_one == lacking
    assert nothing == []
    assert sorted(order) == sorted(fresh_order)
    for app, needs in NEEDS.items():
        for need in needs:
            assert _only(order, app, need) == _only(fresh_order, app, need)


def _only(order: list[str], *apps: str) -> list[str]:
    return [each for each in order if each.partition("@")[0] in apps]


class TestByHand:
    """Base has releases 1 to 3, and notes 1 (for base 1) and 2 (for base 3)."""

    TEAM = "team: orm.Mapped[str | None] = orm.mapped_column(sa.String(20))"
    SIZE = "size: orm.Mapped[int | None]"
    TEXT = "text: orm.Mapped[str | None] = orm.mapped_column(sa.String(80))"
    IN = refers("in_id", "'teams.id'", ", ondelete='CASCADE'")
    BASE = (
        (TEAM,),
        (TEAM, SIZE),
        (SIZE,),
    )

    def base(self, site: Site, number: int, create: str) -> None:
        made = "op.create_table('teams', sa.Column('id', sa.Integer(), primary_key=True), sa.Column('team', sa.String(20)))"
        drop = "with op.batch_alter_table('teams') as t:\n    t.drop_column('team')"
        texts = (
            revision("b1", None, made),
            revision("b2", "b1", "op.add_column('teams', sa.Column('size', sa.Integer()))"),
            revision("b3", "b2", drop),
        )
        source = models(model("Team", "teams", *self.BASE[number - 1]))
        release(site, "base", f"{number}", source, *texts[:number], create=create)

    def notes(self, site: Site, number: int, create: str) -> None:
        made = (
            "op.create_table('notes', sa.Column('id', sa.Integer(), primary_key=True), "
            "sa.Column('in_id', sa.Integer(), sa.ForeignKey('teams.id', ondelete='CASCADE')))"
        )
        texts = (
            revision("n1", None, made, opal_depends_on={"base": ["b1"]}),
            revision(
                "n2", "n1", "op.add_column('notes', sa.Column('text', sa.String(80)))", opal_depends_on={"base": ["b3"]}
            ),
        )
        source = models(model("Note", "notes", *(self.IN, self.TEXT)[:number]))
        release(site, "notes", f"{number}", source, *texts[:number], requires=("base",), create=create)

    @pytest.mark.parametrize(
        ("deploys", "create", "order"),
        [
            ("b1 n1 + b2 + b3 n2 +", "migrations", "b1 n1 b2 b3 n2"),
            ("b3 n2 +", "migrations", "b1 n1 b2 b3 n2"),
            ("b3 n2 +", "models", ""),
            ("b1 n1 + b3 n2 +", "models", "b2 b3 n2"),
            ("b1 + b2 + n1 + b3 n2 +", "models", "b2 b3 n2"),
            ("b2 n1 + b3 - + b3 n2 +", "models", "b3 n2"),
            ("b1 n1 + b3 n2 + b3 n1 + b3 n2 +", "models", "b2 b3 n2"),
        ],
    )
    def test_all_end_alike(
        self, quick_site: Site, any_database_url: str, deploys: str, create: str, order: str
    ) -> None:
        env: Env = {"OPAL_DATABASE__URL": any_database_url}
        done: list[str] = []
        for what in deploys.split():
            match what[0]:
                case "b":
                    self.base(quick_site, int(what[1]), create)
                case "n":
                    self.notes(quick_site, int(what[1]), create)
                case "-":
                    quick_site.uninstall("notes")
                case _:
                    done += ran(quick_site.run("upgrade", "--json", env=env))
        assert " ".join(each.partition("@")[2] for each in done) == order
        assert tables(any_database_url) == {"users", "teams", "notes"}
        assert columns(any_database_url, "teams") == {"id", "size"}
        assert columns(any_database_url, "notes") == {"id", "in_id", "text"}
        assert (heads(any_database_url, "base"), heads(any_database_url, "notes")) == (["b3"], ["n2"])
        assert recorded(any_database_url, "base") == ["b1", "b2", "b3"]
        assert quick_site.run("status", env=env).code == 0
