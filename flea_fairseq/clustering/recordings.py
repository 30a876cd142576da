"""The recordings of a manifest, decoded ahead of their use."""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flea_fairseq.data.audio import FRAME_SAMPLES, SAMPLE_RATE, frame_count, read_listed
from flea_fairseq.data.manifest import read_manifest
from flea_fairseq.errors import AudioError

READERS = 4  # threads that decode
AHEAD = 300 * SAMPLE_RATE  # samples decoded before their use: 19 MB


@dataclass(frozen=True)
class Recording:
    """A file and what the manifest says of it: 16 kHz samples."""

    path: Path
    samples: int

    @property
    def frames(self) -> int:
        return frame_count(self.samples)

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLE_RATE


def read_recordings(manifest: Path) -> list[Recording]:
    """The recordings of a manifest. Raises FormatError, and AudioError for one without a single frame."""
    listing = read_manifest(manifest)
    recordings = [Recording(path, samples) for path, samples in zip(listing.paths(), listing.frames)]
    for recording in recordings:
        if not recording.frames:
            raise AudioError(
                f"{recording.path}: {recording.samples} samples, fewer than one frame's {FRAME_SAMPLES}; "
                f"leave it out of {manifest}"
            )
    return recordings


def batches(recordings: Sequence[Recording], seconds: float) -> list[list[Recording]]:
    """Recordings of like length, from the longest on, as many as make `seconds` with their padding; 0: each alone."""
    if not seconds:
        return [[recording] for recording in recordings]
    groups: list[list[Recording]] = []
    for recording in sorted(recordings, key=lambda recording: -recording.samples):
        if groups and (len(groups[-1]) + 1) * groups[-1][0].seconds <= seconds:
            groups[-1].append(recording)
        else:
            groups.append([recording])
    return groups


def waveforms(recordings: Sequence[Recording]) -> Generator[np.ndarray, None, None]:
    """Decode one after the other, (samples,) float32; threads decode those to come, as far as they fit AHEAD.

    Raises AudioError for a file that cannot be decoded, or is not as long as the manifest says.
    """
    todo, held = deque(recordings), 0
    waiting: deque[tuple[Recording, Future[np.ndarray]]] = deque()
    pool = ThreadPoolExecutor(READERS)
    try:
        while todo or waiting:
            while todo and (not waiting or held + todo[0].samples <= AHEAD):
                recording = todo.popleft()
                waiting.append((recording, pool.submit(read_listed, recording.path, recording.samples)))
                held += recording.samples
            recording, waveform = waiting.popleft()
            yield waveform.result()
            held -= recording.samples
    finally:
        pool.shutdown(cancel_futures=True)
