"""The fingerprint of an image: equal wherever the same is installed and configured, another one as soon as it is not."""

import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from opal_registry.fingerprint import make_image_fingerprint
from opal_registry.settings.model import Settings
from tests.distributions import Site

Change = Callable[[Site], object]
MODULES: dict[str, Any] = {"sub_apps": {"modules": {"delta": ["delta.models"], "single": ["single"]}}}


def take(*folders: Site | Path, **settings: Any) -> str:
    path = [str(found.folder if isinstance(found, Site) else found) for found in folders]
    return make_image_fingerprint(Settings.model_validate(settings), path)


def make_site(place: Path) -> Site:
    """A folder of distributions; no program is run in it."""
    for folder in ("site", "work"):
        (place / folder).mkdir(parents=True)
    return Site(place / "site", place / "work", Path(sys.executable))


@pytest.fixture
def image(tmp_path: Path) -> Site:
    """A folder with two sub-apps, and with what they rest on."""
    return fill(make_site(tmp_path / "image"))


def fill(site: Site) -> Site:
    site.sub_app("alpha", "x = 1")
    site.sub_app("beta", "y = 1", version="2.0")
    site.install("SQLAlchemy", version="2.1", files={"sqlalchemy/__init__.py": "z = 1"})
    return site


def write(site: Site, name: str, text: str) -> None:
    path = site.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def install_editable(site: Site, name: str, files: dict[str, str], project: Path | None = None) -> None:
    """Install what a build backend writes for an editable installation; the project is told where pip would tell it."""
    site.install(name, files=files, entry_points={"opal_registry": {name: f"{name}.opal"}})
    if project:
        direct = {"dir_info": {"editable": True}, "url": project.as_uri()}
        write(site, f"{name}-1.0.dist-info/direct_url.json", json.dumps(direct))


class TestTheSameImage:
    def test_has_the_same_fingerprint_at_another_place_and_another_time(self, image: Site, tmp_path: Path) -> None:
        other = fill(make_site(tmp_path / "elsewhere" / "of_another_name"))
        for path in other.folder.rglob("*"):
            os.utime(path, (1, 1))

        assert take(other) == take(image)
        assert len(take(image)) == 64

    def test_also_when_a_folder_is_on_the_path_twice_or_does_not_exist(self, image: Site, tmp_path: Path) -> None:
        assert take(image, image.cwd, tmp_path / "nowhere", image) == take(image)

    def test_scripts_and_compiled_files_are_another_matter(self, image: Site) -> None:
        before, record = take(image), image.folder / "alpha-1.0.dist-info/RECORD"
        record.write_text(f"../../../bin/alpha,sha256=x,1\n{record.read_text()}alpha-1.0.dist-info/REQUESTED,,\n")
        write(image, "alpha/__pycache__/models.cpython-311.pyc", "compiled")

        assert take(image) == before

    def test_secrets_addresses_and_patience_do_not_count(self, image: Site) -> None:
        url = "postgresql://app:hunter2@db/suite"

        assert take(image, database={"url": url}, locks={"wait": 1}) == take(image)
        assert take(image, binds={"b": {"url": url}}) == take(image, binds={"b": {"url": "sqlite:///b.db"}})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda site: site.sub_app("alpha", "x = 1", version="1.1"), id="a new release"),
        pytest.param(lambda site: site.sub_app("alpha", "x = 2"), id="the same release with other code"),
        pytest.param(lambda site: site.sub_app("gamma", "x = 1"), id="another sub-app"),
        pytest.param(lambda site: site.uninstall("beta"), id="one less"),
        pytest.param(
            lambda site: site.install("SQLAlchemy", version="2.1.1", files={"sqlalchemy/__init__.py": "z = 1"}),
            id="another SQLAlchemy",
        ),
        pytest.param(lambda site: site.install("pytz", files={"pytz/__init__.py": ""}), id="another dependency"),
        pytest.param(lambda site: write(site, "beta-2.0.dist-info/entry_points.txt", ""), id="other entry points"),
        pytest.param(
            lambda site: (site.folder / "beta-2.0.dist-info/METADATA").unlink(), id="an interrupted installation"
        ),
        pytest.param(lambda site: write(site, "opal_registry/__init__.py", ""), id="ourselves, copied onto the path"),
    ],
)
def test_a_change_of_what_is_installed_is_noticed(image: Site, change: Change) -> None:
    before = take(image)
    change(image)

    assert take(image) != before


@pytest.mark.parametrize(
    "settings",
    [
        {"environment": "staging"},
        {"sub_apps": {"disabled": ["beta"]}},
        {"sub_apps": {"enabled": ["alpha"]}},
        {"sub_apps": {"on_error": "quarantine"}},
        {"sub_apps": {"modules": {"calmind": ["calmind.models"]}}},
        {"binds": {"analytics": {"url": "sqlite:///b.db"}}},
        {"database": {"url": "postgresql://db/suite", "migration_role": "opal_owner"}},
    ],
    ids=str,
)
def test_a_change_of_the_configuration_is_noticed(image: Site, settings: dict[str, Any]) -> None:
    assert take(image, **settings) != take(image)


def test_another_python_is_noticed(image: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = take(image)
    for implementation, version in (("cpython", (3, 99)), ("pypy", sys.version_info)):
        python = SimpleNamespace(implementation=SimpleNamespace(name=implementation), version_info=version, path=[])
        monkeypatch.setattr("opal_registry.fingerprint.sys", python)
        assert take(image) != before


class TestEditableInstallations:
    """Four ways of build backends to say where the sources are, seen with hatchling, setuptools, PDM, Poetry and flit."""

    @pytest.fixture(params=["pth", "finder", "project", "egg"])
    def sources(self, request: pytest.FixtureRequest, image: Site, tmp_path: Path) -> Path:
        """The folder that a package is imported from; it is installed into the image in one of these ways."""
        project = tmp_path / "projects" / "gamma"
        sources = project / ("src" if request.param in {"pth", "egg"} else "gamma")
        sources.mkdir(parents=True)
        match request.param:
            case "pth":
                install_editable(image, "gamma", {"_gamma.pth": f"# where it is\n{sources}\n"})
            case "finder":
                finder = f"import sys\n\nMAPPING: dict[str, str] = {{'gamma': {str(sources)!r}}}\nNAMESPACES = {{}}\n"
                start = "import __editable___gamma_finder; __editable___gamma_finder.install()"
                files = {"__editable__.gamma.pth": start, "__editable___gamma_finder.py": finder}
                install_editable(image, "gamma", files, project)
            case "project":
                install_editable(image, "gamma", {"_gamma.pth": "import _gamma", "_gamma.py": "..."}, project)
            case "egg":  # setup.py develop: described beside the sources, whose folder is on the path
                write(image, "easy-install.pth", str(sources))
        (sources / "gamma").mkdir()
        (sources / "gamma" / "__init__.py").touch()
        (sources / "gamma" / "models.py").write_text("x = 1")
        return sources

    def take(self, image: Site, sources: Path) -> str:
        if (image.folder / "easy-install.pth").exists():
            (sources / "gamma.egg-info").mkdir(exist_ok=True)
            (sources / "gamma.egg-info/PKG-INFO").write_text("Name: gamma\nVersion: 1.0\n")
            return take(image, sources)
        return take(image)

    def test_an_edited_file_is_noticed_wherever_it_is(self, image: Site, sources: Path) -> None:
        before = self.take(image, sources)
        (sources / "gamma" / "models.py").write_text("x = 2")
        edited = self.take(image, sources)
        (sources / "gamma" / "deep" / "er").mkdir(parents=True)
        (sources / "gamma" / "deep" / "er" / "more.py").write_text("")

        assert len({before, edited, self.take(image, sources)}) == 3

    def test_what_a_package_reads_beside_its_modules_counts(self, image: Site, sources: Path) -> None:
        tables = sources / "gamma" / "data" / "tables.json"
        tables.parent.mkdir()
        taken = []
        for text in ("[1]", "[2]", "0" * 1_000_001, "0" * 1_000_002):
            tables.write_text(text)
            taken.append(self.take(image, sources))
        tables.write_text("1" * 1_000_002)  # large: read by nobody but the package

        assert len({*taken}) == 4
        assert self.take(image, sources) == taken[-1]

    def test_what_is_no_source_is_passed_over(self, image: Site, sources: Path) -> None:
        before = self.take(image, sources)
        for folder in (".git", "__pycache__", "node_modules", "site-packages", "env/lib"):
            (sources / "gamma" / folder).mkdir(parents=True)
            (sources / "gamma" / folder / "some.py").write_text("x = 1")
        (sources / "gamma" / "env" / "pyvenv.cfg").write_text("")
        (sources / "gamma" / ".hidden.py").write_text("x = 1")
        (sources / "gamma" / "suite.db-journal").write_text("x = 1")
        (sources / "var").mkdir()
        (sources / "var" / "uploaded.txt").write_text("x = 1")
        os.mkfifo(sources / "gamma" / "pipe.py")  # would be waited for
        os.utime(sources / "gamma" / "models.py", (1, 1))

        assert self.take(image, sources) == before

    def test_links_that_lead_back_and_forth_come_to_an_end(self, image: Site, sources: Path) -> None:
        before = self.take(image, sources)
        (sources / "other").mkdir()
        (sources / "other" / "more.py").touch()
        (sources / "other" / "back").symlink_to(sources / "gamma")
        (sources / "gamma" / "forth").symlink_to(sources / "other")
        (sources / "gamma" / "self").symlink_to(sources / "gamma")
        (sources / "gamma" / "dangling.py").symlink_to(sources / "nowhere")

        assert self.take(image, sources) != before

    def test_the_place_does_not_count(self, image: Site, sources: Path, tmp_path: Path) -> None:
        before = self.take(image, sources)
        moved = (tmp_path / "projects").rename(tmp_path / "moved")
        for path in image.folder.rglob("*"):
            if path.name.endswith((".pth", "_finder.py", "direct_url.json", "RECORD")):
                path.write_text(path.read_text("utf-8").replace(str(tmp_path / "projects"), str(moved)), "utf-8")

        assert self.take(image, moved / sources.relative_to(tmp_path / "projects")) == before


def test_of_our_own_project_only_the_package_counts(image: Site, tmp_path: Path) -> None:
    project = tmp_path / "opal"
    (project / "opal_registry").mkdir(parents=True)
    (project / "opal_registry" / "__init__.py").write_text("x = 1")
    install_editable(image, "opal-registry", {"_opal.pth": str(project)}, None)
    before = take(image, project)
    (project / "test_it.py").write_text("x = 1")
    assert take(image, project) == before
    (project / "pyproject.toml").write_text('[project]\nname = "opal-registry"\n')
    image.uninstall("opal-registry")
    uninstalled = take(image, project)
    (project / "test_it.py").write_text("x = 2")
    assert take(image, project) == uninstalled
    (project / "pyproject.toml").write_text('[project]\nname = "suite"\n')
    assert take(image, project) != uninstalled
    (project / "pyproject.toml").write_text('[project]\nname = "opal-registry"\n')
    (project / "opal_registry" / "__init__.py").write_text("x = 2")
    assert take(image, project) != uninstalled


class TestModulesWithoutADistribution:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A folder on the path with a package and a module that raise an error if they are imported."""
        (tmp_path / "modules" / "delta").mkdir(parents=True)
        for name in ("delta/__init__.py", "delta/models.py", "single.py"):
            (tmp_path / "modules" / name).write_text("raise AssertionError('imported')")
        return tmp_path / "modules"

    @pytest.mark.parametrize("settings", [{}, MODULES], ids=["not configured", "configured"])
    @pytest.mark.parametrize("name", ["delta/models.py", "single.py", "shared.py", "plain/deep/shared.py"])
    def test_an_edited_file_is_noticed(self, image: Site, folder: Path, name: str, settings: dict[str, Any]) -> None:
        (folder / "plain" / "deep").mkdir(parents=True)
        (folder / "plain" / "there.py").touch()
        before = take(image, folder, **settings)
        (folder / name).write_text("x = 2")

        assert take(image, folder, **settings) != before

    def test_what_a_configured_package_reads_is_noticed(self, image: Site, folder: Path) -> None:
        before = take(image, folder, **MODULES)
        (folder / "delta" / "tables.json").write_text("[]")

        assert take(image, folder, **MODULES) != before

    def test_what_cannot_be_imported_is_passed_over(self, image: Site, folder: Path) -> None:
        before = take(image, folder)
        for name in (
            "two-words/a.py",
            "node_modules/lib/a.py",
            "env/a.py",
            "env/pyvenv.cfg",
            ".git/a.py",
            "delta/a.json",
        ):
            write(Site(folder, folder, folder), name, "x = 1")
        (folder / "env" / "__init__.py").touch()
        (folder / "plain").mkdir()
        (folder / "plain" / "there.py").mkdir()
        (folder / "plain" / "back").symlink_to(folder)
        os.mkfifo(folder / "pipe")

        assert take(image, folder, folder / "pipe") == before

    @pytest.mark.parametrize("name", ["company/tables/__init__.py", "helper/sub/deep/y.py", "a/b/c/d/e/f.py"])
    def test_a_package_without_an_init_file_is_noticed(self, image: Site, folder: Path, name: str) -> None:
        taken = [take(image, folder)]
        (folder / name).parent.mkdir(parents=True)
        for text in ("x = 1", "x = 2"):
            (folder / name).write_text(text)
            taken.append(take(image, folder))

        assert len({*taken}) == 3

    def test_what_lies_deeper_is_noticed_by_its_name(self, image: Site, folder: Path) -> None:
        (folder / "a/b/c/d/e/f").mkdir(parents=True)
        taken = [take(image, folder)]
        for name in ("a/b/c/d/e/f/g/h/i.py", "a/b/c/d/e/f/g/j.py", "a/b/c/d/e/f/k/j.py"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
            taken.append(take(image, folder))

        assert [taken[1] == taken[0], taken[2] == taken[1], taken[3] == taken[2]] == [False, True, False]

    def test_of_very_many_folders_the_last_are_noticed_by_their_names(
        self, image: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("opal_registry.digests.MOST_FOLDERS", 2)
        for name in "abcd":
            (folder / "many" / name).mkdir(parents=True)
        taken = [take(image, folder)]
        for name in ("many/b/x.py", "many/c/x.py", "many/e/x.py"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
            taken.append(take(image, folder))

        assert [taken[1] == taken[0], taken[2] == taken[1], taken[3] == taken[2]] == [False, True, False]

    def test_what_was_copied_beside_installed_ones_is_noticed(self, image: Site) -> None:
        before = take(image)
        write(image, "shared.py", "x = 1")
        copied = take(image)
        (image.folder / "shared.py").unlink()
        image.install("shared", files={"shared.py": "x = 1"})
        installed = take(image)
        write(image, "shared.py", "x = 2")  # a RECORD is believed

        assert len({before, copied, installed}) == 3
        assert take(image) == installed

    def test_the_standard_library_is_passed_over(self, image: Site) -> None:
        assert take(image, Path(os.__file__).parent) == take(image)

    def test_a_record_vouches_for_its_modules_only_beside_it(self, image: Site, folder: Path) -> None:
        image.install("delta", files={"delta/__init__.py": "x = 1", "single.py": "x = 1"})
        vouched, shadowed = take(image, **MODULES), take(folder, image, **MODULES)
        write(image, "delta/__init__.py", "x = 2")
        (folder / "delta" / "models.py").write_text("x = 2")

        assert take(image, **MODULES) == vouched
        assert take(folder, image, **MODULES) != shadowed


def test_of_two_that_are_installed_both_count_and_which_comes_first(image: Site, tmp_path: Path) -> None:
    other = make_site(tmp_path / "other")
    other.sub_app("alpha", "x = 2", version="1.1")

    assert len({take(image), take(image, other), take(other, image)}) == 3


def test_an_archive_on_the_path_counts(image: Site, tmp_path: Path) -> None:
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", "x = 1")

    assert take(image, archive) != take(image)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("delta-1.0.dist-info/RECORD", "\0\udcff,,,\n,,"),
        ("delta-1.0.dist-info/direct_url.json", "[1"),
        ("delta-1.0.dist-info/direct_url.json", '{"dir_info": [], "url": 5}'),
        ("delta-1.0.dist-info/direct_url.json", '{"dir_info": {"editable": true}, "url": "file:///no/such/place"}'),
        ("delta-1.0.dist-info/METADATA/is/a/folder", ""),
        ("delta-1.0.dist-info/RECORD/is/a/folder", ""),
        ("delta-1.0.dist-info", "a file"),
        ("delta-1.0-py3.11.egg-info", "Name: delta"),
        (".dist-info/RECORD", ""),
    ],
)
def test_what_is_broken_is_taken_as_it_is(image: Site, name: str, content: str) -> None:
    path = image.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(errors="surrogateescape"))

    assert take(image) == take(image)


@pytest.mark.parametrize(
    "finder", ["MAPPING = {'a': 5", "MAPPING = {1: open}", "MAPPING = {1: 2, 'a': 3}", "MAPPING = {1}", ""]
)
def test_a_finder_that_cannot_be_read_leads_nowhere(image: Site, finder: str) -> None:
    install_editable(image, "delta", {"__editable__.delta.pth": "import delta_finder", "delta_finder.py": finder})
    write(image, "dangling.pth", "/no/such/folder")

    assert take(image) == take(image)


def test_by_default_the_path_of_the_process_counts(image: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(image.folder)])

    assert make_image_fingerprint(Settings()) == take(image)
