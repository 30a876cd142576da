"""The convolution that tells a transformer positions, by frequencies: in training on a processor half the time."""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flea_fairseq.models.precision import is_single_on_cpu

PARTS = 4  # of the groups of channels, one after the other: a transformed kernel is 2.5 times as large


class LeanPositions(nn.Conv1d):
    """The same function of the same parameters, up to rounding: (B, C, T) -> (B, C, T + 2 padding - kernel + 1).

    Its kernel is as long as a recording (128 frames), so both are transformed, multiplied and transformed back.
    Transforming the kernel does not pay for few frames, nor without gradients, where one recording passes at a time.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not is_single_on_cpu(x) or not torch.is_grad_enabled() or len(x) * x.shape[2] < self.kernel_size[0]:
            return super()._conv_forward(x, weight, bias)
        parts = math.gcd(self.groups, PARTS)
        options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
        pairs = zip(x.chunk(parts, 1), weight.chunk(parts))
        y = torch.cat([checkpoint(correlate, *pair, self.padding[0], **options) for pair in pairs], 1)
        return y if bias is None else y + bias[:, None]


def correlate(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Grouped convolution of stride 1: x (B, groups x I, T), weight (O, I, K) -> (B, O, T + 2 padding - K + 1).

    With discrete Fourier transforms of T + padding points, where y = x correlated with the weights is Y = X conj(W).
    A transform is a product with sines and cosines, whose result lies frequency by frequency, as Y needs it.
    """
    (batch, channels, time), (outputs, inputs, kernel) = x.shape, weight.shape
    groups, frames = channels // inputs, time + 2 * padding - kernel + 1
    points = max(time, frames) + padding
    basis = _fourier(points, 0, max(time, kernel))
    spectrum = basis[:, :time] @ x.reshape(-1, time).t()
    spectrum = spectrum.view(2, -1, batch, groups, inputs).permute(1, 3, 0, 2, 4).reshape(-1, 2 * batch, inputs)
    weights = (basis[:, :kernel] @ weight.reshape(-1, kernel).t()).view(2, -1, outputs // groups, inputs)
    real, imaginary = (
        torch.bmm(spectrum, part.transpose(1, 2)).view(-1, groups, 2, batch, outputs // groups) for part in weights
    )
    product = torch.stack([real[:, :, 0] + imaginary[:, :, 1], real[:, :, 1] - imaginary[:, :, 0]])
    product = product.permute(0, 1, 3, 2, 4).reshape(-1, batch * outputs)  # (2 x frequencies, B x O)
    frequencies = points // 2 + 1
    share = torch.full((frequencies, 1), 2 / points)  # a real signal's other frequencies are these, conjugated
    share[0] = 1 / points
    if points % 2 == 0:
        share[-1] = 1 / points
    inverse = _fourier(points, -padding, frames) * torch.cat([share, share])
    return (inverse.t() @ product).t().reshape(batch, outputs, frames)


@lru_cache(maxsize=8)
def _fourier(points: int, first: int, count: int) -> Tensor:
    """cos and -sin of each frequency of a transform, at times `first` and after: (2 (points // 2 + 1), count)."""
    turns = torch.outer(torch.arange(points // 2 + 1), torch.arange(first, first + count)) % points
    angles = turns.double() * (2 * math.pi / points)
    return torch.cat([angles.cos(), -angles.sin()]).float()
