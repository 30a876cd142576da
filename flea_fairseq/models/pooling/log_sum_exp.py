"""`log_sum_exp`: a class is as likely as its most convincing frames, softly."""

from torch import Tensor

from flea_fairseq.models.pooling.base import InstancePooling, Pooled, masked_over_time


class LogSumExpPooling(InstancePooling):
    """L_c = log (1/T sum_t exp l_tc): between the mean and the maximum of what the head says of each frame.

    Pinheiro and Collobert, "From image-level to pixel-level labeling with convolutional networks" (2015), with r = 1.
    The weights are its derivatives, softmax_t(l_tc).
    """

    def pool(self, logits: Tensor, padding: Tensor | None) -> Pooled:
        """(B, T, C) -> (B, C), weights (B, T, C)."""
        masked, counts = masked_over_time(logits, padding)
        pooled = masked.logsumexp(1) - counts.log()
        return pooled.type_as(logits), masked.softmax(1).type_as(logits)
