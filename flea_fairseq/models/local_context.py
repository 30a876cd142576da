"""Utterances cut into short windows, which the transformer reads one by one, so that it knows only of what is near.

The convolutions before it know more: a group norm over time takes its statistics from the whole recording.
With the whole utterance in sight, layers of attention spread an emotion over all of its frames, and no pooling can
find again where it was heard.
"""

import torch
from torch import Tensor


class Windows:
    """Windows of at most `length` frames, which overlap by half, of utterances: `frames` (B,) in `width` columns.

    A frame is taken from the window in whose middle half it lies, at an utterance's ends from the first or last: it
    knows of `length` frames at most, of which one side has at most three quarters, at the ends all but itself. An
    utterance gives the same windows in every batch.
    """

    def __init__(self, frames: Tensor, width: int, length: int) -> None:
        hop = max(1, length // 2)
        counts = (torch.div(frames - length + hop - 1, hop, rounding_mode="floor") + 1).clamp(min=1)
        first = counts.cumsum(0) - counts
        self._rows = torch.repeat_interleave(torch.arange(len(frames), device=frames.device), counts)
        starts = (torch.arange(len(self._rows), device=frames.device) - first[self._rows]) * hop
        self._times = starts.unsqueeze(1) + torch.arange(min(length, width), device=frames.device)
        outside = self._times >= frames[self._rows].unsqueeze(1)
        self.padding = outside if bool(outside.any()) else None  # (N, length), True on padding
        times = torch.arange(width, device=frames.device).expand(len(frames), width)
        within = torch.div(times - length // 4, hop, rounding_mode="floor").clamp(min=0)
        within = torch.minimum(within, counts.unsqueeze(1) - 1)
        self._owner = first.unsqueeze(1) + within
        self._place = (times - within * hop).clamp(max=self._times.size(1) - 1)

    def cut(self, x: Tensor) -> Tensor:
        """(B, T, D) -> the windows of all utterances (N, length, D)."""
        return x[self._rows.unsqueeze(1), self._times.clamp(max=x.size(1) - 1)]

    def join(self, y: Tensor) -> Tensor:
        """What a network made of the windows (N, length, D) -> each utterance's frames (B, T, D)."""
        return y[self._owner, self._place]
