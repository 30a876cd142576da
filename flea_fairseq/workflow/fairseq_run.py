"""Running fairseq in a process of its own, with what it logs as a progress bar."""

import ctypes
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from flea_fairseq.data.files import check_room, writing
from flea_fairseq.errors import ExperimentError
from flea_fairseq.evaluation.curves import json_part

UPDATES = ("num_updates", "train_num_updates", "valid_num_updates")  # in fairseq's log lines
SHOWN = ("epoch", "loss", "accuracy_masked_0", "ua", "valid_ua")
AFTERMATH = re.compile(r"Connection (closed|reset) by peer|ChildFailedError|ProcessExitedException|NCCL")  # of another
DONE = re.compile(r"\[fairseq_cli\.train\]\[INFO\] - done training in ")  # after the last checkpoint
OWN_WORDS = re.compile(r"\[flea_fairseq[\w.]*\]\[INFO\] - (.+)")  # what our code says in fairseq's log
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def run_fairseq(command: Sequence[str], run_dir: Path, values: dict[str, Any], lock: int) -> None:
    """Run a command to its end, its output in `run_dir/train.log`, and show a progress bar.

    values: the config under dotted keys, which tells the number of updates; lock: the descriptor of the run's lock,
    which fairseq holds as long as it lives, should this process be killed. What happens to fairseq after its last
    checkpoint is no error.
    Raises ExperimentError with fairseq's own reason, WriteError where the disk is full.
    """
    log = run_dir / "train.log"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", pass_fds=[lock],
        preexec_fn=_end_with_parent, cwd=run_dir,  # Python imports from where it is started, which may be anybody's
    ) as process:  # fmt: skip
        try:
            import flea_fairseq.models.checkpoints  # noqa: F401 -- wanted afterwards; fairseq takes as long to start

            with writing(log), open(log, "a", encoding="utf-8") as file:
                begin = file.tell()
                _follow(_copy(process.stdout or (), file), run_dir, values)
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0 and not _is_done(log, begin):
        check_room(run_dir)
        raise ExperimentError(f"{log}: fairseq ended with status {process.returncode}: {_reason(log, begin)}")


def _end_with_parent() -> None:
    """Let the system end this process with the one that started it: a killed job leaves nobody who still writes.

    It reaches this process alone: of torchrun's or srun's, each ends with the one above it, and the run's lock, which
    they inherit, keeps another training out until the last is gone.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _copy(lines: Iterable[str], file: TextIO) -> Iterator[str]:
    for line in lines:
        file.write(line)
        file.flush()
        yield line


def _follow(lines: Iterable[str], run_dir: Path, values: dict[str, Any]) -> None:
    """Show fairseq's JSON log lines as a progress bar over updates, and above it what our own code says."""
    with tqdm(desc=run_dir.parent.name, unit="update", mininterval=1) as bar:
        shown: dict[str, str] = {}
        for line in lines:
            if said := OWN_WORDS.search(line):
                bar.write(said[1], file=sys.stderr)
            logged = json_part(line)
            if any(key in logged for key in UPDATES):
                if bar.total is None:
                    bar.total = _total(run_dir, values)
                done = next(int(logged[key]) for key in UPDATES if key in logged)
                shown.update({key: logged[key] for key in SHOWN if key in logged})
                bar.set_postfix(shown, refresh=False)
                bar.update(done - bar.n)


def _total(run_dir: Path, values: dict[str, Any]) -> int | None:
    """Updates in all: what the config says, or epochs times the updates of one, which fairseq logs when it starts."""
    if values.get("optimization.max_update"):
        return values["optimization.max_update"]
    found = re.findall(r"grouped total_num_itrs = (\d+)", (run_dir / "train.log").read_text(errors="replace"))
    epochs = values.get("optimization.max_epoch")
    return int(found[-1]) * epochs if found and epochs else None


def _is_done(log: Path, begin: int) -> bool:
    """Whether fairseq had written its last checkpoint before it ended, however it did.

    At Python's exit a thread that reads batches ahead may be in torch's C++ code, from where it cannot be ended, and
    the process is aborted (pytorch issues 38228 and 117762): nothing is lost by then.
    """
    return bool(DONE.search(_logged(log, begin)))


def _logged(log: Path, begin: int) -> str:
    return log.read_bytes()[begin:].decode("utf-8", errors="replace")


def _reason(log: Path, begin: int) -> str:
    """The exception's own line, or else the last lines, in one; begin: the byte of the log at which this run began.

    Of several processes, one's error makes errors of the others, which may be logged after it.
    """
    text = _logged(log, begin)
    lines = [line.strip() for line in text.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt): ", line)]
    errors = [line for line in errors if not AFTERMATH.search(line)] or errors
    return errors[-1][:1000] if errors else "; ".join(lines[-4:])[-1000:] or "no output"
