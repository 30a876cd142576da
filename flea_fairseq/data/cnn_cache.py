"""Frames of an utterance kept in a file of their own: memory-mapped, with a checksum, shared by processes."""

import hashlib
import logging
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from flea_fairseq.data.files import write_bytes

logger = logging.getLogger(__name__)
NAME, CHECKSUM = "frames", "sha256"


def write_frames(path: Path, frames: Tensor) -> None:
    """Write frames (T, C) and their checksum, whole or not at all: several processes may write the same at once."""
    write_bytes(path, save({NAME: frames}, metadata={CHECKSUM: _checksum(frames)}))


def read_frames(path: Path) -> Tensor:
    """The frames (T, C) of a file that `has_frames` has seen: a memory map, read when it is used."""
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(NAME)


def has_frames(path: Path, shape: tuple[int, int]) -> bool:
    """Whether a file holds frames of this shape, as they were written; a damaged one is named in the log."""
    if not path.exists():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            frames, checksum = file.get_tensor(NAME), file.metadata()[CHECKSUM]
        problem = "" if checksum == _checksum(frames) and frames.shape == shape else "its checksum or shape is wrong"
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        problem = f"it cannot be read ({error})"
    if problem:
        logger.warning("%s: %s; it is made again", path, problem)
    return not problem


def _checksum(frames: Tensor) -> str:
    return hashlib.sha256(frames.numpy()).hexdigest()
