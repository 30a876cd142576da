"""Trainings of two tasks under Slurm: the loss curve of one process, the batch file, requeueing, submitit."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import slurm as service
from fairseq_runs import CONFIG, ROOT, assert_equal_weights
from loss_curves import PRETRAIN, UPDATES, losses, pretrain

BATCH = ROOT / "examples/slurm/train.sbatch"


@pytest.fixture(scope="module")
def alone(fold_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    pretrain(fold_folder, folder)
    return folder


def submit(folder: Path, *words: str, sbatch: tuple[str, ...] = ()) -> str:
    """The batch file on two CPU tasks; the job's number."""
    own = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{own}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    tasks = ["--gres=none", "--ntasks-per-node=2", "--cpus-per-task=1", "--mem-per-cpu=2G"]
    how = ["--parsable", *tasks, f"--chdir={folder}", f"--output={folder}/job.log", *sbatch]
    done = subprocess.run(["sbatch", *how, str(BATCH), *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def state(job: str) -> str:
    """Such as RUNNING or COMPLETED, which Slurm remembers for five minutes."""
    said = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout
    return said.partition("JobState=")[2].split()[0] if "JobState=" in said else ""


def finished(job: str, folder: Path, seconds: float = 300) -> str:
    deadline = time.time() + seconds
    while state(job) in ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED") and time.time() < deadline:
        time.sleep(0.5)
    assert state(job) == "COMPLETED", f"{state(job)}\n{(folder / 'job.log').read_text()[-4000:]}"
    return (folder / "job.log").read_text()


def words(fold: Path, folder: Path, *settings: str) -> list[str]:
    what = ["examples/config", "pretrain", str(fold), str(folder / "model.pt"), "--run-dir", str(folder / "run")]
    what[0] = str(ROOT / what[0])
    return [*what, "--labels", str(fold), "--label-set", "km50", *PRETRAIN, *settings]


def test_two_tasks_give_the_loss_curve_of_one_process(fold_folder, alone, tmp_path):
    log = finished(submit(tmp_path, *words(fold_folder, tmp_path)), tmp_path)
    assert "an update: 2 x 1 x 3.75 s of audio = 7.5 s of audio" in log
    one, two = losses(alone), losses(tmp_path)
    assert len(one) == len(two) == UPDATES
    assert two == pytest.approx(one, abs=1e-3)


@pytest.mark.long
def test_a_job_whose_time_is_up_is_requeued_until_it_is_done(fold_folder, tmp_path):
    """First it is asked to end in mid-training, then fairseq stops by itself, after ten seconds of a limit of two
    minutes; Slurm sends its signal up to a minute early."""
    more = ("optimization.max_update=800", "checkpoint.save_interval_updates=20")
    limit = ("--time=2", "--signal=B:USR1@1")
    job = submit(tmp_path, *words(fold_folder, tmp_path, *more), "--margin", "95", sbatch=limit)
    log = tmp_path / "run/train.log"
    service.wait(lambda: log.exists() and len(losses(tmp_path)) > 30, 120)
    subprocess.run(["scancel", "--signal=USR1", "--batch", job], check=True)
    log = finished(job, tmp_path, 900)
    assert "time is nearly up; requeued" in log
    assert "stopped for time at update" in log and "stopped for time; requeued" in log
    assert (tmp_path / "model.pt").exists()
    whole = tmp_path / "whole"
    whole.mkdir()
    finished(submit(whole, *words(fold_folder, whole, *more)), whole)
    assert_equal_weights(whole / "model.pt", tmp_path / "model.pt")


def test_help_needs_no_job():
    said = subprocess.run(["bash", str(BATCH), "--help"], capture_output=True, text=True)
    assert said.returncode == 0 and "sbatch [SBATCH OPTIONS] train.sbatch" in said.stdout
    said = subprocess.run(
        ["bash", str(BATCH), "config"], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}
    )
    assert said.returncode != 0 and "is for sbatch; see --help" in said.stderr


def test_submitit_runs_one_training(fold_folder, alone, tmp_path):
    """`fairseq-hydra-train -m +run=submitit`, two tasks: fairseq finds rank and world size from Slurm."""
    launcher = ("tasks_per_node=2", "gpus_per_node=null", "cpus_per_task=1", "mem_gb=4", "timeout_min=20")
    settings = [
        *PRETRAIN,
        *(f"hydra.launcher.{setting}" for setting in launcher),
        "distributed_training.distributed_backend=gloo",
        "optimization.update_freq=[1]",
        f"common.user_dir={ROOT / 'flea_fairseq'}",
        f"task.data={fold_folder}",
        "task.labels=[km50]",
        f"checkpoint.save_dir={tmp_path / 'run'}",
    ]
    what = ["--config-dir", str(CONFIG), "--config-name", "pretrain", "+run=submitit"]
    command = [sys.executable, "-m", "fairseq_cli.hydra_train", "-m", *what, *settings]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    (log,) = tmp_path.rglob("*_0_log.out")  # of the first task
    (tmp_path / "run/train.log").write_text(log.read_text())
    assert len(losses(tmp_path)) == UPDATES
    assert losses(tmp_path) == pytest.approx(losses(alone), abs=1e-3)
