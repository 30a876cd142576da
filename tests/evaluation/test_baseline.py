"""The logistic-regression baseline: its features by numpy, what it learns, what it refuses."""

import numpy as np
import pytest
import soundfile
from torchaudio.functional import melscale_fbanks

from flea_fairseq.errors import AudioError, CorpusError
from flea_fairseq.evaluation.baseline import baseline, statistics
from flea_fairseq.evaluation.predictions import read_predictions

LABELS = ["angry", "happy", "neutral", "sad"] * 4


def test_features_are_mean_and_deviation_of_log_mel(tmp_path):
    waveform = np.random.default_rng(0).standard_normal(5000).astype(np.float32) * np.linspace(0.01, 0.3, 5000)
    soundfile.write(tmp_path / "a.wav", waveform, 16000, subtype="FLOAT")
    padded = np.pad(waveform, 200, mode="reflect")
    window = np.hanning(401)[:-1]
    frames = np.stack([padded[at : at + 400] * window for at in range(0, len(waveform) + 1, 160)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    log_mel = np.log(power @ melscale_fbanks(201, 0.0, 8000.0, 80, 16000).numpy() + 1e-6)
    expected = np.concatenate([log_mel.mean(0), log_mel.std(0)])
    assert np.allclose(statistics([tmp_path / "a.wav"], "a")[0], expected, atol=1e-3)


def test_it_learns_loudness_and_gives_the_same_file_twice(write_split, noises, tmp_path):
    train = write_split("train", LABELS, noises(1, LABELS))
    test = write_split("test", LABELS, noises(2, LABELS))
    predictions = baseline(train, test, tmp_path / "p.tsv")
    assert list(predictions.predicted) == LABELS == list(predictions.truth)
    assert np.allclose(predictions.probabilities.sum(1), 1)
    first = (tmp_path / "p.tsv").read_bytes()
    assert read_predictions(tmp_path / "p.tsv").ids[:2] == ("test0", "test1")
    baseline(train, test, tmp_path / "p.tsv")
    assert (tmp_path / "p.tsv").read_bytes() == first


def test_a_class_that_train_lacks_keeps_its_column(write_split, noises, tmp_path):
    labels = ["angry", "neutral", "sad"] * 3
    train = write_split("train", labels, noises(1, labels))
    test = write_split("test", LABELS, noises(2, LABELS))
    predictions = baseline(train, test, tmp_path / "p.tsv")
    assert predictions.classes == ("angry", "happy", "neutral", "sad")
    assert (predictions.probabilities[:, 1] == 0).all()
    assert [p for t, p in zip(predictions.truth, predictions.predicted) if t == "sad"] == ["sad"] * 4


def test_labels_and_audio_that_do_not_fit_are_named(write_split, noises, tmp_path):
    train = write_split("train", LABELS, noises(1, LABELS))
    test = write_split("test", LABELS, noises(2, LABELS))
    (tmp_path / "test.emo").write_text("angry\n" * 15)
    with pytest.raises(CorpusError, match="test.emo: 15 labels, but .*test.tsv lists 16 utterances"):
        baseline(train, test, tmp_path / "p.tsv")
    (tmp_path / "test.emo").write_text("angry\n" * 15 + "bored\n")
    with pytest.raises(CorpusError, match="test.emo:16: label 'bored', expected one of angry, happy, neutral, sad"):
        baseline(train, test, tmp_path / "p.tsv")
    (tmp_path / "test.emo").write_text("angry\n" * 16)
    soundfile.write(tmp_path / "test3.wav", np.zeros(399), 16000)
    with pytest.raises(AudioError, match="test3.wav: 399 samples, expected 400"):
        baseline(train, test, tmp_path / "p.tsv")
    assert not (tmp_path / "p.tsv").exists()
