"""`flea_pretraining`: fairseq's HuBERT pretraining with crops and masks that a resumed run draws alike."""

from dataclasses import dataclass

from fairseq.data import BaseWrapperDataset
from fairseq.tasks import register_task
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig, HubertPretrainingTask
from omegaconf import II

from flea_fairseq.data.emotion_dataset import SharedEpoch, crop_start
from flea_fairseq.models.checkpoints import repair_last


@dataclass
class FleaPretrainingConfig(HubertPretrainingConfig):
    save_dir: str = II("checkpoint.save_dir")
    seed: int = II("common.seed")


@register_task("flea_pretraining", dataclass=FleaPretrainingConfig)
class FleaPretrainingTask(HubertPretrainingTask):
    """Reads the same files as `hubert_pretraining` and gives the same batches, but for where crops start.

    It also tells the model which utterances they are, for its masks.
    """

    @classmethod
    def setup_task(cls, cfg: FleaPretrainingConfig, **kwargs) -> "FleaPretrainingTask":
        repair_last(cfg.save_dir)
        return cls(cfg)

    def load_dataset(self, split: str, **kwargs) -> None:
        super().load_dataset(split, **kwargs)
        self.datasets[split] = SeededCrops(self.datasets[split], self.cfg.seed)

    def get_batch_iterator(self, dataset, *args, **kwargs):
        """As fairseq's, without dropping the last utterances."""
        kwargs["required_batch_size_multiple"] = 1
        return super().get_batch_iterator(dataset, *args, **kwargs)


class SeededCrops(BaseWrapperDataset):
    """A HubertDataset whose crops are drawn from (seed, epoch, utterance), not from numpy's global generator."""

    can_reuse_epoch_itr_across_epochs = False  # a resumed run makes its batches anew; so must one that was not

    def __init__(self, dataset, seed: int) -> None:
        super().__init__(dataset)
        self.seed = seed
        self.epoch = SharedEpoch()

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.epoch.set(epoch)

    def collater(self, samples: list[dict]) -> dict:
        """Cut waveforms and labels first; fairseq's collater then finds nothing left to crop."""
        sizes = [len(sample["source"]) for sample in samples]
        if not sizes:
            return {}
        longest = max(sizes) if self.dataset.pad_audio else min(sizes)
        size = min(longest, self.dataset.max_sample_size)
        batch = self.dataset.collater([self._cut(sample, size) for sample in samples])
        batch["net_input"]["utterances"] = batch["id"]
        return batch

    def _cut(self, sample: dict, size: int) -> dict:
        spare = len(sample["source"]) - size
        if spare <= 0:
            return sample
        drawn = self.dataset.random_crop
        start = crop_start(spare, self.seed, self.epoch.get(), sample["id"]) if drawn else 0
        labels = [
            label[round(start * rate / self.dataset.sample_rate) :]
            for label, rate in zip(sample["label_list"], self.dataset.label_rates)
        ]
        return {"id": sample["id"], "source": sample["source"][start : start + size], "label_list": labels}
