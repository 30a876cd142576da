"""Files as they are read and written everywhere: their rights, what is no file, and JSON by its whole message."""

import os
import stat
from pathlib import Path

import pytest

from flea_fairseq.data import files
from flea_fairseq.data.files import hidden_folder, read_json, read_text, write_text
from flea_fairseq.errors import FormatError


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_what_is_written_has_the_rights_that_the_user_wants(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.txt", "a")
        (tmp_path / "plain.txt").write_text("a")
        with hidden_folder(tmp_path / "made") as temporary:
            assert temporary.parent == tmp_path and temporary.name.startswith(".made.")
            (temporary / "made").mkdir()
            (temporary / "made").rename(tmp_path / "made")
        (tmp_path / "plain").mkdir()
    finally:
        os.umask(before)
    assert rights(tmp_path / "a.txt") == rights(tmp_path / "plain.txt") == 0o666 & ~mask
    assert rights(tmp_path / "made") == rights(tmp_path / "plain") == 0o777 & ~mask


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_pipe_that_nobody_writes_to_and_a_folder_are_no_text(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "/dev/zero"):
        with pytest.raises(ValueError) as error:
            read_text(tmp_path / name)
        assert str(error.value) == "not a file"
    with pytest.raises(OSError, match="Is a directory"):
        read_text(tmp_path)


def test_the_largest_text_that_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SMALL", 2 << 20)
    (tmp_path / "a.txt").write_bytes(b"a" * (2 << 20))
    assert len(read_text(tmp_path / "a.txt")) == 2 << 20
    (tmp_path / "a.txt").write_bytes(b"a" * ((2 << 20) + 1))
    with pytest.raises(ValueError) as error:
        read_text(tmp_path / "a.txt")
    assert str(error.value) == "larger than 2 MiB"


JSON = {
    "": "cannot be read as JSON (Expecting value: line 1 column 1 (char 0)); try again",
    "[" * 100_000: "cannot be read as JSON (nested too deep); try again",
    "[1]": "list, expected an object with a, b; try again",
    "{}": "lacks a, b; try again",
    '{"b": 1}': "lacks a; try again",
}


@pytest.mark.parametrize("text", JSON, ids=range(len(JSON)))
def test_json_that_is_not_what_was_asked_for(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(FormatError) as error:
        read_json(path, ("a", "b"), "try again")
    assert str(error.value) == f"{path}: {JSON[text]}"


def test_json_that_is(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1], "c": "ä"}')
    assert read_json(tmp_path / "a.json", ("a",), "") == {"a": [1], "c": "ä"}
