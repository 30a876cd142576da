"""`flea status`: how far the graph in a folder is, and what its steps are doing."""

import fcntl
import time
from pathlib import Path

from tqdm import tqdm

from flea_fairseq.errors import ExperimentError
from flea_fairseq.evaluation.tables import aligned
from flea_fairseq.workflow.progress import Graph, Step, progress
from flea_fairseq.workflow.slurm import jobs_in

LOG = Path("logs/snakemake_all.log")


def status(output: Path) -> str:
    """The state of the graph that `flea run --output` works on, as plain text.

    A line for all steps, and one for each that is under way: its Slurm job, how far it is and when it should end, by
    its own progress bar. Raises ExperimentError for a folder without a run.
    """
    if not (output / "run.json").is_file():
        raise ExperimentError(f"{output}: no run was started here; name the --output of flea run")
    graph = read_graph(output / LOG)
    jobs = {job.number: job for job in jobs_in(output)}
    busy = is_held(output)
    lines = [f"{output}: {graph.done} of {graph.total} steps, {_state(output, graph, busy, len(jobs))}"]
    rows = [("step", "job", "state", "progress", "for", "ends")]
    for step in graph.running.values() if busy or jobs else ():
        job = jobs.get(step.slurm or "")
        state = f"{job.state.lower()} ({job.reason})" if job and job.state == "PENDING" else "running"
        rows.append((step.name, step.slurm or "-", _again(state, step), *_times(output / step.log, step)))
    if len(rows) > 1:
        lines.append(aligned(rows))
    if graph.failed:
        lines.append(f"failed and tried again, or given up: {', '.join(dict.fromkeys(graph.failed))}")
    return "\n".join(lines)


def read_graph(log: Path) -> Graph:
    """The state that Snakemake's log tells; an empty one before the first step."""
    graph = Graph()
    if log.is_file():
        with open(log, encoding="utf-8", errors="replace") as file:
            for line in file:
                graph.read(line)
    return graph


def is_held(output: Path) -> bool:
    """Whether a `flea run` (or a local step of one) is at work in the folder."""
    try:
        with open(output / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _state(output: Path, graph: Graph, busy: bool, jobs: int) -> str:
    if busy:
        return "running"
    if jobs:
        return f"flea run has ended, {jobs} of its Slurm jobs have not"
    if graph.total and graph.done == graph.total and (output / "results.json").is_file():
        return "finished"
    return "stopped; the same flea run goes on from here"


def _again(state: str, step: Step) -> str:
    return state if step.attempt == 1 else f"{state}, attempt {step.attempt}"


def _times(log: Path, step: Step) -> tuple[str, str, str]:
    """How far a step is, for how long it has been under way, and when it should end."""
    done, left = progress(log)
    running = tqdm.format_interval(time.time() - step.since) if step.since else ""
    return done, running, f"in {left}" if left and left != "?" else ""
