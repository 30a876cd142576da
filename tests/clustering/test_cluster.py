import csv
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
import soundfile
from sklearn.cluster import KMeans

from flea_fairseq.clustering import cluster as module
from flea_fairseq.clustering import label_set
from flea_fairseq.clustering.cluster import LabelSet, cluster, draw
from flea_fairseq.clustering.embedding import open_embedding
from flea_fairseq.clustering.extract import extract
from flea_fairseq.clustering.features import read_features
from flea_fairseq.clustering.kmeans import KMeansModel, fit_kmeans, kmeans, read_kmeans, write_kmeans
from flea_fairseq.clustering.label import label
from flea_fairseq.clustering.recordings import Recording, read_recordings
from flea_fairseq.data.manifest import Manifest, read_units, write_manifest
from flea_fairseq.errors import AudioError, CheckpointError, ExperimentError, FormatError


@pytest.fixture(scope="module")
def fold(tmp_path_factory, emodb_folder):
    """24 EmoDB recordings to fit on, and 12 to label besides, of which four are among the former."""
    folder = tmp_path_factory.mktemp("fold")
    with open(emodb_folder / "labels_flac.csv", newline="") as file:
        rows = list(csv.DictReader(file))[::15]
    for name, part in {"ssl": rows[:24], "test": rows[20:32]}.items():
        names, samples = [row["path"] for row in part], [int(row["num_samples"]) for row in part]
        write_manifest(folder / f"{name}.tsv", Manifest(emodb_folder, tuple(names), tuple(samples)))
    return folder


def manifests(fold):
    return [fold / "ssl.tsv", fold / "test.tsv"]


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def by_steps(fold, output, work, clusters, **source):
    """The same through feature files: extract, kmeans, label."""
    for manifest in manifests(fold):
        for features in extract(manifest, work, **source):
            folder = output / features.name
            for k in clusters:
                if manifest.stem == "ssl":
                    kmeans(features, "ssl", folder / f"km{k}.npz", k)
                label(features, manifest.stem, manifest, folder / f"km{k}.npz", folder, extension=f"km{k}")
    return files(output)


@pytest.fixture
def encoded(monkeypatch):
    """How many recordings were encoded at once, call by call."""
    calls = []

    def spying(*arguments):
        embedding = open_embedding(*arguments)

        def encode(audio):
            calls.append(len(audio))
            return embedding.encode(audio)

        return replace(embedding, encode=encode)

    monkeypatch.setattr(module, "open_embedding", spying)
    return calls


def test_layers_and_k_of_one_pass_are_bit_for_bit_those_of_stored_features(
    tmp_path, fold, hugging_face_folder, encoded
):
    source = {"checkpoint": hugging_face_folder, "layers": [1, 3]}
    written = cluster(manifests(fold), tmp_path / "one", clusters=[5, 20], **source)
    assert encoded == [1] * 32  # 24 + 12, of which four are in both
    ours = files(tmp_path / "one")
    assert ours == by_steps(fold, tmp_path / "steps", tmp_path / "features", [5, 20], **source)
    names = {f"{k}" for k in ("km5.npz", "km20.npz", "dict.km5.txt", "dict.km20.txt", "ssl.km5", "ssl.km20")}
    names |= {"test.km5", "test.km20"}
    names |= {f"{name}.sha256" for name in names if name.startswith(("ssl", "test"))}
    assert set(ours) == {f"{layer}/{name}" for layer in ("l1", "l3") for name in names}
    assert set(written) == {tmp_path / "one" / name for name in ours if name.endswith((".km5", ".km20"))}


def test_mfcc_and_more_units_than_a_byte_holds(tmp_path, fold):
    cluster(manifests(fold), tmp_path / "one", mfcc=True, clusters=[300])
    ours = files(tmp_path / "one")
    assert ours == by_steps(fold, tmp_path / "steps", tmp_path / "features", [300], mfcc=True)
    assert max(row.max() for row in read_units(tmp_path / "one/mfcc/ssl.km300")) > 255


def test_utterances_are_drawn_until_the_next_would_be_too_many_frames():
    recordings = [Recording(Path(f"{i}.wav"), 400 + 320 * i) for i in range(50)]  # 1, 2, ... 50 frames
    assert draw(recordings, 10**6, 1) == draw(recordings, 50 * 51 // 2, 1) == recordings
    drawn = draw(recordings, 600, 1)
    frames = [recording.frames for recording in drawn]
    assert 550 < sum(frames) <= 600 and frames == sorted(frames) and len(set(frames)) == len(frames)
    assert drawn == draw(recordings, 600, 1) != draw(recordings, 600, 2)
    assert len(draw(recordings, 1, 1)) == 1
    shares = np.zeros(50)
    for seed in range(400):
        for recording in draw(recordings, 600, seed):
            shares[recording.frames - 1] += 1 / 400
    assert 0.3 < shares.min() and shares.max() < 0.65  # none is favoured by its place or length


def test_k_means_of_a_sample_is_that_of_the_drawn_utterances(tmp_path, fold):
    cluster(manifests(fold), tmp_path / "one", mfcc=True, clusters=[8], max_frames=1500, seed=3, iterations=9)
    ours = read_kmeans(tmp_path / "one/mfcc/km8.npz")
    [features] = extract(fold / "ssl.tsv", tmp_path, mfcc=True)
    recordings = read_recordings(fold / "ssl.tsv")
    chosen = {recording.path for recording in draw(recordings, 1500, 3)}
    stored = read_features(features, "ssl")
    frames = [rows for rows, recording in zip(stored.utterances(), recordings) if recording.path in chosen]
    expected = fit_kmeans(np.concatenate(frames), 8, stored.source, "sample", seed=3, iterations=9)
    assert 0 < len(chosen) < 24 and 1200 < ours.metadata["frames"] <= 1500
    assert np.array_equal(ours.centroids, expected.centroids) and ours.metadata == expected.metadata
    for recording, units, rows in zip(recordings, read_units(tmp_path / "one/mfcc/ssl.km8"), stored.utterances()):
        assert np.array_equal(units, ours.assign(rows)), recording


def test_labels_do_not_depend_on_the_batch(tmp_path, fold, hugging_face_folder, encoded):
    source = {"checkpoint": hugging_face_folder, "layers": [2, 3], "clusters": [40], "max_frames": 1000}
    cluster(manifests(fold), tmp_path / "alone", batch_seconds=0, **source)
    assert set(encoded) == {1}
    cluster(manifests(fold), tmp_path / "batches", batch_seconds=15, **source)
    assert max(encoded) >= 4
    assert files(tmp_path / "alone") == files(tmp_path / "batches")


@pytest.mark.parametrize(("caught", "equal"), [(1e-2, True), (0.0, False)])
def test_labels_that_rounding_might_turn_are_those_of_the_recording_alone(tmp_path, fold, monkeypatch, caught, equal):
    """Frames of a batch are moved by up to a hundredth here, as a device with coarser sums would."""
    random = np.random.default_rng(0)

    def rounding(*arguments):
        embedding = open_embedding(*arguments)

        def encode(audio):
            layers = embedding.encode(audio)
            if len(audio) > 1:
                for [frames] in layers:
                    noise = random.standard_normal(frames.shape)
                    lengths = np.linalg.norm(frames, axis=1) / np.linalg.norm(noise, axis=1)
                    frames += (9e-3 * noise * lengths[:, None]).astype(np.float32)
            return layers

        return replace(embedding, encode=encode)

    how = {"mfcc": True, "clusters": [30], "max_frames": 1000}
    cluster(manifests(fold), tmp_path / "alone", batch_seconds=0, **how)
    monkeypatch.setattr(module, "open_embedding", rounding)
    monkeypatch.setattr(label_set, "ROUNDING", caught)
    cluster(manifests(fold), tmp_path / "batches", batch_seconds=20, **how)
    assert (files(tmp_path / "alone") == files(tmp_path / "batches")) == equal


def test_a_frame_in_the_middle_of_its_two_nearest_centroids_is_doubtful():
    units = LabelSet("km3", 0, KMeansModel(np.array([[0, 0], [2, 0], [0, 50]], np.float32), {}))
    for away, expected in ((0, True), (2.9e-5, True), (3.2e-5, False), (0.5, False)):  # ROUNDING x |x| = 3e-5
        assert units.doubtful(np.array([[0, 1e-9], [1 + away, 0]], np.float64)) == expected
    assert not units.doubtful(np.array([[0, 0]], np.float32))
    assert not LabelSet("km1", 0, KMeansModel(np.zeros((1, 2), np.float32), {})).doubtful(np.ones((3, 2)))


def test_a_given_model_of_scikit_learn_labels_as_its_own_predict(tmp_path, fold, hugging_face_folder):
    [features] = extract(fold / "ssl.tsv", tmp_path, hugging_face_folder, [2])
    frames = read_features(features, "ssl").frames()
    peer = KMeans(12, n_init=1, random_state=0).fit(frames)
    joblib.dump(peer, tmp_path / "km.bin")
    how = {"checkpoint": hugging_face_folder, "layers": [2], "kmeans_model": tmp_path / "km.bin"}
    assert cluster([fold / "ssl.tsv"], tmp_path / "units", **how) == [tmp_path / "units/l2/ssl.km"]
    assert set(files(tmp_path / "units")) == {"l2/ssl.km", "l2/ssl.km.sha256", "l2/dict.km.txt"}
    assert np.mean(np.concatenate(read_units(tmp_path / "units/l2/ssl.km")) == peer.predict(frames)) > 0.999
    assert (tmp_path / "units/l2/dict.km.txt").read_text().splitlines() == [f"{unit} 1" for unit in range(12)]


def test_a_given_model_of_other_frames_is_refused(tmp_path, fold, hugging_face_folder):
    cluster([fold / "ssl.tsv"], tmp_path / "units", hugging_face_folder, [2], clusters=[4])
    model = tmp_path / "units/l2/km4.npz"
    with pytest.raises(FormatError, match=r"frames of .* layer 3, but .*km4\.npz was fitted on .* layer 2"):
        cluster([fold / "ssl.tsv"], tmp_path / "other", hugging_face_folder, [3], kmeans_model=model)
    write_kmeans(tmp_path / "two.npz", KMeansModel(np.eye(2, dtype=np.float32), {"clusters": 2, "dim": 2}))
    with pytest.raises(FormatError, match=r"39-dimensional frames, but .*two\.npz was fitted on 2 dimensions"):
        cluster([fold / "ssl.tsv"], tmp_path / "other", mfcc=True, kmeans_model=tmp_path / "two.npz")
    with pytest.raises(ExperimentError, match="is a model of one layer, but 2 are asked for"):
        cluster([fold / "ssl.tsv"], tmp_path / "other", hugging_face_folder, [2, 3], kmeans_model=model)
    assert not (tmp_path / "other").exists()


def test_half_precision_is_said_by_the_model_and_changes_few_labels(tmp_path, fold, hugging_face_folder):
    source = {"checkpoint": hugging_face_folder, "layers": [3]}
    cluster([fold / "ssl.tsv"], tmp_path / "full", clusters=[10], **source)
    model = tmp_path / "full/l3/km10.npz"
    cluster([fold / "ssl.tsv"], tmp_path / "half", kmeans_model=model, bf16=True, **source)
    full, half = (np.concatenate(read_units(tmp_path / name)) for name in ("full/l3/ssl.km10", "half/l3/ssl.km"))
    assert 0.95 < np.mean(full == half)
    cluster([fold / "test.tsv"], tmp_path / "fitted", clusters=[10], bf16=True, **source)
    assert read_kmeans(tmp_path / "fitted/l3/km10.npz").metadata["bf16"] is True
    assert "bf16" not in read_kmeans(model).metadata
    audio = [soundfile.read(read_recordings(fold / "ssl.tsv")[0].path, dtype="float32")[0]]
    [[a]], [[b]] = (
        open_embedding("cluster", hugging_face_folder, [3], False, bf16).encode(audio) for bf16 in (False, True)
    )
    assert a.dtype == b.dtype == np.float32 and 1e-4 < np.linalg.norm(a - b) / np.linalg.norm(a) < 0.03


@pytest.mark.parametrize("split", ["ssl", "test"])
def test_a_damaged_recording_is_named_and_nothing_is_written(tmp_path, fold, split):
    content = {}
    for name in ("ssl", "test"):
        recordings = read_recordings(fold / f"{name}.tsv")[:3]
        content[name] = [f"{name}_{i}.flac" for i in range(3)]
        for recording, copy in zip(recordings, content[name]):
            (tmp_path / copy).write_bytes(recording.path.read_bytes())
        lengths = tuple(recording.samples for recording in recordings)
        write_manifest(tmp_path / f"{name}.tsv", Manifest(tmp_path, tuple(content[name]), lengths))
    damaged = tmp_path / f"{split}_1.flac"
    damaged.write_bytes(damaged.read_bytes()[:9000])
    with pytest.raises(AudioError, match=f"{split}_1.flac: "):
        cluster([tmp_path / "ssl.tsv", tmp_path / "test.tsv"], tmp_path / "units", mfcc=True, clusters=[4])
    assert not (tmp_path / "units").exists()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"mfcc": True}, "give --clusters, or --kmeans"),
        ({"mfcc": True, "clusters": [5], "kmeans_model": "km.npz"}, "give --clusters, or --kmeans"),
        ({"clusters": [5]}, "cluster: give a checkpoint and layers, or --mfcc"),
        ({"mfcc": True, "layers": [3], "clusters": [5]}, "cluster: give a checkpoint and layers, or --mfcc"),
        ({"mfcc": True, "clusters": [5], "max_frames": 4}, "5 clusters, but only"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, fold, how, message):
    lengths = (1000,)  # two frames
    soundfile.write(tmp_path / "a.wav", np.zeros(1000, np.float32), 16000)
    write_manifest(tmp_path / "ssl.tsv", Manifest(tmp_path, ("a.wav",), lengths))
    with pytest.raises(ExperimentError, match=message):
        cluster([tmp_path / "ssl.tsv"], tmp_path / "units", **how)
    assert not (tmp_path / "units").exists()


def test_manifests_of_one_name_are_refused(tmp_path, fold):
    with pytest.raises(ExperimentError, match="each with another name"):
        cluster([fold / "ssl.tsv", tmp_path / "ssl.tsv"], tmp_path, mfcc=True, clusters=[5])


def test_a_layer_that_the_model_does_not_have(tmp_path, fold, hugging_face_folder):
    with pytest.raises(CheckpointError, match="layer 4 asked for, but the model has layers 1 to 3"):
        cluster([fold / "ssl.tsv"], tmp_path, hugging_face_folder, [4], clusters=[5])
