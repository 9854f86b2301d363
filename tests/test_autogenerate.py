"""Revisions that are generated: they run on every database, up and down, and make what the models say."""

from pathlib import Path

import pytest

from opal_registry.authoring.writing import write_revision
from opal_registry.contents import read_contents
from opal_registry.migrations.downgrade import downgrade
from opal_registry.migrations.look import Target
from opal_registry.registry import Registry
from opal_registry.scratch import make_scratch
from opal_registry.testing import check_migrations
from opal_registry.upgrade import upgrade
from tests.databases import settings_of
from tests.made_histories import make_package, with_other_histories


@pytest.mark.parametrize("app", ["buildpilot", "calmind"])
def test_a_first_revision_that_was_generated_makes_what_the_models_say_and_goes_back(
    app: str, any_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among its models: truth values with a default, enums that a check stands for, indexes that foreign keys need."""
    make_package(monkeypatch, tmp_path, "generated")
    registry = Registry(settings_of(any_database_url))
    others = with_other_histories(registry, {app: "generated"})
    written = write_revision(others, app, "All of it")
    assert written
    text = written.path.read_text("utf-8")
    assert "server_default=sa.true()" in text
    check_migrations(others, app)
    assert write_revision(others, app, "More") is None
    with make_scratch(others, "default") as scratch:
        upgrade(scratch, Target(app))
        downgrade(scratch, Target(app, "base"))
        with scratch.migration_engine().connect() as connection:
            assert set(read_contents(connection)) == {"", "users"}
    others.close()
