"""What one deploy after another does to a database, in words: what ran, where everybody stands, what is there."""

from typing import Any

import sqlalchemy as sa

from tests.databases import engine_of
from tests.distributions import Finished, Site

Env = dict[str, str | None]


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """The rows that a query finds."""
    engine = engine_of(url)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.exec_driver_sql(query)]
    engine.dispose()
    return found


def execute(url: str, *statements: str) -> None:
    """Run statements in one transaction."""
    engine = engine_of(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def columns(url: str, table: str) -> set[str]:
    """The names of a table's columns."""
    engine = engine_of(url)
    found = {column["name"] for column in sa.inspect(engine).get_columns(table)}
    engine.dispose()
    return found


def tables(url: str) -> set[str]:
    """The names of all tables but the registry's own."""
    engine = engine_of(url)
    found = {name for name in sa.inspect(engine).get_table_names() if not name.startswith("opal_")}
    engine.dispose()
    return found


def heads(url: str, app: str) -> list[str]:
    """What a version table says."""
    return sorted(head for (head,) in rows(url, f"SELECT version_num FROM opal_revision_{app}"))


def recorded(url: str, app: str) -> list[str]:
    """The revisions that ``opal_revisions`` holds of a sub-app."""
    return sorted(id_ for (id_,) in rows(url, f"SELECT revision FROM opal_revisions WHERE sub_app = '{app}'"))


def ran(done: Finished, key: str = "revisions") -> list[str]:
    """What a command ran, or took back (``taken_back``), in order."""
    assert done.code == 0, (done.out, done.err)
    return [f"{each['name']}@{each['revision']}" for each in done.json[key]]


def states(site: Site, env: Env) -> dict[str, str]:
    """How every history stands, as ``current`` says."""
    done = site.run("current", "--json", env=env)
    assert done.err == ""
    return {each["name"]: each["state"] for each in done.json["current"]}
