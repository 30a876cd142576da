"""From frames to one utterance vector, one pooling a file; `model.pooling` is a key of POOLINGS."""

from flea_fairseq.errors import ExperimentError
from flea_fairseq.models.pooling.attention import AttentionPooling
from flea_fairseq.models.pooling.attentive_statistics import AttentiveStatisticsPooling
from flea_fairseq.models.pooling.base import Pooling
from flea_fairseq.models.pooling.class_attention import ClassAttentionPooling
from flea_fairseq.models.pooling.correlation import CorrelationPooling
from flea_fairseq.models.pooling.log_sum_exp import LogSumExpPooling
from flea_fairseq.models.pooling.mean import MeanPooling
from flea_fairseq.models.pooling.noisy_or import NoisyOrPooling
from flea_fairseq.models.pooling.sharp_attention import SharpAttentionPooling
from flea_fairseq.models.pooling.temporal_shift import TemporalShiftPooling

POOLINGS: dict[str, type[Pooling]] = {
    "attention": AttentionPooling,
    "mean": MeanPooling,
    "attentive_statistics": AttentiveStatisticsPooling,
    "correlation": CorrelationPooling,
    "temporal_shift": TemporalShiftPooling,
    "sharp_attention": SharpAttentionPooling,
    "log_sum_exp": LogSumExpPooling,
    "class_attention": ClassAttentionPooling,
    "noisy_or": NoisyOrPooling,
}


def check_frame_logits(pooling: str, needed_by: str = "frame logits") -> None:
    """Raise ExperimentError unless the head can judge single frames of a classifier with this `model.pooling`.

    needed_by: what asks for it, as the message says.
    """
    usable = sorted(name for name, kind in POOLINGS.items() if kind.has_frame_logits)
    if pooling not in usable:
        raise ExperimentError(
            f"{needed_by}: model.pooling is {pooling}, whose head cannot judge single frames; use a classifier with "
            f"{' or '.join(usable)}"
        )
