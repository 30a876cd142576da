"""`attention`: FLEA's soft attention."""

import torch
from torch import Tensor, nn

from flea_fairseq.models.pooling.base import Pooled, Pooling, masked_softmax, weighted_sum


class AttentionPooling(Pooling):
    """Soft attention: a_i = softmax_i(tanh(W x_i)), Z = sum_i a_i x_i (FLEA, equations 2 and 3).

    W: (1, D), without a bias, drawn from U(0, 1) as the authors do.
    """

    has_frame_logits = True

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.weight = nn.Parameter(torch.empty(1, dim).uniform_())

    def forward(self, x: Tensor, padding: Tensor | None) -> Pooled:
        """x: (B, T, D), padding: (B, T) True on padding, or None -> (B, D), weights (B, T)."""
        scores = torch.tanh(x @ self.weight.t()).squeeze(-1)
        return weighted_sum(x, masked_softmax(scores, padding))
