"""Which stretches of a recording the model hears at once: all of a short one, a long one between its pauses."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

PAUSE = 15  # frames (0.3 s): shorter silences belong to speech
MARGIN = 10  # frames (0.2 s) of silence heard on both sides of speech
SHORTEST = 10  # frames: less sound is a click
FLOOR = -70.0  # dB of full scale: silence, however quiet the rest


class Window(NamedTuple):
    """Frames start to stop (50 a second)."""

    start: int
    stop: int


def sounding(levels: np.ndarray, below: float) -> np.ndarray:
    """Which frames are not silent: at most `below` dB under the recording's 95th percentile: (T,) dB -> (T,) bool.

    Silences shorter than a pause count as sound, sounds shorter than 0.2 s as silence.
    """
    loud = levels > max(np.percentile(levels, 95) - below, FLOOR)
    for silent, start, stop in list(_runs(loud)):
        if not silent and stop - start < PAUSE and 0 < start and stop < len(loud):
            loud[start:stop] = True
    for sound, start, stop in list(_runs(loud)):
        if sound and stop - start < SHORTEST:
            loud[start:stop] = False
    return loud


def plan_windows(sound: np.ndarray, longest: int) -> list[Window]:
    """Windows of at most `longest` frames: one for a recording no longer than that, else for each stretch of sound.

    sound: (T,) which frames are not silent. A stretch that is too long is cut into windows that overlap by half.
    """
    total = len(sound)
    if total <= longest:
        return [Window(0, total)]
    windows = []
    for start, stop in stretches(sound):
        wider = max(start - MARGIN, 0), min(stop + MARGIN, total)
        windows += [Window(*wider)] if wider[1] - wider[0] <= longest else _overlapping(*wider, longest)
    return windows


def stretches(sound: np.ndarray) -> list[tuple[int, int]]:
    """The runs of frames that sound: start and stop."""
    return [(start, stop) for loud, start, stop in _runs(sound) if loud]


def triangle(length: int) -> np.ndarray:
    """How much each frame of a window counts where windows overlap: most in its middle: (length,)."""
    place = np.arange(length)
    return np.minimum(place + 1, length - place).astype(np.float64)


def _overlapping(start: int, stop: int, longest: int) -> list[Window]:
    hop = longest // 2
    count = -(-(stop - start - longest) // hop) + 1
    starts = np.linspace(start, stop - longest, count).astype(int).tolist()
    return [Window(first, first + longest) for first in starts]


def _runs(values: np.ndarray) -> Iterator[tuple[bool, int, int]]:
    """Stretches of equal values: the value, start, stop."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    for start, stop in zip(edges, edges[1:]):
        if stop > start:
            yield bool(values[start]), start, stop
