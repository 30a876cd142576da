import json

import faiss
import joblib
import numpy as np
import pytest
import soundfile
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin, pairwise_distances_argmin_min
from support import write_features

from flea_fairseq.clustering.embedding import mfcc_features
from flea_fairseq.clustering.features import Source
from flea_fairseq.clustering.kmeans import (
    KMeansModel,
    _seeds,
    _with_all_used,
    fit_kmeans,
    kmeans,
    read_kmeans,
    write_kmeans,
)
from flea_fairseq.errors import CheckpointError, ExperimentError, FormatError


@pytest.fixture(scope="module")
def speech(tmp_path_factory, emodb_folder):
    """MFCC frames of every twentieth EmoDB recording, and the folder of their feature files in two shards."""
    folder = tmp_path_factory.mktemp("features")
    paths = sorted((emodb_folder / "flac").glob("*.flac"))[::20]
    frames = [mfcc_features(soundfile.read(path, dtype="float32")[0]) for path in paths]
    half = len(frames) // 2
    for shard, part in enumerate((frames[:half], frames[half:])):
        write_features(folder, "ssl", shard, 2, [len(f) for f in part], part, Source("mfcc", None))
    return folder, np.concatenate(frames)


def write_points(folder, points):
    write_features(folder, "ssl", 0, 1, [len(points)], [np.asarray(points, np.float32)], Source("ab" * 32, 9))
    return folder


def test_inertia_is_scikit_learns(tmp_path, speech):
    folder, frames = speech
    ours = kmeans(folder, "ssl", tmp_path / "kmeans.npz", 20, shards=2, restarts=3)
    peer = KMeans(20, n_init=3, random_state=0).fit(frames)
    assert ours.metadata["inertia"] <= 1.02 * peer.inertia_ / len(frames)
    _, distances = pairwise_distances_argmin_min(frames.astype(np.float64), ours.centroids.astype(np.float64))
    assert ours.metadata["inertia"] == pytest.approx(np.mean(distances**2), rel=1e-9)


def test_assignment_is_the_nearest_centroid(tmp_path, speech):
    folder, frames = speech
    ours = kmeans(folder, "ssl", tmp_path / "kmeans.npz", 50, shards=2, iterations=5)
    units = ours.assign(frames)
    assert units.dtype == np.int64 and set(units) <= set(range(50))
    assert np.array_equal(
        units, pairwise_distances_argmin(frames.astype(np.float64), ours.centroids.astype(np.float64))
    )


def test_of_equally_near_centroids_the_first_is_taken():
    model = KMeansModel(np.array([[2, 0], [0, 0], [0, 2], [0, 0]], np.float32), {})
    assert model.assign(np.array([[1, 0], [0, 1], [1, 1], [0, 0], [0, 3]], np.float32)).tolist() == [0, 1, 0, 1, 2]


def test_clusters_far_apart_are_found_exactly(tmp_path):
    centres = np.array([[0, 0], [100, 0], [0, 100], [100, 100]], np.float32)
    points = np.concatenate([centres + offset for offset in ([1, 0], [-1, 0], [0, 1], [0, -1])])
    model = kmeans(write_points(tmp_path, points), "ssl", tmp_path / "kmeans.npz", 4)
    assert sorted(model.centroids.tolist()) == sorted(centres.tolist())
    assert model.metadata["inertia"] == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_file(tmp_path, speech):
    folder, _ = speech
    for name, settings in {
        "a": {},
        "b": {},
        "c": {"seed": 2},
        "d": {"max_frames": 900},
        "e": {"max_frames": 900},
    }.items():
        kmeans(folder, "ssl", tmp_path / f"{name}.npz", 8, shards=2, iterations=4, **settings)
    content = {name: (tmp_path / f"{name}.npz").read_bytes() for name in "abcde"}
    assert content["a"] == content["b"] != content["c"]
    assert content["d"] == content["e"] != content["a"]
    assert read_kmeans(tmp_path / "d.npz").metadata["frames"] == 900


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_unit_is_used_where_frames_differ(seed):
    """Copies of one frame and a few others: wherever the fit starts, some units find no frame at first."""
    rng = np.random.default_rng(seed)
    frames = np.concatenate([np.repeat(rng.standard_normal((1, 3)), 200, 0), rng.standard_normal((12, 3)) * 1e-3])
    model = fit_kmeans(frames.astype(np.float32), 10, None, "frames", seed)
    assert sorted(set(model.assign(frames.astype(np.float32)).tolist())) == list(range(10))


def test_unused_centroids_move_to_the_farthest_frames():
    frames = np.array([[0, 0], [1, 0], [10, 0], [10, 3], [10, -1]], np.float32)
    centroids = np.array([[0.5, 0], [99, 0], [10, 0], [-99, 0]], np.float32)
    moved, inertia = _with_all_used(frames, centroids)
    assert moved.tolist() == [[0.5, 0], [10, 3], [10, 0], [10, -1]]
    assert inertia == pytest.approx((0.25 + 0.25) / 5)


@pytest.mark.parametrize(
    ("frames", "clusters", "used"),
    [
        (np.full((50, 4), 0.1), 3, 1),  # all alike
        (np.zeros((20, 2)), 20, 1),
        (np.repeat(np.arange(10).reshape(5, 2), 20, 0), 8, 5),  # more clusters than different frames
        (np.repeat(np.arange(10).reshape(5, 2), 20, 0), 5, 5),
        (np.arange(18).reshape(9, 2), 9, 9),  # as many clusters as frames
        (np.arange(18).reshape(9, 2), 1, 1),
        (np.ones((1, 2)), 1, 1),
    ],
)
def test_as_many_units_are_used_as_frames_differ(frames, clusters, used):
    frames = frames.astype(np.float32)
    model = fit_kmeans(frames, clusters, None, "frames")
    assert np.isfinite(model.centroids).all() and model.clusters == clusters
    assert len(set(model.assign(frames).tolist())) == used
    if used == len(np.unique(frames, axis=0)):
        assert model.metadata["inertia"] == pytest.approx(0, abs=1e-12)


def test_the_fit_ends_when_it_gains_next_to_nothing(speech):
    """Ten times the iterations give less than a thousandth: what was left out is not worth its time."""
    _, frames = speech
    ours = fit_kmeans(frames, 20, None, "frames", iterations=500)
    peer = KMeans(20, init=ours.centroids, n_init=1, tol=0, max_iter=1000).fit(frames.astype(np.float64))
    assert 0.995 * ours.metadata["inertia"] < peer.inertia_ / len(frames) < ours.metadata["inertia"]


def test_one_iteration_a_call_is_faiss_in_one_call(speech):
    _, frames = speech
    ours = fit_kmeans(frames, 10, None, "frames", seed=5, iterations=7)
    peer = faiss.Kmeans(39, 10, niter=7, max_points_per_centroid=len(frames))
    peer.train(frames, init_centroids=_seeds(frames, 10, seed=5))
    assert np.array_equal(ours.centroids, peer.centroids)


def test_the_first_centroids_are_different_frames_and_good_ones(speech):
    _, frames = speech
    seeds = _seeds(frames, 30, seed=1)
    rows = {row.tobytes() for row in frames}
    assert all(row.tobytes() in rows for row in seeds) and len(np.unique(seeds, axis=0)) == 30
    random = np.random.default_rng(1).choice(frames, (20, 30))
    assert KMeansModel(seeds, {}).inertia(frames) < min(KMeansModel(r, {}).inertia(frames) for r in random)


def test_restarts_keep_the_best(tmp_path, speech):
    folder, _ = speech
    fit = [kmeans(folder, "ssl", tmp_path / "k.npz", 12, shards=2, seed=s, iterations=3) for s in (1, 2, 3)]
    best = min(fit, key=lambda model: model.metadata["inertia"])
    ours = kmeans(folder, "ssl", tmp_path / "k.npz", 12, shards=2, seed=1, iterations=3, restarts=3)
    assert np.array_equal(ours.centroids, best.centroids)
    assert len({model.metadata["inertia"] for model in fit}) == 3


def test_the_model_file_says_how_it_was_made(tmp_path):
    points = np.random.default_rng(0).standard_normal((40, 5))
    kmeans(write_points(tmp_path, points), "ssl", tmp_path / "kmeans.npz", 7, seed=3, iterations=9)
    model = read_kmeans(tmp_path / "kmeans.npz")
    assert model.centroids.shape == (7, 5) and model.centroids.dtype == np.float32
    inertia = model.metadata.pop("inertia")
    assert model.metadata == {
        "source": "ab" * 32, "layer": 9, "clusters": 7, "dim": 5, "seed": 3, "restarts": 1, "iterations": 9,
        "frames": 40, "faiss": faiss.__version__,
    }  # fmt: skip
    assert 0 < inertia < 5 and model.source == Source("ab" * 32, 9)


def test_more_clusters_than_frames_are_refused(tmp_path):
    write_points(tmp_path, np.zeros((6, 2)))
    with pytest.raises(ExperimentError, match="7 clusters, but only 6 frames"):
        kmeans(tmp_path, "ssl", tmp_path / "kmeans.npz", 7)
    with pytest.raises(ExperimentError, match="5 clusters, but only 4 frames"):
        kmeans(tmp_path, "ssl", tmp_path / "kmeans.npz", 5, max_frames=4)
    assert not (tmp_path / "kmeans.npz").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_frames_that_are_not_finite_are_refused(tmp_path, bad):
    write_points(tmp_path, [[0, 1], [2, bad], [3, 3]])
    with pytest.raises(FormatError, match="not finite"):
        kmeans(tmp_path, "ssl", tmp_path / "kmeans.npz", 2)


@pytest.mark.skipif(faiss.get_num_gpus() > 0, reason="faiss sees a GPU here")
def test_a_gpu_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ExperimentError, match="faiss sees no GPU"):
        kmeans(write_points(tmp_path, np.eye(4)), "ssl", tmp_path / "kmeans.npz", 2, gpu=True)


def test_scikit_learns_model_is_read(tmp_path):
    peer = KMeans(4, n_init=1, random_state=0).fit(np.random.default_rng(0).standard_normal((50, 3)))
    joblib.dump(peer, tmp_path / "km.bin")
    model = read_kmeans(tmp_path / "km.bin")
    assert np.array_equal(model.centroids, peer.cluster_centers_.astype(np.float32))
    assert model.metadata == {"source": "scikit-learn", "clusters": 4, "dim": 3} and model.source is None


def damaged(path):
    with pytest.raises(CheckpointError) as caught:
        read_kmeans(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_damaged_model_is_refused(tmp_path):
    path = tmp_path / "kmeans.npz"
    damaged(path)
    write_kmeans(path, KMeansModel(np.eye(3, dtype=np.float32), {"clusters": 3, "dim": 3, "source": "mfcc"}))
    content = path.read_bytes()
    assert read_kmeans(path).clusters == 3
    for size in (0, 3, 50, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        damaged(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"centroids": np.eye(3, dtype=np.float32)},
        {"centroids": np.eye(3, dtype=np.float32), "metadata": np.array("no JSON")},
        {"centroids": np.eye(3, dtype=np.float32), "metadata": np.array("[]")},
        {"centroids": np.eye(3), "metadata": np.array(json.dumps({"clusters": 3, "dim": 3}))},
        {"centroids": np.eye(3, dtype=np.float32), "metadata": np.array(json.dumps({"clusters": 4, "dim": 3}))},
        {"centroids": np.full((3, 3), np.inf, np.float32), "metadata": np.array(json.dumps({"clusters": 3, "dim": 3}))},
        {"centroids": np.array([["x"]], dtype=object), "metadata": np.array(json.dumps({"clusters": 1, "dim": 1}))},
    ],
)
def test_a_model_of_another_kind_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "kmeans.npz", **arrays)
    damaged(tmp_path / "kmeans.npz")
