"""Model files: warm starts from every kind, and files that are hostile, damaged or of another kind."""

import os
import pickle

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models.hubert.hubert import HubertConfig, HubertModel
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
from omegaconf import OmegaConf
from support import Hostile

from flea_fairseq.errors import CheckpointError
from flea_fairseq.models.checkpoints import (
    load_classifier,
    load_encoder,
    load_tensors,
    read_checkpoint,
    write_model,
)
from flea_fairseq.models.flea_hubert import FleaHubertConfig, FleaHubertModel

SHAPE = dict(
    label_rate=50.0, encoder_layers=3, encoder_embed_dim=64, encoder_ffn_embed_dim=128, encoder_attention_heads=4,
    conv_feature_layers="[(32,10,5)] + [(32,3,2)] * 4 + [(32,2,2)] * 2", conv_pos=16, conv_pos_groups=4, final_dim=24,
)  # fmt: skip


class Task:
    """What a model needs of its task."""

    def __init__(self, units: int, normalize: bool = False) -> None:
        self.cfg = HubertPretrainingConfig(sample_rate=16000, label_rate=50.0, normalize=normalize)
        dictionary = Dictionary()
        for unit in range(units):
            dictionary.add_symbol(str(unit))
        self.dictionaries = [dictionary]


def build(units: int, init="", **changes) -> FleaHubertModel:
    cfg = OmegaConf.structured(FleaHubertConfig(**{**SHAPE, **changes}, init_checkpoint=str(init), seed=1))
    return FleaHubertModel.build_model(cfg, Task(units))


@pytest.fixture
def fairseq_checkpoint(tmp_path):
    """A checkpoint of fairseq's own HuBERT with K = 50, as fairseq stores it, Dictionary object included."""
    torch.manual_seed(0)
    cfg = OmegaConf.structured(HubertConfig(**SHAPE))
    model = HubertModel(cfg, Task(50).cfg, Task(50).dictionaries)
    state = {
        "args": None,
        "cfg": {
            "model": {**OmegaConf.to_container(cfg, enum_to_str=True), "_name": "hubert"},
            "task": {"normalize": False, "data": "/gone"},
        },
        "model": model.state_dict(),
        "task_state": {"dictionaries": Task(50).dictionaries},
        "optimizer_history": [{"num_updates": 3}],
        "last_optimizer_state": {"state": {0: torch.zeros(1000)}},
    }
    torch.save(state, tmp_path / "hubert.pt")
    return tmp_path / "hubert.pt", model.eval()


def test_features_of_a_fairseq_checkpoint_equal_fairseqs_own(fairseq_checkpoint, real_waveform):
    path, peer = fairseq_checkpoint
    ours = load_encoder(path)
    with torch.no_grad():
        for layer in (1, 2, 3):
            expected, _ = peer.extract_features(real_waveform[None, :30000], output_layer=layer)
            found = ours(real_waveform[None, :30000], layer=layer)[0]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)  # the processor rounds sums in its order


def test_a_namespace_config_is_read_too(fairseq_checkpoint, tmp_path):
    from argparse import Namespace

    path, _ = fairseq_checkpoint
    state = load_tensors(path)
    old = {"args": Namespace(**state["cfg"]["model"], normalize=True), "model": state["model"]}
    torch.save(old, tmp_path / "old.pt")
    assert read_checkpoint(tmp_path / "old.pt").encoder.normalize
    assert read_checkpoint(tmp_path / "old.pt").encoder_state.keys() == read_checkpoint(path).encoder_state.keys()


def test_the_head_is_kept_for_the_same_k_and_drawn_anew_for_another(fairseq_checkpoint):
    path, peer = fairseq_checkpoint
    same, fresh, other = build(50, path), build(50, path, fresh_head=True), build(100, path)
    assert torch.equal(same.label_embs_concat, peer.label_embs_concat)
    assert not torch.equal(fresh.label_embs_concat, peer.label_embs_concat)
    assert other.label_embs_concat.shape == (104, 24)
    for model in (same, fresh, other):
        assert torch.equal(model.encoder.layers[2].fc1.weight, peer.encoder.layers[2].fc1.weight)


def test_a_warm_start_from_a_hugging_face_folder(hugging_face_folder):
    model = build(50, hugging_face_folder)
    encoder = load_encoder(hugging_face_folder)
    assert torch.equal(model.mask_emb, encoder.mask_emb) and torch.equal(
        model.layer_norm.weight, encoder.layer_norm.weight
    )


def test_a_wrong_shape_names_the_settings_to_give(fairseq_checkpoint):
    with pytest.raises(CheckpointError, match=r"set model.encoder_layers=3"):
        build(50, fairseq_checkpoint[0], encoder_layers=2)


def test_a_hostile_checkpoint_is_refused_and_runs_nothing(tmp_path, fairseq_checkpoint):
    state = load_tensors(fairseq_checkpoint[0])
    torch.save({**state, "extra_state": Hostile(os.mkdir, (str(tmp_path / "created"),))}, tmp_path / "new.pt")
    torch.save(
        {**state, "extra_state": Hostile(os.mkdir, (str(tmp_path / "created"),))},
        tmp_path / "old.pt",
        _use_new_zipfile_serialization=False,
    )
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Hostile(os.mkdir, (str(tmp_path / "created"),))))
    (tmp_path / "text.pt").write_text("conv_feature_layers: no checkpoint at all")
    for name, reason in (("new", "asks for 'posix.mkdir'"), ("old", "asks for"), ("plain", ""), ("text", "")):
        with pytest.raises(CheckpointError, match=f"{name}.pt: (refused|damaged).*{reason}") as error:
            read_checkpoint(tmp_path / f"{name}.pt")
        assert "weights_only" not in str(error.value)  # torch advises to load it unsafely
    assert not (tmp_path / "created").exists()


def test_a_config_that_is_python_is_refused_and_runs_nothing(tmp_path, fairseq_checkpoint):
    state = load_tensors(fairseq_checkpoint[0])
    state["cfg"]["model"]["conv_feature_layers"] = f"[__import__('os').mkdir('{tmp_path / 'created'}')] or [(32,10,5)]"
    torch.save(state, tmp_path / "hostile.pt")
    with pytest.raises(CheckpointError, match="conv_feature_layers"):
        load_encoder(tmp_path / "hostile.pt")
    with pytest.raises(CheckpointError, match="conv_feature_layers"):
        build(50, conv_feature_layers=state["cfg"]["model"]["conv_feature_layers"])
    assert not (tmp_path / "created").exists()


def test_files_that_are_no_models(tmp_path, fairseq_checkpoint):
    path, _ = fairseq_checkpoint
    with pytest.raises(CheckpointError, match="no such file"):
        read_checkpoint(tmp_path / "absent.pt")
    (tmp_path / "half.pt").write_bytes(path.read_bytes()[:5000])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("not a model")
    for name in ("half.pt", "empty.pt", "text.pt"):
        with pytest.raises(CheckpointError, match=name):
            read_checkpoint(tmp_path / name)
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no entry 'model'"):
        read_checkpoint(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="without a classifier"):
        load_classifier(path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="config.json"):
        read_checkpoint(tmp_path / "folder")


def test_stripping_keeps_what_loading_needs(fairseq_checkpoint, tmp_path):
    path, _ = fairseq_checkpoint
    write_model(path, tmp_path / "small.pt", {})
    assert "last_optimizer_state" not in load_tensors(tmp_path / "small.pt")
    one, other = read_checkpoint(path), read_checkpoint(tmp_path / "small.pt")
    assert one.encoder == other.encoder and one.head_state.keys() == other.head_state.keys()
