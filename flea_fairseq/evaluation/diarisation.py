"""Emotion diarisation error rate: how much of a recording is given a wrong emotion, or wrongly none.

Wang, Ravanelli and Yacoubi, "Speech emotion diarization: which emotion appears when?" (2023), who made the Zaion
Emotion Dataset: EDER = (false alarm + missed emotion + confusion + overlap) / duration of the utterance.
"""

from collections.abc import Sequence
from typing import NamedTuple

from flea_fairseq.data.spans import Span


class Errors(NamedTuple):
    """Seconds of each error, and of the utterance. Spans that overlap nothing of their own kind have no overlap."""

    false_alarm: float
    missed: float
    confusion: float
    overlap: float
    duration: float

    @property
    def rate(self) -> float:
        """EDER, from 0 to 1 (more where predicted spans overlap)."""
        return (self.false_alarm + self.missed + self.confusion + self.overlap) / self.duration


def diarisation_errors(truth: Sequence[Span], predicted: Sequence[Span], duration: float, neutral: str) -> Errors:
    """Compare spans, in seconds, over an utterance of `duration` seconds; what no span covers is `neutral`.

    Where several predicted spans overlap, one that is right counts as right, and each second of the others as overlap.
    """
    edges = sorted({0.0, duration, *(min(max(t, 0.0), duration) for s in (*truth, *predicted) for t in s[:2])})
    sums = dict.fromkeys(("false_alarm", "missed", "confusion", "overlap"), 0.0)
    for start, end in zip(edges, edges[1:]):
        middle, length = (start + end) / 2, end - start
        true = next((s.emotion for s in truth if s.start <= middle < s.end), neutral)
        said = [s.emotion for s in predicted if s.start <= middle < s.end and s.emotion != neutral]
        sums["overlap"] += length * max(len(said) - 1, 0)
        if true == neutral:
            sums["false_alarm"] += length * bool(said)
        elif not said:
            sums["missed"] += length
        elif true not in said:
            sums["confusion"] += length
    return Errors(**sums, duration=duration)
