"""The plan over all histories: what comes where, and why; the same whatever the order in which things are found."""

import itertools
from pathlib import Path

import pytest

from opal_registry.errors import PluginError
from opal_registry.migrations.history import History
from opal_registry.migrations.location import Location
from opal_registry.migrations.revision_file import Revision
from opal_registry.migrations.steps import Plan, find_levels, make_plan
from opal_registry.plan import order
from opal_registry.store.revisions import Applied, Standing

LEVELS = {"core": 0, "app": 1}


def make(app: str, *revisions: Revision) -> History:
    known = {each.id: each for each in revisions}
    ordered = order({each.id: each.needs for each in revisions})
    return History(app, "1.0", Location(f"{app}:m", Path(app)), {id_: known[id_] for id_ in ordered})


def chain(app: str, ids: str, **pins: str) -> History:
    """A history in a row, one letter each; ``X2="core@B"`` pins."""
    made = []
    for parent, id_ in itertools.pairwise(["", *ids.split()]):
        pinned = dict([pins[id_].split("@")]) if id_ in pins else {}
        needs = {name: tuple(each.split(",")) for name, each in pinned.items()}
        made.append(Revision(app, id_, (parent,) if parent else (), pins=needs, path=Path(f"{id_}.py")))
    return make(app, *made)


def plan(*histories: History, at: dict[str, str] | None = None, **options: object) -> Plan:
    standings = {app: Standing((head,)) for app, head in (at or {}).items()}
    by_app = {history.app: history for history in histories}
    wanted = {history.app: history.heads for history in histories}
    return make_plan(by_app, standings, wanted, levels=LEVELS, **options)  # type: ignore[arg-type]


def ids(made: Plan) -> str:
    return " ".join(step.revision.id for step in made.steps)


def test_a_fresh_database_runs_in_the_order_of_one_that_was_upgraded_release_by_release() -> None:
    core, app = chain("core", "A B C D"), chain("app", "X1 X2", X1="core@B", X2="core@D")
    fresh = ids(plan(core, app))
    first = ids(plan(chain("core", "A B"), chain("app", "X1", X1="core@B")))
    then = ids(plan(core, app, at={"core": "B", "app": "X1"}))
    assert fresh == f"{first} {then}" == "A B X1 C D X2"


def test_the_order_is_the_same_whatever_was_found_first() -> None:
    histories = [chain("core", "A B C"), chain("app", "X Y", X="core@B"), chain("other", "O P", O="core@A", P="app@X")]
    found = {ids(plan(*found)) for found in itertools.permutations(histories)}
    assert found == {"A B X Y C O P"}


def test_each_step_says_why_it_comes_where_it_does() -> None:
    core, app = chain("core", "A B C"), chain("app", "X", X="core@B")
    made = make_plan({"core": core, "app": app}, {}, {"app": ["X"]}, levels=LEVELS)
    assert [(str(step.revision), step.why) for step in made.steps] == [
        ("core@A", "wanted by app@X"),
        ("core@B", "follows core@A, wanted by app@X"),
        ("app@X", "needs core@B"),
    ]


def test_what_is_applied_is_not_run_again_whether_the_version_table_or_the_ledger_says_so() -> None:
    core, app = chain("core", "A B"), chain("app", "X", X="core@B")
    assert ids(plan(core, app, at={"core": "B"})) == "X"
    recorded = Standing(("B",), {"B": Applied("core", "B", None, {}, None, "1.0")})
    assert ids(make_plan({"app": app}, {"core": recorded}, {"app": ["X"]}, levels=LEVELS)) == "X"


def test_a_database_that_is_ahead_has_nothing_to_run() -> None:
    assert ids(plan(chain("core", "A B"), at={"core": "Z"})) == "A B"
    recorded = {id_: Applied("core", id_, None, {}, None, "2.0") for id_ in "ABZ"}
    made = make_plan({"core": chain("core", "A B")}, {"core": Standing(("Z",), recorded)}, {"core": ["B"]}, levels={})
    assert made == Plan()


@pytest.mark.parametrize(
    ("histories", "what", "mend"),
    [
        (
            (chain("app", "X", X="core@B"),),
            "app@X needs core@B, which the database lacks, and 'core' has no migrations here",
            "upgrade 'core' first, from an image that has it",
        ),
        (
            (chain("core", "A"), chain("app", "X", X="core@B")),
            "app@X needs core@B, which neither the database nor the installed core 1.0 has",
            "install a release of 'core' that has it, or correct opal_depends_on",
        ),
        (
            (chain("core", "A B", A="app@Y"), chain("app", "X Y", X="core@B")),
            "revisions need each other in a circle: app@X -> core@B -> core@A -> app@Y -> app@X",
            "take one of the pins (opal_depends_on) out",
        ),
    ],
)
def test_a_pin_that_cannot_be_met_is_named(histories: tuple[History, ...], what: str, mend: str) -> None:
    with pytest.raises(PluginError) as caught:
        plan(*histories)
    (problem,) = caught.value.problems
    assert (problem.what, problem.mend) == (what, mend)


def test_the_same_identifier_in_two_histories_is_two_revisions() -> None:
    assert ids(plan(chain("core", "A"), chain("app", "A", A="core@A"))) == "A A"


def test_expand_holds_back_what_takes_away_and_whatever_follows_it() -> None:
    expand, contract = Revision("core", "A"), Revision("core", "B", ("A",), phase="contract")
    core = make("core", expand, contract, Revision("core", "C", ("B",)))
    app = make("app", Revision("app", "X", pins={"core": ("A",)}), Revision("app", "Y", ("X",), pins={"core": ("C",)}))
    made = plan(core, app, phase="expand")
    assert ids(made) == "A X"
    assert [str(each) for each in made.held_back] == ["core@B", "core@C", "app@Y"]
    assert ids(plan(core, app, phase="contract")) == "A X B C Y"


def test_branches_and_merges_are_run_once() -> None:
    history = make(
        "core",
        Revision("core", "a"),
        Revision("core", "b", ("a",)),
        Revision("core", "c", ("a",)),
        Revision("core", "d", ("b", "c")),
    )
    assert ids(plan(history)) == "a b c d"
    assert ids(make_plan({"core": history}, {"core": Standing(("b", "c"))}, {"core": ["d"]}, levels={})) == "d"


def test_a_level_is_one_above_the_highest_that_is_needed() -> None:
    assert find_levels({"a": [], "b": ["a"], "c": ["a", "b"], "d": ["not here"]}) == {"a": 0, "b": 1, "c": 2, "d": 0}
