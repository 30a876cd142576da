"""What every pooling must keep, and FLEA's own against the paper's equations, worked out here with plain loops."""

import math

import pytest
import torch

from flea_fairseq.models.pooling import POOLINGS, AttentionPooling, MeanPooling


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
