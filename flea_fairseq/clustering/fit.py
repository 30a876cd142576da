"""`flea fit`: k-means on the frames of a manifest, several layers and K from one pass, without storing frames."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flea_fairseq.clustering.embedding import Embedding, embed, open_embedding
from flea_fairseq.clustering.kmeans import KMeansModel, check_clusters, fit_kmeans, write_kmeans
from flea_fairseq.clustering.recordings import Recording, read_recordings

MEMORY = 2 << 30  # bytes of float32 frames to fit on: 699,050 of one layer of 768 dimensions, 233,016 of three


def fit(
    manifest: Path,
    output: Path,
    checkpoint: Path | None = None,
    layers: Sequence[int] = (),
    mfcc: bool = False,
    clusters: Sequence[int] = (),
    max_frames: int | None = None,
    seed: int = 1,
    restarts: int = 1,
    iterations: int = 50,
    bf16: bool = False,
) -> list[Path]:
    """Write `output/l9/km50.npz` for each layer and K, or below `output/mfcc`; return these files.

    The models are those that `flea cluster` fits with the same options; its `--fitted` then labels with them, in as
    many jobs as one likes. Raises ExperimentError for options that do not go together, CheckpointError, FormatError,
    AudioError; then no file is written.
    """
    embedding = open_embedding("fit", checkpoint, layers, mfcc, bf16)
    sample = draw(read_recordings(manifest), max_frames or most_frames(embedding), seed)
    how = {"seed": seed, "restarts": restarts, "iterations": iterations}
    models = [(layer, model) for layer, model, _ in fitted_models(embedding, sample, clusters, manifest, how)]
    paths = []
    for layer, model in models:
        paths.append(embedding.folders(output)[layer] / f"km{model.clusters}.npz")
        write_kmeans(paths[-1], model)
    return paths


def most_frames(embedding: Embedding) -> int:
    """As many frames as take MEMORY over all layers."""
    return MEMORY // (4 * embedding.dim * len(embedding.sources))


def draw(recordings: Sequence[Recording], max_frames: int, seed: int) -> list[Recording]:
    """Recordings in a random order until the next would be too many frames, one at least; in the manifest's order."""
    order = np.random.default_rng(seed).permutation(len(recordings))
    total = np.cumsum([recordings[i].frames for i in order])
    chosen = max(1, int(np.searchsorted(total, max_frames, side="right")))
    return [recordings[i] for i in np.sort(order[:chosen])]


def fitted_models(
    embedding: Embedding, sample: Sequence[Recording], clusters: Sequence[int], manifest: Path, how: dict[str, Any]
) -> Iterator[tuple[int, KMeansModel, np.ndarray]]:
    """Fit a model of each source and K on the sample's frames.

    Gives the source's place among the embedding's, the model, and the frames, (T, D), which are freed after the last
    of their models.
    """
    ends = np.cumsum([recording.frames for recording in sample])
    check_clusters(max(clusters), int(ends[-1]), str(manifest))
    held = [np.empty((ends[-1], embedding.dim), np.float32) for _ in embedding.sources]
    for end, (recording, layers) in zip(ends, embed(embedding, sample, "frames to fit on")):
        for rows, frames in zip(held, layers):
            rows[end - recording.frames : end] = frames
    for layer, source in enumerate(embedding.sources):
        frames, held[layer] = held[layer], np.empty(0)
        for count in dict.fromkeys(clusters):
            model = fit_kmeans(frames, count, source, f"{manifest}: {source}", **how)
            yield layer, replace(model, metadata={**model.metadata, "bf16": True}) if embedding.bf16 else model, frames
