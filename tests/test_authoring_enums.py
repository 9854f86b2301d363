"""``opal-db revision`` about enum types: one file does for all databases, whichever it was written on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploys import execute, rows
from tests.distributions import Site
from tests.mariadb import MariaDB
from tests.postgres import Cluster
from tests.sources import Source
from tests.writing import model, models

KINDS = ["sqlite", "pg16", "pg18", "mariadb"]


def moody(values: str, options: str, table: str = "notes") -> str:
    """A model with an enum column, which a check guards where there are no such types."""
    kind = f"sa.Enum({values}, name='note_mood', create_constraint=True)"
    return model(table.title(), table, f"mood: orm.Mapped[str | None] = orm.mapped_column({kind}, {options})")


BEFORE = models(moody("'good', 'bad'", "server_default='good', index=True"), moody("'good', 'bad'", "", "days"))
AFTER = models(
    moody("'good', 'bad', 'meh'", "server_default='meh', index=True"), moody("'good', 'bad', 'meh'", "", "days")
)


@pytest.fixture
def urls(tmp_path: Path, postgres16: Cluster, postgres18: Cluster, mariadb: MariaDB) -> Iterator[dict[str, str]]:
    """An empty database of every kind."""
    servers = {"pg16": postgres16, "pg18": postgres18, "mariadb": mariadb}
    for server in servers.values():
        server.start()
    names = {kind: server.create_database() for kind, server in servers.items()}
    yield {"sqlite": f"sqlite:///{tmp_path / 'opal_suite.db'}"} | {
        kind: server.url(names[kind]) for kind, server in servers.items()
    }
    for kind, server in servers.items():
        server.drop_database(names[kind])


@pytest.mark.mariadb
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_value_may_be_used_at_once_on_every_database(quick_site: Site, urls: dict[str, str], kind: str) -> None:
    source = Source(quick_site, "notes", urls[kind])
    source.write(BEFORE)
    source.revise("First")
    source.write(AFTER)
    text = source.revised()
    for other, url in urls.items():
        source.env["OPAL_DATABASE__URL"] = url
        done = source.run("upgrade", "--json")
        assert done.code == 0, (other, done.err, text)
        execute(url, "INSERT INTO notes (id) VALUES (1)", "INSERT INTO days (id, mood) VALUES (1, 'meh')")
        assert rows(url, "SELECT notes.mood, days.mood FROM notes, days") == [("meh", "meh")]
        assert source.revise() is None
