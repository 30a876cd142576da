"""Runs killed with SIGKILL at random moments: each ends with the files of one that nothing disturbed."""

import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from fairseq_runs import assert_equal_weights
from micro import LOCAL, assert_same, make_corpus, run, start

pytestmark = [
    pytest.mark.long,
    pytest.mark.workflow,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the graph needs Python 3.11"),
]
KILLS = 5  # a run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("speech") / "corpus", sentences=1)


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory) -> tuple[Path, float]:
    """An undisturbed run, and the seconds that it takes."""
    output, begin = tmp_path_factory.mktemp("whole") / "run", time.monotonic()
    run(corpus, output, *LOCAL)
    seconds = time.monotonic() - begin
    print(f"an undisturbed run takes {seconds:.0f} s")
    return output, seconds


def kill_all_of(output: Path, process: subprocess.Popen) -> None:
    """SIGKILL to the graph, its steps and what they started: all whose command names the folder."""
    import psutil  # comes with Snakemake

    def alive() -> list[psutil.Process]:
        return [one for one in psutil.process_iter(["cmdline"]) if str(output) in " ".join(one.info["cmdline"] or [])]

    while left := alive():
        for one in left:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(left, timeout=10)  # all at once: a child may be gone only when its parent is
    process.communicate()


def files(output: Path) -> set[Path]:
    """What a run leaves, without hidden files: those are locks, and halves that nobody takes for whole."""
    paths = {path.relative_to(output) for path in output.rglob("*") if path.is_file()}
    return {path for path in paths if not any(part.startswith(".") for part in path.parts)}


def logs(output: Path, since: float = 0.0) -> list[Path]:
    """Logs that were written to since then, a step each; the one written to last is last."""
    times = {path: path.stat().st_mtime for path in output.glob("logs/**/*.log")}
    return sorted((path for path in times if times[path] >= since), key=times.__getitem__)


def reaches(output: Path, process: subprocess.Popen, steps: int, seconds: float) -> bool:
    """Wait until the process has begun so many steps, and a while longer; False if it ends before that."""
    begin = time.time()
    with suppress(subprocess.TimeoutExpired):
        while len(logs(output, since=begin)) < steps:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
                return False
        process.wait(seconds)
        return False
    return True


def assert_alike(whole: Path, output: Path) -> None:
    assert_same(whole, output)
    models = sorted(path.relative_to(whole) for path in whole.glob("models/*/*/*/model.pt"))
    assert len(models) == 5
    for model in models:
        assert_equal_weights(whole / model, output / model)
    assert files(whole) == files(output)


@pytest.mark.parametrize("seed", range(10))
def test_killed_five_times_it_ends_alike(corpus, whole, tmp_path, seed):
    """In steps and not only in seconds, so that a busy machine is hit everywhere, too.

    A run that ends before it is hit is compared, and the next one hit in its place.
    """
    undisturbed, seconds = whole
    a_step = seconds / len(logs(undisturbed))
    rng, killed, ended, output = random.Random(seed), 0, 0, tmp_path / "run0"
    while killed < KILLS:
        process = start(corpus, output, *LOCAL)
        if reaches(output, process, rng.randint(0, 6), rng.uniform(0, 2 * a_step)):
            kill_all_of(output, process)
            killed += 1
            print(f"seed {seed}: killed in {logs(output)[-1].stem if logs(output) else 'the start'}", flush=True)
        else:
            _, errors = process.communicate()
            assert process.returncode == 0, errors
            assert_alike(undisturbed, output)
            ended += 1
            output = tmp_path / f"run{ended}"
    run(corpus, output, *LOCAL)
    assert_alike(undisturbed, output)
