import runpy
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"


class Done(NamedTuple):
    """How a script ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_script(tmp_path, monkeypatch, capsys):
    """Run a manifest script as `python manifests/NAME.py` does; the corpus goes to tmp_path/out/corpus.tsv."""

    def run(name, *arguments):
        script = str(MANIFESTS / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments), "--output", str(tmp_path / "out/corpus.tsv")])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(script, run_name="__main__")
        out, err = capsys.readouterr()
        code = ended.value.code
        return Done(1, out, f"{err}{code}\n") if isinstance(code, str) else Done(code, out, err)  # as Python does

    return run


@pytest.fixture
def speak():
    """Write a short noise, and its folders."""

    def write(path, samples=1600, sample_rate=16000):
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(1).integers(-9000, 9000, samples).astype(np.int16)
        soundfile.write(path, noise, sample_rate)

    return write


@pytest.fixture
def fails():
    """Assert that a script ended as a user's mistake should: one line, exit code 1."""

    def check(done, *words):
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("error: ") and "Traceback" not in done.stderr
        for word in words:
            assert word in last

    return check
