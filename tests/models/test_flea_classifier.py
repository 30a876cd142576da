"""`flea_classifier`: what is frozen, what is masked, what it returns, and what it starts from."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from omegaconf import OmegaConf
from support import CLASSES

from flea_fairseq.errors import CheckpointError
from flea_fairseq.models.checkpoints import load_encoder
from flea_fairseq.models.flea_classifier import FleaClassifier, FleaClassifierConfig


def build(init, **changes) -> FleaClassifier:
    cfg = OmegaConf.structured(FleaClassifierConfig(init_checkpoint=str(init), seed=1, **changes))
    return FleaClassifier.build_model(cfg, SimpleNamespace(classes=CLASSES))


def gradients(model: FleaClassifier, update: int) -> set[str]:
    """The parts that get a gradient in an update."""
    model.train().zero_grad()
    model.set_num_updates(update)
    model(torch.randn(2, 12000))["logits"].sum().backward()
    names = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    return {part for part in ("feature_extractor", "layers", "pooling", "head") if any(part in name for name in names)}


def test_the_cnn_and_the_encoder_are_frozen_as_asked(hugging_face_folder):
    assert gradients(build(hugging_face_folder), 0) == {"layers", "pooling", "head"}
    assert gradients(build(hugging_face_folder, freeze_cnn=False), 0) == {
        "feature_extractor",
        "layers",
        "pooling",
        "head",
    }
    late = build(hugging_face_folder, freeze_encoder_updates=3)
    assert gradients(late, 2) == {"pooling", "head"} and gradients(late, 3) == {"layers", "pooling", "head"}


def test_masks_act_in_training_only_and_depend_on_update_and_utterance(hugging_face_folder):
    off = dict.fromkeys(("dropout", "attention_dropout", "pooling_dropout"), 0.0)
    model = build(hugging_face_folder, mask_prob=0.5, mask_channel_prob=0.2, mask_channel_length=4, **off)
    source, ids = torch.randn(2, 12000), torch.tensor([5, 9])

    def logits(update: int, utterances: torch.Tensor, rows: slice = slice(None)) -> torch.Tensor:
        model.set_num_updates(update)
        with torch.no_grad():
            return model(source[rows], utterances=utterances)["logits"]

    plain = logits(1, ids) if not model.train(False).training else None
    assert torch.equal(plain, logits(2, ids))
    model.train()
    first = logits(1, ids)
    assert not torch.allclose(first, plain, atol=1e-4)
    assert not torch.allclose(first, logits(2, ids), atol=1e-4)
    assert not torch.allclose(first, logits(1, ids + 1), atol=1e-4)
    np.random.seed(99)
    assert torch.equal(first, logits(1, ids))
    assert torch.allclose(first[1:], logits(1, ids[1:], slice(1, 2)), atol=1e-5)  # whatever else is in the batch


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_it_returns_attention_weights_and_frame_logits(hugging_face_folder, pooling):
    model = build(hugging_face_folder, pooling=pooling).eval()
    with torch.no_grad():
        output = model(torch.randn(2, 16000), torch.tensor([16000, 9000]))
        assert output["frames"].tolist() == [49, 27] and output["logits"].shape == (2, 4)
        assert torch.allclose(output["attention"].sum(1), torch.ones(2), atol=1e-5)
        assert not output["attention"][1, 27:].any() and output["attention"][1, :27].all()
        # the head is linear: the utterance's logits are the weighted sum of its frames'
        frames = model.frame_logits(output["x"])
        assert torch.allclose(torch.einsum("bt,btc->bc", output["attention"], frames), output["logits"], atol=1e-4)


def test_without_a_checkpoint_to_start_from_it_says_so():
    with pytest.raises(CheckpointError, match="model.init_checkpoint is empty"):
        build("")


def test_a_fairseq_wav2vec2_checkpoint_gives_wav2vec2s_own_features(tmp_path, real_waveform):
    """Both layouts: with a quantizer, as pretrained, in fairseq's newer config."""
    shape = dict(
        encoder_layers=2, encoder_embed_dim=32, encoder_ffn_embed_dim=64, encoder_attention_heads=4, final_dim=16,
        conv_feature_layers="[(16,10,5)] + [(16,3,2)] * 4 + [(16,2,2)] * 2", conv_pos=16, conv_pos_groups=4,
        quantize_targets=True, latent_vars=8, extractor_mode="layer_norm", conv_bias=True,
    )  # fmt: skip
    cfg = OmegaConf.structured(Wav2Vec2Config(**shape))
    torch.manual_seed(0)
    peer = Wav2Vec2Model(cfg).eval()
    stored = {**OmegaConf.to_container(cfg, enum_to_str=True), "_name": "wav2vec2"}
    torch.save({"cfg": {"model": stored, "task": {"normalize": True}}, "model": peer.state_dict()}, tmp_path / "w2v.pt")
    encoder = load_encoder(tmp_path / "w2v.pt")
    source = real_waveform[None, :30000]
    with torch.no_grad():
        assert encoder.normalize and torch.equal(encoder(source)[0], peer.extract_features(source, None)["x"])
        for layer in (1, 2):
            expected = peer.extract_features(source, None, layer=layer - 1)["x"]
            assert torch.equal(encoder(source, layer=layer)[0], expected)
    assert build(tmp_path / "w2v.pt").normalize
