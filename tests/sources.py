"""The source of a sub-app whose author works on it: installed as ``pip install -e`` does, on the path in its own folder."""

import os
import shutil
from pathlib import Path
from typing import Any

from tests.deploys import Env
from tests.distributions import Finished, Site


class Source:
    """A sub-app whose files are not a copy in ``site-packages``.

    Args:
        site: Where its metadata are installed.
        name: The sub-app, and its package.
        url: The configured database.
    """

    def __init__(self, site: Site, name: str, url: str) -> None:
        self.site, self.name = site, name
        self.package = site.cwd / "src" / name
        path = os.pathsep.join(map(str, (site.folder, self.package.parent)))
        self.env: Env = {"OPAL_DATABASE__URL": url, "PYTHONPATH": path}

    def write(self, models: str, **record: Any) -> None:
        """Replace the models, and what the plugin says; the revisions stay."""
        record = {"migrations": f"{self.name}:migrations", "create": "migrations", **record}
        self.site.sub_app(self.name, models, **record)
        copy = self.site.folder / self.name
        shutil.copytree(copy, self.package, dirs_exist_ok=True)
        shutil.rmtree(copy)

    def run(self, *arguments: str) -> Finished:
        """Run ``opal-db`` where this source is installed."""
        return self.site.run(*arguments, env=self.env)

    def revise(self, message: str = "A change", *options: str) -> Path | None:
        """Write a revision; returns its file, or None where there is nothing to write."""
        done = self.run("revision", self.name, "-m", message, *options, "--json")
        assert (done.code, done.err) == (0, ""), (done.out, done.err)
        return Path(done.json["path"]) if done.json["revision"] else None

    def revised(self, *options: str) -> str:
        """Write a revision, and return its text."""
        path = self.revise("A change", *options)
        assert path is not None
        return path.read_text("utf-8")

    @property
    def files(self) -> list[Path]:
        """The revisions, by name."""
        return sorted((self.package / "migrations").glob("*.py"))
