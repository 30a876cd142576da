"""Shared material: small real-format models with random weights, generated audio, and the real recordings beside us."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from support import CLASSES, save_hugging_face

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def fixture_folder() -> Path:
    """One real LibriSpeech utterance with HuBERT-base features and units."""
    folder = SHARED / "fixtures/hubert_reference"
    if not folder.is_dir():
        pytest.skip(f"the reference fixtures are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def emodb_folder() -> Path:
    """The EmoDB recordings."""
    folder = SHARED / "corpora/emodb"
    if not folder.is_dir():
        pytest.skip(f"EmoDB is not at {folder}")
    return folder


@pytest.fixture(scope="session")
def real_waveform(fixture_folder: Path) -> torch.Tensor:
    """190,800 samples of real speech at 16 kHz."""
    samples, rate = soundfile.read(fixture_folder / "6313-76958-0021.flac", dtype="float32")
    assert rate == 16000
    return torch.from_numpy(samples)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """torch computes with two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def hugging_face_folder(tmp_path_factory) -> Path:
    """A tiny HuBERT as transformers saves it."""
    return save_hugging_face(tmp_path_factory.mktemp("hf") / "hubert", "hubert", False)


@pytest.fixture(scope="session")
def fold_folder(tmp_path_factory) -> Path:
    """A small fold in fairseq's files: {train,valid,ssl}.{tsv,emo,km50,km100}, noise whose loudness tells the class."""
    from flea_fairseq.data.manifest import Manifest, write_dictionary, write_labels, write_manifest, write_units

    folder = tmp_path_factory.mktemp("fold")
    rng = np.random.default_rng(0)
    for split, count in {"train": 24, "ssl": 24, "valid": 13}.items():
        names, frames, labels = [], [], []
        for i in range(count):
            length = int(rng.integers(9000, 20000))
            label = i % len(CLASSES)
            noise = rng.standard_normal(length).astype(np.float32) * 0.02 * (1 + 2 * label)
            soundfile.write(folder / f"utterance_{split}{i}.flac", noise, 16000)
            names.append(f"utterance_{split}{i}.flac"), frames.append(length), labels.append(CLASSES[label])
        write_manifest(folder / f"{split}.tsv", Manifest(folder, tuple(names), tuple(frames)))
        write_labels(folder / f"{split}.emo", labels)
        for k in (50, 100):
            write_units(folder / f"{split}.km{k}", [rng.integers(0, k, (n - 400) // 320 + 1) for n in frames])
    write_dictionary(folder / "dict.emo.txt", CLASSES)
    for k in (50, 100):
        write_dictionary(folder / f"dict.km{k}.txt", [str(unit) for unit in range(k)])
    return folder


@pytest.fixture
def labelled(fold_folder, tmp_path) -> Path:
    """The fold, its frames labelled as `flea cluster` does: more utterances than are trained on, in another order."""
    from flea_fairseq.data.manifest import Manifest, read_manifest, read_units, write_manifest, write_units

    folder = shutil.copytree(fold_folder, tmp_path / "labelled")
    parts = [
        (read_manifest(folder / f"{split}.tsv"), read_units(folder / f"{split}.km50")) for split in ("valid", "train")
    ]
    names, frames = (sum((getattr(part, field)[::-1] for part, _ in parts), ()) for field in ("names", "frames"))
    write_manifest(folder / "ssl.tsv", Manifest(fold_folder, names, frames))
    write_units(folder / "ssl.km50", [row for _, rows in parts for row in rows[::-1]])
    return folder


@pytest.fixture(scope="session")
def save_classifier() -> Callable[..., Path]:
    """Write a classifier with random weights as fairseq stores one."""
    from flea_fairseq.models.encoder import Encoder, EncoderConfig
    from flea_fairseq.models.flea_classifier import FleaClassifier, FleaClassifierConfig

    def save(path: Path, normalize: bool = False, **choices: Any) -> Path:
        choices = {"pooling": "attention", **choices}
        torch.manual_seed(0)
        shape = EncoderConfig(
            conv_layers=((16, 10, 5), *((16, 3, 2),) * 4, *((16, 2, 2),) * 2), encoder_layers=1, encoder_embed_dim=16,
            encoder_ffn_embed_dim=32, encoder_attention_heads=2, conv_pos=8, conv_pos_groups=2, normalize=normalize,
        )  # fmt: skip
        model = FleaClassifier(Encoder(shape), FleaClassifierConfig(classes=list(CLASSES), seed=1, **choices))
        torch.nn.init.normal_(model.head.weight, std=2)  # so that utterances differ
        config = {**model.stored_config(), "_name": "flea_classifier", **choices}
        torch.save({"cfg": {"model": config}, "model": model.state_dict()}, path)
        return path

    return save
