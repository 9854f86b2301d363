"""Fork after the first query: a child connects anew, and leaves its parent's connections alone."""

import os
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from tests.databases import engine_of, registry_of

WHO = {
    "sqlite": "SELECT 1",
    "postgresql": "SELECT pg_backend_pid()",
    "mysql": "SELECT connection_id()",
    "mariadb": "SELECT connection_id()",
}


def in_a_child(ask: Callable[[], object]) -> str:
    """What a forked process finds, or the error it meets."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            found = str(ask())
        except Exception as error:  # noqa: BLE001 -- the parent judges it
            found = f"{type(error).__name__}: {error}"
        os.write(writing, found.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        found = answer.read()
    assert os.waitpid(child, 0)[1] == 0
    return found


def who(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.text(WHO[engine.dialect.name])).scalar_one())


def test_a_child_connects_anew_and_its_parent_goes_on(any_database_url: str) -> None:
    engine = engine_of(any_database_url)
    parent = who(engine)

    child = in_a_child(lambda: who(engine))
    assert child.isdigit()
    assert child != str(parent) or engine.dialect.name == "sqlite"
    assert who(engine) == parent
    engine.dispose()


def test_a_transaction_stays_the_parents(postgres_url: str) -> None:
    with registry_of(postgres_url) as registry, registry.session_scope() as session:
        pid = sa.text(WHO["postgresql"])
        parent = session.scalar(pid)

        def begin_anew() -> object:
            session.rollback()
            return session.scalar(pid)

        assert "the process was forked while this connection was in use" in in_a_child(lambda: session.scalar(pid))
        assert in_a_child(begin_anew).isdigit()
        assert in_a_child(begin_anew) != str(parent)
        assert session.scalar(pid) == parent


def test_a_child_has_a_copy_of_a_database_in_memory() -> None:
    engine = engine_of("sqlite://")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE kept (x int)"))

    def count() -> object:
        with engine.connect() as connection:
            return connection.execute(sa.text("SELECT count(*) FROM kept")).scalar_one()

    assert in_a_child(count) == "0"


def test_a_child_goes_by_its_own_name(postgres_url: str) -> None:
    engine = engine_of(postgres_url)

    def name() -> str:
        with engine.connect() as connection:
            return str(connection.execute(sa.text("SHOW application_name")).scalar_one())

    assert name().endswith(f":{os.getpid()}")
    assert not in_a_child(name).endswith(f":{os.getpid()}")
    engine.dispose()


if not hasattr(os, "fork"):
    pytest.skip("there is no fork here", allow_module_level=True)
