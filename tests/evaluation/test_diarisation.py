"""EDER against errors counted by hand, and pyannote's detection of the same."""

import pytest
from pyannote.core import Annotation, Segment
from pyannote.metrics.identification import IdentificationErrorRate

from flea_fairseq.data.spans import Span
from flea_fairseq.evaluation.diarisation import Errors, diarisation_errors


def errors(truth, predicted, duration=10.0) -> Errors:
    return diarisation_errors(truth, predicted, duration, "neutral")


def test_each_error_by_hand():
    truth = [Span(2, 6, "sad")]
    assert errors(truth, truth) == Errors(0, 0, 0, 0, 10) and errors(truth, truth).rate == 0
    # 1 s too early, 1 s of another emotion in the middle, the last second missed
    found = errors(truth, [Span(1, 3, "sad"), Span(3, 4, "angry"), Span(4, 5, "sad")])
    assert found == Errors(false_alarm=1, missed=1, confusion=1, overlap=0, duration=10) and found.rate == 0.3


def test_overlapping_predictions_and_neutral_ones():
    truth = [Span(2, 6, "sad")]
    assert errors(truth, [Span(2, 6, "sad"), Span(4, 6, "angry")]) == Errors(0, 0, 0, 2, 10)
    assert errors(truth, [Span(0, 10, "neutral")]) == Errors(0, 4, 0, 0, 10)
    assert errors([], [Span(9, 12, "sad")]) == Errors(1, 0, 0, 0, 10)


def test_sums_are_those_of_pyannote():
    def annotation(spans):
        made = Annotation()
        for span in spans:
            made[Segment(span.start, span.end)] = span.emotion
        return made

    truth = [Span(0.5, 2.5, "sad"), Span(4, 7.25, "angry")]
    said = [Span(0, 1, "angry"), Span(1, 3, "sad"), Span(5, 9, "angry")]
    peer = IdentificationErrorRate()(annotation(truth), annotation(said), detailed=True)
    ours = errors(truth, said)
    assert (ours.false_alarm, ours.missed, ours.confusion) == pytest.approx(
        (peer["false alarm"], peer["missed detection"], peer["confusion"])
    )
