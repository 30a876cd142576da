"""Handing out the GPUs of one machine to steps that run side by side."""

import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path

FOLDER, NUMBERS, WANTED = "FLEA_GPU_FOLDER", "FLEA_GPUS", "FLEA_GPUS_WANTED"  # environment variables
_held: list[int] = []  # file descriptors, open until the process ends


def take_gpus(pause: float = 0.5) -> None:
    """Take as many GPUs as the step may have, wait until they are free, and show CUDA only these.

    `flea run --gpus` sets which there are, and each step how many it wants; without that nothing happens. A GPU is
    taken until the process ends, however it ends: the lock is the system's.
    """
    folder, wanted = os.environ.get(FOLDER), int(os.environ.get(WANTED, "0"))
    if not folder or not wanted or _held:
        return
    numbers = os.environ[NUMBERS].split(",")
    while len(taken := _take(Path(folder), numbers, wanted)) < wanted:
        time.sleep(pause)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)


def _take(folder: Path, numbers: Sequence[str], wanted: int) -> list[str]:
    """All that are wanted, or none: two steps that hold a half each would wait for each other."""
    taken: list[str] = []
    files: list[int] = []
    for number in numbers:
        if len(taken) == wanted:
            break
        file = os.open(folder / f"gpu{number}.lock", os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        taken.append(number)
        files.append(file)
    if len(taken) < wanted:
        for file in files:
            os.close(file)
        return []
    _held.extend(files)
    return taken
