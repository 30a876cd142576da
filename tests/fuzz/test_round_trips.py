"""What a writer writes, its reader gives back; what could not be read back is refused when it is written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from flea_fairseq.clustering.features import Source, read_features, writing_features
from flea_fairseq.clustering.kmeans import KMeansModel, read_kmeans, write_kmeans
from flea_fairseq.data.corpus import Corpus, Utterance, read_corpus, write_corpus
from flea_fairseq.data.manifest import (
    Manifest,
    read_dictionary,
    read_labels,
    read_manifest,
    read_units,
    write_dictionary,
    write_labels,
    write_manifest,
    write_units,
)
from flea_fairseq.data.spans import Span, read_rttm, rttm_line
from flea_fairseq.errors import FleaError
from flea_fairseq.evaluation.predictions import Predictions, read_predictions, write_predictions

once = settings(
    max_examples=80, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
odd = st.text(st.characters(codec=None, exclude_categories=()), max_size=6)
words = st.one_of(st.from_regex(r"[a-z]{1,4}(/[a-z]{1,3})?(\.wav)?", fullmatch=True), odd)
counts = st.one_of(st.integers(-1, 10**6), st.integers())


def back(path: Path, value: object, write: Callable[..., object], read: Callable[..., object]) -> None:
    """Write and read; nothing may be left of what was refused."""
    path.unlink(missing_ok=True)
    try:
        write(path, value)
    except FleaError as error:
        event("refused")
        assert str(path) in str(error) and not path.exists()
        return
    event("written")
    assert read(path) == value


@once
@given(rows=st.lists(st.tuples(words, counts), max_size=4))
def test_manifest(tmp_path_factory, rows):
    folder = tmp_path_factory.getbasetemp()
    names, frames = tuple(name for name, _ in rows), tuple(count for _, count in rows)
    back(folder / "a.tsv", Manifest(Path("/data"), names, frames), write_manifest, read_manifest)


@once
@given(labels=st.lists(words, max_size=4))
def test_labels(tmp_path_factory, labels):
    back(tmp_path_factory.getbasetemp() / "a.emo", labels, write_labels, read_labels)


@once
@given(symbols=st.lists(words, max_size=4))
def test_dictionary(tmp_path_factory, symbols):
    back(tmp_path_factory.getbasetemp() / "dict.txt", symbols, write_dictionary, read_dictionary)


@once
@given(rows=st.lists(st.lists(st.integers(-1, 2**63 - 1), max_size=4), min_size=1, max_size=3))
def test_units(tmp_path_factory, rows):
    def write(path: Path, value: list[list[int]]) -> None:
        write_units(path, [np.array(row, dtype=np.int64) for row in value])

    def read(path: Path) -> list[list[int]]:
        return [row.tolist() for row in read_units(path)]

    back(tmp_path_factory.getbasetemp() / "a.km", rows, write, read)


@once
@given(rows=st.lists(st.tuples(words, counts, words, words, words), max_size=3), own=st.booleans())
def test_corpus(tmp_path_factory, rows, own):
    from flea_fairseq.data.manifest import utterance_id

    utterances = tuple(
        Utterance(utterance_id(path) if own else speaker, path, frames, speaker, session, emotion)
        for path, frames, speaker, session, emotion in rows
    )
    back(tmp_path_factory.getbasetemp() / "c.tsv", Corpus(Path("/data"), utterances), write_corpus, read_corpus)


@once
@given(ids=st.lists(words, max_size=3), classes=st.lists(words, min_size=1, max_size=3), data=st.data())
def test_predictions(tmp_path_factory, ids, classes, data):
    numbers = st.one_of(st.integers(0, 10**6).map(lambda n: n / 10**6), st.floats())
    rows = data.draw(st.lists(st.lists(numbers, min_size=len(classes), max_size=len(classes)), min_size=len(ids)))
    truth = tuple(data.draw(st.sampled_from(classes)) for _ in ids)
    probabilities = np.array(rows[: len(ids)], dtype=np.float64).reshape(len(ids), len(classes))
    predictions = Predictions(tuple(ids), truth, tuple(classes), probabilities)
    path = tmp_path_factory.getbasetemp() / "p.tsv"
    path.unlink(missing_ok=True)
    try:
        write_predictions(path, predictions)
    except FleaError as error:
        assert str(path) in str(error) and not path.exists()
        return
    read = read_predictions(path)
    assert (read.ids, read.truth, read.classes) == (predictions.ids, predictions.truth, predictions.classes)
    assert np.abs(read.probabilities - probabilities).max(initial=0) <= 5e-7


@once
@given(name=words, start=st.integers(0, 10**7), length=st.integers(1, 10**7), emotion=words)
def test_rttm(tmp_path_factory, name, start, length, emotion):
    assume(all(text.isprintable() and not any(c.isspace() for c in text) and text for text in (name, emotion)))
    path = tmp_path_factory.getbasetemp() / "s.rttm"
    path.write_text(rttm_line(name, Span(start / 1000, (start + length) / 1000, emotion)), encoding="utf-8")
    ((read_name, ((first, end, read_emotion),)),) = read_rttm(path).items()
    assert (read_name, read_emotion) == (name, emotion)
    assert first == pytest.approx(start / 1000) and end == pytest.approx((start + length) / 1000)


@once
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1), st.one_of(st.none(), st.integers(1, 99)))
def test_kmeans_and_features(tmp_path_factory, rows, dim, seed, layer):
    folder = tmp_path_factory.getbasetemp()
    frames = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    model = KMeansModel(frames, {"source": "mfcc", "layer": layer, "clusters": rows, "dim": dim})
    write_kmeans(folder / "k.npz", model)
    read = read_kmeans(folder / "k.npz")
    assert np.array_equal(read.centroids, frames) and read.metadata == model.metadata
    with writing_features(folder, "s", 0, 1, [rows], Source("mfcc", layer)) as write:
        write(frames)
    features = read_features(folder, "s")
    assert np.array_equal(features.frames(), frames) and features.source == Source("mfcc", layer)
