"""Snakemake in a process of its own: on this machine's cores and GPUs, or with each step as a Slurm job."""

import importlib.util
import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flea_fairseq.data.files import check_room, write_text
from flea_fairseq.errors import ExperimentError, StepError
from flea_fairseq.workflow.devices import FOLDER, NUMBERS
from flea_fairseq.workflow.progress import follow
from flea_fairseq.workflow.slurm import cancel, jobs_in

SNAKEFILE = Path(__file__).with_name("Snakefile")


@dataclass(frozen=True)
class Means:
    """What an experiment runs on; it changes no result.

    cores: of this machine; profile: a folder with Snakemake's config.yaml, or the name of one below
    ~/.config/snakemake, such as one whose steps are Slurm jobs, or "" for this machine alone; gpus: of this machine,
    handed to the steps side by side (0: CUDA shows each step all); shards: jobs that label a split side by side.
    """

    cores: int = 1
    profile: str = ""
    gpus: int = 0
    shards: int = 1


ONE_CORE = Means()


def require_snakemake() -> None:
    """Raise ExperimentError in one line where the graph cannot run."""
    if sys.version_info < (3, 11):
        raise ExperimentError(
            f"the graph needs Python >= 3.11 (this is {platform.python_version()}); the single steps, "
            "flea folds, cluster, train, evaluate and report, work on this one"
        )
    if importlib.util.find_spec("snakemake") is None:
        raise ExperimentError("the graph needs Snakemake: pip install 'flea_fairseq[workflow]'")


def snakemake_options(means: Means) -> list[str]:
    """How Snakemake is told what to run on. Raises ExperimentError for a profile that there is not."""
    if means.profile and means.gpus:
        raise ExperimentError("--gpus are of this machine; with --profile, its resources say what a job has")
    if not means.profile:
        gpus = ["--resources", f"device={means.gpus}"] if means.gpus else []
        return ["--cores", str(means.cores), *gpus]
    places = [Path(means.profile), Path.home() / ".config/snakemake" / means.profile]
    folder = next((place for place in places if (place / "config.yaml").is_file()), None)
    if folder is None:
        raise ExperimentError(
            f"{means.profile}: no profile ({' and '.join(str(place / 'config.yaml') for place in places)} are not "
            "there); copy examples/slurm/profile to one of them, and edit it for your site"
        )
    return ["--profile", str(folder.resolve())]


def step_environment(output: Path, means: Means) -> dict[str, str]:
    """The environment of the steps: this Python's commands first, and the GPUs to choose from."""
    own = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{own}{os.pathsep}{os.environ.get('PATH', '')}", "PYTHONUNBUFFERED": "1"}
    if means.gpus:
        shown = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if os.environ.get("CUDA_VISIBLE_DEVICES") else []
        environment[NUMBERS] = ",".join((shown or [str(number) for number in range(means.gpus)])[: means.gpus])
        environment[FOLDER] = str(output.resolve())
    return environment


def snakemake(
    output: Path, graph: dict[str, Any], target: str, options: Sequence[str], environment: dict[str, str], lock: int
) -> str:
    """Run Snakemake to a target, as a progress bar over steps, and return what it printed.

    Raises ExperimentError for a failed step, WriteError where the disk is full.
    """
    output = output.resolve()  # a name that begins with - would be an option
    write_text(output / "graph.json", json.dumps(graph, indent=1) + "\n")
    triggers = ["--rerun-triggers", "mtime", "params", "input"]
    command = [sys.executable, "-P", "-m", "snakemake", target,  # -P: imports nothing from where it is started
               "--snakefile", str(SNAKEFILE), "--directory", str(output), "--configfile", str(output / "graph.json"),
               "--rerun-incomplete", "--nolock", "--nocolor", *triggers, *options]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment,
        pass_fds=[lock], start_new_session=True,
    )  # fmt: skip
    with process:
        try:
            if "--dry-run" in options:
                lines = list(process.stdout)
            else:
                lines = follow(process.stdout, output / "logs" / f"snakemake_{target}.log", output)
        except BaseException:
            stop(process, output, cluster="--profile" in options)
            raise
    if process.returncode != 0:
        check_room(output)
        raise StepError(failure(lines, output))
    return "".join(lines)


def stop(process: subprocess.Popen, output: Path, cluster: bool) -> None:
    """End Snakemake and its steps, and the Slurm jobs that work in the folder, after Ctrl-C or SIGTERM."""
    if cluster:  # on SIGINT Snakemake cancels the jobs that it knows of; on SIGTERM it would wait for them
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
    with suppress(ProcessLookupError):  # asked to end, it would wait for local steps
        os.killpg(process.pid, signal.SIGKILL)
    if cluster:
        cancel(jobs_in(output))


def failure(lines: list[str], output: Path) -> str:
    """The step that failed and the end of its log; Snakemake's own words where no step was reached."""
    text = "".join(lines)
    errors = list(re.finditer(r"Error in rule (\w+):.*?log: ([^\s,]+)", text, re.S))  # Slurm's own log may follow
    if not errors:
        return f"the graph could not be run: {' '.join(text.split())[-1500:]}"
    match = errors[-1]  # those before it may have been tried again
    log = output / match[2]
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:] if log.exists() else []
    return "\n".join([f"step {match[1]} failed; the end of {log}:", *(f"  {line}" for line in tail)])
