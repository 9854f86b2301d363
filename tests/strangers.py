"""Packages of strangers with ``MetaData`` of their own, and sub-apps that adopt it."""

from typing import Any

from tests.distributions import Site

ID = "sa.Column('id', sa.Integer, primary_key=True)"


def adopt(site: Site, *locations: str, source: str, **record: Any) -> None:
    """Install a package of a stranger, and the sub-app ``alpha`` that adopts what it holds."""
    site.install("stranger", files={"stranger.py": source})
    site.sub_app("alpha", metadata=tuple(f"stranger:{location}" for location in locations), **record)


def init_twice(site: Site, url: str, app: str = "alpha") -> list[str]:
    """Create everything, look again, and return the tables of a sub-app, in order: all of them, and none differs."""
    env = {"OPAL_DATABASE__URL": url}
    first, second = site.run("init", "--json", env=env), site.run("init", "--verify", "--json", env=env)
    assert (first.code, second.code) == (0, 0), (first.err, second.out, second.err)
    made, found = ({report["name"]: report for report in done.json["sub_apps"]}[app] for done in (first, second))
    assert (found["created"], found["present"], found["differences"]) == ([], made["created"], [])
    return list(made["created"])
