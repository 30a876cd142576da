"""Jobs cancelled, killed, lost with their node, out of time or out of disk: the same command finishes alike."""

import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import slurm as service
from disks import small_disk
from graphs import make_profile
from micro import LOCAL, MICRO, assert_same, run, start, started

pytestmark = pytest.mark.long
PHASES = {"corpus", "folds", "shard", "fit_first", "label_first", "merge_first", "tapt_pretrain", "tapt", "fit_tapt",
          "label_tapt", "merge_tapt", "align_l2_k8", "flea_l2_k8_mean", "flea_l2_k8_attention", "baseline", "evaluate",
          "score_units", "score_frames", "project", "explain", "report"}  # fmt: skip


def phase(comment: str) -> str:
    """rule_train_wildcards_Ses01_seed1_tapt -> tapt; rule_merge_first_wildcards_... -> merge_first."""
    rule, _, wildcards = comment.removeprefix("rule_").partition("_wildcards_")
    return wildcards.partition("seed1_")[2] if rule == "train" else rule


def running() -> dict[str, str]:
    """Running jobs: number -> phase."""
    return {job: phase(comment) for job, comment in service.running().items()}


def scancel(job: str) -> None:
    subprocess.run(["scancel", job], check=False)


def kill(job: str) -> None:
    """SIGKILL to every process of the job's steps at once, as if memory had run out."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ProcessLookupError):
            environment = (entry / "environ").read_bytes().split(b"\0")
            if f"SLURM_JOB_ID={job}".encode() in environment and b"slurmstepd" not in (entry / "comm").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)


@contextmanager
def once_a_phase(end):
    """Ends the first job of each phase soon after it began; gives the phases that were hit."""
    hit: dict[str, str] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.3):
            for job, name in running().items():
                if name not in hit and job not in hit.values():
                    hit[name] = job
                    time.sleep(1.0)
                    end(job)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield hit
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("end", [scancel, kill])
def test_a_job_of_every_phase_ends_early(corpus, local, tmp_path, end):
    profile = make_profile(tmp_path / "profile", retries=3)
    with once_a_phase(end) as hit:
        run(corpus, tmp_path / "run", "--profile", str(profile), "--shards", "2")
    assert set(hit) == PHASES
    assert_same(local, tmp_path / "run")


@pytest.mark.parametrize("lost", ["marked down", "died"])
def test_a_node_is_lost_in_a_training(corpus, local, tmp_path, lost):
    """Slurm starts its jobs again when the node is back."""
    profile, output = make_profile(tmp_path / "profile", retries=3), tmp_path / "run"
    log = "models/*/*/align_l2_k8/run/train.log"
    with started(corpus, output, "--profile", str(profile)) as process:
        service.wait(lambda: process.poll() is not None or list(output.glob(log)), 900)
        assert process.poll() is None
        if lost == "died":
            service.stop_node()
            service.wait(lambda: "down" in service.node_state(), 120)
            service.start_node()
        else:
            shown = ["sinfo", "--noheader", "--format", "%N"]
            node = f"nodename={subprocess.run(shown, capture_output=True, text=True).stdout.strip()}"
            subprocess.run(["scontrol", "update", node, "state=down", "reason=test"], check=True)
            time.sleep(3)
            subprocess.run(["scontrol", "update", node, "state=resume"], check=False)  # it may be back by itself
            service.wait(lambda: "down" not in service.node_state(), 120)
        _, errors = process.communicate(timeout=1500)
    assert process.returncode == 0, errors
    assert_same(local, output)


def test_the_time_limit_is_reached(corpus, tmp_path):
    """A minute for each job, and trainings that take longer: each stops, saves, and goes on in the next attempt."""
    long = (
        *MICRO,
        "systems=[tapt]",
        "settings.tapt_pretrain.optimization.max_update=1500",
        "settings.tapt_pretrain.lr_scheduler.warmup_updates=10",
    )
    run(corpus, tmp_path / "local", *LOCAL, changes=long)
    profile = make_profile(tmp_path / "profile", retries=20, minutes=1)
    _, said = run(corpus, tmp_path / "run", "--profile", str(profile), changes=long)
    log = (tmp_path / "run/logs/snakemake_all.log").read_text()
    assert "Trying to restart job" in log, said
    assert_same_models(tmp_path / "local", tmp_path / "run")


def assert_same_models(one: Path, other: Path) -> None:
    from fairseq_runs import assert_equal_weights

    for path in one.glob("models/*/*/*/model.pt"):
        assert_equal_weights(path, other / path.relative_to(one))


def test_the_disk_is_full(corpus, local, tmp_path):
    """Of a file system that is too small each step says so; with room, the same command goes on."""
    with small_disk(tmp_path / "disk", 300) as disk:
        for size in (300, 600, 900, 1200, 1600, 2400):  # KiB; a run ends with 1.5 MiB
            disk.resize(size)
            process = start(corpus, disk.folder / "run", *LOCAL)
            _, errors = process.communicate(timeout=600)
            if process.returncode == 0:
                break
            assert "No space left on device" in errors, errors
            assert "Traceback" not in errors
        disk.resize(500 << 10)
        run(corpus, disk.folder / "run", *LOCAL)
        assert size > 600
        assert_same(local, disk.folder / "run")


def test_a_shard_is_removed_or_cut_short_before_the_merge(corpus, local, tmp_path):
    """The removed one is labelled again; of the other the merge says so, and the run after that labels it again."""
    profile, output = make_profile(tmp_path / "profile"), tmp_path / "run"
    how = ("--profile", str(profile), "--shards", "2")
    parts = output / "units/Ses01/seed1/tapt/parts"
    removed, cut = (parts / f"ssl_{shard}_2/l2/ssl_{shard}_2.km8" for shard in (0, 1))
    run(corpus, output, *how)
    for path in (output / "results", *output.glob("models/*/*/*_l2_k8*")):  # all that was made since
        shutil.rmtree(path)
    for path in (output / "results.json", output / "report.html", *parts.with_name("l2").glob("*.km8*")):
        path.unlink()
    whole = [path.read_bytes() for path in (removed, cut)]
    removed.unlink()
    cut.write_bytes(whole[1][: len(whole[1]) // 2])
    _, errors = start(corpus, output, *how).communicate(timeout=1500)
    assert "damaged or cut short" in errors and "Traceback" not in errors, errors
    assert removed.read_bytes() == whole[0] and cut.with_name(f"{cut.name}.damaged").exists()
    run(corpus, output, *how)
    assert cut.read_bytes() == whole[1]
    assert_same(local, output)
