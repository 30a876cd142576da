"""The measures of examples/frames on recordings whose answers are known by hand."""

import json

import benchmark
import decoding
import measures
import numpy as np
import pytest
import score
import show
from click.testing import CliRunner
from listeners import Heard, fitted_regression
from scipy.stats import rankdata

from flea_fairseq.errors import ExperimentError, FormatError
from flea_fairseq.inference.segments import Segment

CLASSES = ("angry", "neutral", "sad")
FRAMES, JOINT = 100, 1.005  # seconds; frame 50 begins at 1.0


def recording(first: str = "neutral", second: str = "angry") -> score.Recording:
    kind = "neutral" if "neutral" in (first, second) else "two"
    samples = np.random.default_rng(0).standard_normal(320 * (FRAMES - 1) + 400).astype(np.float32)
    return score.Recording("a", (first, second), "ben", kind, samples, [first] * 50 + [second] * 50, JOINT)


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
    row = score.score("x", "f", 1, made, Heard(one_hot(made.truth), np.arange(FRAMES) + 1.0), CLASSES)
    assert (row.auc, row.attention_auc, row.frames, row.left_out) == (1.0, 1.0, 90, 10)
    assert row.confusion == [[45, 0, 0], [0, 45, 0], [0, 0, 0]]
    for one in row.decodings:  # 50 frames, each log(0.98 / 0.01) = 4.6 nats in favour, are worth any price
        assert (one.changes, one.found, one.eder) == (1, True, 0) and one.error == pytest.approx(5)


def test_who_says_one_thing_is_at_chance():
    made, said = recording(), np.tile([0.3, 0.3, 0.4], (FRAMES, 1))
    row = score.score("x", "f", 1, made, Heard(said), CLASSES)
    assert row.auc == pytest.approx(0.5) and row.attention_auc is None
    assert {(one.changes, one.found, one.error, one.eder) for one in row.decodings} == {(0, False, None, 1.0)}


def test_two_emotions_have_no_auc_but_count_otherwise():
    made = recording("sad", "angry")
    row = score.score("x", "f", 1, made, Heard(one_hot(made.truth)), CLASSES)
    assert row.auc is None and row.confusion == [[45, 0, 0], [0, 0, 0], [0, 0, 45]]
    assert row.decodings[0].error == pytest.approx(5) and row.decodings[0].eder == 0


def test_a_short_change_costs_its_price():
    """Ten sad frames in neutral ones, each worth log(3): two changes are made up to a price of 10 log(3) / 2 = 5.5."""
    made, said = recording("neutral", "neutral"), np.full((FRAMES, 3), [0.0, 0.75, 0.25])
    said[20:30] = [0.0, 0.25, 0.75]
    found = decoding.decodings(said, made.samples, made.truth, made.joint, CLASSES)
    assert {one.price: one.changes for one in found} == {p: 2 if p < 5.5 else 0 for p in decoding.PRICES}
    assert found[0].eder == pytest.approx(0.1) and found[0].error == pytest.approx(1000 * (JOINT - 0.6))
    assert not found[0].found and found[-1].error is None


def test_a_pause_alone_is_no_change():
    parts = [("sad", 0.0, 1.0), ("sad", 1.5, 2.0), ("angry", 2.5, 3.0), ("neutral", 3.0, 4.0)]
    assert decoding.changes([Segment(start, end, emotion, 1) for emotion, start, end in parts]) == [2.5, 3.0]


def test_the_auc_is_the_share_of_pairs_in_order():
    made, values = recording(), np.random.default_rng(1).standard_normal(FRAMES)
    kept = made.kept
    ranks, emotional = rankdata(values[kept]), np.array(made.truth)[kept] == "angry"
    wins = ranks[emotional].sum() - 45 * 46 / 2
    assert score.auc(made, values) == pytest.approx(wins / (45 * 45))


def test_louder_frames_have_more_energy():
    made = recording()
    made.samples[50 * 320 :] *= 3
    assert score.energy(made, "f").auc == 1.0 and score.uniform(made, "f").attention_auc == 0.5


def test_the_joint_alone_tells_what_it_can_and_no_more():
    """Where the emotional side is always the shorter one, its classifier finds out; else it guesses."""

    def made(longer: bool, i: int) -> score.Recording:
        rng, first = np.random.default_rng(i), i % 2 == 0
        edge = 70 if first == longer else 30
        truth = ["neutral" if first else "sad"] * edge + ["sad" if first else "neutral"] * (100 - edge)
        samples = rng.standard_normal(320 * 99 + 400).astype(np.float32)
        joint = edge * 0.02
        return score.Recording(str(i), ("", ""), "ben", "neutral", samples, truth, joint)

    known, asked = [made(True, i) for i in range(60)], [made(True, i) for i in range(60, 100)]
    assert all(row.side and row.auc is None for row in score.joint_alone(known, asked, "f"))
    same = [
        [score.Recording(r.id, r.parts, "", "neutral", r.samples, r.truth, 1.0) for r in part]
        for part in (known, asked)
    ]
    assert 0.2 < np.mean([row.side for row in score.joint_alone(*same, "f")]) < 0.8


def test_the_regression_weighs_classes_alike():
    x = np.concatenate([np.full((90, 1), -1.0), np.full((10, 1), 1.0)]) + np.random.default_rng(0).normal(
        0, 3, (100, 1)
    )
    fitted = fitted_regression(x, np.array(["a"] * 90 + ["b"] * 10))
    assert 0.3 < np.mean(fitted.predict(x) == "a") < 0.7  # without weights nearly all would be a


def row(system: str, recording: int, seed: int, parts: tuple[str, str] | None = None, **values: object) -> dict:
    """As score.py writes it; decoded at two prices, of which the lower finds a change too many."""
    facts = {"system": system, "fold": "f", "seed": seed, "recording": str(recording), "speaker": f"s{recording % 2}"}
    parts = parts or (f"{recording}a", f"{recording}b")
    dear = {"price": 9.0, "eder": 0.25, "changes": 1, "found": True, "error": 40.0}
    cheap = {"price": 3.0, "eder": 0.75, "changes": 2, "found": True, "error": 10.0}
    measured = {"auc": None, "attention_auc": None, "side": None, "confusion": None, "decodings": [cheap, dear]}
    return {**facts, "parts": parts, "frames": 20, "left_out": 5, **measured, **values}


def test_measures_are_ratios_of_sums_over_recordings_and_seeds():
    confusion = [[8, 2], [5, 5]]
    rows = [
        row("x", i, seed, auc=auc, confusion=confusion) for seed in (1, 2) for i, auc in enumerate((1.0, 0.5, None))
    ]
    rows[0]["confusion"] = [[0, 10], [0, 0]]
    known = measures.measured(measures.Draws(rows).sums(rows, 3.0))
    estimates = {name: values[0] for name, values in known.items()}
    assert estimates == pytest.approx(
        {"auc": 0.75, "eder": 0.75, "precision": 0.5, "recall": 1, "f1": 2 / 3, "ua": (40 / 60 + 0.5) / 2}
    )
    assert measures.chosen_prices(rows) == {"x": 9.0} and measures.median_error(rows, 9.0) == 40
    assert measures.worth(rows) == pytest.approx({"x": (0.75 + (40 / 60 + 0.5) / 2) / 2})


def test_utterances_and_seeds_are_drawn_again():
    """All that differs is which of two utterances a recording begins with, or which seed: either may be drawn alone."""
    shared = [row("x", i, 1, (f"first{i % 2}", f"{i}b"), auc=float(i % 2)) for i in range(40)]
    assert measures.interval(measures.measured(measures.Draws(shared).sums(shared, 9.0))["auc"]) == (0.5, 0, 1)
    own = [row("x", i, 1, auc=float(i % 2)) for i in range(40)]
    value, low, high = measures.interval(measures.measured(measures.Draws(own).sums(own, 9.0))["auc"])
    # a product of two counts, each of variance 1, varies by 3: the width is 2 * 1.96 * sqrt(3 * 0.25 / 40)
    assert value == 0.5 and high - low == pytest.approx(0.537, rel=0.1)
    seeds = [row("x", i, seed, auc=float(seed == 1)) for i in range(40) for seed in (1, 2)]
    assert measures.interval(measures.measured(measures.Draws(seeds).sums(seeds, 9.0))["auc"]) == (0.5, 0, 1)


def test_the_tables_say_what_is_measured_and_against_whom(tmp_path):
    rows = [row("x", i, seed, auc=0.7, confusion=[[8, 2], [5, 5]]) for seed in (1, 2) for i in range(4)]
    rows += [row("w, sliding 1 s", i, seed, auc=0.9, confusion=[[8, 2], [8, 2]]) for seed in (1, 2) for i in range(4)]
    rows += [row("energy", i, 0, auc=0.5, decodings=None) for i in range(4)]
    rows += [row("joint alone", i, 0, side=i > 0, decodings=None) for i in range(4)]
    assert benchmark.best_window(rows) == "w, sliding 1 s"
    lines = show.tables(rows, rows, "w, sliding 1 s", {"x": "70.0 | 71.0"}).splitlines()
    assert lines[2] == (
        "| x | 0.70 (0.70 to 0.70) |  | 65.0 (65.0 to 65.0) | 25.0 (25.0 to 25.0) | 100.0 (100.0 to 100.0) (100, 100) "
        "| 40 | 9 | 70.0 | 71.0 |"
    )
    assert lines[4].startswith("| energy | 0.50 (0.50 to 0.50) |  |  |  |  |") and len(lines) == 14
    assert lines[6].startswith(
        "4 joins of s0, s1: 80 frames; 20 within 0.1 s of a joint left out. The joint alone tells"
    )
    assert "emotional in 75.0 (" in lines[6]
    assert lines[-2] == "| x | -0.20 (-0.20 to -0.20) | +15.0 (+15.0 to +15.0) | 0.70, 0.70 | 65, 65 |"
    with pytest.raises(ExperimentError, match="--against w: not a system; there are x, w, sliding 1 s, energy"):
        show.tables(rows, rows, "w", {})


def test_scores_of_utterances_are_those_of_the_mean_fold(tmp_path):
    mean = {"fold": "mean", "ua": 0.7, "ua_ci": [0.6, 0.8], "wa": 0.5, "wa_ci": [0.4, 0.6]}
    found = [{"system": "x", "fold": "a", "ua": 0.1}, {"system": "x", **mean}]
    (tmp_path / "results.json").write_text(json.dumps(found))
    assert show.utterance_scores(tmp_path / "results.json") == {"x": "70.0 (60.0 to 80.0) | 50.0 (40.0 to 60.0)"}


def test_what_is_no_score_file_is_refused(tmp_path):
    (tmp_path / "scores.json").write_text("[]")
    with pytest.raises(FormatError, match="scores.json: list, expected an object with rows; write it again with score"):
        show.read_rows(tmp_path / "scores.json")
    (tmp_path / "run").mkdir()
    said = CliRunner().invoke(
        score.main, [*map(str, (tmp_path / "run", tmp_path)), "--split", "valid", "--output", "x"]
    )
    assert "run.json: cannot be read" in str(said.exception) and "give the folder of a `flea run`" in str(
        said.exception
    )
