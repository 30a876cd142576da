"""What every evaluation reads: a manifest with its labels, and whole utterances."""

from pathlib import Path

import numpy as np

from flea_fairseq.data.audio import FRAME_SAMPLES, read_audio
from flea_fairseq.data.manifest import Manifest, read_labels, read_manifest
from flea_fairseq.errors import AudioError, CorpusError


def read_split(manifest: str | Path, classes: list[str]) -> tuple[Manifest, list[str]]:
    """Read a `.tsv` and the labels in the `.emo` beside it.

    Raises CorpusError if they are of different number, or for a label that is none of `classes`.
    """
    split, path = read_manifest(manifest), Path(manifest).with_suffix(".emo")
    labels = read_labels(path)
    if len(labels) != len(split.names):
        raise CorpusError(
            f"{path}: {len(labels)} labels, but {manifest} lists {len(split.names)} utterances; run flea folds again"
        )
    for number, label in enumerate(labels, start=1):
        if label not in classes:
            raise CorpusError(
                f"{path}:{number}: label {label!r}, expected one of {', '.join(classes)}; "
                "train and test on folds of one corpus"
            )
    return split, labels


def read_utterance(path: Path) -> np.ndarray:
    """Decode a whole utterance: (samples,) float32 at 16 kHz. Raises AudioError, also if it is shorter than a frame."""
    waveform = read_audio(path)
    if len(waveform) < FRAME_SAMPLES:
        raise AudioError(
            f"{path}: {len(waveform)} samples, expected {FRAME_SAMPLES} (25 ms) or more; take it out of the corpus"
        )
    return waveform
