"""From frames to one utterance vector, one pooling a file; `model.pooling` is a key of POOLINGS."""

from flea_fairseq.models.pooling.attention import AttentionPooling
from flea_fairseq.models.pooling.attentive_statistics import AttentiveStatisticsPooling
from flea_fairseq.models.pooling.base import Pooling
from flea_fairseq.models.pooling.correlation import CorrelationPooling
from flea_fairseq.models.pooling.mean import MeanPooling
from flea_fairseq.models.pooling.temporal_shift import TemporalShiftPooling

POOLINGS: dict[str, type[Pooling]] = {
    "attention": AttentionPooling,
    "mean": MeanPooling,
    "attentive_statistics": AttentiveStatisticsPooling,
    "correlation": CorrelationPooling,
    "temporal_shift": TemporalShiftPooling,
}
