"""flea explain on two tiny classifiers: order by hand, curves by the classifier itself."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from flea_fairseq.errors import CheckpointError, CorpusError
from flea_fairseq.evaluation.evaluate import evaluate
from flea_fairseq.evaluation.explain import explain, extremes
from flea_fairseq.evaluation.predictions import read_predictions, write_predictions
from flea_fairseq.models.checkpoints import load_classifier

LABELS = ["sad", "neutral", "happy", "angry", "angry", "sad"]


@pytest.fixture
def files(tmp_path, write_split, noises, save_classifier) -> dict[str, Path]:
    """What explain reads; the mean predictions are moved by hand, being sure of five utterances."""
    paths = {"manifest": write_split("test", LABELS, noises(3, LABELS)), "output": tmp_path / "out/attention.json"}
    paths |= {name: tmp_path / f"{name}.tsv" for name in ("mean", "attention")}
    paths["checkpoint"] = save_classifier(tmp_path / "attention.pt")
    made = evaluate(paths["checkpoint"], paths["manifest"], paths["attention"])
    moved = made.probabilities.copy()
    for row, label in {0: "sad", 1: "sad", 2: "happy", 3: "sad", 5: "sad"}.items():  # 0, 2 and 5 are so, 1 and 3 not
        moved[row] = np.eye(4)[made.classes.index(label)]
    write_predictions(paths["mean"], replace(made, probabilities=moved))
    return paths


def column(path: Path) -> dict[str, float]:
    """The probability of each utterance's truth, read without our reader."""
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    return {row[0]: float(row[header.index(row[1])]) for row in rows}


def test_the_greatest_changes_are_shown(files):
    facts = explain(**files, examples=2)
    mean, attention = column(files["mean"]), column(files["attention"])
    change = {id_: attention[id_] - mean[id_] for id_ in mean}
    risen = sorted(("test1", "test3"), key=change.get, reverse=True)
    fallen = sorted(("test0", "test2", "test5"), key=change.get)
    assert [example["id"] for example in facts["examples"]] == [*risen, *fallen[:2]]
    for example in facts["examples"]:
        assert example["change"] == pytest.approx(change[example["id"]], abs=2e-6)
        assert example["mean"]["truth"] == pytest.approx(mean[example["id"]], abs=1e-6)
        assert example["truth"] == LABELS[int(example["id"][4:])]
    assert facts["examples"][0]["mean"] == {"prediction": "sad", "probability": 1.0, "truth": 0.0}
    rows = zip(*([line.split("\t") for line in files[name].read_text().splitlines()] for name in ("mean", "attention")))
    right = [(mean[1] == mean[2], attention[1] == attention[2]) for mean, attention in rows]
    assert facts["mended"] == right.count((False, True)) > 0
    assert facts["broken"] == right.count((True, False)) > 0 and facts["utterances"] == 6
    assert json.loads(files["output"].read_text()) == facts


def test_the_curve_is_the_classifiers(files):
    model = load_classifier(files["checkpoint"])
    for example in explain(**files)["examples"]:
        waveform, _ = soundfile.read(files["manifest"].parent / f"{example['id']}.wav", dtype="float32")
        with torch.no_grad():
            weights = model(torch.from_numpy(waveform)[None])["attention"][0].numpy()
        assert np.allclose(example["weights"], weights, atol=1e-6) and np.ptp(weights) > 1e-4
        assert example["uniform"] == pytest.approx(1 / len(weights), abs=1e-6)
        for i in range(len(weights)):
            part = waveform[320 * i : 320 * (i + 1)]
            assert [example["low"][i], example["high"][i]] == pytest.approx([part.min(), part.max()], abs=6e-4)
        assert len(example["low"]) == len(example["high"]) == len(weights) == (len(waveform) - 400) // 320 + 1


def test_rises_come_first_and_no_change_is_none():
    assert extremes(np.array([0.1, -0.4, 0.0, 0.3, -0.2, 0.2]), 2) == [3, 5, 1, 4]
    assert extremes(np.array([0.1, -0.4, 0.0]), 4) == [0, 1]
    assert extremes(np.zeros(3), 4) == []


def test_predictions_of_other_utterances_are_refused(files):
    made = read_predictions(files["mean"])
    cases = {
        "lacks test2; has besides other": replace(made, ids=("test0", "test1", "other", *made.ids[3:])),
        "has another truth for test0": replace(made, truth=("angry", *made.truth[1:])),
        "another order": replace(
            made, ids=made.ids[::-1], truth=made.truth[::-1], probabilities=made.probabilities[::-1]
        ),
        "classes angry, happy, neutral, bored in place of": replace(
            made, classes=("angry", "happy", "neutral", "bored"), truth=("happy",) * 6
        ),
    }
    for what, predictions in cases.items():
        write_predictions(files["mean"], predictions)
        with pytest.raises(CorpusError, match=f"mean.tsv: not the split's utterances .*{what}"):
            explain(**files)
    assert not files["output"].exists()


def test_a_checkpoint_that_made_other_predictions_is_refused(files):
    files["mean"], files["attention"] = files["attention"], files["mean"]
    with pytest.raises(CheckpointError, match=r"test\d.wav: the classifier gives probabilities .* the predictions say"):
        explain(**files)
