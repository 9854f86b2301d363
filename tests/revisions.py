"""Revision files for tests, as text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

from opal_registry.discovery import InstalledSubApp, Plugin
from opal_registry.migrations.history import History, load_history
from opal_registry.sub_app import SubApp
from tests.distributions import Site


def revision(
    id_: str,
    parents: str | Sequence[str] | None = None,
    upgrade: str = "pass",
    downgrade: str = "pass",
    *,
    title: str = "",
    **names: object,
) -> str:
    """The text of a revision file: who it is, what it follows, what it does; ``names`` are written as they are."""
    lines = {"revision": id_, "down_revision": parents, **names}
    head = "\n".join(f"{name} = {value!r}" for name, value in lines.items())
    functions = {"upgrade": upgrade, "downgrade": downgrade}
    bodies = "\n\n".join(f"def {name}():\n{indent(dedent(body).strip(), '    ')}" for name, body in functions.items())
    return f'"""{title or id_}"""\nimport sqlalchemy as sa\nfrom alembic import op\n\n{head}\n\n{bodies}\n'


def write_history(folder: Path, app: str, revisions: Mapping[str, str]) -> InstalledSubApp:
    """A package with a folder of revision files below a folder, and the sub-app that it is of."""
    migrations = folder / app / "migrations"
    migrations.mkdir(parents=True)
    (folder / app / "__init__.py").touch()
    for name, text in revisions.items():
        (migrations / f"{name}.py").write_text(text, "utf-8")
    return make_app(app)


def release(site: Site, name: str, version: str, source: str, *revisions: str, hooks: str = "", **record: Any) -> None:
    """Install a release of a sub-app that has a history: each text is one revision, in the order of their names."""
    files = {f"{name}/migrations/{number:04}.py": text for number, text in enumerate(revisions, 1)}
    record = {"migrations": f"{name}:migrations", **record}
    site.sub_app(name, source, version=version, files=files, hooks=hooks, **record)


def make_app(app: str, migrations: str | None = None) -> InstalledSubApp:
    """A sub-app with a history in its package."""
    plugin = Plugin(app, f"{app}.opal", f"opal-{app}", "1.0")
    return InstalledSubApp(SubApp(name=app, migrations=migrations or f"{app}:migrations"), plugin)


def make_history(folder: Path, app: str, *revisions: str) -> History:
    """The history that consists of some texts."""
    return load_history(write_history(folder, app, {f"r{n}": text for n, text in enumerate(revisions)}))
