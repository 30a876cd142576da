"""`flea_classifier`: what is frozen, what is masked, what it returns, and what it starts from."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from omegaconf import OmegaConf
from support import CLASSES

from flea_fairseq.errors import CheckpointError, ExperimentError
from flea_fairseq.models.checkpoints import load_classifier, load_encoder
from flea_fairseq.models.flea_classifier import FleaClassifier, FleaClassifierConfig
from flea_fairseq.models.pooling import POOLINGS


def build(init, **changes) -> FleaClassifier:
    cfg = OmegaConf.structured(FleaClassifierConfig(init_checkpoint=str(init), seed=1, **changes))
    return FleaClassifier.build_model(cfg, SimpleNamespace(classes=CLASSES))


def gradients(model: FleaClassifier, update: int) -> set[str]:
    """The parts that get a gradient in an update."""
    model.train().zero_grad()
    model.set_num_updates(update)
    model(torch.randn(2, 12000))["logits"].sum().backward()
    names = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    parts = ("feature_extractor", "layers", "layer_logits", "pooling", "head")
    return {part for part in parts if any(part in name for name in names)}


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


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_the_defaults_have_no_other_parameters_and_draw_nothing_else(hugging_face_folder, pooling):
    """So that checkpoints of before fit, and the same seed still gives the same weights."""
    torch.manual_seed(7)
    drawn = {"pooling.weight": torch.empty(1, 64).uniform_()} if pooling == "attention" else {}
    head = torch.nn.Linear(64, 4)
    drawn.update({"head.weight": head.weight, "head.bias": head.bias})
    encoder = load_encoder(hugging_face_folder)
    torch.manual_seed(7)
    model = FleaClassifier(encoder, FleaClassifierConfig(pooling=pooling, classes=list(CLASSES), seed=1))
    own = {name: value for name, value in model.state_dict().items() if not name.startswith("encoder.")}
    assert own.keys() == drawn.keys() and all(torch.equal(value, drawn[name]) for name, value in own.items())


def test_a_frozen_encoder_is_the_checkpoints_own_while_training(hugging_face_folder):
    noisy = dict(mask_prob=0.5, dropout=0.5, encoder_layerdrop=0.5, dropout_input=0.5, layers="weighted")
    model = build(hugging_face_folder, freeze_encoder=True, **noisy)
    assert gradients(model, 0) == gradients(model, 5) == {"layer_logits", "pooling", "head"}
    assert model.training and model.head.training and not any(m.training for m in model.encoder.modules())
    source, lengths = torch.randn(2, 12000), torch.tensor([12000, 7000])
    with torch.no_grad():
        states, _ = load_encoder(hugging_face_folder).hidden_states(source, lengths)
        assert torch.allclose(model(source, lengths)["x"], sum(states) / 4, atol=1e-6)
        moving = build(hugging_face_folder, **noisy).train()
        assert not torch.allclose(moving(source, lengths)["x"], sum(states) / 4, atol=0.1)


def test_weighted_layers_are_the_softmax_sum_of_all_hidden_states(hugging_face_folder):
    model = build(hugging_face_folder, layers="weighted", pooling="mean").eval()
    assert gradients(model, 0) == {"layers", "layer_logits", "head"}
    late = build(hugging_face_folder, layers="weighted", pooling="mean", freeze_encoder_updates=2)
    assert gradients(late, 1) == {"layer_logits", "head"} and gradients(late, 2) == {"layers", "layer_logits", "head"}
    source = torch.randn(1, 12000)
    with torch.no_grad():
        model.eval().layer_logits.copy_(torch.tensor([3.0, 1.0, 1e-30, 2.0]).log())
        states, _ = model.encoder.hidden_states(source)
        output = model(source)
        assert torch.allclose(output["x"], (3 * states[0] + states[1] + 2 * states[3]) / 6, atol=1e-6)
        assert torch.allclose(output["logits"], model.head(output["x"].mean(1)), atol=1e-5)


def test_relu_acts_between_pooling_and_head(hugging_face_folder):
    model = build(hugging_face_folder, pooling="mean", head_activation="relu").eval()
    with torch.no_grad():
        output = model(torch.randn(1, 12000))
        assert torch.allclose(output["logits"], model.head(output["x"].mean(1).clamp(min=0)), atol=1e-5)
        frame = model.frame_logits(output["x"])[0, 3]  # as of an utterance of this frame alone
        assert torch.allclose(frame, model.head(output["x"][0, 3].clamp(min=0)), atol=1e-5)


@pytest.mark.parametrize("pooling", ["attentive_statistics", "correlation", "temporal_shift"])
def test_other_systems_do_not_hear_padding_and_have_no_frame_logits(hugging_face_folder, pooling):
    model = build(hugging_face_folder, pooling=pooling, layers="weighted").eval()
    source = torch.randn(2, 16000)
    with torch.no_grad():
        output = model(source, torch.tensor([16000, 9000]))
        alone = model(source[1:, :9000])
        assert torch.allclose(output["logits"][1], alone["logits"][0], atol=1e-4)
        assert not torch.allclose(output["logits"][1], model(source)["logits"][1], atol=1e-3)
    with pytest.raises(ExperimentError, match=f"model.pooling is {pooling}, whose head .* attention or .*mean or"):
        model.frame_logits(output["x"])


def saved(path, model: FleaClassifier, **config):
    stored = {**model.stored_config(), "_name": "flea_classifier", **config}
    torch.save({"cfg": {"model": stored}, "model": model.state_dict()}, path)
    return path


def test_a_checkpoint_from_before_the_newer_keys_loads(hugging_face_folder, tmp_path):
    model, source = build(hugging_face_folder).eval(), torch.randn(1, 12000)
    again = load_classifier(saved(tmp_path / "old.pt", model, pooling="attention"))
    with torch.no_grad():
        assert torch.equal(again(source)["logits"], model(source)["logits"])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_kind_comes_back_from_its_checkpoint(hugging_face_folder, tmp_path, pooling):
    choices = dict(pooling=pooling, layers="weighted", head_activation="relu", freeze_encoder=True)
    model, source = build(hugging_face_folder, **choices).eval(), torch.randn(1, 12000)
    again = load_classifier(saved(tmp_path / "new.pt", model, **choices))
    with torch.no_grad():
        assert torch.equal(again(source)["logits"], model(source)["logits"])


@pytest.mark.parametrize("layers", ["last", "weighted"])
def test_a_model_of_little_context_is_the_same_after_loading_and_hears_only_that(hugging_face_folder, tmp_path, layers):
    choices = dict(pooling="class_attention", context=0.2, layers=layers)
    model = build(hugging_face_folder, **choices).eval()
    again = load_classifier(saved(tmp_path / "new.pt", model, **choices))
    with torch.no_grad():
        cnn = model.encoder.convolve(torch.randn(1, 24000), torch.tensor([24000]))
        other = torch.cat([cnn[:, :40], torch.randn_like(cnn[:, 40:])], 1)
        heard, changed = (again(x, torch.tensor([24000]))["x"][0] for x in (cnn, other))
        assert torch.equal(heard, model(cnn, torch.tensor([24000]))["x"][0])
    assert torch.equal(heard[:31], changed[:31]) and (heard[40:] - changed[40:]).abs().amax(1).min() > 1e-3


@pytest.mark.parametrize("context", [-1, 0.01, float("nan"), float("inf"), "1", [1], 1e9])
def test_a_context_that_is_no_time_is_refused(hugging_face_folder, tmp_path, context):
    path = saved(tmp_path / "odd.pt", build(hugging_face_folder), context=context)
    with pytest.raises(
        CheckpointError, match=r"odd.pt: model.context is .*, expected 0 \(all\) or 0.08 to 3600 seconds"
    ):
        load_classifier(path)


@pytest.mark.parametrize("pooling", ["log_sum_exp", "class_attention", "noisy_or"])
def test_instances_are_judged_by_the_head_and_then_pooled(hugging_face_folder, pooling):
    model = build(hugging_face_folder, pooling=pooling, head_activation="relu").eval()
    with torch.no_grad():
        output = model(torch.randn(2, 16000), torch.tensor([16000, 9000]))
        frames = output["frames"].tolist()
        for row, count in enumerate(frames):
            logits = model.frame_logits(output["x"][row : row + 1, :count])
            pooled, weights = model.pooling(logits, None)
            assert torch.allclose(output["logits"][row], pooled[0], atol=1e-5)
            assert torch.allclose(output["attention"][row, :count], weights[0], atol=1e-6)


@pytest.mark.parametrize("key", ["pooling", "layers", "head_activation", "freeze_encoder"])
def test_a_checkpoint_with_an_unknown_choice_is_refused(hugging_face_folder, tmp_path, key):
    path = saved(tmp_path / "odd.pt", build(hugging_face_folder), **{key: "sideways"})
    with pytest.raises(CheckpointError, match=f"odd.pt: {key} 'sideways' is not one of"):
        load_classifier(path)


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
    assert encoder.normalize
    with torch.no_grad():
        found = [encoder(source)[0], *(encoder(source, layer=layer)[0] for layer in (1, 2))]
        expected = [peer.extract_features(source, None, layer=layer)["x"] for layer in (None, 0, 1)]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)  # another order of sums: the processor rounds
    assert build(tmp_path / "w2v.pt").normalize
