"""`attentive_statistics`: attention-weighted mean and standard deviation."""

import torch
from torch import Tensor, nn

from flea_fairseq.models.pooling.base import Pooled, Pooling, centred, masked_softmax

HIDDEN = 64
MIN_VARIANCE = 1e-12  # the root's gradient stays finite where a channel does not move


class AttentiveStatisticsPooling(Pooling):
    """a_t = softmax_t(v' relu(W x_t + b)), and the mean and standard deviation under a: (B, 2 D).

    Okabe et al., "Attentive statistics pooling for deep speaker embedding" (2018), equations 2 to 6, without their
    batch norm, which would let utterances of a batch change each other, and their constant k, which a softmax ignores.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(2 * dim)
        self.attention = nn.Sequential(nn.Linear(dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1, bias=False))

    def forward(self, x: Tensor, padding: Tensor | None) -> Pooled:
        """x: (B, T, D), padding: (B, T) True on padding, or None -> (B, 2 D), weights (B, T)."""
        weights = masked_softmax(self.attention(x).squeeze(-1), padding)
        mean, difference = centred(x, weights)
        variance = torch.einsum("btd,bt->bd", difference.square(), weights.float())
        deviation = variance.clamp(min=MIN_VARIANCE).sqrt()
        return torch.cat([mean, deviation], 1).type_as(x), weights
