"""fairseq's pretraining of HuBERT and wav2vec 2.0, with crops and masks that a resumed run draws alike."""

from dataclasses import dataclass
from typing import Any

from fairseq.data import BaseWrapperDataset, FairseqDataset
from fairseq.data.iterators import EpochBatchIterating
from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import register_task
from fairseq.tasks.audio_pretraining import AudioPretrainingConfig, AudioPretrainingTask
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig, HubertPretrainingTask
from omegaconf import II

from flea_fairseq.data.emotion_dataset import SharedEpoch, crop_start
from flea_fairseq.data.loading_thread import load_with_one_core
from flea_fairseq.data.manifest import utterance_id
from flea_fairseq.models.repair import repair_last
from flea_fairseq.tasks.finite_loss import FiniteLoss


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


@dataclass
class FleaAudioPretrainingConfig(AudioPretrainingConfig):
    save_dir: str = II("checkpoint.save_dir")
    seed: int = II("common.seed")
    train_subset: str = II("dataset.train_subset")


@register_task("flea_audio_pretraining", dataclass=FleaAudioPretrainingConfig)
class FleaAudioPretrainingTask(ResumableTask, AudioPretrainingTask):
    """Contrastive pretraining of wav2vec 2.0 on audio alone; reads the same files as `audio_pretraining`."""


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
        load_with_one_core()
        return super().__getitem__(index)

    def name_of(self, index: int) -> str:
        """The utterance's id."""
        if hasattr(self.dataset, "audio_names"):
            return utterance_id(self.dataset.audio_names[index])
        packed = self.dataset.fnames[index]  # bytes, or pyarrow's where that is installed
        packed = packed if isinstance(packed, bytes) else packed.as_py()
        return utterance_id(self.dataset.text_compressor.decompress(packed))

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
