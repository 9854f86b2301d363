"""One run at a time behind PgBouncer in transaction mode, where a session is nobody's own."""

import functools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from opal_registry.store.locks import hold_lock
from tests.contenders import LONG, Contender, connected, limits_of, lock_is_free, race, take_turn
from tests.pgbouncer import PgBouncer


@pytest.fixture
def section(tmp_path: Path) -> Path:
    """A file that is there while somebody is in the critical section."""
    return tmp_path / "section"


@pytest.fixture(autouse=True)
def _usual(pgbouncer: PgBouncer) -> Iterator[None]:
    yield
    pgbouncer.execute("SET query_wait_timeout = 120")


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
    with connected(pgbouncer_url) as connection, hold_lock(connection, wait=0, where="", statement_wait=2):
        pass
    with connected(pgbouncer_url) as connection:
        assert limits_of(connection) == ("0", "0")
    assert lock_is_free(pgbouncer_url)


def wait_for_a_queue(pgbouncer: PgBouncer, database: str) -> None:
    end = time.monotonic() + LONG
    while pgbouncer.count_waiting(database) != 1:
        assert time.monotonic() < end
        time.sleep(0.01)
