"""`speech_emotion`: one emotion an utterance, from `{split}.tsv`, `{split}.emo` and `dict.emo.txt`."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List

import numpy as np
from fairseq.data.iterators import EpochBatchIterating
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II, MISSING, open_dict

from flea_fairseq.data.emotion_dataset import EmotionDataset
from flea_fairseq.data.manifest import read_dictionary, read_labels, read_manifest
from flea_fairseq.errors import CheckpointError, CorpusError, ExperimentError, FormatError
from flea_fairseq.models.frozen_cnn import NO_CACHE, FrozenCnn
from flea_fairseq.models.repair import repair_last
from flea_fairseq.tasks.finite_loss import FiniteLoss


@dataclass
class SpeechEmotionConfig(FairseqDataclass):
    data: str = field(default=MISSING, metadata={"help": "folder with {split}.tsv, {split}.emo and dict.emo.txt"})
    max_seconds: float = field(default=6.0, metadata={"help": "longest part of an utterance in training (0: all)"})
    crop: ChoiceEnum(["start", "random"]) = field(default="start", metadata={"help": "which part of a longer one"})
    eval_max_seconds: float = field(
        default=0.0, metadata={"help": "the same when validating, from the start; flea evaluate scores whole ones"}
    )
    normalize: bool = field(default=False, metadata={"help": "layer-normalise waveforms; must match the encoder"})
    balance: bool = field(default=True, metadata={"help": "draw every class equally often in training"})
    cnn_cache: str = field(
        default="",
        metadata={
            "help": "folder that keeps the output of the frozen convolutions, computed once an utterance, for all"
            " trainings that are given it; may be removed after them (empty: computed in every epoch)"
        },
    )
    label_dir: str = field(
        default="",
        metadata={
            "help": "folder with ssl.<label> and dict.<label>.txt: clusters of frames, for criterion.consistency"
        },
    )
    labels: List[str] = field(default_factory=list, metadata={"help": "which of them, one, such as km50"})
    train_subset: str = II("dataset.train_subset")
    save_dir: str = II("checkpoint.save_dir")
    seed: int = II("common.seed")


@register_task("speech_emotion", dataclass=SpeechEmotionConfig)
class SpeechEmotionTask(FiniteLoss, FairseqTask):
    """Utterance-level emotion recognition."""

    def __init__(self, cfg: SpeechEmotionConfig) -> None:
        super().__init__(cfg)
        if cfg.cnn_cache and str(cfg.crop) == "random":
            raise ExperimentError(
                "task.cnn_cache with task.crop=random: the first convolution's group norm runs over the whole crop, so "
                f"every crop has a CNN output of its own; set task.crop=start, {NO_CACHE}"
            )
        if len(cfg.labels) > 1:
            raise ExperimentError(f"task.labels is {list(cfg.labels)}, expected one set of clusters")
        self.classes = tuple(read_dictionary(Path(cfg.data) / "dict.emo.txt"))
        self.cnn: FrozenCnn | None = None
        self.pooling: str | None = None  # of the model, which fairseq makes before the criterion
        self.units: tuple[list[np.ndarray], int] | None = None  # of the training utterances, and their number
        if cfg.label_dir:
            if not cfg.labels:
                raise ExperimentError(
                    f"task.label_dir is {cfg.label_dir}, but task.labels is empty: name the set of clusters there, "
                    "such as task.labels=[km50]"
                )
            from flea_fairseq.clustering.emotions import units_of  # faiss

            names = read_manifest(Path(cfg.data) / f"{cfg.train_subset}.tsv").names
            self.units = units_of(names, Path(cfg.label_dir), cfg.labels[0], Path(cfg.data) / "ssl.tsv")

    @classmethod
    def setup_task(cls, cfg: SpeechEmotionConfig, **kwargs: Any) -> "SpeechEmotionTask":
        repair_last(cfg.save_dir)
        return cls(cfg)

    def build_model(self, cfg: FairseqDataclass, from_checkpoint: bool = False) -> BaseFairseqModel:
        model = super().build_model(cfg)
        with open_dict(cfg):
            cfg.update(model.stored_config())
        self.pooling = model.pooling_name
        wanted = model.normalize
        if wanted != self.cfg.normalize:
            raise CheckpointError(
                f"{cfg.init_checkpoint}: trained with normalize={wanted}; set task.normalize={str(wanted).lower()}"
            )
        if self.cfg.cnn_cache:
            self.cnn = FrozenCnn(model.encoder, self.cfg.cnn_cache)
        return model

    def load_dataset(self, split: str, **kwargs: Any) -> None:
        """Read a split, and compute the CNN output of its utterances where it is to be kept and is not there.

        Raises FormatError where labels and utterances do not fit each other or the dictionary.
        """
        folder = Path(self.cfg.data)
        manifest = read_manifest(folder / f"{split}.tsv")
        targets = self.read_targets(split)
        if len(targets) != len(manifest.names):
            raise FormatError(
                f"{folder / split}.emo: {len(targets)} labels for the {len(manifest.names)} utterances of {split}.tsv"
            )
        training = split == self.cfg.train_subset
        dataset = EmotionDataset(
            manifest,
            targets,
            max_seconds=self.cfg.max_seconds if training else self.cfg.eval_max_seconds,
            random_crop=training and str(self.cfg.crop) == "random",
            normalize=self.cfg.normalize,
            shuffle=training,
            balance=training and self.cfg.balance,
            seed=self.cfg.seed,
            units=self.units[0] if training and self.units is not None else None,
        )
        if self.cnn is not None:
            dataset.frames = self.cnn.fill(split, dataset.paths, dataset.sizes.tolist(), dataset.waveform)
        self.datasets[split] = dataset

    def read_targets(self, split: str) -> list[int]:
        """The class of each utterance of a split. Raises FormatError for a label that is not in the dictionary."""
        path = Path(self.cfg.data) / f"{split}.emo"
        index = {name: i for i, name in enumerate(self.classes)}
        labels = read_labels(path)
        for line, label in enumerate(labels, start=1):
            if label not in index:
                raise FormatError(f"{path}, line {line}: {label!r} is not in dict.emo.txt ({', '.join(self.classes)})")
        return [index[label] for label in labels]

    def class_counts(self) -> dict[str, int]:
        """Training utterances of each class; they are known before the split is loaded, as the criterion needs them."""
        counts = Counter(self.read_targets(self.cfg.train_subset))
        return {name: counts[i] for i, name in enumerate(self.classes)}

    def emotion_shares(self) -> np.ndarray:
        """P(emotion | cluster) from the training labels: (C, K). Raises ExperimentError without clusters."""
        from flea_fairseq.clustering.emotions import emotion_shares

        if self.units is None:
            raise ExperimentError(
                "criterion.consistency needs clusters of frames: flea train --labels FOLDER --label-set km50, or "
                "task.label_dir and task.labels"
            )
        labels = [self.classes[target] for target in self.read_targets(self.cfg.train_subset)]
        return emotion_shares(self.units[0], labels, self.classes, self.units[1])

    def get_batch_iterator(self, dataset: EmotionDataset, *args: Any, **kwargs: Any) -> EpochBatchIterating:
        """As fairseq's, but never dropping utterances; outside training each is scheduled exactly once."""
        kwargs["required_batch_size_multiple"] = 1  # fairseq's default of 8 drops the last batch
        iterator = super().get_batch_iterator(dataset, *args, **kwargs)
        if not dataset.shuffle:
            check_scored_once(iterator.frozen_batches, len(dataset))
        return iterator

    @property
    def source_dictionary(self) -> None:
        return None

    @property
    def target_dictionary(self) -> None:
        return None

    def max_positions(self) -> None:
        return None


def check_scored_once(batches: Iterable[Iterable[int]], utterances: int) -> None:
    """Raise CorpusError unless the batches hold each of `utterances` indices exactly once."""
    counts = Counter(int(index) for batch in batches for index in batch)
    missing = [index for index in range(utterances) if index not in counts]
    repeated = [index for index, count in counts.items() if count > 1]
    if missing or repeated:
        raise CorpusError(
            f"{utterances} utterances to score, but {len(missing)} are left out (first: {missing[:5]}) "
            f"and {len(repeated)} appear more than once (first: {repeated[:5]})"
        )
