"""The scripts as programs of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def script(name, *arguments):
    command = [sys.executable, str(REPOSITORY / f"manifests/{name}.py"), *map(str, arguments)]
    search = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": search})


@pytest.mark.parametrize("name", ["iemocap", "emodb", "ravdess", "table"])
def test_help_has_an_example(name):
    done = script(name, "--help")
    assert done.returncode == 0 and f"Example: python manifests/{name}.py" in done.stdout


def test_a_mistake_ends_in_one_line_and_exit_code_1(tmp_path):
    done = script("emodb", tmp_path, "--output", tmp_path / "corpus.tsv")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path}: no .wav or .flac files; name the folder that holds wav or flac\n"
