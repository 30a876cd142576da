"""A loss that is no number stops the training, and the utterances behind it are named."""

from typing import Any

import torch
from fairseq.criterions import FairseqCriterion
from fairseq.models import BaseFairseqModel
from fairseq.optim import FairseqOptimizer
from fairseq.tasks import FairseqTask

from flea_fairseq.data.protocols import some
from flea_fairseq.errors import ExperimentError


class FiniteLoss(FairseqTask):
    """Mixin for a task whose training split has `name_of(index)`."""

    def train_step(
        self, sample: dict[str, Any], model: BaseFairseqModel, criterion: FairseqCriterion, optimizer: FairseqOptimizer,
        update_num: int, ignore_grad: bool = False,
    ) -> tuple[torch.Tensor, int, dict[str, Any]]:  # fmt: skip
        """As fairseq's. Raises ExperimentError for a loss that is not finite.

        In fp16 and amp such a loss may be an overflow: fairseq lowers the loss scale and leaves out the update. In fp16
        it is taken for one until the scale is all but at its end; before, the device is not waited for, either.
        """
        result = super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
        if not may_overflow(optimizer) and not ignore_grad and not torch.isfinite(result[0]).all():
            raise ExperimentError(
                f"update {update_num + 1}: the loss is {float(result[0].detach().sum())} for "
                f"{self._suspects(sample)}; listen to them, or lower optimization.lr"
            )
        return result

    def _suspects(self, sample: dict[str, Any]) -> str:
        """The utterances of the batch; their samples are numbers, or they would not have been read."""
        dataset = self.datasets[self.cfg.train_subset]
        return some([dataset.name_of(index) for index in sample["id"].tolist()])


def may_overflow(optimizer: Any) -> bool:
    """Whether a lower loss scale, which a loss that is no number leads to, may still help."""
    scaler = getattr(optimizer, "scaler", None) or getattr(optimizer, "_grad_scaler", None)  # of fp16, of amp
    if scaler is None or not hasattr(scaler, "min_loss_scale"):
        return scaler is not None  # amp's scale has no end
    return bool(scaler.loss_scale > scaler.min_loss_scale * scaler.scale_factor)
