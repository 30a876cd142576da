from pathlib import Path

import numpy as np
import pytest
from fairseq.data import Dictionary
from fairseq.data.audio.hubert_dataset import load_audio, load_label

from flea_fairseq.data import manifest as m
from flea_fairseq.data.audio import check_samples
from flea_fairseq.errors import AudioError, FormatError

MANIFEST = m.Manifest(Path("/data/emo"), ("wav/a1.wav", "b c.flac"), (16000, 800))


def refused(read, path, text):
    path.write_text(text)
    return complaint(read, path)


def complaint(function, path, *values):
    """What an error says after the file's path."""
    with pytest.raises(FormatError) as caught:
        function(path, *values)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    return str(caught.value)[len(str(path)) :]


def test_manifest_is_fairseqs(tmp_path):
    path = tmp_path / "train.tsv"
    m.write_manifest(path, MANIFEST)
    assert path.read_text() == "/data/emo\nwav/a1.wav\t16000\nb c.flac\t800\n"
    assert m.read_manifest(path) == MANIFEST
    assert MANIFEST.paths() == [Path("/data/emo/wav/a1.wav"), Path("/data/emo/b c.flac")]
    root, names, lines, total, sizes = load_audio(path, None, None)
    assert (root, names, lines, total, sizes) == ("/data/emo", list(MANIFEST.names), [0, 1], 2, list(MANIFEST.frames))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", ": the file is empty"),
        ("/data\n", ": lists no recordings"),
        ("data\na.wav\t800\n", ":1: root 'data'"),
        ("/data\na.wav 800\n", ":2: 1 columns"),
        ("/data\na.wav\t800\tx\n", ":2: 3 columns"),
        ("/data\na.wav\t800\nb.wav\t1_000\n", ":3: '1_000' samples"),
        ("/data\na.wav\t8.0\n", ":2: '8.0' samples"),
        ("/data\n/a.wav\t800\n", ":2: name '/a.wav' leaves"),
        ("/data\nx/../../a.wav\t800\n", ":2: name 'x/../../a.wav' leaves"),
        ("/data\n\t800\n", ":2: name '' is empty"),
        ("/data\n a.wav\t800\n", ":2: name ' a.wav' begins"),  # fairseq would strip it and miss the file
        ("/data\nx/a.wav\t800\ny/a.flac\t800\n", ":3: utterance id 'a' is in line 2"),
    ],
)
def test_manifest_errors(tmp_path, text, message):
    assert refused(m.read_manifest, tmp_path / "x.tsv", text).startswith(message)


@pytest.mark.parametrize(
    "root, names, frames, message",
    [
        ("/data", ("a.wav", "b\nc.wav"), (1, 1), ":3: name 'b\\nc.wav' holds a tab, line break"),
        ("/data", ("a.wav", "b.wav"), (1, 0), ":3: 0 samples"),
        ("/data", ("a.wav", "b.wav"), (800,), ": 2 names and 1 lengths"),
        ("/data", (), (), ": 0 names and 0 lengths"),
        ("/data", ("x/a.wav", "y/a.flac"), (1, 1), ":3: utterance id 'a' is in line 2 already"),
        ("data", ("a.wav",), (800,), ": root 'data'"),
        ("/da\tta", ("a.wav",), (800,), ": root '/da\\tta'"),
    ],
)
def test_manifest_that_could_not_be_read_back_is_not_written(tmp_path, root, names, frames, message):
    manifest = m.Manifest(Path(root), names, frames)
    assert complaint(m.write_manifest, tmp_path / "x.tsv", manifest).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_labels_are_fairseqs(tmp_path):
    m.write_labels(tmp_path / "x.emo", ["happy", "sad"])
    assert (tmp_path / "x.emo").read_text() == "happy\nsad\n"
    assert m.read_labels(tmp_path / "x.emo") == ["happy", "sad"] == load_label(tmp_path / "x.emo", [0, 1], 2)


@pytest.mark.parametrize(
    "text, message", [("", ": the file"), ("sad\n\nsad\n", ":2: label ''"), ("a b\n", ":1: label")]
)
def test_label_errors(tmp_path, text, message):
    assert refused(m.read_labels, tmp_path / "x.emo", text).startswith(message)


@pytest.mark.parametrize(
    "labels, message",
    [
        ([], ": no labels"),
        (["sad", "very sad"], ":2: label 'very sad'"),
        (["a\tb"], ":1: label 'a\\tb'"),
        ([""], ":1: label ''"),
        ([" sad"], ":1: label ' sad'"),
    ],
)
def test_labels_that_could_not_be_read_back_are_not_written(tmp_path, labels, message):
    assert complaint(m.write_labels, tmp_path / "x.emo", labels).startswith(message)


def test_units_are_fairseqs(tmp_path):
    path = tmp_path / "x.km"
    m.write_units(path, [np.array([3, 3, 41]), np.array([0], dtype=np.int32)])
    assert path.read_text() == "3 3 41\n0\n"
    assert [row.tolist() for row in m.read_units(path)] == [[3, 3, 41], [0]]
    dictionary = Dictionary()
    for unit in range(50):
        dictionary.add_symbol(str(unit))
    encoded = dictionary.encode_line(load_label(path, [0, 1], 2)[0], append_eos=False, add_if_not_exist=False)
    assert encoded.tolist() == [7, 7, 45]  # after fairseq's four own symbols


@pytest.mark.parametrize(
    "text, message",
    [
        ("", ": the file"),
        ("1 2\n\n", ":2: an utterance without units"),
        ("1 2\n1 x\n", ":2: '1 x' are not units"),
        ("1 2.0\n", ":1: '1 2.0' are not"),
        ("1 -2\n", ":1: units must be"),
        ("1 " + "9" * 30 + "\n", ":1: "),
        ("x" * 50 + "\n", f":1: '{'x' * 40}' are not"),
    ],
)
def test_unit_errors(tmp_path, text, message):
    assert refused(m.read_units, tmp_path / "x.km", text).startswith(message)


@pytest.mark.parametrize(
    "row, message",
    [
        (np.array([], int), ":2: an utterance without units"),
        (np.array([[1, 2]]), ":2: an utterance without units"),
        (np.array([1.5]), ":2: units must be integers, zero or above; found 1.5"),
        (np.array([-1, 0]), ":2: units must be integers, zero or above; found -1"),
    ],
)
def test_units_that_could_not_be_read_back_are_not_written(tmp_path, row, message):
    assert complaint(m.write_units, tmp_path / "x.km", [[0], row]).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_dictionary_is_fairseqs(tmp_path):
    path = tmp_path / "dict.emo.txt"
    m.write_dictionary(path, ["angry", "happy", "sad"])
    assert path.read_text() == "angry 1\nhappy 1\nsad 1\n"
    assert m.read_dictionary(path) == ["angry", "happy", "sad"]
    theirs = Dictionary.load(str(path))
    assert theirs.symbols[theirs.nspecial :] == ["angry", "happy", "sad"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", ": the file"),
        ("sad\n", ":1: 'sad'"),
        ("sad x\n", ":1: 'sad x'"),
        ("a 1\na 1\n", ":2: symbol 'a'"),
        ("<unk> 1\n", ":1: symbol '<unk>'"),
        ("very sad 1\n", ":1: label 'very sad'"),
    ],
)
def test_dictionary_errors(tmp_path, text, message):
    assert refused(m.read_dictionary, tmp_path / "dict.txt", text).startswith(message)


def test_a_recording_of_another_length_is_named():
    check_samples("a.wav", 800, 800)
    with pytest.raises(AudioError, match="a.wav: 801 samples at 16 kHz, the manifest says 800; write"):
        check_samples("a.wav", 801, 800)


def test_utterance_id():
    assert m.utterance_id("Session1/wav/Ses01F_impro01_M003.wav") == "Ses01F_impro01_M003"
    assert m.utterance_id("a.b.flac") == "a.b"
