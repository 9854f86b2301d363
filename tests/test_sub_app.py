"""The record of a sub-app: what it accepts, and what it says about the rest."""

import dataclasses

import pytest

from opal_registry import PluginError, SubApp


def faults(**fields: object) -> list[str]:
    """What is wrong with a record."""
    with pytest.raises(PluginError) as caught:
        SubApp(**{"name": "alpha", **fields})  # type: ignore[arg-type]
    return [problem.what for problem in caught.value.problems]


def test_a_record_is_frozen_and_equal_to_its_twin() -> None:
    one = SubApp(name="alpha", models=["alpha.models"], requires=["core>=1.0"])
    assert one == SubApp(name="alpha", models=("alpha.models",), requires=("core>=1.0",))
    assert hash(one)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.name = "beta"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["a", "standupbot", "a1_b2", "x" * 30])
def test_names(name: str) -> None:
    assert SubApp(name=name).name == name


@pytest.mark.parametrize(
    "name", ["", "1a", "_a", "A", "Alpha", "al-pha", "al pha", "älpha", "x" * 31, "a\n", None, 3, b"a"]
)
def test_what_is_not_a_name(name: object) -> None:
    assert faults(name=name) == [f"{name!r} is not a name for a sub-app"]


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("models", "alpha.models", "'alpha.models'"),
        ("models", ("alpha models",), "'alpha models'"),
        ("models", ("alpha..models",), "'alpha..models'"),
        ("models", (".models",), "'.models'"),
        ("models", ("alpha:models",), "'alpha:models'"),
        ("models", (None,), "None"),
        ("models", None, "None"),
        ("models", {"alpha.models"}, "{'alpha.models'}"),
        ("requires", "core", "'core'"),
        ("requires", ("core>>1",), "'core>>1'"),
        ("requires", ("Core",), "'Core'"),
        ("requires", ("core[x]",), "'core[x]'"),
        ("requires", ("core @ https://x.example",), "'core @ https://x.example'"),
        ("requires", ("core; python_version > '3'",), "\"core; python_version > '3'\""),
        ("requires", (1.0,), "1.0"),
        ("metadata", ("alpha.tables",), "'alpha.tables'"),
        ("metadata", ("alpha:",), "'alpha:'"),
        ("metadata", ("alpha:a b",), "'alpha:a b'"),
        ("metadata", (object,), "<class 'object'>"),
        ("bind", None, "None"),
        ("bind", "", "''"),
        ("schema", "", "''"),
        ("schema", "s" * 64, f"'{'s' * 64}'"),
        ("table_prefix", 3, "3"),
        ("migrations", b"alpha:migrations", "b'alpha:migrations'"),
        ("create", "never", "'never'"),
        ("create", None, "None"),
    ],
)
def test_a_bad_value_is_named_with_its_field(field: str, value: object, found: str) -> None:
    assert faults(**{field: value}) == [f"sub-app 'alpha': {field} cannot be {found}"]


def test_every_fault_says_what_to_write_instead() -> None:
    with pytest.raises(PluginError) as caught:
        SubApp(name="A", models=("1",), requires=("?",), metadata=("m",), create="x", bind="")  # type: ignore[arg-type]
    assert [problem.mend for problem in caught.value.problems] == [
        "use lower-case letters, digits and underscores, a letter first, at most 30 characters",
        "write it as a text that is not empty",
        "choose one of models, migrations, external",
        'write it like models=("standupbot.models",)',
        'write it like requires=("core>=1.0",)',
        'write it like metadata=("standupbot.tables:metadata",)',
    ]


def test_migrations_that_create_the_tables_must_be_somewhere() -> None:
    with pytest.raises(PluginError) as caught:
        SubApp(name="alpha", create="migrations")
    assert str(caught.value) == (
        "sub-app 'alpha' says create='migrations', but not where its migrations are\n"
        '  mend:  add migrations="alpha:migrations", or write create="models"'
    )
    assert SubApp(name="alpha", create="migrations", migrations="alpha:migrations").create == "migrations"
    assert SubApp(name="alpha", create="external").migrations is None
