"""The measures of examples/frames on recordings whose answers are known by hand."""

import json

import benchmark
import decoding
import measures
import numpy as np
import pytest
import reading
import recordings
import score
import show
from click.testing import CliRunner
from listeners import Heard, fitted_regression
from scipy.stats import rankdata

from flea_fairseq.errors import ExperimentError, FormatError
from flea_fairseq.inference.segments import Segment

CLASSES = ("angry", "neutral", "sad")
FRAMES, JOINT = 100, 1.005  # seconds; frame 50 begins at 1.0


def recording(first: str = "neutral", second: str = "angry") -> recordings.Recording:
    kind = "neutral" if "neutral" in (first, second) else "two"
    samples = np.random.default_rng(0).standard_normal(320 * (FRAMES - 1) + 400).astype(np.float32)
    return recordings.Recording("a", (first, second), "ben", kind, samples, [first] * 50 + [second] * 50, JOINT)


def one_hot(truth: list[str]) -> np.ndarray:
    return np.array([[0.98 if name == emotion else 0.01 for name in CLASSES] for emotion in truth])


def test_windows_and_probes_are_of_the_pooling_and_clusters_of_one_label_set(tmp_path):
    place = {"layer": 2, "pooling": "mean"}
    rows = [{"key": "tapt"}, {"key": "of_one", **place, "clusters": 50}, {"key": "of_three", **place}]
    found = score.listeners(tmp_path, "f", 1, rows, [], CLASSES)
    windows = [f"sliding {seconds:g} s" for seconds in score.SLIDING]
    for name in ("of_one", "of_three"):
        expected = {name, f"probe of {name}", *(f"{name}, {what}" for what in (*windows, "1 s in sight when heard"))}
        assert {one for one in found if name in one} == expected
    assert [one for one in found if one.startswith("clusters")] == ["clusters, layer 2, K 50"]


def test_frames_near_the_joint_are_left_out():
    """Centres lie at 0.0125 + 0.02 i seconds: frames 45 to 54 are at most 0.1 s away."""
    assert np.flatnonzero(~recording().kept).tolist() == list(range(45, 55))


def test_the_mean_over_half_a_second_by_hand():
    values = np.random.default_rng(0).standard_normal(60)
    expected = [values[max(0, i - 12) : i + 13].mean() for i in range(60)]
    assert np.allclose(reading.averaged(values, 0.5), expected)
    assert np.allclose(reading.averaged(values[:7], 0.5), values[:7].mean())  # shorter than the width
    assert np.allclose(reading.averaged(values, 0.02), values)


def test_who_knows_everything_has_everything_right():
    made = recording()
    row = score.score("x", "f", 1, made, Heard(one_hot(made.truth), np.arange(FRAMES) + 1.0), CLASSES)
    assert (row.frames, row.left_out) == (90, 10) and [one.width for one in row.readings] == list(reading.WIDTHS)
    for one in row.readings:
        assert (one.auc, one.attention_auc) == (1.0, 1.0) and one.confusion == [[45, 0, 0], [0, 45, 0], [0, 0, 0]]
    for one in row.decodings:  # 50 frames, each log(0.98 / 0.01) = 4.6 nats in favour, are worth any price
        assert (one.changes, one.found, one.eder) == (1, True, 0) and one.error == pytest.approx(5)


def test_a_wide_average_hears_across_a_short_change():
    """Ten angry frames in neutral ones, all as certain: half a second holds 10 of 25, a tenth of one 5 of 5."""
    made = recording()
    row = score.score("x", "f", 1, made, Heard(one_hot(["neutral"] * 70 + ["angry"] * 10 + ["neutral"] * 20)), CLASSES)
    narrow, wide = (next(one for one in row.readings if one.width == width) for width in (0.1, 0.5))
    assert narrow.confusion == [[10, 35, 0], [0, 45, 0], [0, 0, 0]]
    assert wide.confusion == [[0, 45, 0], [0, 45, 0], [0, 0, 0]]


def test_who_says_one_thing_is_at_chance():
    made, said = recording(), np.tile([0.3, 0.3, 0.4], (FRAMES, 1))
    row = score.score("x", "f", 1, made, Heard(said), CLASSES)
    assert all(one.auc == pytest.approx(0.5) and one.attention_auc is None for one in row.readings)
    assert {(one.changes, one.found, one.error, one.eder) for one in row.decodings} == {(0, False, None, 1.0)}


def test_two_emotions_have_no_auc_but_count_otherwise():
    made = recording("sad", "angry")
    row = score.score("x", "f", 1, made, Heard(one_hot(made.truth)), CLASSES)
    assert all(one.auc is None and one.confusion == [[45, 0, 0], [0, 0, 0], [0, 0, 45]] for one in row.readings)
    assert row.decodings[0].error == pytest.approx(5) and row.decodings[0].eder == 0


def test_a_short_change_costs_its_price():
    """Ten sad frames in neutral ones, each worth log(3): two changes are made up to a price of 10 log(3) / 2 = 5.5."""
    made, said = recording("neutral", "neutral"), np.full((FRAMES, 3), [0.0, 0.75, 0.25])
    said[20:30] = [0.0, 0.25, 0.75]
    found = decoding.decodings(made, said, CLASSES)
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
    assert reading.auc(made, values) == pytest.approx(wins / (45 * 45))


def test_louder_frames_have_more_energy():
    made = recording()
    made.samples[50 * 320 :] *= 3
    assert [one.auc for one in score.energy(made, "f").readings[:2]] == [1, 1]
    assert {one.attention_auc for one in score.uniform(made, "f").readings} == {0.5}


def test_the_joint_alone_tells_what_it_can_and_no_more():
    """Where the emotional side is always the shorter one, its classifier finds out; else it guesses."""

    def made(longer: bool, i: int) -> recordings.Recording:
        rng, first = np.random.default_rng(i), i % 2 == 0
        edge = 70 if first == longer else 30
        truth = ["neutral" if first else "sad"] * edge + ["sad" if first else "neutral"] * (100 - edge)
        samples = rng.standard_normal(320 * 99 + 400).astype(np.float32)
        joint = edge * 0.02
        return recordings.Recording(str(i), ("", ""), "ben", "neutral", samples, truth, joint)

    known, asked = [made(True, i) for i in range(60)], [made(True, i) for i in range(60, 100)]
    assert all(row.side and not row.readings for row in score.joint_alone(known, asked, "f"))
    same = [
        [recordings.Recording(r.id, r.parts, "", "neutral", r.samples, r.truth, 1.0) for r in part]
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
    """As score.py writes it: at two prices, of which the lower finds a change too many, and at two widths, of which the
    narrower hears nothing."""
    facts = {"system": system, "fold": "f", "seed": seed, "recording": str(recording), "speaker": f"s{recording % 2}"}
    parts = parts or (f"{recording}a", f"{recording}b")
    dear = {"price": 9.0, "eder": 0.25, "changes": 1, "found": True, "error": 40.0}
    cheap = {"price": 3.0, "eder": 0.75, "changes": 2, "found": True, "error": 10.0}
    read = {"auc": None, "attention_auc": None, "confusion": None}
    read |= {name: values.pop(name) for name in list(values) if name in read}
    deaf = {**read, "auc": read["auc"] and 0.0}
    readings = [{"width": 0.1, **deaf}, {"width": 1.0, **read}]
    return {
        **facts, "parts": parts, "frames": 20, "left_out": 5, "side": None, "readings": readings,
        "decodings": [cheap, dear], **values,
    }  # fmt: skip


def estimates(rows: list[dict], chosen: measures.Chosen) -> dict[str, float]:
    return {name: values[0] for name, values in measures.measured(measures.Draws(rows).sums(rows, chosen)).items()}


def test_measures_are_ratios_of_sums_over_recordings_and_seeds():
    confusion, ua = [[8, 2], [5, 5]], (40 / 60 + 0.5) / 2
    rows = [
        row("x", i, seed, auc=auc, confusion=confusion) for seed in (1, 2) for i, auc in enumerate((1.0, 0.5, None))
    ]
    for one in rows[0]["readings"]:
        one["confusion"] = [[0, 10], [0, 0]]
    decoded = {"eder": 0.75, "precision": 0.5, "recall": 1, "f1": 2 / 3}
    assert estimates(rows, measures.Chosen(1.0, 3.0)) == pytest.approx({"auc": 0.75, "ua": ua, **decoded})
    assert estimates(rows, measures.Chosen(0.1))["auc"] == 0
    assert measures.choices(rows) == {"x": (1.0, 9.0)} and measures.median_error(rows, 9.0) == 40
    assert measures.worth(rows) == pytest.approx({"x": (0.75 + ua) / 2})


def test_utterances_and_seeds_are_drawn_again():
    """All that differs is which of two utterances a recording begins with, or which seed: either may be drawn alone."""

    def interval(rows: list[dict]) -> tuple[float, float, float]:
        return measures.interval(measures.measured(measures.Draws(rows).sums(rows, measures.Chosen(1.0)))["auc"])

    assert interval([row("x", i, 1, (f"first{i % 2}", f"{i}b"), auc=float(i % 2)) for i in range(40)]) == (0.5, 0, 1)
    assert interval([row("x", i, seed, auc=float(seed == 1)) for i in range(40) for seed in (1, 2)]) == (0.5, 0, 1)
    value, low, high = interval([row("x", i, 1, auc=float(i % 2)) for i in range(40)])
    # a product of two counts, each of variance 1, varies by 3: the width is 2 * 1.96 * sqrt(3 * 0.25 / 40)
    assert value == 0.5 and high - low == pytest.approx(0.537, rel=0.1)


def test_the_tables_say_what_is_measured_and_against_whom():
    rows = [row("x", i, seed, auc=0.7, confusion=[[8, 2], [5, 5]]) for seed in (1, 2) for i in range(4)]
    rows += [row("w, sliding 1 s", i, seed, auc=0.9, confusion=[[8, 2], [8, 2]]) for seed in (1, 2) for i in range(4)]
    rows += [row("energy", i, 0, auc=0.5, decodings=[]) for i in range(4)]
    rows += [row("uniform", i, 0, attention_auc=0.5, decodings=[]) for i in range(4)]
    rows += [row("joint alone", i, 0, side=i > 0, readings=[], decodings=[]) for i in range(4)]
    assert benchmark.best_window(rows) == "w, sliding 1 s"
    lines = show.tables(rows, rows, "w, sliding 1 s", {"x": "70.0 | 71.0"}).splitlines()
    assert lines[2] == (
        "| x | 0.70 (0.70 to 0.70) |  | 65.0 (65.0 to 65.0) | 25.0 (25.0 to 25.0) | 100.0 (100.0 to 100.0) (100, 100) "
        "| 40 | 1 s, 9 nats | 70.0 | 71.0 |"
    )
    assert lines[4] == "| energy | 0.50 (0.50 to 0.50) |  |  |  |  |  | 1 s |  |  |" and len(lines) == 22
    assert lines[7].startswith(
        "4 joins of s0, s1: 80 frames; 20 within 0.1 s of a joint left out. The joint alone tells"
    )
    assert "emotional in 75.0 (" in lines[7]
    assert lines[13] == "| x | -0.20 (-0.20 to -0.20) | +15.0 (+15.0 to +15.0) | 0.70, 0.70 | 65, 65 |"
    assert lines[18:] == [
        "| system | 0.1 s | 1 s |", "| --- | --- | --- |", "| x | 0.00, 65.0 | 0.70, 65.0 |",
        "| w, sliding 1 s | 0.00, 50.0 | 0.90, 50.0 |",
    ]  # fmt: skip
    with pytest.raises(ExperimentError, match="--against w: not a system; there are x, w, sliding 1 s, energy"):
        show.tables(rows, rows, "w", {})
    with pytest.raises(ExperimentError, match="uniform has no scores of validation speakers"):
        show.tables(rows, [one for one in rows if one["system"] != "uniform"], None, {})


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
