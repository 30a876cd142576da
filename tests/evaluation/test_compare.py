"""`flea compare`: its numbers by scikit-learn and scipy, and the pairs that it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_runs import CLASSES, SYSTEMS, at_random, make_run, one_fold, predictions_of
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from flea_fairseq.data.folds import fold_hash
from flea_fairseq.data.manifest import write_labels
from flea_fairseq.errors import CorpusError, FormatError
from flea_fairseq.evaluation.compare import compare
from flea_fairseq.evaluation.predictions import write_predictions


def write_file(path: Path, truth: np.ndarray, predicted: np.ndarray, order: np.ndarray | None = None) -> Path:
    """A predictions.tsv of utterances u0, u1, ..., in this order."""
    order = np.arange(len(truth)) if order is None else order
    ids = [f"u{i}" for i in order]
    write_predictions(path, predictions_of(ids, truth[order], predicted[order], CLASSES))
    return path


def some(name: str) -> tuple[np.ndarray, np.ndarray]:
    truth = one_fold(2)
    return truth, at_random(name, "S1", 1, truth)


def test_two_files_by_scikit_learn_and_scipy(tmp_path):
    truth, first = some("flea")
    second = some("tapt")[1]
    a, b = write_file(tmp_path / "a.tsv", truth, first), write_file(tmp_path / "b.tsv", truth, second)
    made = compare(a, b)
    for measure, score in (("ua", balanced_accuracy_score), ("wa", accuracy_score)):
        values = score(truth, first), score(truth, second)
        assert [made["a"][measure], made["b"][measure]] == pytest.approx(values, abs=1e-6)
        assert made["difference"][measure] == pytest.approx(values[0] - values[1], abs=1e-6)
        low, high = made["difference"][f"{measure}_ci"]
        assert low < values[0] - values[1] < high
    (test,) = made["difference"]["mcnemar"]
    counts = [int(np.sum((one == truth) & (other != truth))) for one, other in ((first, second), (second, first))]
    assert [test["only_this"], test["only_reference"]] == counts and sum(counts) < 25 and test["exact"]
    assert test["p"] == pytest.approx(binomtest(counts[0], sum(counts)).pvalue) == made["difference"]["p"]
    assert made["difference"]["verdict"] == "within noise" and "p_holm" not in made["difference"]
    assert "is within noise: the interval of UA and of WA holds 0" in made["sentence"]
    assert made["sentence"] in made["table"] and f"a: {a}" in made["table"] and "exact binomial" in made["table"]


def test_the_order_of_utterances_does_not_matter(tmp_path):
    truth, first = some("flea")
    a = write_file(tmp_path / "a.tsv", truth, first)
    b = write_file(tmp_path / "b.tsv", truth, some("tapt")[1])
    shuffled = np.random.default_rng(0).permutation(len(truth))
    c = write_file(tmp_path / "c.tsv", truth, some("tapt")[1], shuffled)
    assert compare(a, b)["difference"] == compare(a, c)["difference"]


def test_the_two_sides_are_mirrored(tmp_path):
    make_run(tmp_path)
    one = compare(f"{tmp_path}:flea", f"{tmp_path}:tapt")
    other = compare(f"{tmp_path}:tapt", f"{tmp_path}:flea")
    assert one["a"]["ua"] == other["b"]["ua"] and one["a"]["ua_ci"] == other["b"]["ua_ci"]
    assert one["difference"]["ua"] == -other["difference"]["ua"]
    assert one["difference"]["ua_ci"] == pytest.approx([-edge for edge in other["difference"]["ua_ci"][::-1]])
    assert one["difference"]["p"] == other["difference"]["p"]


def test_a_system_that_is_better_on_every_utterance_is_said_to_be(tmp_path):
    def answers(system, fold, seed, truth):
        return truth if system == "flea" else np.where(np.arange(len(truth)) % 3, truth, (truth + 1) % 4)

    make_run(tmp_path, answers=answers)
    made = compare(f"{tmp_path}:flea", f"{tmp_path}:tapt")
    assert made["difference"]["verdict"] == "better" and "a is better than b by more than noise: +" in made["sentence"]
    made = compare(f"{tmp_path}:tapt", f"{tmp_path}:flea")
    assert made["difference"]["verdict"] == "worse" and "a is worse than b by more than noise: -" in made["sentence"]
    assert len(made["difference"]["mcnemar"]) == 2


def test_a_run_is_compared_over_folds_and_seeds_and_one_without_seeds_with_each(tmp_path):
    results = make_run(tmp_path)
    made = compare(f"{tmp_path}:flea", f"{tmp_path}:baseline")
    means = {"flea": [], "baseline": []}
    for (system, _, _), (truth, predicted, _) in results.items():
        if system in means:
            means[system].append(balanced_accuracy_score(truth, predicted))
    assert [made["a"]["ua"], made["b"]["ua"]] == pytest.approx([np.mean(v) for v in means.values()], abs=1e-6)
    assert len(means["flea"]) == 4 and len(means["baseline"]) == 2
    for seed, test in zip((1, 2), made["difference"]["mcnemar"]):
        only = 0
        for fold in ("S1", "S2"):
            truth, flea, _ = results["flea", fold, seed]
            only += np.sum((flea == truth) & (results["baseline", fold, "any"][1] != truth))
        assert test["seed"] == seed and test["only_this"] == only
    assert made["difference"]["p"] == max(test["p"] for test in made["difference"]["mcnemar"])


def test_a_file_is_compared_with_a_run_by_the_parts_of_the_run(tmp_path):
    results = make_run(tmp_path, folds=("S1",), seeds=(1,), score="mean_of_speakers")
    file = tmp_path / "results/S1/seed1/tapt/predictions.tsv"
    made = compare(file, f"{tmp_path}:flea")
    for side, system in (("a", "tapt"), ("b", "flea")):
        truth, predicted, speakers = results[system, "S1", 1]
        parts = [balanced_accuracy_score(truth[speakers == s], predicted[speakers == s]) for s in sorted(set(speakers))]
        assert made[side]["ua"] == pytest.approx(np.mean(parts), abs=1e-6)
    assert compare(f"{tmp_path}:flea", file)["difference"]["ua"] == -made["difference"]["ua"]


def test_a_run_without_a_system_names_those_it_has(tmp_path):
    make_run(tmp_path)
    known = f"expected one of {tmp_path}:baseline, {tmp_path}:tapt, {tmp_path}:flea"
    for source in (f"{tmp_path}", f"{tmp_path}:wavlm"):
        with pytest.raises(CorpusError, match="names no system of the run; " + known):
            compare(source, f"{tmp_path}:tapt")
    with pytest.raises(FormatError, match="nothing.tsv"):
        compare(tmp_path / "nothing.tsv", f"{tmp_path}:tapt")


def refused(one: Path, other: Path, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        compare(f"{one}:flea", f"{other}:flea")


def test_results_of_other_utterances_or_another_truth_are_refused(tmp_path):
    truth, predicted = some("flea")
    a = write_file(tmp_path / "a.tsv", truth, predicted)
    b = write_file(tmp_path / "b.tsv", truth, predicted, np.arange(45))
    with pytest.raises(CorpusError, match="the second lacks u45, u46, u47 and 2 more; compare"):
        compare(a, b)
    with pytest.raises(CorpusError, match="the second has besides u45, u46, u47 and 2 more"):
        compare(b, a)
    changed = np.where(np.arange(50) == 7, (truth + 1) % 4, truth)
    with pytest.raises(CorpusError, match="the second has another truth for u7;"):
        compare(a, write_file(tmp_path / "c.tsv", changed, predicted))
    make_run(tmp_path / "two")
    with pytest.raises(CorpusError, match="folds file and S1, S2"):
        compare(a, f"{tmp_path / 'two'}:flea")


def test_results_of_another_protocol_split_or_number_of_seeds_are_refused(tmp_path):
    first, second = tmp_path / "one", tmp_path / "two"
    make_run(first)
    make_run(second, protocol="oracle")
    refused(first, second, "protocols inner and oracle; compare systems tested on the same split")
    make_run(second, folds=("S1", "S3"))
    refused(first, second, "folds S1, S2 and S1, S3")
    make_run(second, seeds=(1, 2, 3))
    refused(first, second, "seeds 1, 2 and 1, 2, 3")
    make_run(second)
    path = second / "folds/S2/fold.json"
    write_labels(path.with_name("train.emo"), ["sad"])
    refused(first, second, "S2/fold.json: the fold's files are not those that were split")
    path.write_text(json.dumps({**json.loads(path.read_text()), "hash": fold_hash(path.parent)}))
    refused(first, second, "fold S2 was split in two ways")
    make_run(second, classes=("angry", "happy", "neutral", "fear"))
    refused(first, second, "classes angry, happy, neutral, sad and angry, happy, neutral, fear")


def test_two_runs_of_the_same_split_are_compared(tmp_path):
    for name in ("one", "two"):
        make_run(tmp_path / name, SYSTEMS[1:])
    made = compare(f"{tmp_path / 'one'}:flea", f"{tmp_path / 'two'}:flea")
    assert made["difference"]["ua_ci"] == [0, 0] and made["difference"]["p"] == 1
