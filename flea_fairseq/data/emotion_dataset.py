"""Utterances and their emotions as a fairseq dataset: crops, length buckets, class balance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fairseq.data import FairseqDataset
from torch.nn.utils.rnn import pad_sequence

from flea_fairseq.data.audio import HOP_SAMPLES, SAMPLE_RATE, frame_count, read_listed
from flea_fairseq.data.cnn_cache import read_frames
from flea_fairseq.data.loading_thread import load_with_one_core
from flea_fairseq.data.manifest import Manifest, utterance_id

NO_UNIT = -1  # on padding
BUCKET_SECONDS = 0.25  # utterances of one bucket may share a batch in any order


class SharedEpoch:
    """The epoch, visible to data-loading processes that live longer than one."""

    def __init__(self) -> None:
        self._value = torch.ones(1, dtype=torch.long).share_memory_()

    def set(self, epoch: int) -> None:
        self._value[0] = epoch

    def get(self) -> int:
        return int(self._value[0])


def crop_start(spare: int, seed: int, epoch: int, utterance: int) -> int:
    """Where a random crop starts, 0 to `spare`: the same whenever seed, epoch and utterance are."""
    return int(np.random.default_rng((seed, epoch, int(utterance))).integers(spare + 1))


class EmotionDataset(FairseqDataset):
    """One split: whole utterances, or crops of at most `max_seconds`.

    targets: a class index an utterance; max_seconds: longest part used (0: all of it); random_crop: where that part
    starts is drawn from (seed, epoch, utterance), else it is the start; normalize: zero mean and unit variance of the
    whole waveform; shuffle: batches of near-equal length in random order; balance: every class is drawn equally often;
    units: the clusters of each utterance's frames, which batches then hold, too.
    """

    can_reuse_epoch_itr_across_epochs = False  # order and balance are drawn anew, and alike after a resume

    def __init__(
        self,
        manifest: Manifest,
        targets: Sequence[int],
        max_seconds: float = 0.0,
        random_crop: bool = False,
        normalize: bool = False,
        shuffle: bool = False,
        balance: bool = False,
        seed: int = 1,
        units: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.units = units
        self.paths = manifest.paths()
        self.samples = manifest.frames
        self.targets = np.asarray(targets, dtype=np.int64)
        self.max_samples = round(max_seconds * SAMPLE_RATE) or None
        self.random_crop = random_crop
        self.normalize = normalize
        self.shuffle = shuffle
        self.balance = balance
        self.seed = seed
        self.epoch = SharedEpoch()
        self.frames: list[Path] | None = None  # files of each utterance's CNN output, given instead of its waveform
        self.sizes = np.minimum(np.asarray(manifest.frames), self.max_samples or np.iinfo(np.int64).max)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict[str, Any]:
        load_with_one_core()
        source = self.waveform(index) if self.frames is None else read_frames(self.frames[index])
        samples = len(source) if self.frames is None else self.size(index)
        sample = {"id": int(index), "source": source, "samples": samples, "target": int(self.targets[index])}
        if self.units is not None:
            first = round(self._start(index) / HOP_SAMPLES)
            sample["units"] = torch.from_numpy(self.units[index][first : first + frame_count(samples)].astype(np.int64))
        return sample

    def waveform(self, index: int) -> torch.Tensor:
        """What the encoder hears of an utterance: (samples,) float32. Raises AudioError."""
        waveform = torch.from_numpy(read_listed(self.paths[index], self.samples[index]))
        if self.normalize:
            waveform = F.layer_norm(waveform, waveform.shape)
        return self._crop(waveform, index)

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch: source (B, samples), or with `frames` (B, T, C), padded at the end; lengths (B,) in samples;
        utterances (B,); target (B,); units (B, T), -1 on padding, where there are any."""
        if not samples:
            return {}
        source = pad_sequence([s["source"] for s in samples], batch_first=True)
        ids = torch.tensor([s["id"] for s in samples])
        lengths = torch.tensor([s["samples"] for s in samples])
        frames = {} if self.units is None else {"units": pad_sequence([s["units"] for s in samples], True, NO_UNIT)}
        return {
            **frames,
            "id": ids,
            "net_input": {"source": source, "lengths": lengths, "utterances": ids},
            "target": torch.tensor([s["target"] for s in samples]),
        }

    def name_of(self, index: int) -> str:
        """The utterance's id."""
        return utterance_id(str(self.paths[index]))

    def set_epoch(self, epoch: int) -> None:
        self.epoch.set(epoch)

    def num_tokens(self, index: int) -> int:
        return int(self.sizes[index])

    def size(self, index: int) -> int:
        return int(self.sizes[index])

    def ordered_indices(self) -> np.ndarray:
        """Utterances by length bucket; within a bucket in random order while training."""
        if not self.shuffle:
            return np.argsort(self.sizes, kind="stable")
        rng = np.random.default_rng((self.seed, self.epoch.get()))
        indices = self._balanced(rng) if self.balance else np.arange(len(self))
        buckets = self.sizes[indices] // round(BUCKET_SECONDS * SAMPLE_RATE)
        return indices[np.lexsort((rng.random(len(indices)), buckets))]

    def _balanced(self, rng: np.random.Generator) -> np.ndarray:
        """As many utterances as there are, each class equally often; small classes are repeated as evenly as can be."""
        classes = np.unique(self.targets)
        shares = np.diff(np.linspace(0, len(self), len(classes) + 1).round().astype(int))
        drawn = []
        for label, share in zip(classes, shares):
            members = np.flatnonzero(self.targets == label)
            rounds = [rng.permutation(members) for _ in range(-(-share // len(members)))]
            drawn.append(np.concatenate(rounds)[:share])
        return np.concatenate(drawn)

    def _crop(self, waveform: torch.Tensor, index: int) -> torch.Tensor:
        start = self._start(index)
        return waveform[start : start + self.size(index)]

    def _start(self, index: int) -> int:
        """The sample at which the part begins that is used."""
        spare = self.samples[index] - self.size(index)
        return crop_start(spare, self.seed, self.epoch.get(), index) if self.random_crop and spare > 0 else 0
