"""Time limits: when fairseq has to stop and save by itself, how often it saves before, and whether it was done."""

import os
import re
import subprocess
from dataclasses import dataclass
from typing import Any

from flea_fairseq.errors import ExperimentError

AT_STAKE = 300  # seconds of training that a killed job may lose
TRIAL = 120  # seconds of training that tell how many updates that is
MARGIN, PART = 240, 0.5  # seconds for starting, saving and requeueing, but no more than a part of what is left


class StoppedForTime(ExperimentError):
    """A training that stopped before its last update because its job's time was up; the same command goes on."""

    status = 75  # EX_TEMPFAIL of sysexits.h: try again


@dataclass(frozen=True)
class Progress:
    """What a fairseq checkpoint tells: updates, the epoch it is in, seconds of training over all jobs."""

    updates: int = 0
    epoch: int = 1
    seconds: float = 0.0


def read_progress(state: dict[str, Any]) -> Progress:
    """state: a fairseq checkpoint with its training's state."""
    extra = state["extra_state"]
    seconds = float(extra.get("previous_training_time", 0.0))
    return Progress(state["optimizer_history"][-1]["num_updates"], extra["train_iterator"]["epoch"], seconds)


def seconds_left() -> float | None:
    """What the Slurm job that this runs in still has; None outside of one, or without a limit.

    Raises ExperimentError if Slurm does not answer.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return None
    command = ["squeue", "--noheader", "--jobs", job, "--format", "%L"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ExperimentError(
            f"squeue does not tell the time left of job {job} ({error}); give --time-limit SECONDS"
        ) from None
    return parse_time_left(answer.strip().splitlines()[0] if answer.strip() else "")


def parse_time_left(text: str) -> float | None:
    """Slurm's `[days-][[hours:]minutes:]seconds` in seconds; None for what is no time, such as UNLIMITED."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)", text)
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds


def seconds_to_train(left: float, margin: float | None = None) -> float:
    """What a job has for training itself.

    left, margin: seconds of the job (None: four minutes, or half of less than eight). Raises ExperimentError
    where the margin is all that is left.
    """
    margin = min(MARGIN, PART * left) if margin is None else margin
    if left <= margin:
        raise ExperimentError(
            f"{left:.0f} s are left of this job, and {margin:.0f} s of them are needed to start and to save; "
            "ask for more time"
        )
    return left - margin


def time_limits(progress: Progress | None, values: dict[str, Any], to_train: float | None) -> dict[str, Any]:
    """How often fairseq saves, and when it stops and saves by itself; empty where the config's own values stay.

    progress: of the checkpoint to go on from, None without one; values: the config under dotted keys; to_train: the
    job's seconds, None without a limit. `optimization.stop_time_hours` counts earlier jobs too. A config that saves by
    epochs alone, or validates when it saves, keeps its intervals. Else five minutes are at stake, by the speed that
    the checkpoint tells; to have one, a training first stops after two minutes, unless its job is about as short.
    """
    key = "checkpoint.save_interval_updates"
    limits: dict[str, Any] = {}
    stop = to_train
    if values.get(key) and values.get("dataset.disable_validation"):
        if progress is not None:
            limits[key] = save_interval(progress, values[key])
        elif to_train is None or to_train > 2 * TRIAL:
            stop = TRIAL
    if stop is not None:
        trained = progress.seconds if progress else 0.0
        limits["optimization.stop_time_hours"] = round((trained + stop) / 3600, 6)
    return limits


def save_interval(progress: Progress, configured: int) -> int:
    """Updates that take five minutes, and never more than the config says."""
    if not progress.seconds:
        return configured
    return max(1, min(configured, int(AT_STAKE * progress.updates / progress.seconds)))


def is_over(progress: Progress, values: dict[str, Any]) -> bool:
    """Whether all updates or epochs have been; fairseq, started once more, would add an update."""
    max_update, max_epoch = (values.get(f"optimization.{name}") or 0 for name in ("max_update", "max_epoch"))
    # a checkpoint's epoch is the next one once an epoch is over
    return bool((max_update and progress.updates >= max_update) or (max_epoch and progress.epoch > max_epoch))


def unfinished(progress: Progress, values: dict[str, Any], limits: dict[str, Any]) -> str | None:
    """How far a training is that its time limit stopped, such as "update 120 of 400"; None if it is done.

    By the number of updates and epochs, as fairseq's own loop ends (its exit status is 0 when time was up as well), and
    by the time: one that ends before both, through `patience`, is done.
    """
    if is_over(progress, values):
        return None
    if progress.seconds < limits.get("optimization.stop_time_hours", float("inf")) * 3600 - 1:
        return None
    if max_update := values.get("optimization.max_update"):
        return f"update {progress.updates} of {max_update}"
    return f"epoch {progress.epoch} of {values.get('optimization.max_epoch') or 0}"
