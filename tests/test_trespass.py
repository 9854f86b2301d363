"""A revision leaves the tables of other sub-apps where they are."""

import pytest

from tests.deploys import columns, execute, heads, rows, tables
from tests.distributions import Site
from tests.revisions import release, revision
from tests.writing import model, models

Env = dict[str, str | None]
NOTES = models(model("Note", "notes"))
N1 = revision("n1", None, "op.create_table('notes', sa.Column('id', sa.Integer(), primary_key=True))")


@pytest.fixture
def env(any_database_url: str) -> Env:
    """The variables that configure the database."""
    return {"OPAL_DATABASE__URL": any_database_url}


@pytest.fixture
def site(quick_site: Site, env: Env, any_database_url: str) -> Site:
    """Two sub-apps, of which core has a row."""
    release(quick_site, "notes", "1.0", NOTES, N1)
    assert quick_site.run("upgrade", env=env).code == 0
    execute(any_database_url, "INSERT INTO users (id, username, roles) VALUES (7, 'ada', '[]')")
    return quick_site


@pytest.mark.parametrize(
    "trespass",
    [
        "op.drop_table('users')",
        "op.rename_table('users', 'people')",
        "op.execute('drop table if exists users')",
        "op.execute('ALTER TABLE users RENAME TO people')",
    ],
)
def test_none_is_taken_away(site: Site, env: Env, any_database_url: str, trespass: str) -> None:
    before = tables(any_database_url)
    adds = "op.add_column('notes', sa.Column('more', sa.Integer()))"
    release(site, "notes", "2.0", NOTES, N1, revision("n2", "n1", f"{adds}\n{trespass}"))
    done = site.run("upgrade", env=env)
    assert done.code == 3
    assert "error: notes@n2 would take away the table 'users' of sub-app 'core' (opal-registry 1.0.0)" in done.err
    assert "0002.py" in done.err
    assert "leave that to the revisions of 'core', or let the table change hands first" in done.err
    assert rows(any_database_url, "SELECT username FROM users") == [("ada",)]
    assert (tables(any_database_url), heads(any_database_url, "notes")) == (before, ["n1"])


def test_of_its_own_it_may(site: Site, env: Env, any_database_url: str) -> None:
    rebuilds = "with op.batch_alter_table('notes', recreate='auto') as batch:\n    batch.alter_column('id', existing_type=sa.Integer(), existing_nullable=False, comment='x')"
    makes = "op.create_table('papers', sa.Column('id', sa.Integer(), primary_key=True))\nop.drop_table('papers')"
    release(site, "notes", "2.0", NOTES, N1, revision("n2", "n1", f"{rebuilds}\n{makes}"))
    done = site.run("upgrade", env=env)
    assert (done.code, columns(any_database_url, "notes")) == (0, {"id"}), (done.out, done.err)


def test_others_tables_may_be_rebuilt(site: Site, env: Env, any_database_url: str) -> None:
    adds = "with op.batch_alter_table('users', recreate='auto') as batch:\n    batch.alter_column('username', existing_type=sa.String(80), existing_nullable=False, comment='x')"
    release(site, "notes", "2.0", NOTES, N1, revision("n2", "n1", adds))
    done = site.run("upgrade", env=env)
    assert done.code == 0, (done.out, done.err)
    assert rows(any_database_url, "SELECT username FROM users") == [("ada",)]
