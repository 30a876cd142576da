"""From frames to one utterance vector. Each pooling gives the vector and the weight of every frame."""

import torch
from torch import Tensor, nn

Pooled = tuple[Tensor, Tensor]


class MeanPooling(nn.Module):
    """Average of the true frames (phase 1b, and the `average pooling` columns of the paper's Table 1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, padding: Tensor | None) -> Pooled:
        """x: (B, T, D), padding: (B, T) True on padding, or None -> (B, D), weights (B, T)."""
        scores = x.new_zeros(x.shape[:2])
        return weighted_sum(x, masked_softmax(scores, padding))


class AttentionPooling(nn.Module):
    """Soft attention: a_i = softmax_i(tanh(W x_i)), Z = sum_i a_i x_i (FLEA, equations 2 and 3).

    W: (1, D), without a bias, drawn from U(0, 1) as the authors do.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, dim).uniform_())

    def forward(self, x: Tensor, padding: Tensor | None) -> Pooled:
        """x: (B, T, D), padding: (B, T) True on padding, or None -> (B, D), weights (B, T)."""
        scores = torch.tanh(x @ self.weight.t()).squeeze(-1)
        return weighted_sum(x, masked_softmax(scores, padding))


def masked_softmax(scores: Tensor, padding: Tensor | None) -> Tensor:
    """Softmax over time in which padding has weight 0: (B, T) -> (B, T)."""
    if padding is not None:
        scores = scores.masked_fill(padding, float("-inf"))
    return scores.float().softmax(1).type_as(scores)


def weighted_sum(x: Tensor, weights: Tensor) -> Pooled:
    """sum_i a_i x_i: (B, T, D), (B, T) -> (B, D), (B, T)."""
    return torch.einsum("btd,bt->bd", x, weights), weights


POOLINGS: dict[str, type[nn.Module]] = {"attention": AttentionPooling, "mean": MeanPooling}
