"""`flea predict` as a command: files, folders, standard input, broken files."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from flea_fairseq.errors import AudioError
from flea_fairseq.inference.predict import find_recordings


def flea(*words, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "flea_fairseq", *map(str, words)], capture_output=True, **options)


@pytest.fixture(scope="module")
def folder(speech, tmp_path_factory):
    """Two formats in a folder, one deeper, a broken one, and no audio."""
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "deep er").mkdir()
    soundfile.write(folder / "a.flac", np.stack([speech, speech], 1), 16000)
    soundfile.write(folder / "deep er/b.mp3", np.repeat(speech, 3), 48000)
    (folder / "broken.wav").write_text("no audio")
    (folder / "notes.txt").write_text("no audio either")
    return folder


def test_a_broken_file_is_named_and_the_rest_go_on(folder, model_file, tmp_path):
    done = flea("predict", model_file, folder, "--output", tmp_path / "out", "--plot", tmp_path / "out")
    errors = done.stderr.decode()
    assert done.returncode == 1 and "broken.wav: not audio" in errors and "1 of 3 recordings" in errors
    assert "Traceback" not in errors and done.stdout == b""
    made = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert made == ["a.json", "a.png", "deep er/b.json", "deep er/b.png"]
    assert json.loads((tmp_path / "out/deep er/b.json").read_text())["id"] == "deep er/b"


def test_standard_input_and_output(wav, model_file):
    done = flea("predict", model_file, "-", wav, "--no-frames", input=wav.read_bytes())
    one, two = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 0 and (one["id"], two["id"]) == ("one", "stdin")
    assert one["probabilities"] == two["probabilities"] and "frames" not in one
    assert b"DEBUG" not in done.stderr and b"INFO" not in done.stderr


def test_csv_has_one_header(wav, folder, model_file):
    done = flea("predict", model_file, folder / "broken.wav", wav, folder / "a.flac", "--format", "csv")
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("id,start") and sum(line.startswith("id,") for line in lines) == 1
    assert {line.split(",")[0] for line in lines[1:]} == {"one", "a"}


def test_arguments_that_do_not_fit(wav, folder, model_file, tmp_path):
    done = flea("predict", model_file, wav, folder / "a.flac", "--format", "textgrid")
    assert done.returncode == 1 and b"--format textgrid of 2 recordings needs a folder: give --output" in done.stderr
    done = flea("predict", folder / "broken.wav", wav)
    assert done.returncode == 1 and b"Traceback" not in done.stderr and b"broken.wav" in done.stderr


def test_names_must_differ_and_files_must_be_there(folder, tmp_path):
    with pytest.raises(AudioError, match="nothing.wav: no such file"):
        find_recordings([str(tmp_path / "nothing.wav")])
    with pytest.raises(AudioError, match="no audio file in this folder"):
        find_recordings([str(tmp_path)])
    with pytest.raises(AudioError, match="a.flac: has the name of"):
        find_recordings([str(folder), str(folder / "a.flac")])
