"""`sharp_attention`: soft attention without a bound, at a temperature that is learned."""

import torch
from torch import Tensor, nn

from flea_fairseq.models.pooling.base import Pooled, Pooling, masked_softmax, weighted_sum


class SharpAttentionPooling(Pooling):
    """a_i = softmax_i(W x_i / t), Z = sum_i a_i x_i.

    FLEA's tanh bounds the ratio of two weights to e^2, so that no frame of a long utterance can matter much. Here
    nothing bounds it, and the temperature t > 0 is learned. W starts at 0, that is at average pooling.
    """

    has_frame_logits = True

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.weight = nn.Parameter(torch.zeros(1, dim))
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, padding: Tensor | None) -> Pooled:
        """x: (B, T, D), padding: (B, T) True on padding, or None -> (B, D), weights (B, T)."""
        scores = (x @ self.weight.t()).squeeze(-1) * torch.exp(-self.log_temperature)
        return weighted_sum(x, masked_softmax(scores, padding))
