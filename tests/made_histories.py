"""Sub-apps for tests that live in this process: their tables on a ``MetaData`` of their own, their history in a folder."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from opal_registry.discovery import Discovery, Plugin
from opal_registry.registry import Registry
from opal_registry.sub_app import SubApp
from opal_registry.suite import LoadedSubApp, Suite
from tests.databases import settings_of


def make_loaded(name: str, tables: Sequence[sa.Table], package: str, *, needs: tuple[str, ...] = ()) -> LoadedSubApp:
    """A sub-app with some tables, whose history is in a package."""
    sub_app = SubApp(name=name, migrations=f"{package}:migrations", requires=needs)
    plugin = Plugin(name, f"{name}.opal", f"opal-{name}", "1.0")
    return LoadedSubApp(sub_app, plugin, tuple(tables), needs, 0.0)


def make_package(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, revisions: Iterable[str] = ()) -> Path:
    """Make a package that can be found, with revisions in it; returns their folder."""
    migrations = folder / name / "migrations"
    migrations.mkdir(parents=True)
    for number, text in enumerate(revisions, 1):
        (migrations / f"{number:04}.py").write_text(text, "utf-8")
    if str(folder) not in sys.path:
        monkeypatch.syspath_prepend(folder)
    return migrations


def registry_with(url: str, *apps: LoadedSubApp) -> Registry:
    """A registry of some sub-apps and no others."""
    settings = settings_of(url)
    return Registry(settings).elsewhere(settings, Suite(apps, (), Discovery()))


def with_other_histories(registry: Registry, packages: Mapping[str, str]) -> Registry:
    """The same suite where some sub-apps have their history in another package."""
    apps = tuple(
        replace(app, sub_app=replace(app.sub_app, migrations=f"{packages[app.name]}:migrations"))
        if app.name in packages
        else app
        for app in registry.suite.sub_apps
    )
    return registry.elsewhere(registry.settings, replace(registry.suite, sub_apps=apps))


__all__ = ["make_loaded", "make_package", "registry_with", "with_other_histories"]
