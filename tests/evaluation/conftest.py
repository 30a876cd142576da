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


@pytest.fixture
def save_classifier() -> Callable[..., Path]:
    """Write a classifier with random weights as fairseq stores one."""
    import torch

    from flea_fairseq.models.encoder import Encoder, EncoderConfig
    from flea_fairseq.models.flea_classifier import FleaClassifier, FleaClassifierConfig

    def save(path: Path, normalize: bool = False, pooling: str = "attention") -> Path:
        torch.manual_seed(0)
        shape = EncoderConfig(
            conv_layers=((16, 10, 5), *((16, 3, 2),) * 4, *((16, 2, 2),) * 2), encoder_layers=1, encoder_embed_dim=16,
            encoder_ffn_embed_dim=32, encoder_attention_heads=2, conv_pos=8, conv_pos_groups=2, normalize=normalize,
        )  # fmt: skip
        model = FleaClassifier(Encoder(shape), FleaClassifierConfig(classes=list(CLASSES), pooling=pooling, seed=1))
        torch.nn.init.normal_(model.head.weight, std=2)  # so that utterances differ
        config = {**model.stored_config(), "_name": "flea_classifier", "pooling": pooling}
        torch.save({"cfg": {"model": config}, "model": model.state_dict()}, path)
        return path

    return save
