"""`flea_wav2vec2` against fairseq's Wav2Vec2Model and transformers' Wav2Vec2ForPreTraining."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq.criterions.wav2vec_criterion import Wav2vecCriterion
from omegaconf import OmegaConf
from support import save_hugging_face
from wav2vec2_models import SHAPE, fairseq_model, save_fairseq, save_hugging_face_pretraining

from flea_fairseq.errors import AudioError, CheckpointError, ExperimentError
from flea_fairseq.models.checkpoints import load_encoder, load_tensors, read_checkpoint
from flea_fairseq.models.flea_wav2vec2 import FleaWav2Vec2Config, FleaWav2Vec2Model, same_counts
from flea_fairseq.models.masking import frame_mask

CRITERION = Wav2vecCriterion(None, infonce=True, loss_weights=[0.1, 10.0])


def build(init="", normalize=False, **changes) -> FleaWav2Vec2Model:
    cfg = OmegaConf.structured(FleaWav2Vec2Config(**{**SHAPE, **changes}, init_checkpoint=str(init), seed=1))
    return FleaWav2Vec2Model.build_model(cfg, SimpleNamespace(cfg=SimpleNamespace(normalize=normalize)))


def pair(**changes):
    """fairseq's model and ours with the same weights, in training mode."""
    peer, ours = fairseq_model(**changes), build(**changes)
    ours.load_state_dict(peer.state_dict())
    return peer.train(), ours.train()


def loss_and_gradients(model, **net_input):
    model.zero_grad()
    torch.manual_seed(6)  # negatives and the quantizer's noise
    sample = {"id": torch.arange(3), "net_input": net_input}
    loss, size, _ = CRITERION(model, sample)
    loss.backward()
    return loss.detach(), size, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(got, expected) -> None:
    assert got[1] == expected[1] and torch.allclose(got[0], expected[0], rtol=1e-5)
    assert set(got[2]) == set(expected[2])
    for name, gradient in expected[2].items():
        assert torch.allclose(got[2][name], gradient, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("changes", [{"feature_grad_mult": 0.1}, {"latent_dim": 0, "codebook_negatives": 3}])
@pytest.mark.parametrize("padded", [False, True])
def test_same_loss_and_gradients_as_fairseq_with_the_same_masks(changes, padded):
    peer, ours = pair(**changes)
    source = torch.randn(3, 16400, generator=torch.Generator().manual_seed(1))
    padding = torch.zeros(3, 16400, dtype=torch.bool)
    padding[1, 12000:] = padded
    mask = torch.zeros(3, 51, dtype=torch.bool)
    mask[:, 3:13] = mask[0, 30:35] = mask[1, 20:25] = mask[2, 40:45] = True
    given = dict(source=source, padding_mask=padding, mask_indices=mask)
    assert_same(loss_and_gradients(ours, **given), loss_and_gradients(peer, **given))


def test_its_own_masks_are_those_of_the_seed_the_update_and_the_utterance():
    peer, ours = pair(mask_prob=0.4, mask_length=5)
    source, ids = torch.randn(3, 16400, generator=torch.Generator().manual_seed(1)), torch.tensor([4, 9, 2])
    ours.set_num_updates(7)
    rngs = [np.random.default_rng((1, 7, utterance)) for utterance in (4, 9, 2)]
    mask = same_counts(frame_mask((3, 51), None, 0.4, 5, rngs), rngs)
    expected = loss_and_gradients(peer, source=source, mask_indices=mask)
    assert_same(loss_and_gradients(ours, source=source, utterances=ids), expected)
    ours.set_num_updates(8)
    assert float(loss_and_gradients(ours, source=source, utterances=ids)[0]) != float(expected[0])


def test_a_batch_keeps_as_many_masked_frames_of_each_as_the_fewest():
    rngs = [np.random.default_rng(i) for i in range(4)]
    mask = torch.rand(4, 60, generator=torch.Generator().manual_seed(2)) < torch.tensor([[0.9], [0.3], [0.6], [0.5]])
    kept = same_counts(mask, rngs)
    assert kept.sum(1).tolist() == [int(mask.sum(1).min())] * 4
    assert not (kept & ~mask).any() and torch.equal(kept[1], mask[1])
    assert kept[0, 30:].any() and kept[0, :30].any()  # not the first ones


def test_clips_shorter_than_a_mask_train_and_those_without_contrast_are_named():
    ours = build(mask_prob=0.65, mask_length=10).train()
    loss, size, _ = loss_and_gradients(ours, source=torch.randn(2, 1040))  # 3 frames
    assert loss.isfinite() and size == 4
    with pytest.raises(AudioError, match=r"cut to 2 frame\(s\).*1040 samples"):
        ours(torch.randn(2, 1039))


@pytest.fixture(scope="module")
def pretrained_folder(tmp_path_factory):
    return save_hugging_face_pretraining(tmp_path_factory.mktemp("hf") / "wav2vec2")


def test_a_warm_start_from_hugging_face_gives_transformers_projected_and_quantised_states(
    pretrained_folder, real_waveform
):
    import transformers

    peer = transformers.Wav2Vec2ForPreTraining.from_pretrained(pretrained_folder).eval()
    ours = build(pretrained_folder).eval()
    source = real_waveform[None, :20000]
    with torch.no_grad():
        expected = peer(source)
        found = ours.extract_features(source, None)
        quantised = ours.project_q(ours.quantizer(found["features"])["x"])
        assert torch.allclose(ours.final_proj(found["x"]), expected.projected_states, atol=1e-4)
        assert torch.allclose(quantised, expected.projected_quantized_states, atol=1e-4)
    assert quantised.shape == (1, 62, 20) and quantised.std(1).min() > 0  # frames have different codes


@pytest.mark.parametrize("namespace", [True, False])
def test_a_warm_start_from_both_of_fairseqs_configs(tmp_path, namespace, real_waveform):
    path, peer = save_fairseq(tmp_path / "wav2vec_small.pt", namespace), fairseq_model()
    ours = build(path)
    assert ours.state_dict().keys() == peer.state_dict().keys()
    assert all(torch.equal(value, peer.state_dict()[name]) for name, value in ours.state_dict().items())
    source = real_waveform[None, :20000]
    with torch.no_grad():
        found, expected = load_encoder(path)(source)[0], peer.eval().extract_features(source, None)["x"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)  # another order of sums: the processor rounds


def test_a_model_without_its_quantizer_is_refused_with_the_remedy(tmp_path):
    save_hugging_face(tmp_path / "plain", "wav2vec2", False)
    content = load_tensors(save_fairseq(tmp_path / "small.pt", True))
    names = [name for name in content["model"] if name.startswith(("quantizer", "project_q"))]
    bare = {name: value for name, value in content["model"].items() if name not in names}
    torch.save({**content, "model": bare}, tmp_path / "bare.pt")
    for path in (tmp_path / "plain", tmp_path / "bare.pt"):
        with pytest.raises(CheckpointError, match=r"without quantizer\.vars.*project_q.*give the pretrained"):
            build(path)
    read_checkpoint(tmp_path / "bare.pt")  # enough for fine-tuning
    recognizer = {f"w2v_encoder.w2v_model.{name}": value for name, value in content["model"].items()}
    torch.save({**content, "model": recognizer}, tmp_path / "small_960h.pt")
    with pytest.raises(CheckpointError, match="fine-tuned for speech recognition"):
        build(tmp_path / "small_960h.pt")


def test_another_shape_names_the_settings_to_give(pretrained_folder):
    with pytest.raises(CheckpointError, match=r"set model.latent_vars=8 model.latent_dim=24 model.final_dim=20$"):
        build(pretrained_folder, latent_vars=320, latent_dim=0, final_dim=256)
    with pytest.raises(CheckpointError, match=r"set model.encoder_layers=3 task.normalize=false$"):
        build(pretrained_folder, True, encoder_layers=2)
    with pytest.raises(ExperimentError, match="model.target_glu=True is not supported"):
        build(target_glu=True)


def test_a_frozen_cnn_has_no_gradient():
    _, ours = pair(feature_grad_mult=0.0)
    _, _, gradients = loss_and_gradients(ours, source=torch.randn(3, 9000))
    assert gradients and not [name for name in gradients if name.startswith("feature_extractor")]
    assert not any(p.requires_grad for p in ours.feature_extractor.parameters())
