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
        """As fairseq's. Raises ExperimentError for a loss that is not finite, in fp32 and bf16.

        In fp16 such a loss is an overflow, of which fairseq lowers the loss scale and leaves out the update; there
        the device is not waited for, either.
        """
        result = super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
        scales = getattr(optimizer, "scaler", None) or getattr(optimizer, "_grad_scaler", None)
        if not scales and not ignore_grad and not torch.isfinite(result[0]).all():
            raise ExperimentError(
                f"update {update_num + 1}: the loss is {float(result[0].detach().sum())} for "
                f"{self._suspects(sample)}; listen to them, or lower optimization.lr"
            )
        return result

    def _suspects(self, sample: dict[str, Any]) -> str:
        """Utterances whose input is not finite, or else all of the batch."""
        ids, source = sample["id"].tolist(), sample["net_input"]["source"]
        damaged = [index for index, row in zip(ids, source) if not torch.isfinite(row).all()]
        names = [self.datasets[self.cfg.train_subset].name_of(index) for index in damaged or ids]
        return f"{'samples that are no numbers in ' if damaged else ''}{some(names)}"
