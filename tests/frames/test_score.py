"""The measures of examples/frames on recordings whose answers are known by hand."""

import json

import numpy as np
import pytest
import score
import show
from listeners import Heard, decoded, fitted_regression
from scipy.stats import rankdata

from flea_fairseq.inference.segments import Segment

CLASSES = ("angry", "neutral", "sad")
FRAMES, JOINT = 100, 1.005  # seconds; frame 50 begins at 1.0


def recording(first: str = "neutral", second: str = "angry") -> score.Recording:
    kind = "neutral" if "neutral" in (first, second) else "two"
    samples = np.random.default_rng(0).standard_normal(320 * (FRAMES - 1) + 400).astype(np.float32)
    return score.Recording("a", "ben", kind, samples, [first] * 50 + [second] * 50, JOINT)


def one_hot(truth: list[str]) -> np.ndarray:
    return np.array([[0.98 if name == emotion else 0.01 for name in CLASSES] for emotion in truth])


def test_frames_near_the_joint_are_left_out():
    """Centres lie at 0.0125 + 0.02 i seconds: frames 45 to 54 are at most 0.1 s away."""
    assert np.flatnonzero(~recording().kept).tolist() == list(range(45, 55))


def test_the_mean_over_half_a_second_by_hand():
    values = np.random.default_rng(0).standard_normal(60)
    expected = [values[max(0, i - 12) : i + 13].mean() for i in range(60)]
    assert np.allclose(score.averaged(values), expected)
    assert np.allclose(score.averaged(values[:7]), values[:7].mean())  # shorter than the window


def test_who_knows_everything_has_everything_right():
    made = recording()
    heard = Heard(
        one_hot(made.truth), np.arange(FRAMES) + 1.0, [Segment(0, 1.0, "neutral", 1), Segment(1.0, 2.0, "angry", 1)]
    )
    row = score.score("x", "f", 1, made, heard, CLASSES)
    assert (row.auc, row.attention_auc, row.frames, row.left_out) == (1.0, 1.0, 90, 10)
    assert row.confusion == [[45, 0, 0], [0, 45, 0], [0, 0, 0]]
    assert row.edge == pytest.approx(5) and row.eder == 0


def test_who_says_one_thing_is_at_chance():
    made = recording()
    row = score.score("x", "f", 1, made, Heard(np.full((FRAMES, 3), 1 / 3), None, [Segment(0, 2, "sad", 1)]), CLASSES)
    assert row.auc == 0.5 and row.attention_auc is None and row.edge is None and row.eder == 1.0


def test_two_emotions_have_no_auc_but_count_otherwise():
    made = recording("sad", "angry")
    row = score.score("x", "f", 1, made, decoded(one_hot(made.truth), CLASSES), CLASSES)
    assert row.auc is None and row.confusion == [[45, 0, 0], [0, 0, 0], [0, 0, 45]]
    assert row.edge == pytest.approx(5) and row.eder == 0


def test_the_auc_is_the_share_of_pairs_in_order():
    made, values = recording(), np.random.default_rng(1).standard_normal(FRAMES)
    kept = made.kept
    ranks, emotional = rankdata(values[kept]), np.array(made.truth)[kept] == "angry"
    wins = ranks[emotional].sum() - 45 * 46 / 2
    assert score.auc(made, values) == pytest.approx(wins / (45 * 45))


def test_louder_frames_have_more_energy():
    made = recording()
    made.samples[50 * 320 :] *= 3
    assert score.energy(made, "f").auc == 1.0


def test_the_joint_alone_tells_what_it_can_and_no_more():
    """Where the emotional side is always the shorter one, its classifier finds out; else it guesses."""

    def made(longer: bool, i: int) -> score.Recording:
        rng, first = np.random.default_rng(i), i % 2 == 0
        edge = 70 if first == longer else 30
        truth = ["neutral" if first else "sad"] * edge + ["sad" if first else "neutral"] * (100 - edge)
        samples = rng.standard_normal(320 * 99 + 400).astype(np.float32)
        joint = edge * 0.02
        return score.Recording(str(i), "ben", "neutral", samples, truth, joint)

    known, asked = [made(True, i) for i in range(60)], [made(True, i) for i in range(60, 100)]
    assert np.mean([row.auc for row in score.joint_alone(known, asked, "f")]) == 1.0
    same = [[score.Recording(r.id, "", "neutral", r.samples, r.truth, 1.0) for r in part] for part in (known, asked)]
    assert 0.2 < np.mean([row.auc for row in score.joint_alone(*same, "f")]) < 0.8


def test_the_regression_weighs_classes_alike():
    x = np.concatenate([np.full((90, 1), -1.0), np.full((10, 1), 1.0)]) + np.random.default_rng(0).normal(
        0, 3, (100, 1)
    )
    fitted = fitted_regression(x, np.array(["a"] * 90 + ["b"] * 10))
    assert 0.3 < np.mean(fitted.predict(x) == "a") < 0.7  # without weights nearly all would be a


def test_the_table_has_the_means_over_seeds_then_recordings(tmp_path):
    rows = []
    for name, seed, values in (("x", 1, (1.0, 0.5)), ("x", 2, (0.8, 0.7)), ("energy", 0, (0.5, 0.5))):
        frames = {"confusion": [[8, 2], [5, 5]], "eder": 0.25} if name == "x" else {"confusion": None, "eder": None}
        facts = {"system": name, "fold": "f", "seed": seed, "attention_auc": None, "edge": 40.0 if seed == 2 else None}
        rows += [{**facts, **frames, "recording": str(i), "auc": value} for i, value in enumerate(values)]
    lines = show.table(rows, {"x": "70.0 | 71.0"}).splitlines()
    assert lines[2].startswith(
        "| x | 0.75 (0.60-0.90) |  | 65.0 (65.0-65.0) | 25.0 (25.0-25.0) | 40 (50) | 70.0 | 71.0 |"
    )
    assert lines[3].startswith("| energy | 0.50 (0.50-0.50) |  |  |  |  |")
    mean = {"fold": "mean", "ua": 0.7, "ua_ci": [0.6, 0.8], "wa": 0.5, "wa_ci": [0.4, 0.6]}
    found = [{"system": "x", "fold": "a", "ua": 0.1}, {"system": "x", **mean}]
    (tmp_path / "results.json").write_text(json.dumps(found))
    assert show.utterance_scores(tmp_path / "results.json") == {"x": "70.0 (60.0-80.0) | 50.0 (40.0-60.0)"}
