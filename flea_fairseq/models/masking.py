"""Span masks over frames and channels, a generator a row.

fairseq's `compute_mask_indices` takes no seed in 0.12.2, ignores numpy's seed in later versions, ties the mask of one
utterance to its batch, and stops on clips shorter than a mask; the distribution of the spans here is the same.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MIN_SPANS = 2  # as in HuBERT and wav2vec 2.0


def span_mask(size: int, prob: float, length: int, rng: np.random.Generator, min_spans: int = MIN_SPANS) -> np.ndarray:
    """Mask about `prob` of `size` positions in spans of `length` that may overlap: (size,) bool.

    At least one position stays unmasked. Spans are cut to size - 1; a single position is never masked.
    """
    mask = np.zeros(size, dtype=bool)
    span = min(length, size - 1)
    count = max(int(prob * size / length + rng.random()), min_spans)
    if span < 1 or count < 1:
        return mask
    starts = rng.choice(size - span, min(count, size - span), replace=False)
    mask[(starts[:, None] + np.arange(span)).ravel()] = True
    return mask


def frame_mask(
    shape: tuple[int, int], padding: Tensor | None, prob: float, length: int, rngs: Sequence[np.random.Generator]
) -> Tensor:
    """Masks of a batch: shape (B, T), padding (B, T) True on padding, or None -> (B, T) bool, False on padding."""
    mask = torch.zeros(shape, dtype=torch.bool)
    sizes = [shape[1]] * shape[0] if padding is None else (~padding).sum(1).tolist()
    for row, (size, rng) in enumerate(zip(sizes, rngs)):
        mask[row, :size] = torch.from_numpy(span_mask(size, prob, length, rng))
    return mask if padding is None else mask.to(padding.device)


def apply_masks(
    x: Tensor,
    padding: Tensor | None,
    embedding: Tensor,
    time: tuple[float, int],
    channel: tuple[float, int],
    rngs: Sequence[np.random.Generator],
) -> tuple[Tensor, Tensor]:
    """Replace masked frames by `embedding` (D,) and masked channels by 0.

    x: (B, T, D); time, channel: (prob, length). Returns x and the frame mask (B, T).
    """
    batch, width, dim = x.shape
    mask = torch.zeros(batch, width, dtype=torch.bool, device=x.device)
    if time[0] > 0:
        mask = frame_mask((batch, width), padding, *time, rngs).to(x.device)
        x = torch.where(mask.unsqueeze(-1), embedding.type_as(x), x)
    if channel[0] > 0:
        channels = np.stack([span_mask(dim, *channel, rng, min_spans=0) for rng in rngs])
        x = x.masked_fill(torch.from_numpy(channels).to(x.device).unsqueeze(1), 0.0)
    return x, mask
