"""`masked_prediction`: L = alpha L_masked + (1 - alpha) L_unmasked + feature penalty (FLEA, phase 2)."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from fairseq import utils
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from torch import Tensor

from flea_fairseq.errors import ExperimentError


@dataclass
class MaskedPredictionConfig(FairseqDataclass):
    alpha: float = field(default=1.0, metadata={"help": "share of the loss that masked frames have"})
    feature_penalty: float = field(default=10.0, metadata={"help": "weight of the mean square of the CNN's output"})


@register_criterion("masked_prediction", dataclass=MaskedPredictionConfig)
class MaskedPrediction(FairseqCriterion):
    """Cross-entropy on masked and unmasked frames, summed over label sets.

    The same loss, sample size and gradients as fairseq's `hubert` criterion with pred_masked_weight=alpha,
    pred_nomask_weight=1-alpha, loss_weights=[feature_penalty]. Works with `flea_hubert` and with fairseq's `hubert`.
    Logging outputs are summed over processes, so it also runs on CPUs, where fairseq's own criterion cannot.
    """

    def __init__(self, task: FairseqTask, alpha: float, feature_penalty: float) -> None:
        super().__init__(task)
        if not 0 <= alpha <= 1:
            raise ExperimentError(f"criterion.alpha is {alpha}; expected a number from 0 to 1")
        self.weights = {"m": alpha, "u": 1 - alpha}
        self.feature_penalty = feature_penalty

    def forward(
        self, model: BaseFairseqModel, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """sample: a batch of fairseq's HubertDataset. Returns the summed loss, the frames it is over, the log."""
        parts = {"masked": self.weights["m"] > 0, "unmasked": self.weights["u"] > 0}
        extra = parts if getattr(model, "predicts_parts", False) else {}
        output = model(target_list=sample["target_list"], **sample["net_input"], **extra)
        log: dict[str, Any] = {}
        losses, sample_size = [], 0
        for part, weight in self.weights.items():
            if weight > 0:
                part_loss, frames = self._part(model, output, part, log)
                losses.append(weight * part_loss)
                sample_size += frames
        loss = sum(losses[1:], losses[0])
        if self.feature_penalty:
            penalty = self.feature_penalty * output["features_pen"].float() * sample_size
            loss = loss + penalty
            log["loss_features_pen"] = penalty.detach()
        log.update(loss=loss.detach(), ntokens=sample_size, nsentences=sample["id"].numel(), sample_size=sample_size)
        return loss, sample_size, log

    @staticmethod
    def _part(model: BaseFairseqModel, output: dict[str, Any], part: str, log: dict[str, Any]) -> tuple[Tensor, int]:
        """The summed loss of masked ("m") or unmasked ("u") frames over all label sets, and how many frames."""
        logits_list = model.get_logits(output, part == "m")
        targets_list = model.get_targets(output, part == "m")
        losses = []
        for i, (logits, targets) in enumerate(zip(logits_list, targets_list)):
            set_loss = F.cross_entropy(logits, targets, reduction="sum")
            losses.append(set_loss)
            log[f"loss_{part}_{i}"] = set_loss.detach()
            log[f"correct_{part}_{i}"] = _correct(logits.detach(), targets)
            log[f"count_{part}_{i}"] = targets.numel()
        return sum(losses[1:], losses[0]), targets_list[0].numel()

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, Any]]) -> None:
        """The loss in bits as it is optimised; of each part and label set the loss a frame, accuracy, perplexity."""
        total = {key: sum(log[key] for log in logging_outputs) for key in logging_outputs[0]}
        size = max(float(total["sample_size"]), 1.0)
        metrics.log_scalar("loss", float(total["loss"]) / size / math.log(2), size, round=3)
        for key, value in total.items():
            if key == "loss_features_pen":
                metrics.log_scalar(key, float(value) / size / math.log(2), size, round=3)
            elif key.startswith("loss_"):
                count = max(float(total[key.replace("loss", "count")]), 1.0)
                metrics.log_scalar(key, float(value) / count / math.log(2), count, round=3)
                name = key.replace("loss", "ppl")
                metrics.log_derived(name, lambda meters, key=key: utils.get_perplexity(meters[key].avg))
            elif key.startswith("correct_"):
                count = max(float(total[key.replace("correct", "count")]), 1.0)
                name = {"m": "accuracy_masked", "u": "accuracy_unmasked"}[key.split("_")[1]]
                metrics.log_scalar(f"{name}_{key.split('_')[2]}", float(value) / count, count, round=4)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def _correct(logits: Tensor, targets: Tensor) -> Tensor:
    """Frames whose label has the highest logit. fairseq's all-equal rows (a head without contrast) count as wrong."""
    hit = logits.argmax(-1) == targets
    flat = logits.argmin(-1) == targets
    return (hit & ~flat).sum() if logits.numel() else torch.zeros((), device=logits.device)
