"""A recording of any length as 16 kHz mono, piece by piece, in memory that does not depend on its length."""

from math import gcd
from pathlib import Path

import numpy as np
import soundfile

from flea_fairseq.data.audio import SAMPLE_RATE, AudioInfo, probe_audio, resample
from flea_fairseq.errors import AudioError

CONTEXT_SECONDS = 1  # on both sides of what is resampled: more than the filter (of 6 periods) reaches


class LongAudio:
    """An open audio file: `read(start, stop)` gives any stretch as `read_audio` would give it, in 16 kHz samples.

    samples: its length at 16 kHz. Raises AudioError for a file that is not whole audio.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.info: AudioInfo = probe_audio(path)
        self._up = SAMPLE_RATE // gcd(SAMPLE_RATE, self.info.sample_rate)
        self._down = self.info.sample_rate // gcd(SAMPLE_RATE, self.info.sample_rate)
        self.samples = -(-self.info.frames * self._up // self._down)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples start to stop at 16 kHz: (stop - start,) float32. Raises AudioError."""
        if self._up == self._down:
            return self._decode(start, stop)
        # Whole periods of both rates, so that the filter meets the same samples as in the whole recording.
        periods = CONTEXT_SECONDS * SAMPLE_RATE // self._up
        first = max(0, start // self._up - periods)
        last = -(-stop // self._up) + periods
        original = self._decode(first * self._down, min(last * self._down, self.info.frames))
        return resample(original, self.info.sample_rate)[start - first * self._up : stop - first * self._up]

    def _decode(self, start: int, stop: int) -> np.ndarray:
        """Samples of the file's own rate, channels averaged."""
        try:
            with soundfile.SoundFile(self.path) as file:
                file.seek(start)
                samples = file.read(stop - start, dtype="float32", always_2d=True)
        except (RuntimeError, ValueError, OSError) as error:
            raise AudioError(f"{self.path}: cannot be decoded at sample {start} ({error}); copy it again") from error
        if len(samples) < stop - start:
            raise AudioError(f"{self.path}: truncated ({start + len(samples)} of {self.info.frames} samples are there)")
        if not np.isfinite(samples).all():
            raise AudioError(f"{self.path}: holds samples that are not finite numbers; export it again as 16-bit PCM")
        return samples.mean(axis=1)
