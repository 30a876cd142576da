"""Pooling against the paper's equations, worked out here with plain loops."""

import math

import torch

from flea_fairseq.models.pooling import AttentionPooling, MeanPooling


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


def test_padding_has_no_weight():
    x = torch.randn(2, 6, 4)
    padding = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    for pooling in (AttentionPooling(4), MeanPooling(4)):
        vector, weights = pooling(x, padding)
        assert torch.equal(weights[1, 4:], torch.zeros(2))
        alone, alone_weights = pooling(x[1:, :4], None)
        assert torch.allclose(vector[1], alone[0], atol=1e-6) and torch.allclose(
            weights[1, :4], alone_weights[0], atol=1e-6
        )


def test_mean_is_the_average():
    x = torch.randn(3, 6, 4)
    assert torch.allclose(MeanPooling(4)(x, None)[0], x.mean(1), atol=1e-6)
