"""YAML is read strictly: what is wrong is named with its line, and nothing is guessed."""

import os
import threading
import time
from pathlib import Path

import pytest

from opal_registry.errors import ConfigError
from opal_registry.settings.yaml_file import Document, load_yaml, parse_yaml


def parse(text: str) -> Document:
    return parse_yaml(text, shown="opal.yaml")


def error_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value)


def test_every_key_and_item_knows_its_line() -> None:
    document = parse("a:\n  b: 1\n  c:\n  - x\n  - d: y\n")

    assert document.data == {"a": {"b": 1, "c": ["x", {"d": "y"}]}}
    assert document.lines == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 3,
        ("a", "c", "0"): 4,
        ("a", "c", "1"): 5,
        ("a", "c", "1", "d"): 5,
    }


def test_plain_values_have_their_types() -> None:
    text = "a: 5\nb: -1.5\nc: true\nd: ~\ne: '5'\nf: 2h\ng: .inf\nh: on\n"

    assert parse(text).data == {
        "a": 5,
        "b": -1.5,
        "c": True,
        "d": None,
        "e": "5",
        "f": "2h",
        "g": float("inf"),
        "h": True,
    }


def test_merge_keys_bring_what_is_not_written_out() -> None:
    document = parse("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  x: 0\n  <<: [*a, *b]\n")

    assert document.data["c"] == {"x": 0, "y": 2, "z": 4}
    assert document.lines[("c", "z")] == 2


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "null\n", "\n\n"])
def test_an_empty_file_is_told_what_to_write(text: str) -> None:
    assert error_of(text) == (
        "the file is empty\n"
        "  where: opal.yaml\n"
        "  mend:  write at least one setting, such as\n"
        "           database:\n"
        "             url: sqlite:///./opal_suite.db"
    )


def test_duplicate_keys_are_named_with_both_lines() -> None:
    assert error_of("a:\n  b: 1\n  c: 2\n  b: 3\n") == (
        "a.b is written twice, in lines 2 and 4\n  where: opal.yaml:4:3\n  mend:  remove one of them"
    )


def test_tabs_are_called_tabs() -> None:
    assert error_of("a:\n\tb: 1\n") == (
        "a tab is used for indentation\n  where: opal.yaml:2:1\n  mend:  indent with spaces"
    )


def test_problems_that_can_be_seen_together_are_told_together() -> None:
    error = error_of("a: 0123\nb: 2024-01-01\n1: x\nc: !x y\n")

    assert [line.split("where: ")[1] for line in error.splitlines() if "where" in line] == [
        "opal.yaml:1:4",
        "opal.yaml:2:4",
        "opal.yaml:3:1",
        "opal.yaml:4:4",
    ]


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("a: [1\nb: 2\n", "the file is not YAML", "opal.yaml:2"),
        ("a: b: c\n", "the file is not YAML", "opal.yaml:1:5"),
        ("- a\n", "the file holds a list", "opal.yaml:1"),
        ("text\n", "the file holds a single value", "opal.yaml:1"),
        ("a: 1\n---\nb: 2\n", "a second document starts here", "opal.yaml:2"),
        ("a: b\x07\n", "a control character (U+0007) is not allowed", "opal.yaml:1:5"),
        ("a: b\0\n", "a control character (U+0000) is not allowed", "opal.yaml:1:5"),
        ("a: &a [*a]\n", "an alias leads back to itself", "opal.yaml:1"),
        ("a: &a {b: *a}\n", "an alias leads back to itself", "opal.yaml:1"),
        ("a: &a\n  <<: *a\n", "an alias leads back to itself", "opal.yaml"),
        ("a: !!python/object/apply:os.system [x]\n", "a tag !!python/object/apply:os.system", "opal.yaml:1:4"),
        ("a: !!python/name:os.system\n", "a tag !!python/name:os.system", "opal.yaml:1:4"),
        ("a: !!binary aGk=\n", "a tag of this kind is not allowed", "opal.yaml:1:4"),
        ("yes: 1\n", "a key must be text", "opal.yaml:1:1"),
        ("? {a: 1}\n: b\n", "a key must be text", "opal.yaml:1:3"),
        ("a: 0o17\nb: 0x1f\n", "not written in plain decimal digits", "opal.yaml:2:4"),
        ("a: 12:30:45\n", "not written in plain decimal digits", "opal.yaml:1:4"),
        ("a: 1_000\n", "not written in plain decimal digits", "opal.yaml:1:4"),
        (f"a: {'9' * 5000}\n", "not written in plain decimal digits", "opal.yaml:1:4"),
        ("<<: 5\n", "<< needs a section", "opal.yaml:1:5"),
        ("a: " + "[" * 40 + "]" * 40, "nested more than 32 deep", "opal.yaml:1"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, what: str, where: str) -> None:
    error = error_of(text)

    assert what in error
    assert where in error


@pytest.mark.parametrize(
    "text",
    [
        "a: *hunter2\n",
        "a: !hunter2 x\n",
        "a: %hunter2\n",
        "a: @hunter2\n",
        "a: 'hunter2\n",
        "a: {hunter2: [}\n",
        "a: &hunter2 1\n&hunter2 : 2\n  - x\n",
        "a: hunter2: x: y\n",
        "a: !hunter2!x y\n",
        'a: "hunter2\\q"\n',
        "password: hunter2\npassword: hunter2\n",
    ],
)
def test_values_are_not_in_errors(text: str) -> None:
    assert "hunter2" not in error_of(text)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)
)
MERGES = (
    "a: &a {" + ", ".join(f"k{n}: 1" for n in range(4000)) + "}\n" + "".join(f"b{n}: {{<<: *a}}\n" for n in range(500))
)
MANY = "".join(f"k{n}: v\n" for n in range(30_000))


@pytest.mark.parametrize(
    "text",
    [BOMB, MERGES, MANY, "[" * 500_000, "{a: " * 5_000, "- " * 5_000],
    ids=["bomb", "merges", "many", "[", "{", "-"],
)
def test_time_and_memory_are_bounded(text: str) -> None:
    started = time.monotonic()

    error_of(text)

    assert time.monotonic() - started < 30


class TestFiles:
    def error_of(self, path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load_yaml(path, shown="opal.yaml")
        return str(caught.value)

    def test_a_byte_order_mark_is_accepted(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")

        assert load_yaml(tmp_path / "x").data == {"a": 1, "b": 2}

    def test_other_encodings_are_named_with_byte_and_line(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes("a: 1\nb: ä\n".encode("latin-1"))

        assert self.error_of(tmp_path / "x") == (
            "the file is not UTF-8: byte 8 cannot be read\n  where: opal.yaml:2\n  mend:  save it as UTF-8"
        )

    def test_a_directory_is_not_a_file(self, tmp_path: Path) -> None:
        assert "this is a directory, not a file" in self.error_of(tmp_path)

    @pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
    def test_a_device_is_not_a_file(self, device: str) -> None:
        assert "this is a device, not a file" in self.error_of(Path(device))

    def test_a_large_file_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"# " + b"x" * 1024 * 1024)

        assert "larger than 1 MiB" in self.error_of(tmp_path / "x")

    def test_a_missing_file_is_missing(self, tmp_path: Path) -> None:
        assert "the file does not exist" in self.error_of(tmp_path / "x")

    def test_a_path_through_a_file_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("a: 1\n")

        assert "the file cannot be read: Not a directory" in self.error_of(tmp_path / "x" / "y")

    def test_an_unreadable_file_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "x").touch(mode=0)
        user = os.geteuid()
        if user == 0:  # root may read everything
            os.seteuid(65534)
        try:
            assert "the file cannot be read: Permission denied" in self.error_of(tmp_path / "x")
        finally:
            os.seteuid(user)

    def test_a_pipe_is_fine(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("a: 1\n",))
        writer.start()

        assert load_yaml(tmp_path / "pipe").data == {"a": 1}
        writer.join()
