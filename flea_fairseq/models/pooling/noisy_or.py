"""`noisy_or`: an utterance has an emotion unless each of its parts has not."""

import torch.nn.functional as F
from torch import Tensor

from flea_fairseq.models.pooling.base import InstancePooling, Pooled

PART = 25  # frames: of half a second, one is as good as all
MOST = 1 - 1e-4  # a probability of 1 would leave nothing for others to say


class NoisyOrPooling(InstancePooling):
    """P_c = 1 - prod_t (1 - p_tc)^(1/25), p_t the head's probabilities of a frame; its logits are those of P_c.

    Maron and Lozano-Perez, "A framework for multiple-instance learning" (1998); neighbouring frames are no independent
    instances, so that half a second of them counts as one. The weights are the shares of -log(1 - P_c).
    """

    def pool(self, logits: Tensor, padding: Tensor | None) -> Pooled:
        """(B, T, C) -> (B, C), weights (B, T, C)."""
        evidence = -(-F.softmax(logits.float(), -1).clamp(max=MOST)).log1p() / PART
        if padding is not None:
            evidence = evidence.masked_fill(padding.unsqueeze(-1), 0.0)
        total = evidence.sum(1)
        odds = total + (-(-total).expm1()).log()  # log (exp(total) - 1), which overflows for long recordings
        return odds.type_as(logits), (evidence / total.unsqueeze(1)).type_as(logits)
