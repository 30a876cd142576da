"""`correlation`: attentive channel-wise correlations."""

import torch
from torch import Tensor, nn

from flea_fairseq.models.pooling.base import Pooled, Pooling, centred, masked_softmax

CHANNELS = 256
HEADS = 4
CHANNEL_DROPOUT = 0.25
EPSILON = 1e-9  # added to variances: a channel that does not move correlates with nothing


class CorrelationPooling(Pooling):
    """Which channels move together, over the frames that attention picks: (B, 32640).

    Frames are projected to 256 channels, of which training drops a quarter; the logits of 4 attention heads,
    V relu(U x_t + b) + c, are merged by log-sum-exp; the channels' covariance under the attention, about its mean, is
    normalised to correlations, and their upper triangle without the diagonal is the vector.
    Kakouros et al., "Speech-based emotion recognition with self-supervised models using attentive channel-wise
    correlations and label smoothing" (2023), where frames are a weighted sum of a frozen encoder's layers.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(CHANNELS * (CHANNELS - 1) // 2)
        self.projection = nn.Linear(dim, CHANNELS)
        self.dropout = nn.Dropout1d(CHANNEL_DROPOUT)
        self.attention = nn.Sequential(nn.Linear(CHANNELS, CHANNELS), nn.ReLU(), nn.Linear(CHANNELS, HEADS))

    def forward(self, x: Tensor, padding: Tensor | None) -> Pooled:
        """x: (B, T, D), padding: (B, T) True on padding, or None -> (B, 32640), weights (B, T)."""
        x = self.dropout(self.projection(x).transpose(1, 2)).transpose(1, 2)
        weights = masked_softmax(self.attention(x).logsumexp(-1), padding)
        correlations = weighted_correlations(x, weights)
        row, column = torch.triu_indices(CHANNELS, CHANNELS, offset=1, device=x.device)
        return correlations[:, row, column].type_as(x), weights


def weighted_correlations(x: Tensor, weights: Tensor) -> Tensor:
    """Correlations of channels under weights over time, in single precision: (B, T, C), (B, T) -> (B, C, C)."""
    _, difference = centred(x, weights)
    covariance = torch.einsum("btc,btd->bcd", difference * weights.float().unsqueeze(-1), difference)
    deviation = (covariance.diagonal(dim1=1, dim2=2) + EPSILON).sqrt()
    return covariance / (deviation.unsqueeze(1) * deviation.unsqueeze(2))
