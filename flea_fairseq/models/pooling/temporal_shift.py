"""`temporal_shift`: convolutions over time, some channels of which run one frame late."""

import torch
from torch import Tensor, nn

from flea_fairseq.models.pooling.base import Pooled, Pooling, mean_weights, weighted_sum

KERNEL = 7  # frames
EXPANSION = 4
SHIFTED = 16  # one channel in so many


class TemporalShiftPooling(Pooling):
    """Two ConvNeXt-like blocks, the second with a temporal shift on its residual branch, layer norm, mean: (B, D).

    ShiftCNN of Shen et al., "Mingling or misalignment? Temporal shift for speech emotion recognition with pre-trained
    representations" (2023). The weights are those of the mean: of the blocks' frames, not of the frames that come in.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.blocks = nn.ModuleList([ConvBlock(dim, shift=0), ConvBlock(dim, shift=dim // SHIFTED)])
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, padding: Tensor | None) -> Pooled:
        """x: (B, T, D), padding: (B, T) True on padding, or None -> (B, D), weights (B, T)."""
        for block in self.blocks:
            # a convolution pads with zeros, so zeros behind an utterance change nothing
            x = block(x if padding is None else x.masked_fill(padding.unsqueeze(-1), 0.0))
        return weighted_sum(self.norm(x), mean_weights(x, padding))


class ConvBlock(nn.Module):
    """Depthwise convolution, layer norm, pointwise to 4 D, GELU, pointwise to D; beside it the residual branch.

    shift: how many channels of the residual branch are delayed by a frame, its first one becoming zero.
    """

    def __init__(self, dim: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.depthwise = nn.Conv1d(dim, dim, KERNEL, padding=KERNEL // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.pointwise = nn.Sequential(nn.Linear(dim, EXPANSION * dim), nn.GELU(), nn.Linear(EXPANSION * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> same."""
        y = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return delayed(x, self.shift) + self.pointwise(self.norm(y))


def delayed(x: Tensor, channels: int) -> Tensor:
    """The first channels one frame later, zeros before them: (B, T, D) -> same."""
    late = nn.functional.pad(x[:, :-1, :channels], (0, 0, 1, 0))
    return torch.cat([late, x[:, :, channels:]], 2)
