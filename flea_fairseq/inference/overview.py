"""One pass over a recording before the model hears it: its loudness a frame, and what a picture of it needs."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from flea_fairseq.data.audio import FRAME_SAMPLES, HOP_SAMPLES, frame_count

BLOCK = 1000  # frames read at once
COLUMNS = 1000  # of the spectrogram, at most
QUIETEST = -120.0  # dB


class Audio(Protocol):
    """A recording at 16 kHz, mono: its length, and any stretch of it as (stop - start,) float32."""

    samples: int

    def read(self, start: int, stop: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Overview:
    """levels: (T,) dB of full scale; low, high: (T,) the samples' extremes in each frame's hop; spectrum:
    (columns, 201) mean power of 0 to 8 kHz, in steps of 40 Hz."""

    levels: np.ndarray
    low: np.ndarray
    high: np.ndarray
    spectrum: np.ndarray


def look_over(audio: Audio) -> Overview:
    """Read a recording once, in blocks of 20 s."""
    frames = frame_count(audio.samples)
    columns = min(frames, COLUMNS)
    levels, low, high = (np.empty(frames, dtype=np.float32) for _ in range(3))
    spectrum, counts = np.zeros((columns, FRAME_SAMPLES // 2 + 1)), np.zeros(columns)
    taper = np.hanning(FRAME_SAMPLES).astype(np.float32)
    for first in range(0, frames, BLOCK):
        last = min(first + BLOCK, frames)
        samples = audio.read(first * HOP_SAMPLES, (last - 1) * HOP_SAMPLES + FRAME_SAMPLES)
        windows = sliding_window_view(samples, FRAME_SAMPLES)[::HOP_SAMPLES]
        power = np.square(windows, dtype=np.float64).mean(1)
        levels[first:last] = np.maximum(10 * np.log10(np.maximum(power, 1e-30)), QUIETEST)
        hops = windows[:, :HOP_SAMPLES]
        low[first:last], high[first:last] = hops.min(1), hops.max(1)
        place = np.arange(first, last) * columns // frames
        np.add.at(spectrum, place, np.abs(np.fft.rfft(windows * taper, axis=1)) ** 2)
        np.add.at(counts, place, 1)
    return Overview(levels, low, high, (spectrum / counts[:, None]).astype(np.float32))
