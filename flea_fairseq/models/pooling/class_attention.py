"""`class_attention`: every class attends to the frames that speak for it."""

import torch
from torch import Tensor, nn

from flea_fairseq.models.pooling.base import InstancePooling, Pooled, masked_over_time


class ClassAttentionPooling(InstancePooling):
    """a_tc = softmax_t(s l_tc), L_c = sum_t a_tc l_tc, where l is what the head says of each frame and s is learned.

    s = 0 is average pooling, a large s the maximum. McFee, Salamon and Bello, "Adaptive pooling operators for weakly
    labeled sound event detection" (2018), equation 9 (auto-pool), on logits and with one s for all classes.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.sharpness = nn.Parameter(torch.ones(()))

    def pool(self, logits: Tensor, padding: Tensor | None) -> Pooled:
        """(B, T, C) -> (B, C), weights (B, T, C)."""
        weights = masked_over_time(self.sharpness * logits, padding)[0].softmax(1)
        return (weights * logits.float()).sum(1).type_as(logits), weights.type_as(logits)
