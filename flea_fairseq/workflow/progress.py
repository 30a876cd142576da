"""What a running graph shows: a bar over steps with the running steps' own progress, or plain lines in a file."""

import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

TAIL = 400  # bytes of a log that hold its last progress line


def follow(stream: Iterable[str], lines: list[str], folder: Path) -> None:
    """Read Snakemake's output to its end into `lines`, showing steps as they start and finish."""
    running: dict[str, str] = {}  # job -> log
    log = ""
    terminal = sys.stderr.isatty()
    with tqdm(unit="step", disable=not terminal, bar_format="{n_fmt}/{total_fmt} steps [{elapsed}] {desc}") as bar:
        with refreshing(bar, running, folder):
            for line in stream:
                lines.append(line)
                if match := re.match(r"    log: (\S+)", line):
                    log = match[1]
                elif match := re.match(r"    jobid: (\d+)", line):
                    running[match[1]], log = log, ""
                elif match := re.match(r"Finished jobid: (\d+)", line):
                    name = step_name(running.pop(match[1], ""))
                elif match := re.match(r"(\d+) of (\d+) steps", line):
                    bar.n, bar.total = int(match[1]), int(match[2])
                    if not terminal and name:
                        print(f"[{bar.n}/{bar.total}] {name}", file=sys.stderr, flush=True)


def step_name(log: str) -> str:
    """logs/Ses01/align.log -> Ses01/align."""
    return log.removeprefix("logs/").removesuffix(".log")


@contextmanager
def refreshing(bar: tqdm, running: dict[str, str], folder: Path) -> Iterator[None]:
    """Show the last progress line of each running step's log, twice a second."""
    done = threading.Event()

    def refresh() -> None:
        while not done.wait(0.5):
            logs = [log for log in list(running.values()) if log]
            bar.set_description_str(" | ".join(f"{step_name(log)} {last_line(folder / log)}".strip() for log in logs))

    thread = threading.Thread(target=refresh, daemon=True)
    if not bar.disable:
        thread.start()
    try:
        yield
    finally:
        done.set()


def last_line(log: Path) -> str:
    """The newest progress bar in a log, without its frame."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    parts = [part.strip() for part in re.split(r"[\r\n]", text) if "%|" in part or "it/s" in part or "/s]" in part]
    match = re.search(r"(\d+%)", parts[-1]) if parts else None
    return match[1] if match else ""
