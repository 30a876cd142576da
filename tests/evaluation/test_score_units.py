"""Cluster quality against numbers worked by hand and scikit-learn's homogeneity on frames."""

import json
import math
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import homogeneity_score

from flea_fairseq.data.corpus import Corpus, Utterance, write_corpus
from flea_fairseq.data.manifest import Manifest, write_dictionary, write_labels, write_manifest, write_units
from flea_fairseq.errors import CorpusError, FormatError
from flea_fairseq.evaluation.score_units import quality, score_units

EMOTIONS = ["angry", "sad", "sad", "angry"]
SPEAKERS = ["a", "a", "b", "b"]
UNITS = [[0, 0, 0, 1], [1, 1, 3, 3], [1, 1, 1, 3], [0, 0, 1, 0]]


@pytest.fixture
def split(tmp_path) -> dict[str, Path]:
    """Four utterances of four frames."""
    names = tuple(f"u{i}.wav" for i in range(4))
    write_manifest(tmp_path / "ssl.tsv", Manifest(tmp_path, names, (400 + 3 * 320,) * 4))
    write_labels(tmp_path / "ssl.emo", EMOTIONS)
    write_dictionary(tmp_path / "dict.emo.txt", ["angry", "sad"])
    write_units(tmp_path / "ssl.km5", [np.array(row) for row in UNITS])
    rows = zip(names, SPEAKERS, EMOTIONS)
    utterances = (Utterance(name[:-4], name, 1360, speaker, "", emotion) for name, speaker, emotion in rows)
    write_corpus(tmp_path / "corpus.tsv", Corpus(tmp_path, tuple(utterances)))
    paths = {"manifest": "ssl.tsv", "units": "ssl.km5", "corpus": "corpus.tsv", "output": "out/units.json"}
    return {key: tmp_path / name for key, name in paths.items()}


def test_the_hand_worked_example(split):
    facts = score_units(**split, clusters=5)
    assert facts["clusters"] == 5 and facts["used"] == 3 and facts["utterances"] == 4 and facts["frames"] == 16
    # clusters 0, 1, 3 hold 6, 7, 3 frames
    entropy = -sum(n / 16 * math.log2(n / 16) for n in (6, 7, 3))
    assert facts["perplexity"] == pytest.approx(2**entropy, abs=1e-6)
    # frames by cluster: angry 6, 2, 0; sad 0, 5, 3; speaker a 3, 3, 2; speaker b 3, 4, 1
    emotion, speaker = facts["emotion"], facts["speaker"]
    assert emotion["labels"] == speaker["labels"] == 2
    assert emotion["purity"]["value"] == (6 + 5 + 3) / 16 and emotion["cluster_purity"]["value"] == (6 + 5) / 16
    assert speaker["purity"]["value"] == (3 + 4 + 2) / 16 and speaker["cluster_purity"]["value"] == (3 + 4) / 16
    units = np.concatenate(UNITS)
    for target, labels in ((emotion, EMOTIONS), (speaker, SPEAKERS)):
        assert target["pnmi"]["value"] == pytest.approx(homogeneity_score(np.repeat(labels, 4), units), abs=1e-6)
    assert json.loads(split["output"].read_text()) == facts


def test_chance_is_the_mean_over_random_labellings():
    counts = np.random.default_rng(0).integers(0, 30, (6, 8))
    labels = ["x", "x", "x", "y", "y", "z"]
    made = [quality(counts, order) for order in set(permutations(labels))]
    for measure in ("purity", "cluster_purity", "pnmi"):
        expected = np.mean([one[measure]["value"] for one in made])
        spread = np.std([one[measure]["value"] for one in made])
        assert spread > 0 and abs(quality(counts, labels)[measure]["chance"] - expected) < spread


def test_chance_knows_that_frames_of_an_utterance_belong_together():
    alike = quality(np.tile([3, 1], (10, 1)), ["x"] * 7 + ["y"] * 3)  # clusters know nothing
    assert alike["purity"] == pytest.approx({"value": 0.7, "chance": 0.7})
    assert alike["cluster_purity"] == pytest.approx({"value": 0.75, "chance": 0.75})
    assert alike["pnmi"] == pytest.approx({"value": 0, "chance": 0}, abs=1e-9)
    own = quality(np.eye(10, dtype=int) * 5, ["x"] * 7 + ["y"] * 3)  # clusters know the utterance, and so any label
    assert own["purity"] == own["pnmi"] == {"value": 1.0, "chance": 1.0}


def test_one_label_has_no_uncertainty():
    facts = quality(np.array([[1, 2], [3, 0]]), ["x", "x"])
    assert facts["pnmi"] == {"value": None, "chance": None} and facts["purity"]["value"] == 1


def test_random_frames_agree_with_scikit_learn():
    random = np.random.default_rng(3)
    lengths, labels = random.integers(1, 50, 60), random.choice(list("abc"), 60)
    units = [random.integers(0, 20, n) for n in lengths]
    counts = np.stack([np.bincount(row, minlength=25) for row in units])
    expected = homogeneity_score(np.repeat(labels, lengths), np.concatenate(units))
    assert quality(counts, labels)["pnmi"]["value"] == pytest.approx(expected, abs=1e-6)


def test_what_does_not_fit_is_refused(split, tmp_path):
    with pytest.raises(FormatError, match="ssl.km5:2: unit 3, expected 0 to 2"):
        score_units(**split, clusters=3)
    write_corpus(tmp_path / "corpus.tsv", Corpus(tmp_path, (Utterance("u0", "u0.wav", 1360, "a", "", "sad"),)))
    with pytest.raises(CorpusError, match="lacks 3 of the split's 4 utterances, such as 'u1'"):
        score_units(**split, clusters=5)
    assert not split["output"].exists()
