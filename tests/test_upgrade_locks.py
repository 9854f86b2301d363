"""Upgrades and others who use the tables, or the lock: PostgreSQL's waits, and indexes that are built beside everybody."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from tests.contenders import LONG
from tests.databases import engine_of
from tests.deploys import columns, execute, ran, rows
from tests.distributions import Site
from tests.revisions import release, revision
from tests.snapshots import rows_of
from tests.test_upgrade import ADD, FIRST, N1, first

Env = dict[str, str | None]
BESIDE = """
with op.get_context().autocommit_block():
    op.create_index('notes_by_user', 'notes', ['user_id'], postgresql_concurrently=True{more})
"""
INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"


@pytest.fixture
def url(postgres_url: str) -> str:
    return postgres_url


@pytest.fixture
def env(url: str) -> Env:
    return {"OPAL_DATABASE__URL": url, "OPAL_LOCKS__DDL_LOCK_TIMEOUT": "100ms", "OPAL_LOCKS__RETRIES": "2"}


@pytest.fixture
def site(quick_site: Site, env: Env) -> Site:
    """Where the first release of a sub-app is, which the database has."""
    first(quick_site)
    assert quick_site.run("init", env=env).code == 0
    return quick_site


def later(site: Site, *bodies: str) -> None:
    """Install a release with further revisions."""
    texts = [revision(f"n{number}", f"n{number - 1}", body) for number, body in enumerate(bodies, 2)]
    release(site, "notes", "2.0", FIRST, N1, *texts)


@contextmanager
def used(url: str, table: str = "notes") -> Iterator[sa.Connection]:
    """Somebody reads a table in a transaction that does not end."""
    engine = engine_of(url)
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql(f"SELECT * FROM {table}")
        yield connection
    engine.dispose()


class TestATableThatIsInUse:
    def test_only_the_revision_that_met_it_is_run_again(self, site: Site, env: Env, url: str) -> None:
        log = site.cwd / "log"
        write = f"open({str(log)!r}, 'a').write"
        later(site, f"{write}('2'); op.execute('CREATE TABLE x (y INTEGER)')", f"{write}('3'); {ADD}")
        with used(url):
            done = site.run("upgrade", env=env)
        assert done.code == 5, done
        assert "error: something else holds a lock for too long: " in done.err
        assert log.read_text() == "2333"
        assert rows(url, "SELECT version_num FROM opal_revision_notes") == [("n2",)]
        assert ran(site.run("upgrade", "--json", env=env)) == ["notes@n3"]

    def test_one_that_has_committed_something_is_not_run_again(self, site: Site, env: Env, url: str) -> None:
        log = site.cwd / "log"
        later(site, f"open({str(log)!r}, 'a').write('2')\n{BESIDE.format(more='')}\nop.drop_column('users', 'email')")
        with used(url, "users"):
            done = site.run("upgrade", env=env)
        assert done.code == 5, done
        assert log.read_text() == "2"
        assert done.err.endswith(
            "; what its autocommit_block sent, and what was sent before it, is not taken back, and the next run begins at the "
            "beginning: see that it can, after CREATE INDEX CONCURRENTLY notes_by_user ON notes (user_id)\n"
        )
        assert rows_of(url, "opal_events")[-1]["outcome"] == "failed"

    def test_the_pauses_between_differ_from_run_to_run(self) -> None:
        from opal_registry.store.locks import retry_pauses

        assert len({tuple(retry_pauses(5)) for _ in range(10)}) == 10


class TestAStatementThatTakesTooLong:
    def test_is_ended(self, site: Site, env: Env, url: str) -> None:
        later(site, f"{ADD}\nop.execute('SELECT pg_sleep(60)')")
        done = site.run("upgrade", env=env | {"OPAL_LOCKS__STATEMENT_TIMEOUT": "100ms"})
        assert done.code == 4, done
        assert "error: the server ended the statement: it took too long: " in done.err
        assert "running the revision notes@n2 (" in done.err
        assert columns(url, "notes") == {"id", "user_id"}

    def test_is_not_limited_unless_it_is_said(self, site: Site, env: Env, url: str) -> None:
        ask = "op.get_bind().exec_driver_sql('SHOW statement_timeout').scalar()"
        later(site, f"assert {ask} == '0'")
        assert ran(site.run("upgrade", "--json", env=env)) == ["notes@n2"]


class TestAnIndexThatIsBuiltBesideEverybody:
    def test_is_built_while_other_runs_wait(self, site: Site, env: Env, url: str) -> None:
        gate = site.cwd / "gate"
        os.mkfifo(gate)
        later(site, f"open({str(gate)!r}).read()\n{BESIDE.format(more='')}")
        builder = site.start(*site.command("upgrade", "--json"), env=env)
        with gate.open("w"):  # once it is in its revision
            others = [site.start(*site.command("upgrade", "--json"), env=env) for _ in range(2)]
            for other in others:
                assert other.stderr is not None
                said = other.stderr.readline()
                name = f"host {socket.gethostname()}, process {builder.pid}"
                assert re.match(f"waiting for another run of opal-db: {re.escape(name)}, since ", said), said
        ends = [each.communicate(timeout=LONG) for each in (builder, *others)]
        assert [each.returncode for each in (builder, *others)] == [0, 0, 0], ends
        assert ["n2" in out for out, _ in ends] == [True, False, False]
        assert rows(url, INVALID) == [(0,)]

    def test_that_failed_is_named_with_how_to_be_rid_of_it(self, site: Site, env: Env, url: str) -> None:
        execute(url, "INSERT INTO notes (id, user_id) VALUES (1, NULL), (2, NULL)")
        later(site, BESIDE.format(more=", unique=True, postgresql_nulls_not_distinct=True"))
        done = site.run("upgrade", env=env)
        assert done.code == 4, done
        remedy = "DROP INDEX CONCURRENTLY notes_by_user"
        assert done.err.endswith(f"; an index is left behind that is not valid: {remedy}\n"), done.err
        said = "the index notes_by_user on notes is not valid, as a CREATE INDEX CONCURRENTLY that failed leaves it"
        again = site.run("upgrade", env=env)
        assert (again.code, f"{said}: {remedy}" in again.err) == (4, True), again
        engine = engine_of(url).execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(remedy)
        engine.dispose()
        execute(url, "DELETE FROM notes")
        done = site.run("upgrade", "--json", env=env)
        assert (ran(done), done.err) == (["notes@n2"], "")
