"""What every pooling must keep, and FLEA's own against the paper's equations, worked out here with plain loops."""

import math

import pytest
import torch

from flea_fairseq.models.pooling import (
    POOLINGS,
    AttentionPooling,
    ClassAttentionPooling,
    LogSumExpPooling,
    MeanPooling,
    NoisyOrPooling,
    SharpAttentionPooling,
)


def test_attention_is_equations_2_and_3():
    torch.manual_seed(0)
    pooling = AttentionPooling(5).double()
    x = torch.randn(2, 7, 5, dtype=torch.double)
    vector, weights = pooling(x, None)
    w = pooling.weight[0].tolist()
    for b in range(2):
        scores = [math.tanh(sum(w[d] * x[b, t, d].item() for d in range(5))) for t in range(7)]
        total = sum(math.exp(s) for s in scores)
        expected = [math.exp(s) / total for s in scores]
        assert torch.allclose(weights[b], torch.tensor(expected, dtype=torch.double), atol=1e-7)
        for d in range(5):
            assert math.isclose(
                vector[b, d].item(), sum(a * x[b, t, d].item() for t, a in enumerate(expected)), abs_tol=1e-6
            )


def test_the_weight_starts_from_the_unit_interval():
    weight = AttentionPooling(4000).weight
    assert 0 <= weight.min() < 0.01 and 0.99 < weight.max() <= 1 and abs(weight.mean() - 0.5) < 0.02


@pytest.mark.parametrize("name", POOLINGS)
def test_a_padded_batch_equals_each_utterance_alone(name):
    torch.manual_seed(0)
    pooling = POOLINGS[name](32).eval()
    lengths = [9, 5, 2, 1]
    x = torch.randn(4, 9, 32)
    padding = torch.arange(9) >= torch.tensor(lengths).unsqueeze(1)
    x[padding] = 100.0  # nothing of it may be heard
    vectors, weights = pooling(x, padding)
    assert vectors.shape == (4, pooling.out_dim) and weights.shape == (4, 9)
    assert not weights[padding].any() and torch.allclose(weights.sum(1), torch.ones(4), atol=1e-6)
    for i, length in enumerate(lengths):
        vector, own = pooling(x[i : i + 1, :length], None)
        assert torch.allclose(vectors[i], vector[0], atol=1e-5) and torch.allclose(weights[i, :length], own[0])
    assert (pooling(x, None)[0] - vectors)[1:].abs().max() > 1e-2  # the test can fail: without a mask it is heard


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("frames", [1, 6])
def test_silent_and_constant_frames_give_finite_vectors_and_gradients(name, frames):
    torch.manual_seed(0)
    pooling = POOLINGS[name](32).train()
    for x in (torch.zeros(2, frames, 32), torch.full((2, frames, 32), 3.7), torch.randn(2, 1, 32).repeat(1, frames, 1)):
        x.requires_grad_()
        pooling.zero_grad()
        vector, _ = pooling(x, None)
        (vector * torch.randn_like(vector)).sum().backward()
        gradients = [x.grad, *(p.grad for p in pooling.parameters())]
        assert vector.isfinite().all() and all(g.isfinite().all() and g.abs().max() < 1e4 for g in gradients)


@pytest.mark.parametrize("name", POOLINGS)
def test_half_precision_gives_what_single_precision_does(name):
    torch.manual_seed(0)
    pooling, x = POOLINGS[name](32).eval(), torch.randn(2, 20, 32)
    expected, _ = pooling(x, None)
    vector, weights = pooling.bfloat16()(x.bfloat16(), None)
    assert vector.dtype == weights.dtype == torch.bfloat16
    assert torch.allclose(vector.float(), expected, atol=0.1)


def test_mean_is_the_average():
    x = torch.randn(3, 6, 4)
    assert torch.allclose(MeanPooling(4)(x, None)[0], x.mean(1), atol=1e-6)


def frames_of_two() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 7, 3, dtype=torch.double)


def test_sharp_attention_is_a_softmax_at_a_temperature():
    pooling, x = SharpAttentionPooling(3).double(), frames_of_two()
    assert torch.allclose(pooling(x, None)[0], x.mean(1), atol=1e-6)  # where it starts
    with torch.no_grad():
        pooling.weight.copy_(torch.tensor([[2.0, -1.0, 0.5]])), pooling.log_temperature.fill_(math.log(0.1))
    vector, weights = pooling(x, None)
    for b in range(2):
        powers = [math.exp((2 * f[0] - f[1] + 0.5 * f[2]) / 0.1) for f in x[b].tolist()]
        expected = torch.tensor([p / sum(powers) for p in powers])
        assert torch.allclose(weights[b].float(), expected, atol=1e-5)
        assert torch.allclose(vector[b], (weights[b, :, None] * x[b]).sum(0))
    assert weights.max() / weights.min() > math.e**2  # the bound of FLEA's attention


def test_log_sum_exp_by_hand():
    x = frames_of_two()
    pooled, weights = LogSumExpPooling(3)(x, None)
    for b in range(2):
        powers = [[math.exp(value) for value in frame] for frame in x[b].tolist()]
        sums = [sum(frame[c] for frame in powers) for c in range(3)]
        assert pooled[b].tolist() == pytest.approx([math.log(s / 7) for s in sums], abs=1e-5)
        best = max(range(3), key=sums.__getitem__)
        assert weights[b].tolist() == pytest.approx([frame[best] / sums[best] for frame in powers], abs=1e-5)


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 50.0])
def test_class_attention_by_hand(sharpness):
    pooling, x = ClassAttentionPooling(3), frames_of_two().clamp(-2, 2)
    with torch.no_grad():
        pooling.sharpness.fill_(sharpness)
    pooled, weights = pooling(x, None)
    for b in range(2):
        expected, shares = [], []
        for c in range(3):
            powers = [math.exp(sharpness * frame[c]) for frame in x[b].tolist()]
            shares.append([p / sum(powers) for p in powers])
            expected.append(sum(s * frame[c] for s, frame in zip(shares[c], x[b].tolist())))
        assert pooled[b].tolist() == pytest.approx(expected, abs=1e-5)
        assert weights[b].tolist() == pytest.approx(shares[max(range(3), key=expected.__getitem__)], abs=1e-5)
    if sharpness == 0:
        assert torch.allclose(pooled, x.mean(1), atol=1e-6)
    if sharpness == 50:
        assert torch.allclose(pooled, x.amax(1), atol=0.05)


def test_noisy_or_by_hand():
    x = frames_of_two()
    pooled, weights = NoisyOrPooling(3)(x, None)
    for b in range(2):
        none, evidence = [1.0] * 3, []
        for frame in x[b].tolist():
            powers = [math.exp(value) for value in frame]
            absent = [(1 - p / sum(powers)) ** (1 / 25) for p in powers]
            none = [before * now for before, now in zip(none, absent)]
            evidence.append([-math.log(a) for a in absent])
        assert pooled[b].sigmoid().tolist() == pytest.approx([1 - n for n in none], abs=1e-5)
        best = min(range(3), key=none.__getitem__)
        total = sum(frame[best] for frame in evidence)
        assert weights[b].tolist() == pytest.approx([frame[best] / total for frame in evidence], abs=1e-5)


def test_noisy_or_of_a_long_and_certain_recording_stays_finite():
    x = torch.zeros(1, 1500, 3)
    x[..., 0] = 20
    x.requires_grad_()
    pooled, weights = NoisyOrPooling(3)(x, None)
    pooled.sum().backward()
    assert pooled.isfinite().all() and weights.isfinite().all() and x.grad.isfinite().all()
    assert pooled[0, 0].item() == pytest.approx(1500 / 25 * math.log(1e4), rel=1e-2)
