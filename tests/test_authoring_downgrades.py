"""What ``opal-db revision`` writes into ``downgrade`` is read from one database, and runs on every one."""

import pytest

from tests.deploys import ran
from tests.distributions import Site
from tests.sources import Source
from tests.writing import model, models


def column(name: str, kind: str, options: str = "") -> str:
    """A line of a class body: a column of a type."""
    return f"{name}: orm.Mapped[object | None] = orm.mapped_column({kind}{f', {options}' if options else ''})"


MOOD = "sa.Enum('good', 'bad', name='note_mood')"
OLD = (
    column("title", "sa.String(40)", "server_default='it\\'s 5%'"),
    column("mood", MOOD, "server_default='good'"),
    column("flag", "sa.Boolean", "server_default=sa.true()"),
    column("at", "sa.DateTime", "server_default=sa.func.now()"),
    column("body", "sa.Text"),
    column("data", "sa.JSON"),
    column("price", "sa.Double"),
)
CHECK = (
    "__table_args__ = (sa.CheckConstraint('length(title) > 0', name='long'), "
    "sa.CheckConstraint(\"title IN ('a', 'b')\", name='known'))"
)
CASES = {
    "columns that go": (model("Note", "notes", *OLD), model("Note", "notes")),
    "a table that goes": (
        model("Note", "notes") + model("Gone", "gone", *OLD, CHECK),
        model("Note", "notes"),
    ),
    "checks that go": (model("Note", "notes", *OLD, CHECK), model("Note", "notes", *OLD)),
    "other defaults": (
        model("Note", "notes", *OLD),
        model(
            "Note",
            "notes",
            column("title", "sa.String(80)", "server_default='new'"),
            column("mood", MOOD, "server_default='bad'"),
            *OLD[2:],
        ),
    ),
    "a text for an enum": (
        model("Note", "notes", column("mood", MOOD)),
        model("Note", "notes", column("mood", "sa.String(10)")),
    ),
}


@pytest.mark.mariadb
@pytest.mark.parametrize("kind", ["sqlite", "pg16", "mariadb"])
@pytest.mark.parametrize("case", CASES)
def test_it_runs_on_every_database(quick_site: Site, every_database_url: dict[str, str], kind: str, case: str) -> None:
    before, after = map(models, CASES[case])
    source = Source(quick_site, "notes", every_database_url[kind])
    source.write(before)
    source.revise("First")
    source.write(after)
    second = source.revise("Second")
    assert second is not None
    for other, url in every_database_url.items():
        source.env["OPAL_DATABASE__URL"] = url
        assert len(ran(source.run("upgrade", "--json"))) == 2
        done = source.run("downgrade", "notes@-1", "--json")
        assert done.code == 0, (other, done.err, second.read_text("utf-8"))
    second.unlink()
    source.write(before)
    source.env["OPAL_DATABASE__URL"] = every_database_url[kind]
    again = source.revise("Again", "--live")
    assert again is None, again.read_text("utf-8")
