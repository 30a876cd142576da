"""Intervals and tests of UA and WA over utterances, by scipy and statsmodels.

What several seeds got right enters as the share of seeds that were right: UA and WA are linear in it, so its UA is the
mean of the seeds' UAs on the same utterances.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_test
from statsmodels.stats.multitest import multipletests

MEASURES = ("ua", "wa")
RESAMPLES, BATCH = 9999, 100  # a batch of drawn utterances at a time: memory stays small
FEW = 25  # discordant pairs below which McNemar's test is exact
ALPHA = 0.05


@dataclass(frozen=True)
class Part:
    """Tested utterances whose scores are averaged with those of the other parts, `weight` times.

    truth: (N,) class indices; right: (N, S) share of the seeds in which each of S systems is right, 0..1.
    """

    truth: np.ndarray
    right: np.ndarray
    weight: float


def mean_scores(parts: Sequence[Part], times: Sequence[np.ndarray]) -> np.ndarray:
    """UA and WA, the weighted sum over parts, where each utterance counts several times: (2, S, B).

    times: for each part (B, N) how often an utterance counts in each of B draws. A class that a draw lacks does not
    count in its UA.
    """
    total = np.zeros((len(MEASURES), parts[0].right.shape[1], len(times[0])))
    for part, counts in zip(parts, times):
        recalls = []
        for label in np.unique(part.truth):
            among, drawn = part.truth == label, counts[:, part.truth == label]
            support = drawn.sum(1)
            hits = (drawn @ part.right[among]).T
            recalls.append(np.divide(hits, support, out=np.full(hits.shape, np.nan), where=support > 0))
        wa = (counts @ part.right).T / counts.sum(1)
        total += part.weight * np.stack([np.nanmean(recalls, axis=0), wa])
    return total


def bootstrap(parts: Sequence[Part], reference: int = 0, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile intervals of every system's UA and WA, and of its differences to one of them: each (2, S, 2).

    Utterances are drawn again, with replacement, within each part, the same ones for all systems and seeds. The last
    axis is (low, high). Source: scipy.stats.bootstrap; Efron and Tibshirani (1993), chapters 8 and 13.
    """
    sizes = [len(part.truth) for part in parts]

    def statistic(*drawn: np.ndarray, axis: int) -> np.ndarray:
        values = mean_scores(parts, [_times(indices, size) for indices, size in zip(drawn, sizes)])
        return np.stack([values, values - values[:, [reference]]])

    # scipy asks for two observations or more: a single one is given twice, which changes no score
    samples = [np.arange(size) if size > 1 else np.zeros(2, dtype=int) for size in sizes]
    interval = scipy.stats.bootstrap(
        samples, statistic, n_resamples=RESAMPLES, batch=BATCH, vectorized=True, method="percentile",
        confidence_level=1 - ALPHA, rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    scores, differences = np.stack([interval.low, interval.high], axis=-1)
    return scores, differences


def _times(drawn: np.ndarray, size: int) -> np.ndarray:
    """Drawn indices (B, M) below `size` -> how often each was drawn, (B, size)."""
    rows = np.arange(len(drawn))[:, None] * size
    return np.bincount((drawn + rows).ravel(), minlength=len(drawn) * size).reshape(-1, size).astype(float)


@dataclass(frozen=True)
class McNemar:
    """Two systems on the same utterances: how many only one of them got right, and whether that can be chance."""

    only_first: int
    only_second: int
    exact: bool
    p: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's test of two systems; first, second: (N,) bool, whether each was right.

    The exact binomial test for fewer than 25 discordant pairs, else chi-square with continuity correction. Source:
    statsmodels; McNemar (1947), Edwards (1948).
    """
    table = np.array([[np.sum(one & other) for other in (second, ~second)] for one in (first, ~first)])
    only_first, only_second = int(table[0, 1]), int(table[1, 0])
    exact = only_first + only_second < FEW
    p = mcnemar_test(table, exact=exact, correction=True).pvalue
    return McNemar(only_first, only_second, bool(exact), float(p))


def over_seeds(p_values: Sequence[float]) -> float:
    """One p for tests on the same utterances with several seeds, however they depend on each other.

    Of n values the k-th smallest times n / k, k being the smallest majority: the difference must show in most seeds.
    Source: Rueger (1978), Metrika 25, 171-178.
    """
    majority = len(p_values) // 2 + 1
    return min(1.0, float(np.sort(p_values)[majority - 1]) * len(p_values) / majority)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for so many comparisons. Source: statsmodels; Holm (1979)."""
    return multipletests(p_values, method="holm")[1].tolist() if len(p_values) else []


def verdict(ua_interval: Sequence[float], wa_interval: Sequence[float], p: float) -> str:
    """ "better" or "worse" where p and the intervals of both differences agree on it, else "within noise"."""
    if p < ALPHA and min(ua_interval[0], wa_interval[0]) > 0:
        return "better"
    if p < ALPHA and max(ua_interval[1], wa_interval[1]) < 0:
        return "worse"
    return "within noise"
