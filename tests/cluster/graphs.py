"""The micro experiment as Slurm jobs: a site's profile for it, and its first half."""

from pathlib import Path

from micro import MICRO

PROFILE = """
executor: slurm
jobs: 2
retries: {retries}
latency-wait: 5
seconds-between-status-checks: 1
slurm-init-seconds-before-status-checks: 15
slurm-status-command: squeue
slurm-requeue: true
slurm-logdir: logs/slurm
default-resources: {{slurm_partition: cpu, runtime: {minutes}, mem_mb: 2000}}
"""
FEW = (*MICRO, "systems=[baseline,tapt]")  # the first half of the phases, for CI


def make_profile(folder: Path, retries: int = 0, minutes: int = 30) -> Path:
    """A site's profile, as examples/slurm/profile has it, with times for a test."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(PROFILE.format(retries=retries, minutes=minutes))
    return folder
