"""From what a system says of each frame to segments, by one decoder for all systems, and what is wrong in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flea_fairseq.data.spans import Span
from flea_fairseq.evaluation.diarisation import diarisation_errors
from flea_fairseq.evaluation.score_frames import NEUTRAL, log_rms, true_segments
from flea_fairseq.inference.recognizer import FRAME_SECONDS, SILENCE_DB
from flea_fairseq.inference.segments import Segment, find_segments
from flea_fairseq.inference.windows import sounding

PRICES = (1.5, 3.0, 6.0, 12.0, 25.0, 50.0, 100.0, 200.0)  # nats for a change: the best on validation speakers
NEAR = 0.25  # seconds from the joint, where a change is right


@dataclass(frozen=True)
class Decoding:
    """At one price: the diarisation error rate, how often the emotion changes, whether one change is at the joint, and
    the milliseconds from the joint to the nearest one, None without a change."""

    price: float
    eder: float
    changes: int
    found: bool
    error: float | None


def decodings(
    posteriors: np.ndarray, samples: np.ndarray, truth: Sequence[str], joint: float, classes: Sequence[str]
) -> list[Decoding]:
    """Of posteriors (T, C) of a recording with one joint, in seconds: one for each price.

    Every frame counts alike, and the pauses are those that `flea predict` leaves out.
    """
    sound = sounding(20 / np.log(10) * log_rms(samples), SILENCE_DB)
    known, duration = true_segments(truth, FRAME_SECONDS), len(truth) * FRAME_SECONDS
    found = []
    for price in PRICES:
        weights = np.ones(len(truth))
        segments = find_segments(posteriors, weights, sound, tuple(classes), FRAME_SECONDS, price)
        said = [Span(*segment[:3]) for segment in segments]
        away = [abs(change - joint) for change in changes(segments)]
        found.append(
            Decoding(
                price, diarisation_errors(known, said, duration, NEUTRAL).rate, len(away),
                any(seconds <= NEAR for seconds in away), 1000 * min(away) if away else None,
            )
        )  # fmt: skip
    return found


def changes(segments: Sequence[Segment]) -> list[float]:
    """Where the emotion is another than in the segment before, in seconds; a pause alone is no change."""
    return [after.start for before, after in zip(segments, segments[1:]) if before.emotion != after.emotion]
