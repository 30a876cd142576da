"""The same experiment as Slurm jobs, two at once, gives what it gives on this machine."""

import re
import subprocess
import sys
import time

import pytest
import slurm as service
from graphs import FEW, make_profile
from micro import LOCAL, MICRO, assert_same, make_corpus, run, start

from flea_fairseq.workflow.slurm import jobs_in


def status(output) -> str:
    return subprocess.run(
        [sys.executable, "-m", "flea_fairseq", "status", str(output)], capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("changes", [FEW, pytest.param(MICRO, marks=pytest.mark.long)], ids=["few", "all"])
def test_slurm_jobs_and_shards_give_the_local_results(corpus, tmp_path, changes):
    """With two shards of each split: fitted once, labelled side by side, joined."""
    run(corpus, tmp_path / "local", *LOCAL, changes=changes)
    profile, output = make_profile(tmp_path / "profile"), tmp_path / "run"
    process = start(corpus, output, "--profile", str(profile), "--shards", "2", changes=changes)
    most, shown = 0, []
    while process.poll() is None:
        numbers = list(service.running())
        most = max(most, len(numbers))
        if most == 2 and not shown:
            seen = status(output)
            shown = [number for number in numbers if re.search(rf"^Ses0\S+ +{number} +running ", seen, re.M)]
        time.sleep(0.5)
    printed, errors = process.communicate()
    assert process.returncode == 0, errors + (output / "logs/snakemake_all.log").read_text()[-4000:]
    assert most == 2, "never two jobs at once"
    assert shown and " steps, running" in seen, seen
    assert "finished" in status(output)
    assert_same(tmp_path / "local", output)
    parts = list(output.glob("units/Ses01/seed1/*/parts/*_1_2"))
    assert not list(output.rglob(".*.tsv")) and len(parts) == (2 if changes == FEW else 4)


@pytest.mark.long
def test_the_whole_demo(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", sentences=8)
    run(corpus, tmp_path / "local", *LOCAL, changes=())
    run(corpus, tmp_path / "slurm", "--profile", str(make_profile(tmp_path / "profile")), changes=())
    assert_same(tmp_path / "local", tmp_path / "slurm")


@pytest.mark.long
def test_a_run_that_was_killed_leaves_no_second_writer(corpus, tmp_path):
    """Its jobs live on; nothing else starts in that folder until they end. Asked to end, it cancels them."""
    profile, output = make_profile(tmp_path / "profile"), tmp_path / "run"
    process = start(corpus, output, "--profile", str(profile))
    service.wait(lambda: list(output.glob("models/*/*/tapt_pretrain/run/train.log")), 400)
    job = next(iter(service.running()))
    subprocess.run(["scontrol", "suspend", job], check=True)  # it lives until the test lets it go
    subprocess.run(["pkill", "-KILL", "-f", f"snakemake all .*{output}"], check=False)
    process.wait()
    refused = start(corpus, output, "--profile", str(profile))
    assert "Slurm jobs of an earlier `flea run` are at work there" in refused.communicate(timeout=60)[1]
    assert "of its Slurm jobs have not" in status(output)
    subprocess.run(["scontrol", "resume", job], check=True)
    subprocess.run(["scancel", "--user", "root"], check=True)
    service.wait(lambda: not jobs_in(output), 120)
    process = start(corpus, output, "--profile", str(profile))
    service.wait(lambda: service.running() or process.poll() is not None, 120)
    assert process.poll() is None, process.communicate()
    process.terminate()
    process.communicate(timeout=120)
    assert [job for job in jobs_in(output) if job.state != "COMPLETING"] == []
