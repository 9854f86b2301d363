"""Different releases of this package on one database, each in a real virtual environment of its own."""

import sysconfig
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import distribution
from pathlib import Path

import installer
import pytest
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile

import opal_registry
from tests.distributions import Site, make_core_environment, make_wheel
from tests.test_images import CALM, SHOP, STANDUP_1_4, Env, created, init, ledger, states, tables


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database, the same in every image."""
    return {"OPAL_DATABASE__URL": any_database_url}


NEWER = {
    "store/tables.py": [
        (
            '    sa.Column("sources", Json),\n',
            '    sa.Column("sources", Json),\n    sa.Column("mood", sa.String(10)),\n',
        ),
        (
            "Columns = Mapping",
            'something = sa.Table("opal_something", metadata, sa.Column("id", sa.Integer, primary_key=True))\n\nColumns = Mapping',
        ),
    ],
    "store/ledger.py": [
        ('        "min_reader": WRITES,\n', '        "min_reader": WRITES,\n        "mood": "calm",\n')
    ],
}
"""What the release 1.1.0 changes: one more column of the ledger, and one more table."""

FUTURE = {
    "store/ledger.py": [("WRITES = 1\n", "WRITES = 2\n")],
    "warm.py": [("READS = 1\n", "READS = 2\n")],
}
"""What a release changes whose rows no earlier one understands."""

Changes = dict[str, list[tuple[str, str]]]


def install_registry(folder: Path, version: str, changes: Changes) -> Path:
    """Make an environment with a release of opal_registry that was built from this one's sources."""
    python = make_core_environment(folder / "venv")
    scheme = sysconfig.get_paths(vars={"base": str(folder / "venv"), "platbase": str(folder / "venv")})
    purelib = Path(scheme["purelib"])
    for link in (purelib / "core.pth", *purelib.glob("opal_registry-*.dist-info")):
        link.unlink()
    wheel = make_wheel(
        folder, "opal-registry", version=version, files=changed(changes), entry_points=entry_points(), requires=()
    )
    with WheelFile.open(wheel) as source:
        destination = SchemeDictionaryDestination(scheme, interpreter=str(python), script_kind="posix")
        installer.install(source, destination, additional_metadata={"INSTALLER": b"tests\n"})
    return python


def changed(changes: Changes) -> dict[str, str | bytes]:
    root = Path(opal_registry.__file__).parent
    files: dict[str, str | bytes] = {}
    for path in sorted(root.rglob("*.py")):
        name, text = str(path.relative_to(root)), path.read_text("utf-8")
        for old, new in changes.get(name, ()):
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
        files[f"opal_registry/{name}"] = text.encode()
    return files


def entry_points() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for entry in distribution("opal-registry").entry_points:
        found.setdefault(entry.group, {})[entry.name] = entry.value
    return found


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The interpreters of three environments, by the release of the registry that is installed there."""
    releases: dict[str, Changes] = {"1.0.0": {}, "1.1.0": NEWER, "3.0.0": FUTURE}
    folders = {version: tmp_path_factory.mktemp(version) for version in releases}
    return {version: install_registry(folders[version], version, changes) for version, changes in releases.items()}


class TestDifferentReleasesOfTheRegistry:
    """Each in a real virtual environment of its own."""

    @pytest.fixture
    def release(self, pythons: dict[str, Path], tmp_path: Path) -> Iterator[Callable[..., Site]]:
        """Makes an image with a release of the registry and one sub-app."""
        with ExitStack() as stack:

            def make(version: str, name: str, source: str) -> Site:
                folder, cwd = tmp_path / version / "site-packages", tmp_path / version / "work"
                folder.mkdir(parents=True)
                cwd.mkdir()
                site = Site(folder, cwd, pythons[version])
                stack.callback(site.close)
                site.sub_app(name, source, requires=("core",))
                assert site.run("--version").out == f"opal-db {version}\n"
                return site

            yield make

    @pytest.mark.parametrize("newer_first", [False, True], ids=["older first", "newer first"])
    def test_they_work_side_by_side(
        self, release: Callable[..., Site], env: Env, any_database_url: str, newer_first: bool
    ) -> None:
        old, new = release("1.0.0", "standupbot", STANDUP_1_4), release("1.1.0", "shop", SHOP)
        order = (new, old) if newer_first else (old, new)
        for site in order:
            init(site, env)
        for site in (*order, *order):
            init(site, env)
        assert [init(site, env)["recorded"] for site in (old, new, old, new)] == [True] * 4

        rows = ledger(any_database_url)
        assert {name: (row["mood"], row["written_by"]) for name, row in rows.items()} == {
            "core": ("calm", "opal-registry 1.1.0"),
            "shop": ("calm", "opal-registry 1.1.0"),
            "standupbot": (None, "opal-registry 1.0.0"),
        }
        assert "opal_something" in tables(any_database_url)
        ahead, ready = ("ahead", "the database was written by 1.1.0"), ("ready", "")
        for site, other, core in ((old, "shop", ahead), (new, "standupbot", ready)):
            found = states(site.run("status", "--json", env=env))
            assert (found["core"], found[other][0]) == (core, "not installed here")
            events = site.run("events", "--json", env=env).json["events"]
            assert [event["outcome"] for event in events] == ["done", "done"]
            assert {event["written_by"] for event in events} == {"opal-registry 1.0.0", "opal-registry 1.1.0"}

    def test_a_new_sub_app_of_the_older_one_goes_on_in_a_grown_ledger(
        self, release: Callable[..., Site], env: Env, any_database_url: str
    ) -> None:
        old, new = release("1.0.0", "standupbot", STANDUP_1_4), release("1.1.0", "shop", SHOP)
        init(new, env)
        init(old, env)
        old.sub_app("calmind", CALM)
        assert created(init(old, env))["calmind"] == ["calm_events"]
        assert ledger(any_database_url)["calmind"]["mood"] is None
        assert init(new, env)["recorded"] is True

    def test_what_only_a_later_release_can_read_is_refused_by_name(
        self, release: Callable[..., Site], env: Env, any_database_url: str
    ) -> None:
        old, future = release("1.0.0", "standupbot", STANDUP_1_4), release("3.0.0", "shop", SHOP)
        init(old, env)
        init(future, env)
        before = ledger(any_database_url)
        for command in ("init", "status"):
            done = old.run(command, env=env)
            assert (done.code, done.out) == (4, "")
            assert done.err == (
                "error: the ledger was written by opal-registry 3.0.0, which this release does not understand\n"
                "  where: opal_sub_apps, row 'core'\n"
                "  mend:  install that release, or a later one\n"
            )
        assert ledger(any_database_url) == before
        assert init(future, env)["recorded"] is True
