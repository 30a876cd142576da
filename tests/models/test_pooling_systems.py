"""The poolings of other papers against their formulas, written out here with numpy."""

import numpy as np
import pytest
import torch

from flea_fairseq.models.pooling import AttentiveStatisticsPooling, CorrelationPooling, TemporalShiftPooling
from flea_fairseq.models.pooling.correlation import weighted_correlations


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 11, 32, generator=torch.Generator().manual_seed(5)) * 2 + 1


def arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().astype(np.float64) for name, value in module.state_dict().items()}


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum()


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return (x - x.mean(-1, keepdims=True)) / deviation * weight + bias


def test_attentive_statistics_are_a_weighted_mean_and_deviation(x):
    torch.manual_seed(0)
    pooling = AttentiveStatisticsPooling(32)
    vector, weights = pooling(x, None)
    p = arrays(pooling)
    for b, frames in enumerate(x.double().numpy()):
        hidden = np.maximum(frames @ p["attention.0.weight"].T + p["attention.0.bias"], 0)
        a = softmax((hidden @ p["attention.2.weight"].T)[:, 0])
        mean = a @ frames
        deviation = np.sqrt(a @ frames**2 - mean**2)  # the paper's form; ours subtracts the mean first
        assert np.allclose(weights[b].detach().numpy(), a, atol=1e-6)
        assert np.allclose(vector[b].detach().numpy(), np.concatenate([mean, deviation]), atol=1e-5)


def test_correlation_is_kakouros_formula(x):
    torch.manual_seed(0)
    pooling = CorrelationPooling(32).eval()
    with torch.no_grad():
        vector, weights = pooling(x, None)
    p = arrays(pooling)
    assert vector.shape == (2, 32640)
    for b, frames in enumerate(x.double().numpy()):
        projected = frames @ p["projection.weight"].T + p["projection.bias"]
        hidden = np.maximum(projected @ p["attention.0.weight"].T + p["attention.0.bias"], 0)
        logits = hidden @ p["attention.2.weight"].T + p["attention.2.bias"]
        assert logits.shape == (11, 4)
        a = softmax(np.log(np.exp(logits).sum(1)))
        assert np.allclose(weights[b].numpy(), a, atol=1e-6)
        covariance = np.cov(projected.T, aweights=a, ddof=0)
        deviation = np.sqrt(np.diag(covariance))
        correlation = covariance / np.outer(deviation, deviation)
        upper = [correlation[i, j] for i in range(256) for j in range(i + 1, 256)]
        assert np.allclose(vector[b].numpy(), upper, atol=1e-4)


def test_correlations_of_even_weights_are_numpys(x):
    ours = weighted_correlations(x, torch.full((2, 11), 1 / 11))
    for b in range(2):
        assert np.allclose(ours[b].numpy(), np.corrcoef(x[b].numpy().T), atol=1e-5)


def test_correlation_drops_whole_channels_in_training_only(x):
    pooling = CorrelationPooling(32).train()
    torch.manual_seed(0)
    dropped = []
    for _ in range(10):
        square = torch.zeros(2, 256, 256)
        row, column = torch.triu_indices(256, 256, offset=1)
        square[:, row, column] = pooling(x, None)[0].detach()
        silent = ~(square + square.transpose(1, 2)).any(2)  # a dropped channel correlates with none
        assert not torch.equal(silent[0], silent[1])
        dropped.append(silent.float().mean().item())
    assert 0.2 < np.mean(dropped) < 0.3
    pooling.eval()
    assert torch.equal(pooling(x, None)[0], pooling(x, None)[0]) and pooling(x, None)[0].all()


def test_temporal_shift_is_two_blocks_with_a_late_residual_in_the_second(x):
    torch.manual_seed(0)
    pooling = TemporalShiftPooling(32)
    p = arrays(pooling)
    vector, weights = pooling(x, None)

    def branch(frames: np.ndarray, i: int) -> np.ndarray:
        padded = np.pad(frames, ((3, 3), (0, 0)))
        kernel = p[f"blocks.{i}.depthwise.weight"][:, 0]  # (D, 7)
        y = np.stack([(padded[t : t + 7] * kernel.T).sum(0) for t in range(11)]) + p[f"blocks.{i}.depthwise.bias"]
        y = layer_norm(y, p[f"blocks.{i}.norm.weight"], p[f"blocks.{i}.norm.bias"])
        y = y @ p[f"blocks.{i}.pointwise.0.weight"].T + p[f"blocks.{i}.pointwise.0.bias"]
        assert y.shape == (11, 4 * 32)
        y = torch.nn.functional.gelu(torch.from_numpy(y)).numpy()
        return y @ p[f"blocks.{i}.pointwise.2.weight"].T + p[f"blocks.{i}.pointwise.2.bias"]

    for b, frames in enumerate(x.double().numpy()):
        first = frames + branch(frames, 0)
        late = first.copy()
        late[1:, :2], late[0, :2] = first[:-1, :2], 0  # 1/16 of 32 channels
        out = layer_norm(late + branch(first, 1), p["norm.weight"], p["norm.bias"])
        assert np.allclose(vector[b].detach().numpy(), out.mean(0), atol=1e-5)
    assert torch.allclose(weights, torch.full((2, 11), 1 / 11))
