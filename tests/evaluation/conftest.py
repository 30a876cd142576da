"""Small labelled splits of generated audio, and a tiny classifier."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from flea_fairseq.data.manifest import Manifest, write_dictionary, write_labels, write_manifest

CLASSES = ("angry", "happy", "neutral", "sad")
WriteSplit = Callable[[str, Sequence[str], Sequence[np.ndarray]], Path]


@pytest.fixture
def write_split(tmp_path) -> WriteSplit:
    """Write waveforms and their labels as a split of a fold in `tmp_path`; gives the manifest's path."""
    write_dictionary(tmp_path / "dict.emo.txt", CLASSES)

    def write(name: str, labels: Sequence[str], waveforms: Sequence[np.ndarray]) -> Path:
        names = [f"{name}{i}.wav" for i in range(len(labels))]
        for file, waveform in zip(names, waveforms):
            soundfile.write(tmp_path / file, waveform, 16000, subtype="FLOAT")
        write_manifest(tmp_path / f"{name}.tsv", Manifest(tmp_path, tuple(names), tuple(map(len, waveforms))))
        write_labels(tmp_path / f"{name}.emo", labels)
        return tmp_path / f"{name}.tsv"

    return write


@pytest.fixture
def noises() -> Callable[[int, Sequence[str]], list[np.ndarray]]:
    """Noise of 0.3 to 0.6 s; the louder, the later its label stands in CLASSES."""

    def make(seed: int, labels: Sequence[str]) -> list[np.ndarray]:
        random = np.random.default_rng(seed)
        return [
            (0.02 * 3 ** CLASSES.index(label) * random.standard_normal(random.integers(4800, 9600))).astype(np.float32)
            for label in labels
        ]

    return make
