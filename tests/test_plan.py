"""The order of the sub-apps and of their tables: from what they require and what they refer to, the same every time."""

from itertools import permutations

import pytest
import sqlalchemy as sa
from sqlalchemy.schema import CreateView

from opal_registry.plan import CycleError, order, order_tables
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


def test_a_circle_across_metadata_is_closed_late() -> None:
    one, two = sa.MetaData(), sa.MetaData()
    a = sa.Table("a", one, sa.Column("id", sa.Integer, primary_key=True), sa.Column("b", sa.Integer))
    b = sa.Table("b", two, sa.Column("id", sa.ForeignKey(a.c.id), primary_key=True))
    c = sa.Table("c", one, sa.Column("a", sa.ForeignKey("a.id")), sa.Column("b", sa.ForeignKey(b.c.id)))
    a.append_constraint(sa.ForeignKeyConstraint(["b"], [b.c.id]))
    tables, late = order_tables([c, b, a])
    assert tables == (a, b, c)
    assert [(key.table, key.referred_table) for key in late] == [(a, b), (b, a)]


def test_a_key_that_says_use_alter_is_late_and_orders_nothing() -> None:
    metadata = sa.MetaData()
    a = sa.Table("a", metadata, sa.Column("b", sa.ForeignKey("b.id", use_alter=True, name="late")))
    b = sa.Table("b", metadata, sa.Column("id", sa.Integer, primary_key=True))
    tables, late = order_tables([b, a])
    assert (tables, [key.name for key in late]) == ((a, b), ["late"])


def test_a_view_comes_after_what_it_selects_from() -> None:
    one, two = sa.MetaData(), sa.MetaData()
    z = sa.Table("z", one, sa.Column("id", sa.Integer, primary_key=True))
    view = CreateView(sa.select(sa.func.count()).where(sa.exists().where(z.c.id > 1)), "a", metadata=two).table
    assert order_tables([view, z])[0] == (z, view)


def test_what_its_author_says_counts() -> None:
    a, z = (sa.Table(name, sa.MetaData(), sa.Column("id", sa.Integer)) for name in ("a", "z"))
    a.add_is_dependent_on(z)
    assert order_tables([a, z])[0] == (z, a)


def test_a_key_to_the_other_definition_of_a_table_counts() -> None:
    kept, twin = (sa.Table("z", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True)) for _ in range(2))
    a = sa.Table("a", sa.MetaData(), sa.Column("z", sa.ForeignKey(twin.c.id)))
    assert order_tables([a, kept], {twin: kept})[0] == (kept, a)


def test_a_key_to_the_table_itself_waits_for_the_index_that_it_needs() -> None:
    metadata = sa.MetaData()
    code = sa.Column("code", sa.String(20), unique=True, index=True)
    other: sa.Column[int] = sa.Column("other", sa.ForeignKey("items.id"))
    items = sa.Table("items", metadata, sa.Column("id", sa.Integer, primary_key=True), code, other)
    items.append_column(sa.Column("parent", sa.ForeignKey("items.code")))
    assert [key.column_keys for key in order_tables([items])[1]] == [["parent"]]
