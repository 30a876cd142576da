"""What Slurm says of the jobs that work in a folder."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """A job of this user: its number, its state (RUNNING, PENDING ...) and, where it waits, why."""

    number: str
    state: str
    reason: str


def jobs_in(folder: Path) -> list[Job]:
    """This user's waiting and running jobs whose working folder is `folder`; none where there is no Slurm."""
    if shutil.which("squeue") is None:
        return []
    command = ["squeue", "--me", "--noheader", "--states", "PENDING,RUNNING,SUSPENDED,COMPLETING,CONFIGURING",
               "--format", "%i|%T|%r|%Z"]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    rows = [line.split("|", 3) for line in answer.splitlines() if line.count("|") >= 3]
    here = str(folder.resolve())
    return [Job(number, state, reason) for number, state, reason, where in rows if where.strip() == here]


def cancel(jobs: Sequence[Job]) -> None:
    """Ask Slurm to end jobs."""
    if jobs:
        subprocess.run(["scancel", *(job.number for job in jobs)], check=False, timeout=60)
