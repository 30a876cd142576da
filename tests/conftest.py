"""Shared material: small real-format models with random weights, generated audio, and the real recordings beside us."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
CLASSES = ("angry", "happy", "neutral", "sad")
TINY_CONV = [(32, 10, 5)] + [(32, 3, 2)] * 4 + [(32, 2, 2)] * 2


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


def hugging_face_config(layer_norm_mode: bool = False, kind: str = "hubert"):
    """transformers' config of a tiny encoder; dropouts off."""
    import transformers

    config = transformers.HubertConfig if kind == "hubert" else transformers.Wav2Vec2Config
    return config(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128,
        conv_dim=[c for c, _, _ in TINY_CONV], conv_kernel=[k for _, k, _ in TINY_CONV],
        conv_stride=[s for _, _, s in TINY_CONV], num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer" if layer_norm_mode else "group", conv_bias=layer_norm_mode,
        do_stable_layer_norm=False, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
        feat_proj_dropout=0.0, layerdrop=0.0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def hugging_face_folder(tmp_path_factory) -> Path:
    """A tiny HuBERT as transformers saves it."""
    return save_hugging_face(tmp_path_factory.mktemp("hf") / "hubert", "hubert", False)


def save_hugging_face(folder: Path, kind: str, layer_norm_mode: bool) -> Path:
    import transformers

    torch.manual_seed(3)
    model_class = transformers.HubertModel if kind == "hubert" else transformers.Wav2Vec2Model
    model_class(hugging_face_config(layer_norm_mode, kind)).eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": layer_norm_mode}))
    return folder


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
