"""What a running graph shows: a bar over steps with the running steps' own progress, or plain lines in a file."""

import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from flea_fairseq.data.files import writing

TAIL = 400  # bytes of a log that hold its last progress line


@dataclass
class Step:
    """A step under way: its name, such as Ses01/seed1/tapt, its log, its Slurm job (or None) and when it began."""

    name: str
    log: str
    slurm: str | None = None
    since: float = 0.0
    attempt: int = 1


@dataclass
class Graph:
    """The state of a graph as Snakemake's lines tell it. running: by Snakemake's job number; failed: names."""

    done: int = 0
    total: int = 0
    running: dict[str, Step] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=dict)
    _log: str = ""
    _time: float = 0.0

    def read(self, line: str) -> Step | None:
        """Take one line; gives the step that it says is finished."""
        if match := re.match(r"\[(\w{3} \w{3} +\d+ [\d:]+ \d{4})\]$", line.rstrip()):
            self._time = time.mktime(time.strptime(match[1]))
            self._log = ""  # of an earlier step, if that was none with a number
        elif match := re.match(r"    log: ([^\s,]+)", line):  # Slurm's own log may follow
            self._log = self._log or match[1]
        elif match := re.match(r"    jobid: (\d+)", line):
            self._begin(match[1])
        elif match := re.match(r"Job (\d+) has been submitted with SLURM jobid (\d+)", line):
            if match[1] in self.running:
                self.running[match[1]].slurm = match[2]
        elif match := re.match(r"Finished jobid: (\d+)", line):
            return self.running.pop(match[1], None)
        elif match := re.match(r"Error in rule \w+", line):
            self._log = "error"
        elif match := re.match(r"total +(\d+)$", line.rstrip()):
            self.total = int(match[1])
        elif match := re.match(r"(\d+) of (\d+) steps", line):
            self.done, self.total = int(match[1]), int(match[2])
        return None

    def _begin(self, job: str) -> None:
        log, self._log = self._log, ""
        if log == "error":  # the same words follow an error: that attempt is over
            if step := self.running.pop(job, None):
                self.failed.append(step.name)
            return
        self.attempts[job] = self.attempts.get(job, 0) + 1
        self.running[job] = Step(step_name(log), log, since=self._time, attempt=self.attempts[job])


def follow(stream: Iterable[str], log: Path, folder: Path) -> list[str]:
    """Read Snakemake's output to its end, showing steps as they start and finish; `log` gets each line as it comes."""
    graph, lines = Graph(), []
    terminal = sys.stderr.isatty()
    finished = ""
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
    with (
        writing(log),
        open(log, "w", encoding="utf-8") as copy,
        tqdm(unit="step", disable=not terminal, bar_format="{n_fmt}/{total_fmt} steps [{elapsed}] {desc}") as bar,
        refreshing(bar, graph, folder),
    ):
        for line in stream:
            lines.append(line)
            copy.write(line)
            copy.flush()
            if step := graph.read(line):
                finished = step.name
            if (graph.done, graph.total) != (bar.n, bar.total):
                bar.n, bar.total = graph.done, graph.total
                if not terminal and finished:
                    print(f"[{bar.n}/{bar.total}] {finished}", file=sys.stderr, flush=True)
                finished = ""
    return lines


def step_name(log: str) -> str:
    """logs/Ses01/align.log -> Ses01/align."""
    return log.removeprefix("logs/").removesuffix(".log")


@contextmanager
def refreshing(bar: "tqdm[Any]", graph: Graph, folder: Path) -> Iterator[None]:
    """Show the last progress line of each running step's log, twice a second."""
    done = threading.Event()

    def refresh() -> None:
        while not done.wait(0.5):
            steps = [step for step in list(graph.running.values()) if step.log]
            shown = (f"{step.name} {progress(folder / step.log)[0]}".strip() for step in steps)
            bar.set_description_str(" | ".join(shown))

    thread = threading.Thread(target=refresh, daemon=True)
    if not bar.disable:
        thread.start()
    try:
        yield
    finally:
        done.set()


def progress(log: Path) -> tuple[str, str]:
    """The newest progress bar in a log: how far, such as 40%, and the time left that it expects, such as 01:20."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return "", ""
    bars = re.findall(r"(\d+%)\|.*?<([\d:]+|\?)", text)
    return bars[-1] if bars else ("", "")
