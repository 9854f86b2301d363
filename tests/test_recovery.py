"""An application that goes on through the failure of its server: one clear error, and it works again without a restart."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from opal_registry.registry import Registry
from tests.databases import registry_of
from tests.postgres import Cluster
from tests.replication import Standby

COUNT = sa.text("UPDATE counted SET number = number + 1 RETURNING number")


@pytest.fixture
def primary() -> Iterator[Cluster]:
    """A server of its own, with a table."""
    with Cluster(18) as cluster:
        cluster.execute("CREATE TABLE counted (number int); INSERT INTO counted VALUES (0)")
        yield cluster


def count(registry: Registry) -> int:
    with registry.session_scope() as session:
        return int(session.execute(COUNT).scalar_one())


def count_for_ever(registry: Registry) -> None:
    while count(registry):
        pass


def count_twice(registry: Registry, primary: Cluster) -> None:
    """In one transaction, whose connection the server ends in between."""
    with registry.session_scope() as session:
        session.execute(COUNT)
        pid = session.scalar(sa.text("SELECT pg_backend_pid()"))
        primary.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
        session.execute(COUNT)


def test_after_a_restart_no_transaction_is_lost_that_begins_then(primary: Cluster) -> None:
    with registry_of(primary.url()) as registry:
        assert count(registry) == 1
        primary.stop()
        with pytest.raises(sa.exc.OperationalError, match=r"refused|closed|terminating"):
            count(registry)
        primary.start()
        assert count(registry) == 2


def test_a_server_that_was_restarted_in_between_is_not_noticed(primary: Cluster) -> None:
    with registry_of(primary.url(), database={"url": primary.url(), "pool": {"ping_after": 0}}) as registry:
        assert count(registry) == 1
        primary.stop("fast")
        primary.start()
        assert count(registry) == 2


def test_one_url_with_both_servers_follows_the_primary_to_its_standby(primary: Cluster) -> None:
    with Standby(primary) as standby:
        both = f"host=127.0.0.1,127.0.0.1&port={primary.port},{standby.port}&target_session_attrs=read-write"
        with registry_of(f"postgresql://postgres@/postgres?{both}") as registry:
            assert count(registry) == 1
            engine = registry.engine()
            primary.stop("fast")  # when the standby has all
            with pytest.raises(sa.exc.OperationalError):
                count(registry)
            standby.promote()
            assert count(registry) == 2
            assert registry.engine() is engine


def test_a_connection_that_is_cut_in_a_transaction_costs_that_one_only(primary: Cluster) -> None:
    with registry_of(primary.url()) as registry:
        with pytest.raises(sa.exc.OperationalError) as caught:
            count_twice(registry, primary)
        assert caught.value.connection_invalidated
        assert count(registry) == 1
        assert registry.engine().pool.checkedout() == 0  # type: ignore[attr-defined]


def test_a_primary_that_became_a_standby_is_left_though_nobody_cut_its_connections(primary: Cluster) -> None:
    with Standby(primary) as standby:
        both = f"host=127.0.0.1,127.0.0.1&port={primary.port},{standby.port}&target_session_attrs=read-write"
        with registry_of(f"postgresql://postgres@/postgres?{both}") as registry:
            assert count(registry) == 1
            standby.promote()
            primary.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            primary.execute("SELECT pg_reload_conf()")
            with pytest.raises(sa.exc.DBAPIError, match="read-only transaction") as caught:
                count_for_ever(registry)  # the session reads the setting soon
            assert caught.value.connection_invalidated
            assert count(registry) > 0
