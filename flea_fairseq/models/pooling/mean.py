"""`mean`: average pooling."""

from torch import Tensor

from flea_fairseq.models.pooling.base import Pooled, Pooling, mean_weights, weighted_sum


class MeanPooling(Pooling):
    """Average of the true frames (phase 1b, and the `average pooling` columns of the paper's Table 1)."""

    has_frame_logits = True

    def __init__(self, dim: int) -> None:
        super().__init__(dim)

    def forward(self, x: Tensor, padding: Tensor | None) -> Pooled:
        """x: (B, T, D), padding: (B, T) True on padding, or None -> (B, D), weights (B, T)."""
        return weighted_sum(x, mean_weights(x, padding))
