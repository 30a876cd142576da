"""From what a system says of each frame to segments, by one decoder for all systems, and what is wrong in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from recordings import Recording

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


def decodings(recording: Recording, posteriors: np.ndarray, classes: Sequence[str]) -> list[Decoding]:
    """Of posteriors (T, C): one for each price.

    Every frame counts alike, and the pauses are those that `flea predict` leaves out.
    """
    sound = sounding(20 / np.log(10) * log_rms(recording.samples), SILENCE_DB)
    known, weights = true_segments(recording.truth, FRAME_SECONDS), np.ones(len(recording.truth))
    found = []
    for price in PRICES:
        segments = find_segments(posteriors, weights, sound, tuple(classes), FRAME_SECONDS, price)
        said = [Span(*segment[:3]) for segment in segments]
        errors = diarisation_errors(known, said, len(recording.truth) * FRAME_SECONDS, NEUTRAL)
        away = [abs(change - recording.joint) for change in changes(segments)]
        nearest = min(away, default=None)
        is_near = nearest is not None and nearest <= NEAR
        found.append(Decoding(price, errors.rate, len(away), is_near, None if nearest is None else 1000 * nearest))
    return found


def changes(segments: Sequence[Segment]) -> list[float]:
    """Where the emotion is another than in the segment before, in seconds; a pause alone is no change."""
    return [after.start for before, after in zip(segments, segments[1:]) if before.emotion != after.emotion]
