"""``opal-db revision`` where a model moved to another sub-app: nothing is written that would lose its rows."""

from pathlib import Path

import pytest

from tests.deploys import execute, ran, rows
from tests.distributions import Site
from tests.sources import Source
from tests.writing import model, models

NOTE = model("Note", "notes")
TAG = model("Tag", "tags")
LINE = model("Line", "note_lines")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database; what is refused does not depend on its kind."""
    return f"sqlite:///{tmp_path / 'opal_suite.db'}"


@pytest.fixture
def moved(quick_site: Site, url: str) -> tuple[Source, Source]:
    """``notes`` and ``tags`` after the model of ``note_lines`` moved from one to the other, with a row in it."""
    notes, tags = Source(quick_site, "notes", url), Source(quick_site, "tags", url)
    notes.write(models(NOTE, LINE))
    tags.write(models(TAG))
    for each in (notes, tags):
        each.revise("First")
    ran(notes.run("upgrade", "--json"))
    execute(url, "INSERT INTO note_lines (id) VALUES (7)")
    notes.write(models(NOTE))
    tags.write(models(TAG, LINE))
    return notes, tags


def complaint(source: Source, *options: str) -> str:
    """What is said where nothing is written."""
    files = source.files
    done = source.run("revision", source.name, "-m", "Oops", *options)
    assert (done.code, done.out, source.files) == (2, "", files)
    return done.err


GIVES = "opal-db revision notes -m TEXT --gives note_lines=tags"
TAKES = "opal-db revision tags -m TEXT --takes note_lines=notes"


@pytest.mark.parametrize("options", [(), ("--live",)])
def test_neither_drops_it_nor_makes_it_again(moved: tuple[Source, Source], options: tuple[str, ...]) -> None:
    notes, tags = moved
    said = complaint(notes, *options)
    assert "error: the table 'note_lines' of 'notes' is in the models of 'tags' now\n" in said
    assert f"mend:  let it change hands: {GIVES} and then {TAKES}\n" in said
    said = complaint(tags, *options)
    assert "error: the table 'note_lines' in the models of 'tags' is made by the history of 'notes'\n" in said
    assert f"mend:  let it change hands: {GIVES} and then {TAKES}\n" in said


def test_the_remedy_keeps_its_rows(moved: tuple[Source, Source], url: str) -> None:
    notes, tags = moved
    assert notes.revise("Leave", "--gives", "note_lines=tags") is not None
    said = complaint(tags)
    assert f"mend:  let it change hands: {TAKES}\n" in said
    said = complaint(tags, "--takes", "note_lines=notes")
    assert "error: sub-app 'tags' takes a table from 'notes', and does not require it\n" in said
    assert 'mend:  write requires=("notes",) into its SubApp\n' in said
    tags.write(models(TAG, LINE), requires=("notes",))
    assert TAKES in complaint(tags)
    assert tags.revise("Come", "--takes", "note_lines=notes") is not None
    ran(notes.run("upgrade", "--json"))
    assert rows(url, "SELECT id FROM note_lines") == [(7,)]
    assert [each.revise() for each in moved] == [None, None]


def test_one_that_goes_for_good_is_dropped_and_its_name_is_free(moved: tuple[Source, Source]) -> None:
    notes, tags = moved
    tags.write(models(TAG))
    assert "op.drop_table('note_lines')" in notes.revised()
    tags.write(models(TAG, LINE))
    assert "op.create_table('note_lines'" in tags.revised()


def test_a_neighbour_that_is_broken_does_not_matter(moved: tuple[Source, Source]) -> None:
    notes, tags = moved
    tags.write("raise RuntimeError('broken')")
    assert "op.drop_table('note_lines')" in notes.revised()
