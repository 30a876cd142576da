"""What `flea status` tells from Snakemake's words, and the GPUs that steps take."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flea_fairseq.errors import ExperimentError
from flea_fairseq.workflow.devices import FOLDER, NUMBERS, WANTED
from flea_fairseq.workflow.progress import Graph, progress
from flea_fairseq.workflow.status import status

LOG = """Job stats:
job             count
------------  -------
train               2
report              1
total               3

[Mon Nov 23 00:20:07 2026]
rule train:
    input: folds/Ses01/fold.json
    output: models/Ses01/seed1/tapt/model.pt
    log: logs/Ses01/seed1/tapt.log
    jobid: 4
    reason: Missing output files: models/Ses01/seed1/tapt/model.pt
Job 4 has been submitted with SLURM jobid 17 (log: /run/.snakemake/slurm_logs/17.log).
[Mon Nov 23 00:21:07 2026]
rule train:
    input: folds/Ses02/fold.json
    log: logs/Ses02/seed1/tapt.log
    jobid: 5
Job 5 has been submitted with SLURM jobid 18 (log: /run/.snakemake/slurm_logs/18.log).
[Mon Nov 23 00:22:07 2026]
Error in rule train:
    message: SLURM-job '18' failed
    jobid: 5
    log: logs/Ses02/seed1/tapt.log (check log file(s) for error details)
Trying to restart job 5.
[Mon Nov 23 00:22:09 2026]
rule train:
    log: logs/Ses02/seed1/tapt.log
    jobid: 5
Job 5 has been submitted with SLURM jobid 19 (log: /run/.snakemake/slurm_logs/19.log).
[Mon Nov 23 00:23:07 2026]
Finished jobid: 4 (Rule: train)
1 of 3 steps (33%) done
"""


def test_steps_jobs_and_attempts():
    graph = Graph()
    finished = [step.name for line in LOG.splitlines(keepends=True) if (step := graph.read(line))]
    assert finished == ["Ses01/seed1/tapt"] and (graph.done, graph.total) == (1, 3)
    (step,) = graph.running.values()
    assert (step.name, step.slurm, step.attempt) == ("Ses02/seed1/tapt", "19", 2)
    assert graph.failed == ["Ses02/seed1/tapt"]
    assert time.strftime("%H:%M:%S", time.localtime(step.since)) == "00:22:09"


def test_the_newest_bar_tells_progress_and_the_time_left(tmp_path):
    log = tmp_path / "step.log"
    assert progress(log) == ("", "")
    log.write_text(
        "align:  10%|#  | 2/20 [00:10<01:30,  5.0s/update]\ralign:  40%|####  | 8/20 [00:40<01:00,  5.0s/update]"
    )
    assert progress(log) == ("40%", "01:00")
    log.write_text("align: 3update [00:10, 5.0s/update]")
    assert progress(log) == ("", "")


def test_a_run_that_was_killed(tmp_path):
    with pytest.raises(ExperimentError, match="no run was started here"):
        status(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/snakemake_all.log").write_text(LOG)
    said = status(tmp_path)
    assert "1 of 3 steps, stopped; the same flea run goes on from here" in said
    assert "Ses02/seed1/tapt" in said.splitlines()[-1] and len(said.splitlines()) == 2


TAKE = """
import os, sys, time
from flea_fairseq.workflow.devices import take_gpus
take_gpus(0.01)
print(os.environ.get("CUDA_VISIBLE_DEVICES", "all"), flush=True)
sys.stdin.readline()
"""


def taking(folder: Path, wanted: int) -> subprocess.Popen:
    environment = {**os.environ, FOLDER: str(folder), NUMBERS: "0,2,5", WANTED: str(wanted)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    return subprocess.Popen(
        [sys.executable, "-c", TAKE], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_steps_side_by_side_have_gpus_of_their_own(tmp_path):
    first, second = taking(tmp_path, 1), taking(tmp_path, 1)
    shown = {first.stdout.readline().strip(), second.stdout.readline().strip()}
    assert shown == {"0", "2"}
    third = taking(tmp_path, 2)  # one is free: it waits for another
    time.sleep(1.0)
    second.kill()  # a killed step gives its GPU back
    second.wait()
    both = third.stdout.readline().strip()
    assert len(both.split(",")) == 2 and "5" in both
    none = taking(tmp_path, 0)
    assert none.stdout.readline().strip() == "all"
    for process in (first, third, none):
        process.kill()
        process.wait()
