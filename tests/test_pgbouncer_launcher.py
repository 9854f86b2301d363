"""The tests' own PgBouncer, and what is said where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.pgbouncer import PgBouncer, find_pgbouncer
from tests.programs import ProgramMissingError

ROOT = Path(__file__).parent.parent


def test_a_connection_is_handed_to_the_next_client_after_each_transaction(
    pgbouncer: PgBouncer, pgbouncer_url: str
) -> None:
    pgbouncer.execute("SET default_pool_size = 1")
    engine = sa.create_engine(pgbouncer_url, connect_args={"prepare_threshold": None})
    with engine.connect() as one, engine.connect() as other:
        sessions = set()
        for connection in (one, other, one):
            sessions.add(connection.scalar(sa.text("SELECT pg_backend_pid()")))
            connection.commit()
    engine.dispose()
    assert len(sessions) == 1
    assert pgbouncer.count_waiting(str(sa.make_url(pgbouncer_url).database)) == 0


def test_only_the_folder_that_is_named_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPAL_TEST_PGBOUNCER_BIN", str(tmp_path))
    with pytest.raises(ProgramMissingError) as caught:
        find_pgbouncer()
    said = f"there is no pgbouncer in OPAL_TEST_PGBOUNCER_BIN={tmp_path}; unset it, and install one with: "
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(("environment", "code"), [({}, 0), ({"CI": "true"}, 1)], ids=["by hand", "CI"])
def test_a_run_without_it_leaves_its_tests_out_and_ends_with_saying_so(
    tmp_path: Path, environment: dict[str, str], code: int
) -> None:
    ours = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "named_counts or handed", __file__],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ours | {"OPAL_TEST_PGBOUNCER_BIN": str(tmp_path)} | environment,
        check=False,
    )
    assert (done.returncode, "1 passed" in done.stdout) == (code, True), done.stdout
    said = "PgBouncer was not tested (tests left out: 1): there is no pgbouncer in OPAL_TEST_PGBOUNCER_BIN="
    assert done.stdout.splitlines()[-1].startswith(said)
