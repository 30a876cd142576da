"""flea evaluate on a tiny classifier with random weights, stored as fairseq stores it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from flea_fairseq.errors import CorpusError
from flea_fairseq.evaluation.evaluate import classify, evaluate
from flea_fairseq.evaluation.predictions import read_predictions
from flea_fairseq.models.checkpoints import load_classifier

CLASSES = ["angry", "happy", "neutral", "sad"]
LABELS = ["sad", "neutral", "happy", "angry", "angry"]


@pytest.fixture
def split(write_split, noises) -> Path:
    return write_split("test", LABELS, noises(3, LABELS))


def test_every_utterance_is_scored_once_as_by_itself(tmp_path, split, save_classifier):
    checkpoint = save_classifier(tmp_path / "model.pt")
    predictions = evaluate(checkpoint, split, tmp_path / "p.tsv")
    assert predictions.ids == ("test0", "test1", "test2", "test3", "test4")
    assert predictions.truth == tuple(LABELS) and predictions.classes == tuple(CLASSES)
    model = load_classifier(checkpoint)
    for i, row in enumerate(predictions.probabilities):
        waveform, _ = soundfile.read(tmp_path / f"test{i}.wav", dtype="float32")
        with torch.no_grad():
            logits = model(torch.from_numpy(waveform)[None])["logits"][0].tolist()
        exponents = np.exp(logits)
        assert np.allclose(row, exponents / exponents.sum(), atol=1e-5)
    assert predictions.probabilities.std(0).max() > 1e-3
    assert np.allclose(read_predictions(tmp_path / "p.tsv").probabilities, predictions.probabilities, atol=1e-6)


def test_the_waveform_is_normalised_only_for_a_model_that_wants_it(tmp_path, save_classifier):
    waveform = np.random.default_rng(0).standard_normal(6000).astype(np.float32)
    for name, gain in (("loud", 0.2), ("quiet", 0.02)):
        soundfile.write(tmp_path / f"{name}.wav", gain * waveform + 0.01, 16000, subtype="FLOAT")
    for normalize in (True, False):
        model = load_classifier(save_classifier(tmp_path / "model.pt", normalize))
        loud, quiet = (classify(model, tmp_path / f"{name}.wav")["logits"] for name in ("loud", "quiet"))
        assert torch.allclose(loud, quiet, atol=1e-2) == normalize


def test_labels_that_the_model_does_not_know_are_refused(tmp_path, split, save_classifier):
    split.with_suffix(".emo").write_text("sad\nneutral\nhappy\nbored\nangry\n")
    with pytest.raises(CorpusError, match="test.emo:4: label 'bored', expected one of angry, happy, neutral, sad"):
        evaluate(save_classifier(tmp_path / "model.pt"), split, tmp_path / "p.tsv")
    assert not (tmp_path / "p.tsv").exists()
