"""Source text of models for tests, and what the commands say about them."""

from textwrap import indent
from typing import Any

from tests.distributions import Site

HEAD = "import sqlalchemy as sa\nfrom sqlalchemy import orm\nfrom opal_registry.database import Base\n"
HOOK = "from opal_registry import SubApp, hookimpl\n\n@hookimpl\ndef opal_sub_apps():\n"
NAME = "name: orm.Mapped[str]"


def model(cls: str, table: str, *lines: str, base: str = "Base") -> str:
    """A mapped class with a primary key and some more lines in its body."""
    body = [f"__tablename__ = {table!r}", "id: orm.Mapped[int] = orm.mapped_column(primary_key=True)", *lines]
    return f"class {cls}({base}):\n{indent(chr(10).join(body), '    ')}\n"


def models(*sources: str) -> str:
    """A models module: the usual imports, and then the sources."""
    return HEAD + "\n".join(sources)


def refers(column: str, target: str, options: str = "") -> str:
    """A line of a class body: a foreign key column."""
    return f"{column}: orm.Mapped[int | None] = orm.mapped_column(sa.ForeignKey({target}{options}))"


def owners(site: Site, **env: str) -> dict[str, list[str]]:
    """Which sub-app owns which tables, as ``apps list`` says."""
    done = site.run("apps", "list", "--json", env=env)
    assert done.code == 0, done.err
    return {app["name"]: [table["name"] for table in app["tables"]] for app in done.json["sub_apps"]}


def complaint(site: Site, *command: str, code: int = 3, **env: str) -> str:
    """What a command (``apps list`` by default) says when it fails; paths are relative to the site."""
    done = site.run(*(command or ("apps", "list")), env=env)
    assert (done.code, done.out) == (code, ""), (done.out, done.err)
    return done.err.replace(f"{site.folder}/", "").removeprefix("error: ").removesuffix("\n")


def quarantined(site: Site, *command: str, **env: str) -> dict[str, list[str]]:
    """Who is left out, and why, where everybody else goes on."""
    done = site.run(*(command or ("apps", "list")), "--json", env={"OPAL_SUB_APPS__ON_ERROR": "quarantine", **env})
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = done.json["quarantined"]
    return {out["name"]: [problem["what"] for problem in out["problems"]] for out in found}
