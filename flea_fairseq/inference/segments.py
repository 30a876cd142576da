"""From a probability a frame to segments of one emotion: the likeliest course, in which a change has a price."""

from typing import NamedTuple

import numpy as np

from flea_fairseq.inference.windows import stretches

CHANGE = 25.0  # nats: half a second of frames that are e times likelier of another emotion


class Segment(NamedTuple):
    """A stretch of one emotion: start and end in seconds, and the mean probability of the emotion there."""

    start: float
    end: float
    emotion: str
    score: float


def find_segments(
    posteriors: np.ndarray,
    weights: np.ndarray,
    sound: np.ndarray,
    classes: tuple[str, ...],
    frame_seconds: float,
    change: float = CHANGE,
) -> list[Segment]:
    """Segments of a recording: posteriors (T, C), weights (T,) of frames, sound (T,) which frames are not silent.

    Each stretch of sound is decoded by itself; neighbours of one emotion are one segment only where no pause parts
    them. A segment ends where the next frame begins. With the attention, as a multiple of uniform attention, for
    weights, a stretch without a change gets the emotion that the classifier gives it as a whole: the weighted mean of
    the frames' logits is the logits of the pooled vector.
    """
    segments = []
    for start, stop in stretches(sound):
        evidence = np.log(np.maximum(posteriors[start:stop], 1e-12)) * weights[start:stop, None]
        course = likeliest_course(evidence, change)
        edges = [0, *(np.flatnonzero(np.diff(course)) + 1).tolist(), len(course)]
        for first, last in zip(edges, edges[1:]):
            which = int(course[first])
            score = float(posteriors[start + first : start + last, which].mean())
            times = ((start + first) * frame_seconds, (start + last) * frame_seconds)
            segments.append(Segment(round(times[0], 3), round(times[1], 3), classes[which], score))
    return segments


def likeliest_course(log_likelihood: np.ndarray, change: float) -> np.ndarray:
    """The classes c_1 .. c_T that maximise sum_t l_t(c_t) - change * (number of changes): (T, C) -> (T,).

    Viterbi's algorithm; `change` in nats.
    """
    frames, classes = log_likelihood.shape
    came_from = np.zeros((frames, classes), dtype=np.int64)
    best = log_likelihood[0].copy()
    for t in range(1, frames):
        top = int(best.argmax())
        stay = best >= best[top] - change
        came_from[t] = np.where(stay, np.arange(classes), top)
        best = np.where(stay, best, best[top] - change) + log_likelihood[t]
    course = np.empty(frames, dtype=np.int64)
    course[-1] = int(best.argmax())
    for t in range(frames - 1, 0, -1):
        course[t - 1] = came_from[t, course[t]]
    return course
