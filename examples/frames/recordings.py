"""The recordings of joins.py, with the emotion of every frame."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joins import HEADER

from flea_fairseq.data.audio import FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE, frame_count, read_audio
from flea_fairseq.data.manifest import read_lines
from flea_fairseq.data.spans import read_rttm
from flea_fairseq.errors import CorpusError
from flea_fairseq.evaluation.score_frames import frame_truth

NEAR = 0.1  # seconds from a joint, where a frame hears both sides: left out, and counted


@dataclass(frozen=True)
class Recording:
    """parts: the two utterances; truth: the emotion of each frame; joint: seconds."""

    id: str
    parts: tuple[str, str]
    speaker: str
    kind: str
    samples: np.ndarray
    truth: list[str]
    joint: float

    @property
    def kept(self) -> np.ndarray:
        """Which frames are far enough from the joint."""
        centres = (np.arange(len(self.truth)) * HOP_SAMPLES + FRAME_SAMPLES / 2) / SAMPLE_RATE
        return np.abs(centres - self.joint) > NEAR


def read_recordings(folder: Path) -> list[Recording]:
    """What joins.py wrote."""
    lines = read_lines(folder / "joins.tsv")
    if lines[0].split("\t") != list(HEADER):
        raise CorpusError(f"{folder / 'joins.tsv'}:1: {lines[0]!r}, expected the header of joins.py")
    spans, recordings = read_rttm(folder / "spans.rttm"), []
    for name, speaker, first, second, joint, kind in (line.split("\t") for line in lines[1:]):
        samples = read_audio(folder / f"{name}.wav")
        truth = frame_truth(spans[name], frame_count(len(samples)))
        recordings.append(Recording(name, (first, second), speaker, kind, samples, truth, float(joint)))
    return recordings
