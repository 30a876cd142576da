"""Calibration: the temperature against torch's optimiser and a known answer, the error against bins by hand."""

import numpy as np
import pytest
import torch

from flea_fairseq.evaluation.calibrate import calibrate, fit_temperature
from flea_fairseq.evaluation.evaluate import evaluate
from flea_fairseq.evaluation.metrics import calibration_error
from flea_fairseq.models.checkpoints import load_classifier, load_tensors

LABELS = ["sad", "neutral", "happy", "angry", "angry", "sad", "neutral"]


def test_the_error_of_bins_by_hand():
    # 5 bins: [0, .2] holds 0 and .2, one of two right; (.2, .4] .3 and .4, none; (.4, .6] .5, right; (.8, 1] two, none
    confidence = np.array([0.0, 0.2, 0.3, 0.4, 0.5, 0.9, 1.0])
    right = np.array([True, False, False, False, True, False, False])
    expected = (abs(1 - 0.2) + abs(0 - 0.7) + abs(1 - 0.5) + abs(0 - 1.9)) / 7
    assert calibration_error(confidence, right, bins=5) == pytest.approx(expected)
    # 15 bins, unless said: .62 and .66 are both in (9/15, 10/15]
    assert calibration_error(np.array([0.62, 0.66]), np.array([True, False])) == pytest.approx((1.28 - 1) / 2)
    assert calibration_error(np.array([0.5]), np.array([True]), bins=2) == 0.5
    assert np.isnan(calibration_error(np.array([]), np.array([])))


def test_the_temperature_that_logits_were_multiplied_by_is_found():
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((20000, 4))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = (probabilities.cumsum(1) > rng.random((20000, 1))).argmax(1)
    assert fit_temperature(3.0 * logits, truth) == pytest.approx(3.0, rel=0.03)
    assert fit_temperature(0.5 * logits, truth) == pytest.approx(0.5, rel=0.03)


def test_the_temperature_is_where_torch_finds_it():
    rng = np.random.default_rng(1)
    logits = 3 * rng.standard_normal((50, 4))
    truth = np.where(rng.random(50) < 0.7, logits.argmax(1), 0)
    log_t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_t], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits) / log_t.exp(), torch.from_numpy(truth))
        loss.backward()
        return loss

    optimiser.step(closure)
    assert fit_temperature(logits, truth) == pytest.approx(float(log_t.detach().exp()), rel=1e-3)


def test_the_model_keeps_its_temperature_and_its_decisions(write_split, noises, save_classifier, tmp_path):
    split, checkpoint = write_split("valid", LABELS, noises(3, LABELS)), save_classifier(tmp_path / "model.pt")
    before = evaluate(checkpoint, split, tmp_path / "before.tsv")
    found = calibrate(checkpoint, split, tmp_path / "calibrated.pt")
    model = load_classifier(tmp_path / "calibrated.pt")
    assert model.temperature == found["temperature"] != 1.0
    assert found["validation"]["utterances"] == 7
    after = evaluate(tmp_path / "calibrated.pt", split, tmp_path / "after.tsv")
    assert after.predicted == before.predicted

    def cross_entropy(predictions):
        columns = [predictions.classes.index(label) for label in LABELS]
        return -np.log(predictions.probabilities[np.arange(7), columns]).mean()

    assert cross_entropy(after) < cross_entropy(before)
    assert load_classifier(checkpoint).temperature == 1.0
    one, other = load_tensors(checkpoint)["model"], load_tensors(tmp_path / "calibrated.pt")["model"]
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_in_place_is_possible(write_split, noises, save_classifier, tmp_path):
    split, checkpoint = write_split("valid", LABELS, noises(3, LABELS)), save_classifier(tmp_path / "model.pt")
    found = calibrate(checkpoint, split, checkpoint)
    assert load_classifier(checkpoint).temperature == found["temperature"]
    assert calibrate(checkpoint, split, checkpoint)["temperature"] == found["temperature"]
