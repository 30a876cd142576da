"""What every pooling is made of: its interface, and the softmax and sums over true frames."""

import torch
from torch import Tensor, nn

Pooled = tuple[Tensor, Tensor]


class Pooling(nn.Module):
    """From frames to one utterance vector: `Pooling(dim)` reads frames of `dim` and gives a vector of `out_dim`.

    `forward(x, padding)`, x: (B, T, D), padding: (B, T) True on padding, or None, returns the vector (B, out_dim) and
    the weight of every frame (B, T), which sums to 1 and is 0 on padding. Padding never changes a vector.
    """

    weighs_frames = False  # whether the vector is the weighted sum of the frames themselves

    def __init__(self, out_dim: int) -> None:
        super().__init__()
        self.out_dim = out_dim


def masked_softmax(scores: Tensor, padding: Tensor | None) -> Tensor:
    """Softmax over time in which padding has weight 0: (B, T) -> (B, T)."""
    if padding is not None:
        scores = scores.masked_fill(padding, float("-inf"))
    return scores.float().softmax(1).type_as(scores)


def mean_weights(x: Tensor, padding: Tensor | None) -> Tensor:
    """The same weight for every true frame: (B, T, D) -> (B, T)."""
    return masked_softmax(x.new_zeros(x.shape[:2]), padding)


def weighted_sum(x: Tensor, weights: Tensor) -> Pooled:
    """sum_i a_i x_i: (B, T, D), (B, T) -> (B, D), (B, T)."""
    return torch.einsum("btd,bt->bd", x, weights), weights


def centred(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted mean and the frames about it, in single precision: (B, T, D), (B, T) -> (B, D), (B, T, D)."""
    mean, _ = weighted_sum(x.float(), weights.float())
    return mean, x.float() - mean.unsqueeze(1)
