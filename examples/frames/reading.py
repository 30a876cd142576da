"""From what a system says of each frame to its emotion, and what is right of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from listeners import Heard
from recordings import Recording
from sklearn.metrics import roc_auc_score

from flea_fairseq.evaluation.metrics import confusion_matrix
from flea_fairseq.evaluation.score_frames import NEUTRAL
from flea_fairseq.inference.recognizer import FRAME_SECONDS

WIDTHS = (0.1, 0.5, 1.0)  # seconds over which logarithms are averaged: the best on validation speakers


@dataclass(frozen=True)
class Reading:
    """Of frames that are averaged over `width` seconds; None where a measure has no meaning.

    auc: of 1 - P(neutral), attention_auc: of the attention, both for emotional against neutral frames; confusion:
    (C, C) frames.
    """

    width: float
    auc: float | None = None
    attention_auc: float | None = None
    confusion: list[list[int]] | None = None


def reading(recording: Recording, heard: Heard, classes: Sequence[str], width: float) -> Reading:
    """Compare each frame that is far enough from the joint."""
    kept, posteriors = recording.kept, smoothed(heard.posteriors, width)
    truth = [name for name, far in zip(recording.truth, kept) if far]
    likeliest = [classes[i] for i in posteriors[kept].argmax(1)]
    return Reading(
        width,
        auc(recording, 1 - posteriors[:, list(classes).index(NEUTRAL)]),
        None if heard.attention is None else auc(recording, averaged(heard.attention, width)),
        confusion_matrix(truth, likeliest, list(classes)).tolist(),
    )


def averaged(values: np.ndarray, width: float) -> np.ndarray:
    """The mean over so many seconds around each frame, of the frames that there are: (T,) -> (T,)."""
    around = max(1, round(width / FRAME_SECONDS)) // 2
    sums = np.concatenate([[0.0], values.cumsum()])
    first, last = (np.arange(len(values)) + step for step in (-around, around + 1))
    first, last = first.clip(0), last.clip(max=len(values))
    return (sums[last] - sums[first]) / (last - first)


def smoothed(posteriors: np.ndarray, width: float) -> np.ndarray:
    """The mean logarithm over so many seconds around each frame, as probabilities again: (T, C) -> (T, C)."""
    means = np.stack([averaged(column, width) for column in np.log(np.maximum(posteriors, 1e-12)).T], 1)
    powers = np.exp(means - means.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def auc(recording: Recording, values: np.ndarray) -> float | None:
    """The area under the ROC curve of values (T,) for emotional frames; None where not both kinds are in it."""
    emotional = np.array(recording.truth)[recording.kept] != NEUTRAL
    if recording.kind != NEUTRAL or emotional.all() or not emotional.any():
        return None
    alike = values[recording.kept].round(9)  # what differs by the rounding of sums alone is a tie
    return float(roc_auc_score(emotional, alike))
