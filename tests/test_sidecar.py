"""The lock file beside a SQLite database: who has it, who may take it, and that there is only one."""

import errno
import fcntl
import functools
import json
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest

from opal_registry.store import locks
from opal_registry.store.holder import Holder
from opal_registry.store.locks import AnotherRunError
from opal_registry.store.sidecar import Sidecar
from tests.contenders import CONTEXT, LONG, Contender, alone, holding, race

NOBODY = 65534
WAITING = "waiting for another run of opal-db"

Wait = Callable[[Callable[[int], str]], list[str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The database."""
    return tmp_path / "opal.db"


@pytest.fixture
def section(tmp_path: Path) -> Path:
    """A file that is there while somebody is in the critical section."""
    return tmp_path / "section"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may reach, and write to."""
    folder = Path(tempfile.mkdtemp(prefix="opal-lock-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


def take_turn(file: Path, number: int, section: Path) -> None:
    sidecar = Sidecar(file)
    while not sidecar.take(LONG):
        pass
    try:
        with alone(section):
            pass
    finally:
        sidecar.release()


class Hasty(Sidecar):
    """One that does not look whether the file is still the one of that name."""

    def _is_there(self, file: int) -> bool:
        return True


def take_as_nobody(folder: Path) -> str:
    """What becomes of it when a process of another user takes the lock."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_take_as_nobody, args=(folder, theirs))
    process.start()
    text: str = ours.recv()
    process.join()
    return text


def _take_as_nobody(folder: Path, pipe: Connection) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    sidecar = Sidecar(folder / "opal.db")
    if not sidecar.take(0):
        pipe.send(f"taken by {sidecar.find_holder()}")
    elif not sidecar.path.exists():
        pipe.send("nothing is locked")
    else:
        is_named = json.loads(sidecar.path.read_text())["pid"] == os.getpid()
        pipe.send("locked, and names us" if is_named else "locked, and names another")
    sidecar.release()


class TestOneOnly:
    def test_the_file_names_its_holder_and_goes_with_it(self, file: Path) -> None:
        sidecar = Sidecar(file)
        assert sidecar.take(0)
        assert sidecar.path == Path(f"{file}-opal-lock")
        written = json.loads(sidecar.path.read_text())
        assert (written["host"], written["pid"]) == (socket.gethostname(), os.getpid())
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", written["since"])
        other = Sidecar(file)
        assert not other.take(0)
        assert other.find_holder() == Holder(socket.gethostname(), os.getpid())
        sidecar.release()
        assert not sidecar.path.exists()
        assert other.take(0)
        other.release()

    @pytest.mark.parametrize("umask", [0o022, 0o027])
    def test_others_may_read_who_it_is_unless_the_umask_forbids_it(self, file: Path, umask: int) -> None:
        sidecar, before = Sidecar(file), os.umask(umask)
        try:
            assert sidecar.take(0)
        finally:
            os.umask(before)
        assert stat.S_IMODE(sidecar.path.stat().st_mode) == 0o644 & ~umask
        sidecar.release()

    def test_processes_that_lock_and_unlock_in_turn_never_overlap(self, file: Path, section: Path) -> None:
        assert race(8, 50, functools.partial(take_turn, file), section) == [""] * 8
        assert not Sidecar(file).path.exists()

    @pytest.mark.parametrize(("kind", "taken"), [(Sidecar, False), (Hasty, True)])
    def test_a_file_that_was_removed_while_it_was_opened_is_not_the_lock(
        self, file: Path, kind: type[Sidecar], taken: bool
    ) -> None:
        first, second, chance = Sidecar(file), Sidecar(file), iter([True])

        class Slow(kind):  # type: ignore[misc,valid-type]
            """One that is overtaken by two others between opening the file and locking it."""

            def _open(self) -> int | None:
                file: int | None = super()._open()
                if next(chance, False):
                    first.release()
                    assert second.take(0)
                return file

        assert first.take(0)
        slow = Slow(file)
        assert slow.take(0) == taken
        for sidecar in (slow, second):
            sidecar.release()

    def test_one_that_was_left_behind_is_taken_over(self, file: Path) -> None:
        Sidecar(file).path.write_text('{"host": "web-1", "pid": 4711, "since": "2026-11-23T12:03:04+00:00"}')
        sidecar = Sidecar(file)
        assert sidecar.take(0)
        assert json.loads(sidecar.path.read_text())["pid"] == os.getpid()
        sidecar.release()

    def test_a_link_leads_to_the_lock_of_the_real_file(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        link = tmp_path / "other" / "link.db"
        link.symlink_to(file)
        with holding(f"sqlite:///{link}"):
            assert not Sidecar(file).take(0)
        assert list(link.parent.iterdir()) == [link]

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", '{"host": 1}', '{"host": "x", "pid": "y", "since": "z"}', "\0" * 5000]
    )
    def test_a_name_that_cannot_be_read_is_nobodys(self, file: Path, content: str) -> None:
        sidecar, other = Sidecar(file), Sidecar(file)
        assert sidecar.take(0)
        sidecar.path.write_text(content)
        assert not other.take(0)
        assert other.find_holder() is None
        sidecar.release()

    def test_a_name_is_shown_without_what_a_terminal_would_obey(self, file: Path) -> None:
        sidecar, other = Sidecar(file), Sidecar(file)
        assert sidecar.take(0)
        sidecar.path.write_text('{"host": "web\\u001b[2J-1\\n", "pid": 4711, "since": "2026-11-23T13:03:04+01:00"}')
        assert not other.take(0)
        assert str(other.find_holder()) == "host web[2J-1, process 4711, since 2026-11-23 12:03:04 UTC"
        sidecar.release()


class TestNews:
    """What is said while the lock is waited for, by a clock that goes on by half a second at each look."""

    @pytest.fixture
    def wait(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> Wait:
        """Waits for 25 s, at each look for what is then in the file that is locked, and returns what is said."""

        def wait(write: Callable[[int], str]) -> list[str]:
            def tick() -> float:
                look = next(looks)
                sidecar.path.write_text(write(look))
                return look / 2

            sidecar, looks, told = Sidecar(file), count(), list[str]()
            assert sidecar.take(0)
            monkeypatch.setattr(locks, "time", SimpleNamespace(monotonic=tick))
            monkeypatch.setattr(Sidecar, "attempt", 0.001)
            with pytest.raises(AnotherRunError), holding(f"sqlite:///{file}", wait=25, announce=told.append):
                pass
            sidecar.release()
            return [text.partition(", since")[0] for text in told]

        return wait

    def test_holders_in_quick_succession_are_named_every_ten_seconds(self, wait: Wait) -> None:
        assert wait(name_of) == [f"{WAITING}: host web, process {look}" for look in (1, 21, 41)]

    def test_one_that_stays_is_named_once(self, wait: Wait) -> None:
        assert wait(lambda _: name_of(7)) == [f"{WAITING}: host web, process 7"]

    def test_one_that_writes_its_name_within_a_second_is_not_spoken_of_without(self, wait: Wait) -> None:
        assert wait(lambda look: name_of(7) if look > 1 else "") == [f"{WAITING}: host web, process 7"]

    def test_one_that_does_not_is_waited_for_without_a_name(self, wait: Wait) -> None:
        assert wait(lambda _: "") == [WAITING]

    def test_one_that_writes_it_late_is_named_then(self, wait: Wait) -> None:
        assert wait(lambda look: name_of(7) if look > 5 else "") == [WAITING, f"{WAITING}: host web, process 7"]


def name_of(pid: int) -> str:
    """What a run on another machine writes into the file."""
    return json.dumps({"host": "web", "pid": pid, "since": "2026-11-23T12:03:04+00:00"})


class TestWithout:
    """Where there can be no such file, SQLite's own lock does."""

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
    def test_a_file_system_without_locks(
        self, file: Path, section: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        def flock(file: int, operation: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)
        url = f"sqlite:///{file}"
        with holding(url):
            with Contender(url, section, wait=0.1) as second:
                heard = second.hear()
        assert heard[0] == "error"
        assert heard[1].startswith("another process writes to this database for longer than 0.1 s\n")

    def test_a_folder_that_may_not_be_written_to(self, open_folder: Path) -> None:
        open_folder.chmod(0o555)
        assert take_as_nobody(open_folder) == "nothing is locked"

    def test_a_link_in_its_place_is_not_followed(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "precious").write_text("precious")
        Sidecar(file).path.symlink_to(tmp_path / "precious")
        sidecar = Sidecar(file)
        assert sidecar.take(0)
        sidecar.release()
        assert (tmp_path / "precious").read_text() == "precious"
        assert Sidecar(file).path.is_symlink()


class TestOfAnotherUser:
    """A file that may be read only: root's, where the tests run as root, else one that is write-protected."""

    @pytest.fixture
    def leftover(self, open_folder: Path) -> Path:
        path = Sidecar(open_folder / "opal.db").path
        path.write_text('{"host": "web-1", "pid": 4711, "since": "2026-11-23T12:03:04+00:00"}')
        path.chmod(0o444)
        return path

    def test_while_it_is_locked_it_names_the_holder(self, open_folder: Path, leftover: Path) -> None:
        with leftover.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert take_as_nobody(open_folder) == "taken by host web-1, process 4711, since 2026-11-23 12:03:04 UTC"

    def test_one_that_was_left_behind_gives_way_to_one_of_our_own(self, open_folder: Path, leftover: Path) -> None:
        assert take_as_nobody(open_folder) == "locked, and names us"
        assert not leftover.exists()

    def test_where_it_cannot_be_removed_it_is_locked_as_it_is(self, open_folder: Path, leftover: Path) -> None:
        open_folder.chmod(0o555)
        assert take_as_nobody(open_folder) == "locked, and names another"
        assert leftover.exists()
