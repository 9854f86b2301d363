"""``opal-db revision`` about enum types: one file does for all databases, whichever it was written on."""

import pytest

from tests.deploys import execute, rows
from tests.distributions import Site
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


@pytest.mark.mariadb
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_value_may_be_used_at_once_on_every_database(
    quick_site: Site, every_database_url: dict[str, str], kind: str
) -> None:
    source = Source(quick_site, "notes", every_database_url[kind])
    source.write(BEFORE)
    source.revise("First")
    source.write(AFTER)
    text = source.revised()
    for other, url in every_database_url.items():
        source.env["OPAL_DATABASE__URL"] = url
        done = source.run("upgrade", "--json")
        assert done.code == 0, (other, done.err, text)
        execute(url, "INSERT INTO notes (id) VALUES (1)", "INSERT INTO days (id, mood) VALUES (1, 'meh')")
        assert rows(url, "SELECT notes.mood, days.mood FROM notes, days") == [("meh", "meh")]
        assert source.revise() is None


def test_a_value_that_is_gone_from_the_models_is_spoken_of(quick_site: Site, postgres_url: str) -> None:
    source = Source(quick_site, "notes", postgres_url)
    source.write(AFTER)
    source.revise("First")
    source.write(models(moody("'good', 'bad'", "server_default='meh', index=True"), moody("'good', 'bad'", "", "days")))
    done = source.run("revision", "notes", "-m", "Second")
    assert (done.code, len(source.files)) == (0, 1)
    assert "the enum type 'note_mood' has values that the models lack: 'meh'; PostgreSQL cannot drop them" in done.err
