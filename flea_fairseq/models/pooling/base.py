"""What every pooling is made of: its interface, and the softmax and sums over true frames."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Pooled = tuple[Tensor, Tensor]
Judge = Callable[[Tensor], Tensor]  # the head: vectors (..., D) -> logits (..., C)


class Pooling(nn.Module):
    """From frames to one utterance vector: `Pooling(dim)` reads frames of `dim` and gives a vector of `out_dim`.

    `forward(x, padding)`, x: (B, T, D), padding: (B, T) True on padding, or None, returns the vector (B, out_dim) and
    the weight of every frame (B, T), which sums to 1 and is 0 on padding. Padding never changes a vector.
    """

    has_frame_logits = False  # whether the head can judge a frame: it learned on frames, or on a weighted sum of them
    judges_frames = False  # whether it is trained on frames, each of which then counts alike for its emotion

    def __init__(self, out_dim: int) -> None:
        super().__init__()
        self.out_dim = out_dim

    def classify(self, x: Tensor, padding: Tensor | None, judge: Judge) -> Pooled:
        """Logits of utterances (B, C), and the weights (B, T): the head judges the pooled vector."""
        vector, weights = self(x, padding)
        return judge(vector), weights


class InstancePooling(Pooling):
    """Multiple-instance learning: the head judges every frame, and what it said is pooled, for each class by itself.

    `pool(logits, padding)`, logits: (B, T, C), returns those of utterances (B, C) and what each frame has to do with
    them, (B, T, C), which sums to 1 over time. The weights are those of the class that wins.
    """

    has_frame_logits = judges_frames = True

    def __init__(self, dim: int) -> None:
        super().__init__(dim)

    def pool(self, logits: Tensor, padding: Tensor | None) -> Pooled:
        raise NotImplementedError

    def classify(self, x: Tensor, padding: Tensor | None, judge: Judge) -> Pooled:
        return self(judge(x), padding)

    def forward(self, logits: Tensor, padding: Tensor | None) -> Pooled:
        """(B, T, C) -> (B, C), weights (B, T)."""
        pooled, weights = self.pool(logits, padding)
        winner = pooled.argmax(1).view(-1, 1, 1).expand(-1, weights.size(1), 1)
        return pooled, weights.gather(2, winner).squeeze(2)


def masked_softmax(scores: Tensor, padding: Tensor | None) -> Tensor:
    """Softmax over time in which padding has weight 0: (B, T) -> (B, T)."""
    if padding is not None:
        scores = scores.masked_fill(padding, float("-inf"))
    return scores.float().softmax(1).type_as(scores)


def masked_over_time(logits: Tensor, padding: Tensor | None) -> Pooled:
    """Logits of frames (B, T, C) in single precision, -inf on padding, and the true frames of each utterance (B, 1)."""
    counts = logits.new_full((len(logits), 1), logits.size(1), dtype=torch.float32)
    if padding is None:
        return logits.float(), counts
    counts = (~padding).sum(1, keepdim=True).float()
    return logits.float().masked_fill(padding.unsqueeze(-1), float("-inf")), counts


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
