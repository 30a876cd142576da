"""`emotion_cross_entropy`: cross-entropy on utterances, scored by UA, WA and macro-F1."""

import math
from dataclasses import dataclass, field
from typing import Any, List, Optional

import numpy as np
import torch
import torch.nn.functional as F
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from torch import Tensor

from flea_fairseq.errors import ExperimentError
from flea_fairseq.evaluation.metrics import scores
from flea_fairseq.models.pooling import check_frame_logits
from flea_fairseq.ranges import CONSISTENCY, check_range

CELL = "_confusion_{}_{}"  # fairseq prints no metric whose name starts with an underscore


@dataclass
class EmotionCrossEntropyConfig(FairseqDataclass):
    label_smoothing: float = field(default=0.0, metadata={"help": "share of the target spread over all classes"})
    class_weights: Optional[List[float]] = field(
        default=None, metadata={"help": "a weight a class, in the order of dict.emo.txt"}
    )
    balanced: bool = field(
        default=False, metadata={"help": "weigh each class by the inverse of its share of the training utterances"}
    )
    consistency: float = field(
        default=0.0,
        metadata={
            "help": "weight of the frames' cross-entropy with the emotions of their clusters (task.label_dir); in an"
            " experiment those of the K that phase 2 predicted, of several (flea_targets) the first"
        },
    )


@register_criterion("emotion_cross_entropy", dataclass=EmotionCrossEntropyConfig)
class EmotionCrossEntropy(FairseqCriterion):
    """Cross-entropy; its log carries a confusion matrix, so that scores over batches and processes are exact.

    L = sum_i w_i (CE_i + lambda F_i) / sum_i w_i over utterances i. w_i is the weight of i's class, 1 without weights;
    lambda is `consistency`, and F_i, in training alone, what `frame_cross_entropy` says of i's frames. An utterance of
    weight 2 counts as if it were there twice. (What label smoothing gives to a class has that class's weight, as in
    torch.)
    """

    def __init__(
        self,
        task: FairseqTask,
        label_smoothing: float,
        class_weights: Optional[List[float]] = None,
        balanced: bool = False,
        consistency: float = 0.0,
    ) -> None:
        super().__init__(task)
        check_range(CONSISTENCY, consistency)
        self.consistency = consistency
        if consistency and task.pooling is not None:
            check_frame_logits(task.pooling, CONSISTENCY)
        shares = torch.from_numpy(task.emotion_shares()).float() if consistency else None
        self.register_buffer("emotion_shares", shares)
        self.label_smoothing = label_smoothing
        if balanced:
            if class_weights is not None:
                raise ExperimentError("criterion.balanced=true with criterion.class_weights; give one of the two")
            class_weights = balanced_weights(task.class_counts())
        if class_weights is not None and len(class_weights) != len(task.classes):
            raise ExperimentError(
                f"criterion.class_weights has {len(class_weights)} values for {len(task.classes)} classes "
                f"({', '.join(task.classes)})"
            )
        self.register_buffer("class_weights", None if class_weights is None else torch.tensor(list(class_weights)))

    def forward(
        self, model: BaseFairseqModel, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, float, dict[str, Any]]:
        """sample: a batch of EmotionDataset. Returns the summed loss, the utterances (or their weight), the log."""
        output = model(**sample["net_input"])
        logits = output["logits"].float()
        target = sample["target"]
        # fairseq halves and moves a model, but not always a criterion
        weights = None if self.class_weights is None else self.class_weights.to(logits)
        loss = F.cross_entropy(logits, target, weight=weights, label_smoothing=self.label_smoothing, reduction="sum")
        if self.consistency and "units" in sample:
            frames = frame_cross_entropy(
                model.frame_logits(output["x"]), sample["units"], self.emotion_shares.to(logits)
            )
            loss = loss + self.consistency * (frames if weights is None else weights[target] * frames).sum()
        size = target.numel() if weights is None else float(weights[target].sum())
        classes = logits.size(1)
        cells = torch.bincount(target * classes + logits.argmax(1), minlength=classes**2).view(classes, classes)
        log: dict[str, Any] = {CELL.format(i, j): cells[i, j] for i in range(classes) for j in range(classes)}
        log.update(loss=loss.detach(), sample_size=size, ntokens=target.numel(), nsentences=target.numel())
        return loss, size, log

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, Any]]) -> None:
        """Loss in bits, UA, WA and macro-F1 from the summed confusion matrix."""
        total = {key: sum(log[key] for log in logging_outputs) for key in logging_outputs[0]}
        size = max(float(total["sample_size"]), 1e-9)
        metrics.log_scalar("loss", float(total["loss"]) / size / math.log(2), size, round=4)
        cells = [key for key in total if key.startswith("_confusion")]
        for key in cells:
            metrics.log_scalar_sum(key, int(total[key]))
        classes = math.isqrt(len(cells))
        for name in ("ua", "wa", "macro_f1"):
            metrics.log_derived(name, lambda meters, name=name: _score(meters, classes, name))

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def frame_cross_entropy(logits: Tensor, units: Tensor, shares: Tensor) -> Tensor:
    """F_i = - mean_t sum_c P(c | cluster of t) log P(c | frame t) of each utterance i and its frames t: (B,).

    logits: (B, T, C) of frames, units: (B, T) clusters, -1 on padding; shares: (C, K) P(emotion | cluster).
    """
    known = units >= 0
    expected = shares.t()[units.clamp(min=0)] * known.unsqueeze(-1)
    frames = -(expected * logits[:, : units.size(1)].float().log_softmax(-1)).sum(-1)
    return frames.sum(1) / known.sum(1).clamp(min=1)


def balanced_weights(counts: dict[str, int]) -> list[float]:
    """Utterances of each class -> N / (classes * count), scikit-learn's "balanced".

    Chen and Rudnicky's code scales the same weights to a sum of 1, which a weighted mean does not see.
    Raises ExperimentError for a class without utterances.
    """
    absent = [name for name, count in counts.items() if count == 0]
    if absent:
        raise ExperimentError(
            f"criterion.balanced=true, but {', '.join(absent)} is in no training utterance; "
            "leave it out of dict.emo.txt, or set criterion.balanced=false"
        )
    return [sum(counts.values()) / (len(counts) * count) for count in counts.values()]


def _score(meters: dict[str, Any], classes: int, name: str) -> float:
    """A plain float: fairseq stores the best one, and torch's safe loader refuses a numpy scalar."""
    cells = [[meters[CELL.format(i, j)].sum for j in range(classes)] for i in range(classes)]
    return round(float(getattr(scores(np.array(cells, dtype=np.int64)), name)), 4)
