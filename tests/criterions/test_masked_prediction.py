"""`masked_prediction` and `flea_hubert` against fairseq's own `hubert` criterion and model."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.criterions.hubert_criterion import HubertCriterion
from fairseq.data import Dictionary
from fairseq.models.hubert.hubert import HubertConfig, HubertModel
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
from omegaconf import OmegaConf

import flea_fairseq.tasks  # noqa: F401  registers the criterions
from flea_fairseq.criterions.masked_prediction import MaskedPrediction
from flea_fairseq.models.flea_hubert import FleaHubertConfig, FleaHubertModel

SHAPE = dict(
    label_rate=50.0, encoder_layers=2, encoder_embed_dim=32, encoder_ffn_embed_dim=64, encoder_attention_heads=4,
    conv_feature_layers="[(16,10,5)] + [(16,3,2)] * 4 + [(16,2,2)] * 2", conv_pos=16, conv_pos_groups=4, final_dim=24,
    mask_prob=0.5, mask_length=4, dropout=0.0, attention_dropout=0.0, latent_temp=(2, 0.5, 0.999995),
)  # fmt: skip


def dictionary(size: int) -> Dictionary:
    result = Dictionary()
    for unit in range(size):
        result.add_symbol(str(unit))
    return result


def build(label_sets, **changes):
    """fairseq's model and ours with the same weights."""
    dictionaries = [dictionary(size) for size in label_sets]
    task_cfg = HubertPretrainingConfig(sample_rate=16000, label_rate=50.0)
    torch.manual_seed(0)
    peer = HubertModel(OmegaConf.structured(HubertConfig(**{**SHAPE, **changes})), task_cfg, dictionaries)
    ours = FleaHubertModel(
        OmegaConf.structured(FleaHubertConfig(**{**SHAPE, **changes}, seed=1)), task_cfg, dictionaries
    )
    ours.load_state_dict(peer.state_dict())
    return peer.train(), ours.train()


def batch(label_sets, padded: bool):
    torch.manual_seed(1)
    source = torch.randn(3, 16400)
    padding = torch.zeros(3, 16400, dtype=torch.bool)
    if padded:
        padding[1, 9000:] = True
        source[1, 9000:] = 0
    return {
        "id": torch.arange(3),
        "net_input": {"source": source, "padding_mask": padding},
        "target_list": [torch.randint(4, 4 + size, (3, 51)) for size in label_sets],
    }


def run(model, criterion, sample):
    """With the same masks for every model."""
    mask = torch.rand(3, 51, generator=torch.Generator().manual_seed(7)) < 0.5

    def apply_mask(x, padding_mask, target_list):
        chosen = mask[:, : x.size(1)]
        return torch.where(chosen.unsqueeze(-1), model.mask_emb, x), chosen

    model.apply_mask = apply_mask
    model.zero_grad()
    loss, size, log = criterion(model, sample)
    loss.backward()
    return loss, size, log, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("alpha", [1.0, 0.6, 0.0])
@pytest.mark.parametrize("label_sets", [(50,), (50, 100)])
@pytest.mark.parametrize("untied,padded", [(False, False), (True, True)])
def test_same_loss_and_gradients_as_fairseq(alpha, label_sets, untied, padded):
    peer, ours = build(label_sets, untie_final_proj=untied, feature_grad_mult=0.1)
    sample = batch(label_sets, padded)
    theirs = HubertCriterion(None, pred_masked_weight=alpha, pred_nomask_weight=1 - alpha, loss_weights=[10.0])
    expected = run(peer, theirs, sample)
    got = run(ours, MaskedPrediction(None, alpha, 10.0), sample)
    assert got[1] == expected[1]
    assert torch.allclose(got[0], expected[0], rtol=1e-5)
    assert set(got[3]) == set(expected[3])
    largest = max(float(gradient.abs().max()) for gradient in expected[3].values())
    for name, gradient in expected[3].items():  # some, such as the bias of keys, are nothing but rounding
        scale = max(float(gradient.abs().max()), 1e-5 * largest)
        assert torch.allclose(got[3][name], gradient, rtol=1e-3, atol=1e-3 * scale), name
    for i in range(len(label_sets)):
        for part in ["m"] * (alpha > 0) + ["u"] * (alpha < 1):
            assert int(got[2][f"correct_{part}_{i}"]) == expected[2][f"correct_{part}_{i}"]
            assert got[2][f"count_{part}_{i}"] == expected[2][f"count_{part}_{i}"]


def test_the_criterion_also_serves_fairseqs_own_model():
    peer, _ = build((50,))
    sample = batch((50,), False)
    expected = run(peer, HubertCriterion(None, 1.0, 0.0, [10.0]), sample)
    got = run(peer, MaskedPrediction(None, 1.0, 10.0), sample)
    assert torch.equal(got[0], expected[0]) and all(torch.equal(got[3][k], v) for k, v in expected[3].items())


def test_unmasked_frames_are_not_predicted_when_alpha_is_one():
    _, ours = build((50,))
    sample = batch((50,), False)
    output = ours(target_list=sample["target_list"], **sample["net_input"], unmasked=False)
    assert output["logit_u_list"] == [None] and output["logit_m_list"][0].size(1) == 54


def test_logs_of_two_processes_are_summed_exactly():
    from fairseq.logging import metrics

    logs = [
        {"loss": torch.tensor(8.0), "sample_size": 4, "correct_m_0": 2, "count_m_0": 3, "loss_m_0": 6.0},
        {"loss": torch.tensor(4.0), "sample_size": 2, "correct_m_0": 1, "count_m_0": 1, "loss_m_0": 2.0},
    ]
    summed = [{key: logs[0][key] + logs[1][key] for key in logs[0]}]
    for given in (logs, summed):
        with metrics.aggregate(new_root=True) as aggregator:
            MaskedPrediction.reduce_metrics(given)
        values = aggregator.get_smoothed_values()
        assert values["accuracy_masked_0"] == pytest.approx(3 / 4)
        assert values["loss_m_0"] == pytest.approx(8 / 4 / 0.693147, abs=1e-3)  # a frame of that part, not of all
        assert values["ppl_m_0"] == pytest.approx(2.718282**2, abs=0.02)
        assert values["loss"] == pytest.approx(12 / 6 / 0.693147, abs=1e-3)


def test_a_frozen_cnn_has_no_gradient_and_takes_no_weight_decay():
    _, ours = build((50,), feature_grad_mult=0.0)
    _, _, _, gradients = run(ours, MaskedPrediction(SimpleNamespace(), 1.0, 10.0), batch((50,), False))
    assert not [name for name in gradients if name.startswith("feature_extractor")]
    assert not any(p.requires_grad for p in ours.feature_extractor.parameters())


def test_bf16_keeps_weights_and_gradients_in_full_precision():
    """bfloat16 has 8 bits of mantissa: the loss agrees to half a percent, and is not the same."""
    _, ours = build((50,), mask_prob=0.5)
    sample = batch((50,), False)
    full = run(ours, MaskedPrediction(None, 1.0, 10.0), sample)
    ours.precision = "bf16"
    half = run(ours, MaskedPrediction(None, 1.0, 10.0), sample)
    assert full[0] != half[0] and torch.allclose(half[0], full[0], rtol=5e-3)
    assert {gradient.dtype for gradient in half[3].values()} == {torch.float32} and half[3].keys() == full[3].keys()
