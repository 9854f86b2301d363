"""One run at a time behind PgBouncer in transaction mode, where a session is nobody's own."""

import functools
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from opal_registry.errors import DatabaseError
from opal_registry.store import pooler
from opal_registry.store.locks import hold_run
from tests.contenders import LONG, Contender, connected, holding, limits_of, lock_is_free, make_engine, race, take_turn
from tests.pgbouncer import PgBouncer
from tests.postgres import Cluster


@pytest.fixture
def section(tmp_path: Path) -> Path:
    """A file that is there while somebody is in the critical section."""
    return tmp_path / "section"


def test_who_waits_is_told_for_whom_and_then_comes(pgbouncer: PgBouncer, pgbouncer_url: str, section: Path) -> None:
    pgbouncer.execute("SET default_pool_size = 2")
    with Contender(pgbouncer_url, section) as first:
        first.hear_in()
        with Contender(pgbouncer_url, section) as second:
            kind, text = second.hear()
            said = f"waiting for another run of opal-db: {first.name}, since "
            assert (kind, text.startswith(said)) == ("waiting", True), text
            first.leave()
            second.hear_in()
            second.leave()
    assert race(6, 3, functools.partial(take_turn, pgbouncer_url), section) == [""] * 6


def test_with_a_single_connection_the_second_run_waits_where_it_cannot_be_told(
    pgbouncer: PgBouncer, pgbouncer_url: str, section: Path
) -> None:
    pgbouncer.execute("SET default_pool_size = 1")
    name = str(sa.make_url(pgbouncer_url).database)
    with Contender(pgbouncer_url, section) as first:
        first.hear_in()
        with Contender(pgbouncer_url, section, wait=0) as second:
            wait_for_a_queue(pgbouncer, name)
            first.leave()
            assert second.hear() == ("in", "")
            second.leave()
    assert race(6, 3, functools.partial(take_turn, pgbouncer_url), section) == [""] * 6


def test_there_it_is_sent_away_by_the_pooler(pgbouncer: PgBouncer, pgbouncer_url: str, section: Path) -> None:
    pgbouncer.execute("SET default_pool_size = 1")
    pgbouncer.execute("SET query_wait_timeout = 1")
    with Contender(pgbouncer_url, section) as first:
        first.hear_in()
        with Contender(pgbouncer_url, section) as second:
            kind, text = second.hear()
            assert (kind, "query_wait_timeout" in text) == ("error", True), text
        first.leave()
    assert lock_is_free(pgbouncer_url)


def test_nothing_stays_behind_for_the_next_client(pgbouncer: PgBouncer, pgbouncer_url: str) -> None:
    pgbouncer.execute("SET default_pool_size = 1")
    with holding(pgbouncer_url, statement_wait=2):
        pass
    with connected(pgbouncer_url) as connection:
        assert limits_of(connection) == ("0", "0")
    assert lock_is_free(pgbouncer_url)


def test_a_run_gets_its_second_connection_however_many_wait_for_it(
    pgbouncer: PgBouncer, pgbouncer_url: str, section: Path
) -> None:
    pgbouncer.execute("SET default_pool_size = 2")
    engine = make_engine(pgbouncer_url)
    with hold_run(engine, wait=0, where="") as check, ExitStack() as stack:
        waiting = [stack.enter_context(Contender(pgbouncer_url, section)) for _ in range(4)]
        for each in waiting:
            assert each.hear()[0] == "waiting"
        for _ in range(5):
            with engine.begin() as second:
                assert second.scalar(sa.text("SELECT 7")) == 7
            check()
    engine.dispose()


def test_with_a_single_connection_a_run_of_several_transactions_is_told_to_go_past_the_pooler(
    pgbouncer: PgBouncer, pgbouncer_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pgbouncer.execute("SET default_pool_size = 1")
    monkeypatch.setattr(pooler, "PATIENCE", 0.5)
    engine = make_engine(pgbouncer_url)
    with pytest.raises(DatabaseError) as caught, hold_run(engine, wait=0, where="here"):
        pytest.fail("it would wait for itself")
    engine.dispose()
    assert str(caught.value) == (
        "the pooler had no second connection for this run within 0.5 s, and the first one holds the lock\n"
        "  where: here\n"
        "  mend:  let runs go to the server directly: set database.migration_url; or make the pooler's pool larger"
    )
    assert lock_is_free(pgbouncer_url)


def test_who_waits_has_no_transaction_open(postgres18: Cluster, section: Path) -> None:
    name = postgres18.create_database()
    url = postgres18.url(name)
    ask = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND state = 'idle'"
    with Contender(url, section) as first:
        first.hear_in()
        with Contender(url, section) as second:
            assert second.hear()[0] == "waiting"
            wait_until(lambda: postgres18.execute(ask) == [(1,)])
    postgres18.drop_database(name)


def wait_for_a_queue(pgbouncer: PgBouncer, database: str) -> None:
    wait_until(lambda: pgbouncer.count_waiting(database) == 1)


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)
