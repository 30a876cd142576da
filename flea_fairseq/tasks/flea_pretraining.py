"""fairseq's pretraining of HuBERT and wav2vec 2.0, with crops and masks that a resumed run draws alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
import torch.utils.deterministic
from fairseq.data import BaseWrapperDataset, FairseqDataset
from fairseq.data.iterators import EpochBatchIterating
from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import register_task
from fairseq.tasks.audio_pretraining import AudioPretrainingConfig, AudioPretrainingTask
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig, HubertPretrainingTask
from omegaconf import II

from flea_fairseq.data.audio import SAMPLE_RATE, read_listed
from flea_fairseq.data.emotion_dataset import SharedEpoch, crop_start
from flea_fairseq.data.loading_thread import load_with_one_core
from flea_fairseq.data.manifest import iterate_lines, manifest_rows, utterance_id
from flea_fairseq.errors import FormatError
from flea_fairseq.models.repair import repair_last
from flea_fairseq.tasks.finite_loss import FiniteLoss

LABEL_TOLERANCE = 0.1  # seconds between the end of a recording and of its labels: fairseq warns from here on


class ResumableTask(FiniteLoss):
    """Mixin for fairseq's pretraining tasks: a resumed run goes on exactly, and no utterance is left out.

    Files and batches are fairseq's, but for where crops start; the model is told which utterances a batch holds, for
    its masks.
    """

    @classmethod
    def setup_task(cls, cfg: FairseqDataclass, **kwargs: Any) -> "ResumableTask":
        repair_last(cfg.save_dir)
        return cls(cfg)

    def load_dataset(self, split: str, *args: Any, **kwargs: Any) -> None:
        super().load_dataset(split, *args, **kwargs)
        self.datasets[split] = SeededCrops(self.datasets[split], self.cfg.seed)

    def get_batch_iterator(self, dataset: FairseqDataset, *args: Any, **kwargs: Any) -> EpochBatchIterating:
        """As fairseq's, without dropping the last utterances."""
        kwargs["required_batch_size_multiple"] = 1
        return super().get_batch_iterator(dataset, *args, **kwargs)


@dataclass
class FleaPretrainingConfig(HubertPretrainingConfig):
    save_dir: str = II("checkpoint.save_dir")
    seed: int = II("common.seed")
    train_subset: str = II("dataset.train_subset")


@register_task("flea_pretraining", dataclass=FleaPretrainingConfig)
class FleaPretrainingTask(ResumableTask, HubertPretrainingTask):
    """Masked prediction of frame labels; reads the same files as `hubert_pretraining`."""

    def load_dataset(self, split: str, **kwargs: Any) -> None:
        """As fairseq's. Raises FormatError for labels of other recordings, of which fairseq only warns."""
        for name in self.cfg.labels:
            path = Path(self.get_label_dir(), f"{split}.{name}")
            check_label_lengths(path, Path(self.cfg.data, f"{split}.tsv"), self.cfg.label_rate)
        super().load_dataset(split, **kwargs)


def check_label_lengths(labels: Path, manifest: Path, rate: float) -> None:
    """Raise FormatError unless each recording of a manifest has its line of labels, `rate` a second, as long as it."""
    _, rows = manifest_rows(manifest)
    remedy = "label this manifest with flea cluster"
    for number, (row, line) in enumerate(zip_longest(rows, iterate_lines(labels)), start=1):
        if row is None or line is None:
            lacking, other = (manifest, labels) if row is None else (labels, manifest)
            raise FormatError(f"{lacking}: ends before recording {number} of {other.name}; {remedy}")
        name, samples = row
        if abs(samples / SAMPLE_RATE - len(line.split()) / rate) > LABEL_TOLERANCE:
            raise FormatError(
                f"{labels}:{number}: {len(line.split())} labels at {rate:g} a second for {name!r}, which has "
                f"{samples / SAMPLE_RATE:.2f} s: those of another recording; {remedy}"
            )


@dataclass
class FleaAudioPretrainingConfig(AudioPretrainingConfig):
    save_dir: str = II("checkpoint.save_dir")
    seed: int = II("common.seed")
    train_subset: str = II("dataset.train_subset")


@register_task("flea_audio_pretraining", dataclass=FleaAudioPretrainingConfig)
class FleaAudioPretrainingTask(ResumableTask, AudioPretrainingTask):
    """Contrastive pretraining of wav2vec 2.0 on audio alone; reads the same files as `audio_pretraining`."""

    def train_step(self, sample: dict[str, Any], *args: Any, **kwargs: Any) -> tuple[torch.Tensor, int, dict[str, Any]]:
        """As fairseq's; on a CPU, gradients of a frame that is the negative of several are added up in one order."""
        with in_one_order(sample["net_input"]["source"].device.type == "cpu"):
            return super().train_step(sample, *args, **kwargs)


@contextmanager
def in_one_order(wanted: bool) -> Iterator[None]:
    """Let torch's threads not race, where that is wanted (torch's own switch, without its filling of new memory)."""
    memory: Any = torch.utils.deterministic  # its switch is made at run time
    before = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    if wanted:
        torch.use_deterministic_algorithms(True)
        memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        memory.fill_uninitialized_memory = before[1]


class SeededCrops(BaseWrapperDataset):
    """fairseq's HubertDataset or RawAudioDataset, its crops drawn from (seed, epoch, utterance).

    fairseq draws them from numpy's global generator, which no checkpoint restores.
    """

    can_reuse_epoch_itr_across_epochs = False  # a resumed run makes its batches anew; so must one that was not

    def __init__(self, dataset: FairseqDataset, seed: int) -> None:
        super().__init__(dataset)
        self.seed = seed
        self.epoch = SharedEpoch()
        self.pads = dataset.pad_audio if hasattr(dataset, "pad_audio") else dataset.pad
        self.random_crop = getattr(dataset, "random_crop", True)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """As fairseq's, read by our reader: fairseq's takes what is left of a cut WAV, and samples that are no numbers.

        Raises AudioError, also for a recording that is not as long as the manifest says.
        """
        load_with_one_core()
        waveform = torch.from_numpy(read_listed(self._path(index), int(self.dataset.sizes[index])))
        sample = {"id": index, "source": self.dataset.postprocess(waveform, SAMPLE_RATE)}
        if hasattr(self.dataset, "get_labels"):
            sample["label_list"] = self.dataset.get_labels(index)
        return sample

    def name_of(self, index: int) -> str:
        """The utterance's id."""
        return utterance_id(str(self._path(index)))

    def _path(self, index: int) -> Path:
        if hasattr(self.dataset, "audio_names"):
            return Path(self.dataset.audio_root, self.dataset.audio_names[index])
        packed = self.dataset.fnames[index]  # bytes, or pyarrow's where that is installed
        packed = packed if isinstance(packed, bytes) else packed.as_py()
        return Path(self.dataset.root_dir, self.dataset.text_compressor.decompress(packed))

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.epoch.set(epoch)

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Cut waveforms and labels first; fairseq's collater then finds nothing left to crop."""
        sizes = [len(sample["source"]) for sample in samples]
        if not sizes:
            return {}
        longest = max(sizes) if self.pads else min(sizes)
        size = min(longest, self.dataset.max_sample_size)
        batch = self.dataset.collater([self._cut(sample, size) for sample in samples])
        batch["net_input"]["utterances"] = batch["id"]
        return batch

    def _cut(self, sample: dict[str, Any], size: int) -> dict[str, Any]:
        spare = len(sample["source"]) - size
        if spare <= 0:
            return sample
        start = crop_start(spare, self.seed, self.epoch.get(), sample["id"]) if self.random_crop else 0
        cut = {**sample, "source": sample["source"][start : start + size]}
        if "label_list" in sample:
            cut["label_list"] = [
                label[round(start * rate / self.dataset.sample_rate) :]
                for label, rate in zip(sample["label_list"], self.dataset.label_rates)
            ]
        return cut
