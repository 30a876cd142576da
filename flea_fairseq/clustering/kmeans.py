"""`flea kmeans`: fit k-means on feature files; the model file, and assigning frames with it."""

import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from tqdm import tqdm

from flea_fairseq.clustering.features import Features, Source, read_features
from flea_fairseq.clustering.sklearn_model import read_sklearn_centroids
from flea_fairseq.data.files import replacing
from flea_fairseq.errors import CheckpointError, ExperimentError, FormatError

CHUNK = 2048  # frames at once: with 500 clusters, 8 MB of distances; larger arrays would be new memory every time
SEEDING = 64  # frames a cluster among which the first centroids are chosen
TOLERANCE = 1e-4  # a smaller gain of one iteration, as a part of the inertia, is not worth its time


@dataclass(frozen=True)
class KMeansModel:
    """centroids: (K, D) float32; metadata: how and from what they were made, as far as that is known."""

    centroids: np.ndarray
    metadata: dict[str, Any]

    @property
    def clusters(self) -> int:
        return self.centroids.shape[0]

    @property
    def dim(self) -> int:
        return self.centroids.shape[1]

    @property
    def source(self) -> Source | None:
        """What made the features it was fitted on; None for scikit-learn's models, which do not say."""
        return Source(self.metadata["source"], self.metadata["layer"]) if "layer" in self.metadata else None

    def assign(self, frames: np.ndarray) -> np.ndarray:
        """The nearest centroid of each frame, the first of equals: (T, D) -> (T,) int64.

        |x - c|^2 = |x|^2 - 2xc + |c|^2 in double precision, without |x|^2, which is the same for all centroids.
        """
        units = np.empty(len(frames), np.int64)
        for start in range(0, len(frames), CHUNK):
            self.relative_distances(frames[start : start + CHUNK]).argmin(1, out=units[start : start + CHUNK])
        return units

    def relative_distances(self, frames: np.ndarray) -> np.ndarray:
        """|x - c|^2 - |x|^2 of each frame and centroid, in double precision: (T, D) -> (T, K)."""
        squares, doubled = self._factors
        distances = frames.astype(np.float64, copy=False) @ doubled
        distances += squares
        return distances

    @cached_property
    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        """|c|^2 and -2c in double precision: (K,), (D, K)."""
        centroids = self.centroids.astype(np.float64)
        return np.square(centroids).sum(1), -2 * centroids.T

    def squared_distances(self, frames: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Of each frame to the centroid of its unit, in double precision: (T, D), (T,) -> (T,)."""
        distances = np.empty(len(frames))
        for start in range(0, len(frames), CHUNK):
            part = slice(start, start + CHUNK)
            apart = np.subtract(frames[part], self.centroids[units[part]], dtype=np.float64)
            np.einsum("td,td->t", apart, apart, out=distances[part])
        return distances

    def inertia(self, frames: np.ndarray) -> float:
        """The mean squared distance of the frames to their centroid: (T, D) -> number."""
        return float(self.squared_distances(frames, self.assign(frames)).mean())


def kmeans(
    features: Path,
    split: str,
    output: Path,
    clusters: int,
    shards: int = 1,
    seed: int = 1,
    restarts: int = 1,
    iterations: int = 50,
    max_frames: int | None = None,
    gpu: bool = False,
) -> KMeansModel:
    """Fit k-means on the frames of a split and write `output`; of several restarts the one with the lowest inertia.

    max_frames: fit on a seeded sample of so many frames (None: all); the same seed gives the same file.
    Raises FormatError for features that are missing or damaged, ExperimentError for more clusters than frames.
    """
    if gpu and not faiss.get_num_gpus():
        raise ExperimentError("kmeans: faiss sees no GPU; install faiss-gpu, or leave out --gpu")
    content = read_features(features, split, shards)
    frames = _sample(content, max_frames, seed)
    model = fit_kmeans(frames, clusters, content.source, f"{features}: {split}", seed, restarts, iterations, gpu)
    write_kmeans(output, model)
    return model


def fit_kmeans(
    frames: np.ndarray,
    clusters: int,
    source: Source | None,
    where: str,
    seed: int = 1,
    restarts: int = 1,
    iterations: int = 50,
    gpu: bool = False,
) -> KMeansModel:
    """Fit k-means: (T, D) float32 -> K centroids; of several restarts the one with the lowest inertia.

    source: what made the frames, kept as metadata; where: names the frames in messages. Raises ExperimentError for
    more clusters than frames, FormatError for frames that are not finite.
    """
    check_clusters(clusters, len(frames), where)
    if not np.isfinite(frames.sum(dtype=np.float64)):
        raise FormatError(f"{where}: holds frames that are not finite numbers; extract them again")
    settings = {"clusters": clusters, "seed": seed, "restarts": restarts, "iterations": iterations}
    known = {"source": source.name, "layer": source.layer} if source else {"source": "unknown"}
    with tqdm(total=restarts * iterations, desc="kmeans", unit="iteration", disable=None) as bar:
        fits = [_fit(frames, clusters, seed + restart, iterations, gpu, bar) for restart in range(restarts)]
    centroids, inertia = min(fits, key=lambda fit: fit[1])
    size = {"dim": frames.shape[1], "frames": len(frames)}
    metadata = {**known, **settings, **size, "inertia": inertia, "faiss": faiss.__version__}
    return KMeansModel(centroids, metadata)


def check_clusters(clusters: int, frames: int, where: str) -> None:
    """Raise ExperimentError for more clusters than frames; `where` names the frames."""
    if clusters > frames:
        raise ExperimentError(f"{where}: {clusters} clusters, but only {frames} frames to fit them on")


def write_kmeans(path: str | Path, model: KMeansModel) -> None:
    """Write `kmeans.npz`: the centroids, and the metadata as JSON text."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, centroids=model.centroids, metadata=np.array(json.dumps(model.metadata)))


def read_kmeans(path: str | Path) -> KMeansModel:
    """Read `kmeans.npz`, or the centroids of a scikit-learn model that joblib wrote. Raises CheckpointError."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such k-means model; fit one with flea kmeans")
    with open(path, "rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if not is_zip:
        centroids = read_sklearn_centroids(path)
        return KMeansModel(centroids, {"source": "scikit-learn", "clusters": len(centroids), "dim": centroids.shape[1]})
    try:
        with np.load(path, allow_pickle=False) as arrays:
            centroids, metadata = arrays["centroids"], json.loads(str(arrays["metadata"]))
        if centroids.dtype != np.float32 or centroids.shape != (metadata["clusters"], metadata["dim"]):
            raise ValueError(f"{centroids.dtype} centroids of shape {centroids.shape}")
        if not np.isfinite(centroids).all():
            raise ValueError("centroids that are not finite numbers")
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: not a whole k-means model ({error}); fit it again with flea kmeans") from None
    return KMeansModel(centroids, metadata)


def _sample(features: Features, max_frames: int | None, seed: int) -> np.ndarray:
    total = int(features.lengths.sum())
    if max_frames is None or max_frames >= total:
        return features.frames()
    return features.frames(_draw(total, max_frames, seed))


def _draw(total: int, count: int, seed: int) -> np.ndarray:
    """Sorted numbers of `count` of `total` frames, or of all if there are fewer."""
    return np.sort(np.random.default_rng(seed).choice(total, min(count, total), replace=False))


def _fit(
    frames: np.ndarray, clusters: int, seed: int, iterations: int, gpu: bool, bar: "tqdm[Any]"
) -> tuple[np.ndarray, float]:
    """Lloyd's algorithm from `_seeds`: (T, D) -> (K, D) and the inertia; every unit is used if it can be.

    It ends after `iterations`, or when one of them gains too little. One iteration a call, which gives the same bits as
    all in one, for the progress bar and for stopping early.
    """
    step = faiss.Kmeans(
        frames.shape[1],
        clusters,
        niter=1,
        seed=seed,
        max_points_per_centroid=2**31 - 1,  # no sampling, and no warning about few points
        min_points_per_centroid=1,
        check_input_data_for_NaNs=False,  # done before, once
        gpu=gpu,
    )
    centroids, before = _seeds(frames, clusters, seed), np.inf
    for iteration in range(iterations):
        inertia = step.train(frames, init_centroids=centroids)  # that of the centroids before this iteration
        centroids = np.asarray(step.centroids)
        bar.update()
        if inertia >= (1 - TOLERANCE) * before:
            bar.update(iterations - iteration - 1)
            break
        before = inertia
    return _with_all_used(frames, centroids)


def _seeds(frames: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Greedy k-means++ on a seeded sample of the frames: (T, D) -> (K, D).

    Greedy: each centroid is the best of 2 + log K draws; in 768 dimensions plain k-means++ draws too many odd frames.
    In double precision, which scikit-learn would otherwise turn the frames into for every centroid again.
    """
    from sklearn.cluster import kmeans_plusplus  # two seconds that labelling need not pay

    sample = frames[_draw(len(frames), SEEDING * clusters, seed)].astype(np.float64)
    return kmeans_plusplus(sample, clusters, random_state=seed)[0].astype(np.float32)


def _with_all_used(frames: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, float]:
    """Move centroids that no frame is near to onto the frames farthest from theirs, while that lowers the inertia.

    Returns the centroids (K, D) and the inertia. A unit stays unused only where fewer frames differ than there are
    units.
    """
    one = np.zeros(len(frames), np.int64)
    while True:
        model = KMeansModel(centroids, {})
        units = model.assign(frames)
        distances = model.squared_distances(frames, units)
        unused = np.setdiff1d(np.arange(model.clusters), units)
        if not len(unused) or not distances.any():
            return centroids, float(distances.mean())
        centroids = centroids.copy()
        for unit in unused:
            centroids[unit] = frames[distances.argmax()]
            distances = np.minimum(distances, KMeansModel(centroids[unit][None], {}).squared_distances(frames, one))
