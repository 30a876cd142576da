"""Masks and layer drops that depend on the seed, the update and the utterance, and on nothing else."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from fairseq.data.data_utils import numpy_seed
from fairseq.models import BaseFairseqModel
from torch import Tensor


class SeededForward(BaseFairseqModel):
    """Mixin for a fairseq model that knows the update it is in (the trainer tells it before each micro-batch).

    What it draws is then the same in a run that was resumed and in one that was never interrupted, which fairseq
    alone does not give: its LayerDrop uses numpy's global generator, which no checkpoint restores.
    """

    seed: int = 1
    _update: int = 0
    _micro_batch: int = 0

    def set_num_updates(self, num_updates: int) -> None:
        """Called by fairseq before each forward pass while training."""
        super().set_num_updates(num_updates)
        if num_updates != self._update:
            self._update, self._micro_batch = num_updates, 0

    @contextlib.contextmanager
    def seeded(self) -> Iterator[None]:
        """Seed numpy's global generator for one forward pass (LayerDrop), and restore it."""
        with numpy_seed(*self._position()):
            yield
        if self.training:
            self._micro_batch += 1

    def generators(self, rows: int, utterances: Tensor | None) -> list[np.random.Generator]:
        """A generator a row: from (seed, update, utterance) where utterances (B,) are known, so that a mask depends
        neither on the batch nor on the number of processes; else from the row's position."""
        if utterances is None:
            return [np.random.default_rng((*self._position(), row)) for row in range(rows)]
        update = self._update if self.training else 0
        return [np.random.default_rng((self.seed, update, utterance)) for utterance in utterances.tolist()]

    def _position(self) -> tuple[int, int, int, int]:
        if not self.training:  # validation always sees the same draws
            return self.seed, 0, 0, 0
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        return self.seed, self._update, self._micro_batch, rank
