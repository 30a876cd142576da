"""Frame scores against numbers worked by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from flea_fairseq.data.manifest import write_dictionary, write_units
from flea_fairseq.data.spans import Span
from flea_fairseq.errors import CorpusError, FormatError
from flea_fairseq.evaluation.evaluate import classify
from flea_fairseq.evaluation.score_frames import frame_truth, log_rms, name_clusters, score_frames
from flea_fairseq.models.checkpoints import load_classifier

CLASSES = ["angry", "happy", "neutral", "sad"]


def rttm(utterance: str, start: float, duration: float, emotion: str) -> str:
    return f"SPEAKER {utterance} 1 {start} {duration} <NA> <NA> {emotion} <NA> <NA>\n"


def test_a_frame_is_what_its_centre_is():
    # centres: 0.0125, 0.0325, 0.0525, 0.0725, 0.0925 s
    assert frame_truth([Span(0.0325, 0.0725, "sad")], 5) == ["neutral", "sad", "sad", "neutral", "neutral"]
    assert frame_truth([Span(0.0, 0.02, "sad"), Span(0.09, 1.0, "happy")], 5) == [
        "sad", "neutral", "neutral", "neutral", "happy",
    ]  # fmt: skip


def test_clusters_are_named_by_balanced_share():
    # neutral has ten times the frames: cluster 0 holds 10 of its 100 (.1) and 2 of sad's 10 (.2), so it is sad's
    units = [np.array([0] * 10 + [1] * 90), np.array([0] * 2 + [2] * 4 + [1] * 4)]
    assert name_clusters(units, ["neutral", "sad"], CLASSES, 4) == ["sad", "neutral", "sad", "neutral"]


def test_log_rms_windows_are_those_of_the_frames():
    waveform = np.random.default_rng(0).standard_normal(1500).astype(np.float32)
    expected = [math.log(math.sqrt(float(np.mean(waveform[at : at + 400] ** 2)))) for at in (0, 320, 640, 960)]
    assert np.allclose(log_rms(waveform), expected, atol=1e-5)


@pytest.fixture
def corpus(write_split, tmp_path) -> dict[str, Path]:
    """Train: one cluster an emotion. Test: `test0` is sad in its louder second half, `test1` neutral, `test2` angry."""
    random = np.random.default_rng(0)
    noise = [random.standard_normal(400 + 320 * 19).astype(np.float32) * 0.1 for _ in range(4)]  # 20 frames
    half = np.where(np.arange(len(noise[0])) < 320 * 10, 0.1, 1.0).astype(np.float32)
    paths = {
        "train_manifest": write_split("train", CLASSES, noise),
        "manifest": write_split("test", ["sad", "neutral", "angry"], [noise[0] * half, noise[1], noise[2]]),
        "units": tmp_path / "test.km",
        "train_units": tmp_path / "train.km",
        "spans": tmp_path / "spans.rttm",
    }
    write_dictionary(tmp_path / "dict.km.txt", map(str, range(4)))
    write_units(paths["train_units"], [np.full(20, i) for i in range(4)])
    # sad: its first 5 frames right (neutral), the next 5 wrong, the last 10 right; neutral: right; angry: half right
    write_units(paths["units"], [np.repeat([2, 0, 3], [5, 5, 10]), np.full(20, 2), np.repeat([0, 1], 10)])
    paths["spans"].write_text(rttm("test0", 0.2, 0.25, "sad") + rttm("test2", 0, 1, "angry"))
    return paths


def test_frame_scores_by_hand(corpus, tmp_path):
    facts = score_frames(**corpus, checkpoint=None, output=tmp_path / "frames.json")
    assert facts["frame_recall"] == pytest.approx({"angry": 10 / 20, "neutral": 25 / 30, "sad": 1.0})
    assert facts["frame_ua"] == pytest.approx((10 / 20 + 25 / 30 + 1) / 3)
    assert facts["frame_wa"] == pytest.approx(45 / 60)
    assert (facts["frames"], facts["frame_chance"], facts["partial_utterances"]) == (60, 0.25, 1)
    assert facts["energy_auc"] == 1.0  # ten times louder where it is sad
    assert facts["attention_auc"] is None
    assert json.loads((tmp_path / "frames.json").read_text()) == facts


def test_attention_is_scored_on_the_partial_utterance(corpus, save_classifier, tmp_path):
    model = save_classifier(tmp_path / "model.pt")
    facts = score_frames(**corpus, checkpoint=model, output=tmp_path / "frames.json")
    weights = classify(load_classifier(model), tmp_path / "test0.wav")["attention"][0].tolist()
    pairs = [(sad, neutral) for sad in weights[10:] for neutral in weights[:10]]
    assert facts["attention_auc"] == pytest.approx(np.mean([(a > b) + (a == b) / 2 for a, b in pairs]))
    assert facts["attention_inside"] == pytest.approx(sum(weights[10:])) and facts["inside_chance"] == 0.5
    mean = save_classifier(tmp_path / "mean.pt", pooling="mean")
    assert score_frames(**corpus, checkpoint=mean, output=tmp_path / "frames.json")["attention_auc"] == 0.5


def test_the_classifiers_frames_and_segments_are_scored(corpus, save_classifier, tmp_path):
    facts = score_frames(**corpus, checkpoint=save_classifier(tmp_path / "model.pt"), output=tmp_path / "frames.json")
    model = load_classifier(tmp_path / "model.pt")
    truth = [["neutral"] * 10 + ["sad"] * 10, ["neutral"] * 20, ["angry"] * 20]
    right = {name: [] for name in ("angry", "neutral", "sad")}
    for i, true in enumerate(truth):
        x = classify(model, tmp_path / f"test{i}.wav")["x"]
        said = model.frame_logits(x)[0].argmax(1).tolist()
        for name, unit in zip(true, said):
            right[name].append(model.classes[unit] == name)
    assert facts["posterior_ua"] == pytest.approx(np.mean([np.mean(each) for each in right.values()]))
    assert facts["eder_neutral"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert 0 <= facts["eder"] <= 1


def test_a_span_that_contradicts_the_label_is_refused(corpus, tmp_path):
    corpus["spans"].write_text(rttm("test0", 0.2, 0.25, "happy") + rttm("test2", 0, 1, "angry"))
    with pytest.raises(CorpusError, match=r"'test0' has spans of \['happy'\], but its label is 'sad'"):
        score_frames(**corpus, checkpoint=None, output=tmp_path / "frames.json")
    corpus["spans"].write_text(rttm("test0", 0.2, 0.25, "sad"))
    with pytest.raises(CorpusError, match="'test2' has spans of no emotion, but its label is 'angry'"):
        score_frames(**corpus, checkpoint=None, output=tmp_path / "frames.json")


def test_units_that_do_not_fit_are_refused(corpus, tmp_path):
    write_units(corpus["units"], [np.zeros(20, dtype=int), np.zeros(19, dtype=int), np.zeros(20, dtype=int)])
    with pytest.raises(FormatError, match="test.km:2: 19 frames for 'test1.wav', but its 6480 samples .* make 20"):
        score_frames(**corpus, checkpoint=None, output=tmp_path / "frames.json")
    write_units(corpus["units"], [np.zeros(20, dtype=int)])
    with pytest.raises(FormatError, match="test.km: 1 utterances, but .* lists 3"):
        score_frames(**corpus, checkpoint=None, output=tmp_path / "frames.json")


def test_audio_that_changed_since_the_manifest_is_refused(corpus, tmp_path):
    soundfile.write(tmp_path / "test0.wav", np.zeros(400 + 320 * 10), 16000)
    with pytest.raises(CorpusError, match="test0.wav: 11 frames, 20 by the manifest"):
        score_frames(**corpus, checkpoint=None, output=tmp_path / "frames.json")
