"""``ping`` and ``wait``: is the database there, and when."""

import socket
import time
from pathlib import Path

import pytest

from opal_registry.errors import DatabaseError
from opal_registry.ping import wait_until_ready
from tests.databases import registry_of
from tests.distributions import Site
from tests.postgres import Cluster

Env = dict[str, str | None]


@pytest.fixture
def nowhere() -> str:
    """The URL of a server that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return f"postgresql://app:hunter2@127.0.0.1:{port}/opal"


def test_a_ping_says_who_answers(quick_site: Site, postgres: Cluster) -> None:
    done = quick_site.run("ping", env={"OPAL_DATABASE__URL": postgres.url()})
    assert done.code == 0
    assert done.out.startswith(f"default: postgresql {postgres.major}")
    assert f"ms, postgresql+psycopg://postgres@127.0.0.1:{postgres.port}/postgres" in done.out


def test_a_ping_as_a_document(quick_site: Site, tmp_path: Path) -> None:
    (tmp_path / "x.db").touch()
    done = quick_site.run("ping", "--json", env={"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'x.db'}"})
    [pulse] = done.json["databases"]
    assert (pulse["bind"], pulse["url"]) == ("default", f"sqlite {tmp_path / 'x.db'}")
    assert pulse["server"].startswith("sqlite 3.")
    assert pulse["milliseconds"] > 0
    assert (tmp_path / "x.db").read_bytes() == b""


def test_a_ping_does_not_make_a_file(quick_site: Site, tmp_path: Path) -> None:
    done = quick_site.run("ping", env={"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'x.db'}"})
    assert done.code == 4
    assert f"the SQLite file does not exist: {tmp_path / 'x.db'}" in done.err
    assert list(tmp_path.glob("x.db*")) == []


def test_a_ping_that_nobody_answers(quick_site: Site, nowhere: str) -> None:
    done = quick_site.run("ping", "--json", env={"OPAL_DATABASE__URL": nowhere})
    assert done.code == 4
    [problem] = done.json["error"]["problems"]
    assert problem["what"].startswith("no server answers there: ")
    assert "hunter2" not in done.out + done.err


def test_a_file_that_is_not_there_yet_is_ready(quick_site: Site, tmp_path: Path) -> None:
    done = quick_site.run("wait", env={"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'x.db'}"})
    assert done.code == 0
    assert not (tmp_path / "x.db").exists()


def test_waiting_ends_when_the_time_is_up(quick_site: Site, nowhere: str) -> None:
    began = time.monotonic()
    done = quick_site.run("wait", "--timeout", "3s", env={"OPAL_DATABASE__URL": nowhere})
    assert time.monotonic() - began < 30
    assert done.code == 4
    assert done.err.startswith("waiting: no server answers there: ")
    assert done.err.count("waiting: ") == 1
    assert "error: no server answers there" in done.err


def test_waiting_ends_on_time_though_the_server_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://app@127.0.0.1:{silent.getsockname()[1]}/x"
        registry = registry_of(url, database={"url": url, "connect_timeout": "10m"})
        began = time.monotonic()
        with pytest.raises(DatabaseError, match="did not answer in time"):
            wait_until_ready(registry, timeout=1)
        assert time.monotonic() - began < 30


def test_waiting_ends_when_the_server_comes_up(site: Site, postgres: Cluster) -> None:
    postgres.stop()
    waiting = site.start(*site.command("wait", "--timeout", "30s"), env={"OPAL_DATABASE__URL": postgres.url()})
    assert waiting.stderr is not None
    assert waiting.stderr.readline().startswith("waiting: no server answers there")
    postgres.start()
    out, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 0
    assert "answers in" in out


@pytest.mark.parametrize("text", ["soon", "-1s", "1 fortnight", ""])
def test_a_time_that_is_none_is_a_usage_error(quick_site: Site, tmp_path: Path, text: str) -> None:
    env: Env = {"OPAL_DATABASE__URL": f"sqlite:///{tmp_path / 'x.db'}"}
    done = quick_site.run("wait", f"--timeout={text}", env=env)
    assert done.code == 2
    assert f"--timeout cannot be {text!r}" in done.err
    assert "write it like 500ms, 30s, 5m or 1h" in done.err


def test_a_wait_can_be_interrupted(site: Site, nowhere: str) -> None:
    waiting = site.start(*site.command("wait"), env={"OPAL_DATABASE__URL": nowhere})
    assert waiting.stderr is not None
    waiting.stderr.readline()
    waiting.send_signal(2)
    _, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert "error: interrupted" in err
    assert "Traceback" not in err
