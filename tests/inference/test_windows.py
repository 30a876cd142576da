"""Pauses, windows and segments, on levels and probabilities made by hand."""

import itertools

import numpy as np
import pytest

from flea_fairseq.inference.segments import Segment, find_segments, likeliest_course
from flea_fairseq.inference.windows import Window, plan_windows, sounding, triangle


def levels(*stretches: tuple[int, float]) -> np.ndarray:
    return np.concatenate([np.full(frames, level) for frames, level in stretches])


def runs(sound: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], sound, [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))


def test_pauses_are_silences_of_three_tenths_of_a_second():
    sound = sounding(levels((20, -90), (50, -20), (14, -90), (50, -25), (15, -90), (30, -20), (9, -61)), 40)
    assert runs(sound) == [(20, 134), (149, 179)]


def test_a_click_is_no_sound_and_all_silence_is_silent():
    assert runs(sounding(levels((50, -90), (9, -10), (50, -90), (60, -20)), 40)) == [(109, 169)]
    assert not sounding(levels((300, -90)), 40).any()


def test_a_short_recording_is_one_window_pauses_and_all():
    sound = np.zeros(100, dtype=bool)
    assert plan_windows(sound, 100) == [Window(0, 100)]
    assert plan_windows(np.zeros(101, dtype=bool), 100) == []


def test_long_recordings_are_heard_between_pauses():
    sound = np.zeros(1000, dtype=bool)
    sound[5:60] = sound[300:400] = sound[950:] = True
    assert plan_windows(sound, 200) == [Window(0, 70), Window(290, 410), Window(940, 1000)]


def test_long_speech_is_covered_by_windows_that_overlap_by_half():
    windows = plan_windows(np.ones(1234, dtype=bool), 200)
    assert windows[0].start == 0 and windows[-1].stop == 1234
    assert all(stop - start == 200 for start, stop in windows)
    assert all(later.start <= earlier.start + 100 for earlier, later in itertools.pairwise(windows))
    counts = np.zeros(1234)
    for start, stop in windows:
        counts[start:stop] += triangle(200)
    assert counts.min() >= 1


def test_the_middle_of_a_window_counts_most():
    assert triangle(5).tolist() == [1, 2, 3, 2, 1] and triangle(4).tolist() == [1, 2, 2, 1]


@pytest.mark.parametrize("change", [0.0, 0.7, 3.0, 50.0])
def test_the_course_is_the_best_of_all(change):
    rng = np.random.default_rng(4)
    for _ in range(20):
        scores = 2 * rng.standard_normal((6, 3))

        def value(course, scores=scores):
            return scores[np.arange(6), list(course)].sum() - change * np.count_nonzero(np.diff(course))

        best = max(itertools.product(range(3), repeat=6), key=value)
        assert value(likeliest_course(scores, change)) == pytest.approx(value(best))


def test_segments_end_at_changes_and_at_pauses():
    posteriors = np.full((400, 2), 0.05)
    posteriors[:100, 0] = posteriors[100:, 1] = 0.95
    posteriors[50] = [0.05, 0.95]  # one frame is no segment
    sound = np.ones(400, dtype=bool)
    sound[200:250] = False
    found = find_segments(posteriors, np.ones(400), sound, ("sad", "angry"), 0.02)
    assert [segment[:3] for segment in found] == [(0.0, 2.0, "sad"), (2.0, 4.0, "angry"), (5.0, 8.0, "angry")]
    assert isinstance(found[0], Segment) and found[0].score == pytest.approx((99 * 0.95 + 0.05) / 100)


def test_a_stretch_without_a_change_has_the_emotion_of_the_pooled_vector():
    rng = np.random.default_rng(7)
    for _ in range(20):
        logits, attention = rng.standard_normal((40, 3)), rng.dirichlet(np.ones(40))
        posteriors = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        (one,) = find_segments(posteriors, 40 * attention, np.ones(40, dtype=bool), ("a", "b", "c"), 0.02, change=1e9)
        assert one.emotion == "abc"[int((attention @ logits).argmax())]
