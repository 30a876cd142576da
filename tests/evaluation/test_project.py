"""Projections: the sample by hand, embeddings by the model itself, the vote by brute force."""

import json

import numpy as np
import pytest
import soundfile
import torch
from sklearn.metrics import silhouette_score

from flea_fairseq.errors import CheckpointError, CorpusError
from flea_fairseq.evaluation.project import NEIGHBOURS, embed, flat, nearest_accuracy, project, sample, spread
from flea_fairseq.models.checkpoints import load_classifier

LABELS = ["sad", "neutral", "sad", "angry", "neutral", "angry", "sad"]


def test_a_total_is_dealt_evenly_as_far_as_there_is_room():
    assert spread(7, np.array([5, 5, 5])).tolist() == [3, 2, 2]
    assert spread(9, np.array([1, 9, 4])).tolist() == [1, 4, 4]
    assert spread(99, np.array([2, 0, 3])).tolist() == [2, 0, 3]
    assert spread(0, np.array([2])).tolist() == [0]


def test_the_sample_is_even_over_emotions_and_utterances():
    lengths = np.array([30, 40, 30, 8, 40, 50, 3])
    rows, owners = sample(lengths, LABELS, 60, np.random.default_rng(0))
    # sad 20 of 63 frames over 30, 30, 3; neutral 20 over 40, 40; angry 20 over 8, 50
    assert np.bincount(owners).tolist() == [9, 10, 8, 8, 10, 12, 3]
    starts = np.cumsum(lengths) - lengths
    assert (np.diff(rows) > 0).all() and ((rows >= starts[owners]) & (rows < (starts + lengths)[owners])).all()
    assert not np.array_equal(rows, sample(lengths, LABELS, 60, np.random.default_rng(1))[0])


def test_voters_are_in_other_utterances():
    # each utterance's frames lie together, and the nearest other utterance is of the other emotion
    embedded = np.repeat([[0.0], [10], [100], [110]], NEIGHBOURS, 0) + np.random.default_rng(0).random((40, 1))
    emotions, owners = np.array(["x", "y", "x", "y"]).repeat(NEIGHBOURS), np.arange(4).repeat(NEIGHBOURS)
    assert nearest_accuracy(embedded, emotions, owners) == 0
    assert nearest_accuracy(embedded, emotions, np.arange(40)) == 1  # each frame an utterance of its own


def test_the_vote_agrees_with_brute_force():
    random = np.random.default_rng(1)
    owners = np.repeat(np.arange(12), random.integers(2, 9, 12))
    emotions = np.array(["a", "b", "c"])[owners % 3]
    embedded = random.standard_normal((len(owners), 4)) + (owners % 3)[:, None]
    right: dict[str, list[bool]] = {}
    for i, frame in enumerate(embedded):
        others = np.flatnonzero(owners != owners[i])
        nearest = others[np.argsort(((embedded[others] - frame) ** 2).sum(1))[:NEIGHBOURS]]
        votes = [(emotions[nearest] == name).sum() for name in "abc"]
        right.setdefault(emotions[i], []).append("abc"[int(np.argmax(votes))] == emotions[i])
    expected = np.mean([np.mean(hits) for hits in right.values()])
    assert 1 / 3 < expected < 1 and nearest_accuracy(embedded, emotions, owners) == pytest.approx(expected)


@pytest.fixture
def split(write_split, noises):
    return write_split("test", LABELS, noises(0, LABELS))


def test_frames_are_the_models_own(tmp_path, split, save_classifier):
    checkpoint = save_classifier(tmp_path / "model.pt")  # of one layer: what it pools is layer 1
    model, frames = load_classifier(checkpoint), []
    for i in range(len(LABELS)):
        waveform, _ = soundfile.read(tmp_path / f"test{i}.wav", dtype="float32")
        with torch.no_grad():
            frames.append(model(torch.from_numpy(waveform)[None])["x"][0].numpy())
    rows = np.array([0, 3, 20, 21, sum(map(len, frames)) - 1])
    folder = tmp_path / "out"
    assert np.allclose(embed(split, checkpoint, 1, rows, folder / "p.json"), np.concatenate(frames)[rows], atol=1e-5)
    assert list(folder.iterdir()) == []


def test_both_sides_show_the_same_frames(tmp_path, split, save_classifier):
    sides = {"before": save_classifier(tmp_path / "1.pt", normalize=True), "after": save_classifier(tmp_path / "2.pt")}
    facts = project(split, **sides, layer=1, output=tmp_path / "out/p.json", frames=40)
    assert json.loads((tmp_path / "out/p.json").read_text()) == facts
    assert len(facts["emotions"]) == 40 and facts["knn_chance"] == pytest.approx(1 / 3) and facts["layer"] == 1
    # angry 14, neutral 13, sad 13 of the 40, and in each its utterances
    assert [facts["utterances"].count(f"test{i}") for i in (3, 5, 1, 4, 0, 2, 6)] == [7, 7, 7, 6, 5, 4, 4]
    assert all(LABELS[int(id_[4:])] == emotion for id_, emotion in zip(facts["utterances"], facts["emotions"]))
    lengths = np.array([(soundfile.info(tmp_path / f"test{i}.wav").frames - 400) // 320 + 1 for i in range(7)])
    rows, owners = sample(lengths, LABELS, 40, np.random.default_rng(1))
    for side, checkpoint in sides.items():
        points = np.array(facts[side]["points"])
        assert points.shape == (40, 2) and np.array_equal(points, np.round(points, 3)) and points.std() > 0
        embedded, emotions = embed(split, checkpoint, 1, rows, tmp_path / "p.json"), np.array(LABELS)[owners]
        assert facts[side]["silhouette"] == pytest.approx(silhouette_score(embedded, emotions), abs=1e-6)
        assert facts[side]["knn"] == pytest.approx(nearest_accuracy(embedded, emotions, owners), abs=1e-6)
    assert facts["before"] != facts["after"]
    assert facts == project(split, **sides, layer=1, output=tmp_path / "again.json", frames=40)
    assert facts != project(split, **sides, layer=1, output=tmp_path / "again.json", frames=40, seed=2)


def test_few_frames_are_enough():
    assert flat(np.random.default_rng(0).standard_normal((6, 3)), seed=1).shape == (6, 2)


def test_what_cannot_be_projected_is_refused(tmp_path, split, write_split, noises, save_classifier):
    model = save_classifier(tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="layer 2 asked for, but the model has layers 1 to 1"):
        project(split, model, model, 2, tmp_path / "p.json")
    alone = write_split("alone", ["sad", "sad"], noises(0, ["sad", "sad"]))
    with pytest.raises(CorpusError, match="alone.tsv: one emotion only, 'sad'"):
        project(alone, model, model, 1, tmp_path / "p.json")
    assert not (tmp_path / "p.json").exists()
