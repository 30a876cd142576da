"""UA, WA and macro-F1 from one confusion matrix, which can be summed over batches, processes and folds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flea_fairseq.errors import CorpusError


@dataclass(frozen=True)
class Scores:
    """ua: mean recall of the classes present in the truth; wa: accuracy; macro_f1: mean F1 of the classes present in
    the truth or the predictions; n: utterances; absent: indices of the classes that the truth lacks."""

    ua: float
    wa: float
    macro_f1: float
    n: int
    absent: tuple[int, ...]


def confusion_matrix(truth: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Count (truth, prediction) pairs: (C, C) int64, rows are the truth, as scikit-learn's function of this name.

    Raises CorpusError for a label that is none of `classes`, or lists of different lengths.
    """
    if len(truth) != len(predicted):
        raise CorpusError(f"{len(truth)} true labels but {len(predicted)} predictions: they must be of equal number")
    index = {name: i for i, name in enumerate(classes)}
    unknown = sorted((set(truth) | set(predicted)) - set(index))
    if unknown:
        raise CorpusError(f"label {unknown[0]!r} is none of the classes {', '.join(classes)}")
    rows, columns = (np.array([index[label] for label in labels], dtype=int) for labels in (truth, predicted))
    return count_pairs(rows, columns, len(classes))


def count_pairs(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """The confusion matrix of class indices: truth, predicted (N,) -> (C, C) int64, rows are the truth."""
    confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    return confusion


def recalls(confusion: np.ndarray) -> np.ndarray:
    """Recall of each class: (..., C, C) -> (..., C), nan where the truth lacks the class."""
    hits, support = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1)
    return np.divide(hits, support, out=np.full(support.shape, np.nan), where=support > 0)


def scores(confusion: np.ndarray) -> Scores:
    """UA, WA and macro-F1 of a confusion matrix (C, C) with the truth in rows; nan where it counts nothing.

    Equal to scikit-learn's balanced_accuracy_score, accuracy_score and f1_score(average="macro").
    """
    confusion = np.asarray(confusion)
    n = int(confusion.sum())
    support, given, hits = confusion.sum(1), confusion.sum(0), np.diag(confusion)
    absent = tuple(int(i) for i in np.flatnonzero(support == 0))
    if n == 0:
        return Scores(float("nan"), float("nan"), float("nan"), 0, absent)
    seen = support + given > 0
    f1 = 2 * hits[seen] / (support + given)[seen]
    return Scores(float(np.nanmean(recalls(confusion))), float(hits.sum() / n), float(f1.mean()), n, absent)


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: how far the probability of the predicted class is from how often it is right.

    sum_b |B_b| / N * |accuracy(B_b) - confidence(B_b)| over bins of equal width (Guo et al. 2017, equation 3), which
    hold their upper end. confidence, right: (N,); nan of none.
    """
    if not len(confidence):
        return float("nan")
    place = np.maximum(np.ceil(np.asarray(confidence) * bins).astype(int) - 1, 0)  # the first bin holds 0 too
    gaps = np.bincount(place, weights=np.asarray(right) - confidence)
    return float(np.abs(gaps).sum() / len(confidence))
