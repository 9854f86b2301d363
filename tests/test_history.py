"""A history is read from its files: who follows whom, what is pinned, and what is wrong with it, without executing it."""

from pathlib import Path

import pytest

from opal_registry.errors import ConfigError, PluginError
from opal_registry.migrations.history import load_histories, load_history
from opal_registry.migrations.location import Location
from tests.revisions import make_app, make_history, revision, write_history


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is written below ``tmp_path`` can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def refuse(folder: Path, app: str, *texts: str) -> str:
    with pytest.raises(PluginError) as caught:
        make_history(folder, app, *texts)
    return str(caught.value).replace(f"{folder}/", "")


def test_each_revision_comes_after_those_it_follows(tmp_path: Path) -> None:
    history = make_history(
        tmp_path, "hist1", revision("c", "a"), revision("a"), revision("d", ("b", "c")), revision("b", "a")
    )
    assert list(history.revisions) == ["a", "b", "c", "d"]
    assert history.heads == ("d",)
    assert history.ancestors(["c"]) == {"a", "c"}
    assert history.descendants(["b"]) == {"b", "d"}
    assert history.find_heads(["a", "b", "c"]) == ("b", "c")


def test_labelled_branches_depend_on_each_other(tmp_path: Path) -> None:
    left, right = revision("a1", branch_labels="left"), revision("b1", depends_on="left", branch_labels=("right",))
    history = make_history(tmp_path, "hist2", left, right)
    assert history.revisions["b1"].depends_on == ("a1",)
    assert history.heads == ("b1",)
    assert history.resolve("right@head") == ("b1",)


def test_a_revision_says_what_it_pins_and_which_phase_it_belongs_to(tmp_path: Path) -> None:
    text = revision("a", title="Add teams", opal_depends_on={"core": ["c1"], "auth": ["x", "y"]}, opal_phase="contract")
    found = make_history(tmp_path, "hist3", text).revisions["a"]
    assert (found.title, found.phase) == ("Add teams", "contract")
    assert found.pins == {"auth": ("x", "y"), "core": ("c1",)}


@pytest.mark.parametrize(
    ("upgrade", "phase"),
    [
        ("op.create_table('t')", "expand"),
        ("op.drop_table('t')", "contract"),
        ("with op.batch_alter_table('t') as batch_op:\n    batch_op.drop_column('c')", "contract"),
        ("op.alter_column('t', 'c', new_column_name='d')", "contract"),
        ("op.alter_column('t', 'c', nullable=True)", "expand"),
        ("op.rename_table('t', 'u')", "contract"),
    ],
)
def test_what_takes_something_away_is_contract_unless_it_says_otherwise(
    tmp_path: Path, upgrade: str, phase: str
) -> None:
    drops_back = revision("a", None, upgrade, "op.drop_table('t')")
    assert make_history(tmp_path, f"hist4{abs(hash(upgrade))}", drops_back).revisions["a"].phase == phase
    said = revision("a", None, upgrade, opal_phase="expand")
    assert make_history(tmp_path, f"hist5{abs(hash(upgrade))}", said).revisions["a"].phase == "expand"


def test_nothing_is_executed_before_it_is_run(tmp_path: Path) -> None:
    text = revision("a") + "\nraise RuntimeError('executed')\n"
    history = make_history(tmp_path, "hist6", text)
    assert history.script.get_revision("head").revision == "a"
    with pytest.raises(PluginError, match="importing the revision hist6@a failed: RuntimeError: executed"):
        _ = history.script.get_revision("a").module.upgrade


def test_line_ends_do_not_change_a_checksum(tmp_path: Path) -> None:
    text = revision("a")
    here = write_history(tmp_path, "hist7", {"a": text})
    there = write_history(tmp_path, "hist8", {})
    (tmp_path / "hist8/migrations/a.py").write_bytes(text.replace("\n", "\r\n").encode())
    first, second = load_history(here).revisions["a"], load_history(there).revisions["a"]
    assert first.checksum == second.checksum
    (tmp_path / "hist8/migrations/a.py").write_text(text.replace("pass", "print()"))
    assert load_history(there).revisions["a"].checksum != first.checksum


def test_a_folder_called_versions_is_found(tmp_path: Path) -> None:
    app = write_history(tmp_path, "hist9", {})
    (tmp_path / "hist9/migrations/versions").mkdir()
    (tmp_path / "hist9/migrations/versions/a.py").write_text(revision("a"))
    assert list(load_history(app).revisions) == ["a"]


@pytest.mark.parametrize(
    ("app", "texts", "said"),
    [
        pytest.param(
            "bad1",
            (revision("a"), revision("c", "b")),
            "bad1@c follows the revision 'b', which is not there\n"
            "  where: bad1/migrations/r1.py\n  mend:  restore its file, or correct down_revision",
            id="a missing parent",
        ),
        pytest.param(
            "bad2",
            (revision("a"), revision("a")),
            "two files are the revision bad2@a\n  where: bad2/migrations/r0.py and bad2/migrations/r1.py\n"
            "  mend:  give one of them another identifier",
            id="one identifier twice",
        ),
        pytest.param(
            "bad0",
            (revision("a"), revision("b", "b")),
            "bad0@b follows itself\n  where: bad0/migrations/r1.py\n  mend:  correct its down_revision or depends_on",
            id="one after itself",
        ),
        pytest.param(
            "bad3",
            (revision("a", "b"), revision("b", "a")),
            "revisions of 'bad3' follow each other in a circle: a -> b -> a\n  where: bad3/migrations\n"
            "  mend:  correct down_revision or depends_on of one of them",
            id="no base",
        ),
        pytest.param(
            "bad4",
            ("x = 1\n",),
            "a file among the revisions of 'bad4' does not say which one it is\n  where: bad4/migrations/r0.py\n"
            '  mend:  write revision = "..." into it, or move it elsewhere: in this folder every file is a revision',
            id="no revision",
        ),
        pytest.param(
            "bad5",
            ("revision = 'a'\ndown_revision = BASE\n",),
            "down_revision of a revision of 'bad5' is computed: BASE\n  where: bad5/migrations/r0.py:2\n"
            "  mend:  write its value there, so that it can be read without executing the file",
            id="computed",
        ),
        pytest.param(
            "bad6",
            ("def f(:\n",),
            "a revision of 'bad6' cannot be read: invalid syntax\n  where: bad6/migrations/r0.py:1\n"
            "  mend:  mend the syntax",
            id="syntax",
        ),
        pytest.param(
            "bad7",
            (revision("a", opal_depends_on={"core": 3}),),
            "opal_depends_on of bad7@a cannot be {'core': 3}\n  where: bad7/migrations/r0.py\n"
            '  mend:  write it like opal_depends_on = {"core": ["1a2b"]}; for revisions of its own there is depends_on',
            id="a pin that is no text",
        ),
        pytest.param(
            "bad14",
            (revision("a", opal_depends_on={"core": "core0001"}),),
            "opal_depends_on of bad14@a cannot be {'core': 'core0001'}\n  where: bad14/migrations/r0.py\n"
            '  mend:  write it like opal_depends_on = {"core": ["1a2b"]}; for revisions of its own there is depends_on',
            id="a pin that is no list",
        ),
        pytest.param(
            "bad8",
            (revision("a", opal_depends_on={"bad8": ["b"]}),),
            "opal_depends_on of bad8@a cannot be {'bad8': ['b']}\n  where: bad8/migrations/r0.py\n"
            '  mend:  write it like opal_depends_on = {"core": ["1a2b"]}; for revisions of its own there is depends_on',
            id="a pin to itself",
        ),
        pytest.param(
            "bad9",
            (revision("a", opal_phase="later"),),
            "opal_phase of bad9@a cannot be 'later'\n  where: bad9/migrations/r0.py\n  mend:  choose one of expand, contract",
            id="an unknown phase",
        ),
        pytest.param(
            "bad10",
            (revision("a" * 33),),
            f"the revision bad10@{'a' * 33} has too long an identifier\n  where: bad10/migrations/r0.py\n"
            "  mend:  give it one of at most 32 characters",
            id="too long",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_its_remedy(
    tmp_path: Path, app: str, texts: tuple[str, ...], said: str
) -> None:
    assert refuse(tmp_path, app, *texts) == said


def test_a_folder_that_is_not_there_is_an_error_but_where_one_is_made(tmp_path: Path) -> None:
    app = write_history(tmp_path, "gone", {})
    (tmp_path / "gone/migrations").rmdir()
    with pytest.raises(PluginError) as caught:
        load_history(app)
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "sub-app 'gone': the folder of its migrations is not there: gone/migrations\n"
        "  where: plugin 'gone' (opal-gone 1.0, gone.opal)\n"
        "  mend:  is it in the wheel? A new one is made by: opal-db revision gone -m TEXT"
    )
    assert load_history(app, may_be_missing=True).revisions == {}


@pytest.mark.parametrize(
    ("migrations", "said"),
    [
        ("nowhere", "sub-app 'x': migrations cannot be 'nowhere'"),
        ("no_such_package:migrations", "sub-app 'x': there is no package 'no_such_package'"),
    ],
)
def test_a_location_that_cannot_be_is_an_error(migrations: str, said: str) -> None:
    with pytest.raises(PluginError) as caught:
        load_history(make_app("x", migrations))
    assert caught.value.problems[0].what == said


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    app = write_history(tmp_path, "closed", {})
    (tmp_path / "closed/migrations/a.py").mkdir()
    (tmp_path / "closed/migrations/b.py").write_bytes(b"revision = '\xff'")
    with pytest.raises(PluginError) as caught:
        load_history(app)
    unreadable, undecodable = caught.value.problems
    assert "a revision of 'closed' cannot be read: [Errno 21] Is a directory" in unreadable.what
    assert "a revision of 'closed' cannot be read: 'utf-8' codec can't decode" in undecodable.what


def test_the_faults_of_all_histories_are_told_at_once(tmp_path: Path) -> None:
    apps = [write_history(tmp_path, name, {"a": "x = 1"}) for name in ("both1", "both2")]
    with pytest.raises(PluginError) as caught:
        load_histories(apps)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("bbbb9", "app1@bbbb9: No such revision or branch 'bbbb9'"),
        ("aaaa", "app1@aaaa: Multiple revisions start with 'aaaa': 'aaaa1', 'aaaa2'"),
        ("head", "app1@head: there is more than one head: aaaa1, aaaa2"),
    ],
)
def test_what_a_person_asks_for_is_found_or_refused(tmp_path: Path, target: str, said: str) -> None:
    history = make_history(tmp_path, "app1", revision("aaaa1"), revision("aaaa2"))
    assert history.resolve("aaaa1") == ("aaaa1",)
    assert history.resolve("heads") == ("aaaa1", "aaaa2")
    assert history.resolve("base") == ()
    with pytest.raises(ConfigError) as caught:
        history.resolve(target)
    assert caught.value.problems[0].what == said
    assert caught.value.problems[0].mend == "choose from: base, head, heads, aaaa1 (aaaa1), aaaa2 (aaaa2)"


def test_what_is_installed_is_told_from_what_is_source(tmp_path: Path) -> None:
    assert not Location("x:m", tmp_path / "x/m").is_installed
    assert Location("x:m", tmp_path / "lib/site-packages/x/m").is_installed
