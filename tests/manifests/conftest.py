import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_script(tmp_path):
    """Run a manifest script as a user does; the corpus goes to tmp_path/out/corpus.tsv."""

    def run(name, *arguments):
        command = [sys.executable, REPOSITORY / f"manifests/{name}.py", *arguments]
        if "--help" not in arguments:
            command += ["--output", tmp_path / "out/corpus.tsv"]
        search = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": search}
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)

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
