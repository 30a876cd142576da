"""EmotionRecognizer against `flea evaluate`'s model on the whole file, and windows against the model on each."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

import flea_fairseq
from flea_fairseq import EmotionRecognizer
from flea_fairseq.clustering.fit import fit
from flea_fairseq.data.manifest import Manifest, write_manifest
from flea_fairseq.errors import AudioError, CheckpointError, ExperimentError
from flea_fairseq.evaluation.calibrate import calibrate
from flea_fairseq.evaluation.evaluate import classify
from flea_fairseq.inference.segments import likeliest_course
from flea_fairseq.models.checkpoints import load_classifier


def softmax(logits):
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def test_a_short_file_is_heard_as_flea_evaluate_hears_it(recognizer, model_file, wav):
    said = recognizer.predict_file(wav)
    with torch.no_grad():
        model = load_classifier(model_file)
        result = classify(model, wav)
        frames = result["x"][0] @ model.head.weight.T + model.head.bias
    assert np.allclose(said.probabilities, softmax(result["logits"][0].numpy()), atol=1e-5)
    assert np.allclose(said.attention, result["attention"][0].numpy(), atol=1e-6)
    assert np.allclose(said.posteriors, softmax(frames.numpy()), atol=1e-4)
    assert said.emotion == said.classes[int(said.probabilities.argmax())] and said.seconds == 3.0
    assert len(said.attention) == 149 and said.id == "one" and said.clusters is None


def test_waveforms_of_any_rate_and_channels(recognizer, wav, tmp_path):
    samples, _ = soundfile.read(wav, dtype="float32")
    expected = recognizer.predict_file(wav).probabilities
    assert np.allclose(recognizer(samples, 16000).probabilities, expected)
    assert np.allclose(recognizer(torch.from_numpy(samples), 16000).probabilities, expected)
    assert np.allclose(recognizer(np.stack([samples, samples], 1), 16000).probabilities, expected, atol=1e-6)
    assert np.allclose(recognizer(np.repeat(samples, 3), 48000).probabilities, expected, atol=0.1)
    for bad in (np.zeros(0), np.zeros((2, 2, 2)), np.full(9000, np.nan)):
        with pytest.raises(AudioError, match="waveform: shape"):
            recognizer(bad, 16000)
    with pytest.raises(AudioError, match="waveform: 399 samples, expected 400"):
        recognizer(samples[:399], 16000)


def test_a_long_file_is_heard_between_its_pauses(recognizer, model_file, long_wav):
    said = recognizer.predict_file(long_wav)
    assert len(said.attention) == 3099 and said.attention.sum() == pytest.approx(1)
    heard = ~np.isnan(said.posteriors[:, 0])
    edges = np.flatnonzero(np.diff(heard)) + 1
    starts, stops = edges[::2], edges[1::2]
    assert (starts / 50).tolist() == pytest.approx([4.8, 19.8, 49.8], abs=0.03)
    assert (said.attention[~heard] == 0).all()
    model, samples = load_classifier(model_file), soundfile.read(long_wav, dtype="float32")[0]
    windows = [samples[320 * a : 320 * (b - 1) + 400] for a, b in zip(starts, stops)]
    with torch.no_grad():
        each = [model.listen([torch.from_numpy(window)]) for window in windows]
    lengths = stops - starts
    mean = sum(n * softmax(r["logits"][0].numpy()) for n, r in zip(lengths, each)) / lengths.sum()
    assert np.allclose(said.probabilities, mean, atol=1e-5)
    for a, b, result in zip(starts, stops, each):
        assert np.allclose(said.attention[a:b], result["attention"][0] * (b - a) / lengths.sum(), atol=1e-6)
    assert all(4.9 < s.start and s.end < 53.1 for s in said.segments)


def test_windows_of_long_speech_make_one_timeline(model_file, speech):
    recognizer = EmotionRecognizer.from_pretrained(model_file, window=2.0)
    said = recognizer(np.tile(speech, 5), 16000)
    assert len(said.posteriors) == 749 and not np.isnan(said.posteriors).any()
    assert np.allclose(said.posteriors.sum(1), 1, atol=1e-5) and said.attention.sum() == pytest.approx(1)
    assert (said.attention > 0).all()


def test_silence_is_said_to_be_silence(recognizer):
    with pytest.raises(AudioError, match="nothing but silence in 40 s"):
        recognizer(np.zeros(40 * 16000, dtype=np.float32), 16000)
    assert recognizer(np.zeros(16000, dtype=np.float32), 16000).segments == ()


def test_probabilities_are_calibrated(model_file, fold_folder, wav, tmp_path):
    found = calibrate(model_file, fold_folder / "valid.tsv", tmp_path / "calibrated.pt")
    said = EmotionRecognizer.from_pretrained(tmp_path / "calibrated.pt").predict_file(wav)
    with torch.no_grad():
        logits = classify(load_classifier(model_file), wav)["logits"][0].numpy()
    assert np.allclose(said.probabilities, softmax(logits / found["temperature"]), atol=1e-5)


def test_clusters_are_those_of_flea_cluster(model_file, wav, tmp_path):
    from flea_fairseq.clustering.cluster import cluster
    from flea_fairseq.data.manifest import read_lines

    write_manifest(tmp_path / "ssl.tsv", Manifest(wav.parent, (wav.name,), (48000,)))
    cluster([tmp_path / "ssl.tsv"], tmp_path / "units", checkpoint=model_file, layers=[1], clusters=[4])
    kmeans = tmp_path / "units/l1/km4.npz"
    said = EmotionRecognizer.from_pretrained(model_file, kmeans=kmeans).predict_file(wav)
    assert said.clusters.tolist() == [int(unit) for unit in read_lines(tmp_path / "units/l1/ssl.km4")[0].split()]


def test_clusters_of_another_model_are_refused(model_file, save_classifier, wav, tmp_path):
    other = save_classifier(tmp_path / "other.pt", normalize=True)
    write_manifest(tmp_path / "ssl.tsv", Manifest(wav.parent, (wav.name,), (48000,)))
    fit(tmp_path / "ssl.tsv", tmp_path / "units", checkpoint=other, layers=[1], clusters=[4])
    with pytest.raises(CheckpointError, match="km4.npz: fitted on frames of model .* --kmeans-checkpoint"):
        EmotionRecognizer.from_pretrained(model_file, kmeans=tmp_path / "units/l1/km4.npz")


def test_little_context_can_be_asked_for(model_file, save_classifier, speech, tmp_path):
    """What a model that was trained so says, by the same weights."""
    trained = save_classifier(tmp_path / "little.pt", context=0.2)
    whole, little = (EmotionRecognizer.from_pretrained(path)(speech, 16000) for path in (model_file, trained))
    asked = EmotionRecognizer.from_pretrained(model_file, context=0.2)(speech, 16000)
    assert np.array_equal(asked.posteriors, little.posteriors) and not np.allclose(asked.posteriors, whole.posteriors)
    back = EmotionRecognizer.from_pretrained(trained, context=0)(speech, 16000)
    assert np.array_equal(back.posteriors, whole.posteriors)
    with pytest.raises(ExperimentError, match=r"context is -1.0, expected 0 \(all\) or 0.08 to 3600 seconds"):
        EmotionRecognizer.from_pretrained(model_file, context=-1.0)


def test_a_pooling_without_frame_weights_gives_its_windows(save_classifier, wav, tmp_path):
    path = save_classifier(tmp_path / "statistics.pt", pooling="attentive_statistics")
    said = EmotionRecognizer.from_pretrained(path).predict_file(wav)
    assert not said.weighted and np.allclose(said.posteriors, said.probabilities, atol=1e-6)


def test_frames_that_the_head_judged_count_alike_for_segments(save_classifier, speech, tmp_path):
    """class_attention attends to the emotion that wins: weighed by that, no other would ever be heard."""
    model = save_classifier(tmp_path / "m.pt", pooling="class_attention")
    said = EmotionRecognizer.from_pretrained(model, change=3.0)(speech, 16000)
    frames, course = len(said.posteriors), likeliest_course(np.log(said.posteriors), 3.0)
    assert said.sound.all() and len(said.segments) == np.count_nonzero(np.diff(course)) + 1 > 1
    assert [segment.emotion for segment in said.segments][0] == said.classes[course[0]]
    weighed = likeliest_course(np.log(said.posteriors) * said.attention[:, None] * frames, 3.0)
    assert not np.array_equal(course, weighed)


def test_the_import_is_light_and_leaves_the_loggers_alone():
    code = (
        "import sys, logging, flea_fairseq\n"
        "assert 'torch' not in sys.modules and 'fairseq' not in sys.modules\n"
        "flea_fairseq.EmotionRecognizer\n"
        "assert logging.getLogger().level == logging.WARNING and not logging.getLogger().handlers\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = flea_fairseq.Nothing
