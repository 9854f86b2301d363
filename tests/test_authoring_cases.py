"""What ``opal-db revision`` writes about a change of the models runs up, down and up again, and leaves nothing to write."""

import pytest

from tests.deploys import ran
from tests.distributions import Site
from tests.sources import Source
from tests.writing import model, models, refers

MORE = "import enum\nfrom sqlalchemy.dialects import mysql, postgresql\nfrom opal_registry import mixins\n"
UNWARNED = "import warnings\nwarnings.filterwarnings('ignore', 'Computed column', sa.exc.SAWarning)\n"
"""For models that leave it to the database whether it stores a column: SQLAlchemy warns of it before PostgreSQL 18."""


def column(name: str, kind: str, options: str = "", *, optional: bool = True) -> str:
    """A line of a class body: a column of a type."""
    python = "object | None" if optional else "object"
    return f"{name}: orm.Mapped[{python}] = orm.mapped_column({kind}{f', {options}' if options else ''})"


def note(*lines: str) -> str:
    """The model of notes."""
    return model("Note", "notes", *lines)


def arguments(*texts: str) -> str:
    """A line of a class body: constraints and indexes of its table."""
    return f"__table_args__ = ({', '.join(texts)},)"


TYPES = {
    "Boolean": "sa.Boolean",
    "SmallInteger": "sa.SmallInteger",
    "BigInteger": "sa.BigInteger",
    "Float": "sa.Float",
    "Double": "sa.Double",
    "Numeric": "sa.Numeric(12, 3)",
    "String": "sa.String(40)",
    "Unicode": "sa.Unicode(40)",
    "Text": "sa.Text",
    "LargeBinary": "sa.LargeBinary",
    "Date": "sa.Date",
    "DateTime": "sa.DateTime",
    "Aware": "sa.DateTime(timezone=True)",
    "Time": "sa.Time",
    "Interval": "sa.Interval",
    "JSON": "sa.JSON",
    "Uuid": "sa.Uuid",
    "Utc": "mixins.UtcDateTime",
    "Variant": "sa.JSON().with_variant(postgresql.JSONB(), 'postgresql')",
}
ALL_TYPES = [column(name.lower() + "_", kind) for name, kind in TYPES.items()]
MOOD = "class Mood(enum.Enum):\n    good = 1\n    bad = 2\n"
MOODY = column("mood", "sa.Enum('good', 'bad', name='mood')")
MOODIER = column("mood", "sa.Enum('good', 'bad', 'it\\'s 100% :fine', name='mood')")
USER = refers("user_id", "'users.id'")
CASES = {
    "columns": (
        note(column("old", "sa.Integer"), column("kept", "sa.String(9)")),
        note(column("kept", "sa.String(9)"), column("new", "sa.Integer", "server_default='7'", optional=False)),
    ),
    "tables": (note() + model("Gone", "gone"), note() + model("Tag", "tags", refers("note", "'notes.id'"))),
    "types": (note(), note(*ALL_TYPES)),
    "another type": (
        note(column("text", "sa.String(20)"), column("number", "sa.Integer"), column("price", "sa.Numeric(8, 2)")),
        note(column("text", "sa.String(200)"), column("number", "sa.BigInteger"), column("price", "sa.Numeric(12, 4)")),
    ),
    "nullable": (note(column("text", "sa.String(20)")), note(column("text", "sa.String(20)", optional=False))),
    "server defaults": (
        note(
            column("a", "sa.String(20)"),
            column("b", "sa.String(20)", "server_default='old'"),
            column("c", "sa.String(20)", "server_default='gone'"),
            column("d", "sa.Integer", "server_default='1'"),
            column("same", "sa.DateTime", "server_default=sa.func.now()"),
        ),
        note(
            column("a", "sa.String(20)", "server_default='it\\'s 100% new'"),
            column("b", "sa.String(20)", "server_default='new'"),
            column("c", "sa.String(20)"),
            column("d", "sa.Integer", "server_default=sa.text('2')"),
            column("same", "sa.DateTime", "server_default=sa.func.now()"),
            column("e", "sa.Boolean", "server_default=sa.true()"),
            column("f", "mixins.UtcDateTime", "server_default=mixins.ServerNow()"),
        ),
    ),
    "a new enum": (note(), note(MOODY)),
    "a class as an enum": (
        note(),
        MOOD + note(column("mood", "sa.Enum(Mood)")) + model("Day", "days", column("m", "sa.Enum(Mood)")),
    ),
    "an enum's new value": (note(MOODY), note(MOODIER)),
    "an enum for a text": (note(column("mood", "sa.String(10)")), note(MOODY)),
    "an enum that goes": (note(MOODY), note()),
    "an enum that stays elsewhere": (note(MOODY) + model("Day", "days", MOODY), note() + model("Day", "days", MOODY)),
    "an enum in a further table": (note(MOODY), note(MOODY) + model("Day", "days", MOODY)),
    "an enum without a type": (
        note(),
        note(column("mood", "sa.Enum('good', 'bad', name='mood', native_enum=False, create_constraint=True)")),
    ),
    "check constraints": (
        note(column("n", "sa.Integer"), arguments("sa.CheckConstraint('n > 0', name='old')")),
        note(column("n", "sa.Integer"), arguments("sa.CheckConstraint('n < 100', name='small')")),
    ),
    "comments": (
        note(column("a", "sa.Integer", "comment='old'"), column("b", "sa.Integer", "comment='gone'")),
        note(
            column("a", "sa.Integer", "comment='it\\'s new'"),
            column("b", "sa.Integer"),
            arguments("{'comment': 'What was 100% noted'}"),
        ),
    ),
    "indexes": (
        note(
            column("a", "sa.Integer", "index=True"), column("b", "sa.Integer"), arguments("sa.Index('ix_ab', 'a', 'b')")
        ),
        note(
            column("a", "sa.Integer"),
            column("b", "sa.Integer", "index=True"),
            arguments("sa.Index('ix_ba', 'b', 'a', unique=True)"),
        ),
    ),
    "unique constraints": (
        note(column("a", "sa.String(9)", "unique=True"), column("b", "sa.String(9)")),
        note(column("a", "sa.String(9)"), column("b", "sa.String(9)"), arguments("sa.UniqueConstraint('a', 'b')")),
    ),
    "foreign keys": (
        note(USER, column("parent", "sa.Integer")),
        note(
            refers("user_id", "'users.id'", ", ondelete='CASCADE'"),
            refers("parent", "'notes.id'"),
        ),
    ),
    "a foreign key that goes": (note(USER), note(column("user_id", "sa.Integer"))),
    "tables that refer to each other": (
        note(),
        note(refers("tag", "'tags.id'", ", use_alter=True")) + model("Tag", "tags", refers("note", "'notes.id'")),
    ),
    "a key of two columns": (
        note(),
        note()
        + "Pairs = sa.Table('pairs', Base.metadata, sa.Column('a', sa.ForeignKey('notes.id'), primary_key=True), sa.Column('b', sa.ForeignKey('users.id'), primary_key=True))\n",
    ),
    "computed columns": (
        note(column("a", "sa.Integer")),
        UNWARNED + note(column("a", "sa.Integer"), column("b", "sa.Integer", "sa.Computed('a + 1')")),
    ),
    "a name that needs quoting": (note(), note(column("order", "sa.Integer", "index=True")) + model("Group", "Group")),
}


@pytest.mark.parametrize("case", CASES)
def test_it_runs_up_and_down_and_up_again_and_nothing_is_left_to_write(
    quick_site: Site, any_database_url: str, case: str
) -> None:
    before, after = (models(MORE, each) for each in CASES[case])
    source = Source(quick_site, "notes", any_database_url)
    source.write(before)
    first = source.revise("First")
    assert first is not None
    assert len(ran(source.run("upgrade", "--json"))) == 1
    source.write(after)
    second = source.revise("Second")
    if case == "comments" and any_database_url.startswith("sqlite"):
        assert second is None
        return
    assert second is not None
    for way in ("upgrade", "downgrade", "upgrade"):
        done = source.run(way, *(["notes@-1"] if way == "downgrade" else []), "--json")
        assert done.code == 0, (way, done.err, second.read_text("utf-8"))
        assert len(ran(done, "revisions" if way == "upgrade" else "taken_back")) == 1
    again = source.revise("Again")
    assert again is None, again.read_text("utf-8") + second.read_text("utf-8")
    assert source.run("status").code == 0
