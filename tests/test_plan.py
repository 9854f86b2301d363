"""The order of the sub-apps: from what they require and what their foreign keys point to, the same every time."""

from itertools import permutations

import pytest

from opal_registry.plan import CycleError, order
from tests.distributions import Site
from tests.writing import complaint, model, models, owners, quarantined, refers


def test_each_comes_after_what_it_needs_and_equals_come_by_name() -> None:
    needs = {"b": ["core"], "a": ["c"], "c": ["core"], "core": [], "d": []}
    for names in permutations(needs):
        assert order({name: needs[name] for name in names}) == ["core", "b", "c", "a", "d"]


def test_needs_that_nobody_has_and_of_oneself_are_passed_over() -> None:
    assert order({"b": ["a", "b", "ghost"], "a": []}) == ["a", "b"]


@pytest.mark.parametrize(
    ("needs", "path"),
    [
        ({"a": ["b"], "b": ["a"]}, ("a", "b", "a")),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, ("b", "c", "b")),
        ({"z": ["a"], "a": ["m"], "m": ["z"], "lone": []}, ("a", "m", "z", "a")),
    ],
)
def test_a_circle_is_reported_with_its_path(needs: dict[str, list[str]], path: tuple[str, ...]) -> None:
    with pytest.raises(CycleError) as caught:
        order(needs)
    assert caught.value.path == path


def test_a_thousand_in_a_row_are_no_problem() -> None:
    names = [f"app{number:04}" for number in range(1000)]
    assert order({name: [before] for name, before in zip(names, ["", *names], strict=False)}) == names


def test_foreign_keys_decide_the_order_as_requirements_do(quick_site: Site) -> None:
    quick_site.sub_app("zeta", models(model("Z", "zetas")))
    quick_site.sub_app("alpha", models(model("A", "alphas", refers("z", "'zetas.id'"))), requires=("middle",))
    quick_site.sub_app("middle", models(model("M", "middles", refers("u", "'users.id'"))))
    assert list(owners(quick_site)) == ["core", "middle", "zeta", "alpha"]


def test_a_circle_of_requirements_is_named_with_its_links(quick_site: Site) -> None:
    quick_site.sub_app("alpha", requires=("beta",))
    quick_site.sub_app("beta", requires=("gamma",))
    quick_site.sub_app("gamma", requires=("alpha",))
    quick_site.sub_app("delta", requires=("gamma",))
    assert complaint(quick_site) == (
        "the sub-apps need each other in a circle: alpha -> beta -> gamma -> alpha\n"
        "  where: alpha requires beta; beta requires gamma; gamma requires alpha\n"
        "  mend:  let one of them do without the other: drop the requirement or the foreign key that closes the circle"
    )
    assert sorted(quarantined(quick_site)) == ["alpha", "beta", "delta", "gamma"]


def test_a_circle_of_requirements_and_foreign_keys_is_named_with_its_links(quick_site: Site) -> None:
    quick_site.sub_app("alpha", models(model("A", "alphas", refers("b", "'betas.id'", ", use_alter=True"))))
    quick_site.sub_app("beta", models(model("B", "betas")), requires=("alpha",))
    assert complaint(quick_site) == (
        "the sub-apps need each other in a circle: alpha -> beta -> alpha\n"
        "  where: alpha refers to beta by alphas.b; beta requires alpha\n"
        "  mend:  let one of them do without the other: drop the requirement or the foreign key that closes the circle"
    )
