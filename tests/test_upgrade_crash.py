"""An upgrade that is killed at any of its steps: each revision is there or not, and the next upgrade comes to the same end."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import dying
from tests.deploys import columns, rows, states
from tests.distributions import Site
from tests.postgres import Cluster
from tests.revisions import release, revision
from tests.servers import Server
from tests.snapshots import rows_of, snapshot
from tests.writing import model, models, refers

KILLED = -9
LAST = 1000
"""A step that no run here comes to."""

N1 = revision(
    "n1",
    None,
    """
    op.create_table(
        'notes',
        sa.Column('id', sa.Integer(), sa.Identity(), nullable=False),
        sa.Column('text', sa.String(80)),
        sa.PrimaryKeyConstraint('id'),
    )
    op.execute("INSERT INTO notes (text) VALUES ('one')")
    op.execute("INSERT INTO notes (text) VALUES ('two')")
    """,
)
N2 = revision(
    "n2",
    "n1",
    """
    with op.batch_alter_table('notes') as notes:
        notes.add_column(sa.Column('length', sa.Integer()))
    for number, text in op.get_bind().execute(sa.text("SELECT id, text FROM notes WHERE length IS NULL ORDER BY id")):
        op.execute(f"UPDATE notes SET length = {len(text)} WHERE id = {number}")
    op.create_index('notes_by_length', 'notes', ['length'])
    op.execute("UPDATE notes SET length = length + 1")
    """,
)
N3 = revision(
    "n3",
    "n2",
    """
    op.create_table('kinds', sa.Column('id', sa.Integer(), primary_key=True), sa.Column('name', sa.String(9)))
    op.bulk_insert(sa.table('kinds', sa.column('id'), sa.column('name')), [{'id': 1, 'name': 'a'}, {'id': 2, 'name': 'b'}])
    with op.batch_alter_table('notes') as notes:
        notes.add_column(sa.Column('kind', sa.Integer(), sa.ForeignKey('kinds.id', name='kind_of_note')))
    op.execute("UPDATE notes SET kind = 1")
    """,
)
T1 = revision(
    "t1",
    None,
    "op.create_table('tags', sa.Column('id', sa.Integer(), primary_key=True), sa.Column('old', sa.Integer()))",
    opal_depends_on={"notes": ["n1"]},
)
T2 = revision(
    "t2",
    "t1",
    """
    with op.batch_alter_table('tags') as tags:
        tags.add_column(sa.Column('note_id', sa.Integer()))
        tags.create_foreign_key('note_of_tag', 'notes', ['note_id'], ['id'])
    with op.batch_alter_table('tags') as tags:
        tags.drop_column('old')
    """,
    opal_depends_on={"notes": ["n2"]},
)
MODELS = {
    "notes": models(
        model("Note", "notes", "text: orm.Mapped[str | None] = orm.mapped_column(sa.String(80))"),
    ),
    "tags": models(model("Tag", "tags")),
    "labels": models(model("Label", "labels", refers("tag", "'tags.id'"))),
}
COLUMNS = {
    "n1": {"id", "text"},
    "n2": {"id", "text", "length"},
    "n3": {"id", "text", "length", "kind"},
    "t1": {"id", "old"},
    "t2": {"id", "note_id"},
}
VALUES = {"n2": [(4,), (4,)], "n3": [(4,), (4,)]}
State = tuple[str, str, bool]
IN_ORDER: list[State] = [
    ("n1", "t1", False),
    ("n2", "t1", False),
    ("n2", "t2", False),
    ("n3", "t2", False),
    ("n3", "t2", True),
]
"""The states that a run goes through, by the revisions of two sub-apps and whether the third one is there."""


@pytest.fixture
def site(quick_site: Site) -> Site:
    """Where all releases are: two sub-apps with histories, and one without that is new."""
    release(quick_site, "notes", "3.0", MODELS["notes"], N1, N2, N3, create="migrations")
    release(quick_site, "tags", "2.0", MODELS["tags"], T1, T2, create="migrations", requires=("notes",))
    quick_site.sub_app("labels", MODELS["labels"], requires=("tags",))
    return quick_site


def run(site: Site, url: str, *arguments: str) -> None:
    done = site.run(*arguments, env={"OPAL_DATABASE__URL": url})
    assert (done.code, done.err) == (0, ""), done


def begin(site: Site, url: str) -> None:
    """Bring a database to the first release of two sub-apps."""
    run(site, url, "upgrade", "tags@t1")


def is_killed(site: Site, url: str, step: int) -> bool:
    """Whether an upgrade came to a step, at which it was killed; else it came to its end."""
    code = Path(dying.__file__).read_text("utf-8")
    done = site.python(code, str(step), "upgrade", env={"OPAL_DATABASE__URL": url})
    assert done.code in {KILLED, 0}, done
    return done.code == KILLED


def complete(site: Site, url: str) -> dict[str, Any]:
    run(site, url, "upgrade")
    assert set(states(site, {"OPAL_DATABASE__URL": url}).values()) == {"current"}
    assert rows_of(url, "opal_steps") == []
    return snapshot(url)


def state_of(url: str) -> State:
    """Which revisions a database is at, and whether the new sub-app is there; everything is as they say."""
    ((notes,),) = rows(url, "SELECT version_num FROM opal_revision_notes")
    ((tags,),) = rows(url, "SELECT version_num FROM opal_revision_tags")
    tables = str(snapshot(url)["columns"].keys())
    assert columns(url, "notes") == COLUMNS[notes]
    assert columns(url, "tags") == COLUMNS[tags]
    assert ("'kinds'" in tables) == (notes == "n3")
    if notes in VALUES:
        assert rows(url, "SELECT length FROM notes") == VALUES[notes]
    applied = {row["revision"] for row in rows_of(url, "opal_revisions") if row["sub_app"] in {"notes", "tags"}}
    assert applied == {each for each in COLUMNS if each <= (notes if each[0] == "n" else tags)}
    return notes, tags, "'labels'" in tables


def killed_everywhere(
    site: Site, make: Callable[[], str], drop: Callable[[str], None], expected: dict[str, Any]
) -> list[State]:
    """Kill an upgrade at each of its steps in turn, each on a database of its own, and see that the next one completes it.

    Args:
        site: Where the releases are.
        make: Makes a database that has the first ones.
        drop: Takes it away.
        expected: What an undisturbed upgrade makes.

    Returns:
        The states that were left, one after the other, without repetitions; where DDL is taken back.
    """
    seen: list[State] = []
    before: dict[str, Any] | None = None
    for step in range(1, LAST):
        url = make()
        killed = is_killed(site, url, step)
        left = snapshot(url)
        if left != before:
            seen += [] if url.startswith("mysql") else [state_of(url)]
            assert complete(site, url) == expected
        drop(url)
        before = left
        if not killed:
            break
    return list(dict.fromkeys(seen))


class TestOnDatabasesThatTakeDdlBack:
    def test_every_revision_is_there_or_not_on_sqlite(self, site: Site, tmp_path: Path) -> None:
        start, file, whole = (tmp_path / f"{name}.db" for name in ("start", "x", "whole"))
        begin(site, f"sqlite:///{start}")
        begin(site, f"sqlite:///{whole}")
        expected = complete(site, f"sqlite:///{whole}")

        def make() -> str:
            for left in tmp_path.glob("x.db*"):
                left.unlink()
            shutil.copy(start, file)
            return f"sqlite:///{file}"

        assert killed_everywhere(site, make, lambda _: None, expected) == IN_ORDER

    def test_every_revision_is_there_or_not_on_postgresql(self, site: Site, postgres: Cluster) -> None:
        start, whole = postgres.create_database(), postgres.create_database()
        begin(site, postgres.url(start))
        begin(site, postgres.url(whole))
        expected = complete(site, postgres.url(whole))

        def make() -> str:
            postgres.drop_database(name := postgres.create_database())
            postgres.execute(f"CREATE DATABASE {name} TEMPLATE {start}")
            return postgres.url(name)

        def drop(url: str) -> None:
            postgres.drop_database(url.rpartition("/")[2])

        assert killed_everywhere(site, make, drop, expected) == IN_ORDER
        for name in (start, whole):
            postgres.drop_database(name)


@pytest.mark.mariadb
class TestWhereItIsJournaled:
    def test_the_next_upgrade_comes_to_the_same_end(self, site: Site, mariadb: Server) -> None:
        whole = mariadb.create_database()
        begin(site, mariadb.url(whole))
        expected = complete(site, mariadb.url(whole))

        def make() -> str:
            begin(site, url := mariadb.url(mariadb.create_database()))
            return url

        def drop(url: str) -> None:
            mariadb.drop_database(url.rpartition("/")[2])

        killed_everywhere(site, make, drop, expected)
        mariadb.drop_database(whole)
