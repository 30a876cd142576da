"""`flea label`: the frame labels that HuBERT's pretraining reads (`.km`, `dict.km.txt`), and their checks."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from flea_fairseq.clustering.features import Source, read_features
from flea_fairseq.clustering.kmeans import KMeansModel, read_kmeans
from flea_fairseq.data.audio import frame_count
from flea_fairseq.data.files import replacing_files, write_checksum
from flea_fairseq.data.manifest import read_manifest, read_units, write_dictionary, write_units
from flea_fairseq.errors import FormatError


def label(
    features: Path, split: str, manifest: Path, model: Path, output: Path, shards: int = 1, extension: str = "km"
) -> Path:
    """Assign every frame of a split to its nearest centroid.

    Writes `{output}/{split}.{extension}` (its path is returned) and `{output}/dict.{extension}.txt`, which names the
    units 0 to K-1. Raises FormatError for features that do not fit the manifest's audio at 50 frames a second, or
    that the model was not fitted for; CheckpointError for a model that cannot be read.
    """
    frames = read_features(features, split, shards)
    clustering = read_kmeans(model)
    check_model(features, frames.dim, frames.source, model, clustering)
    _check_lengths(features, frames.places, frames.lengths.tolist(), manifest)
    bar = tqdm(frames.utterances(), total=len(frames.lengths), desc="label", unit="utterance", disable=None)
    units = map(clustering.assign, bar)
    return write_label_set(output, split, extension, clustering.clusters, units)


def write_label_set(folder: Path, split: str, extension: str, clusters: int, units: Iterable[np.ndarray]) -> Path:
    """Write each utterance's units, (T,), to `{folder}/{split}.{extension}` (returned), and their dictionary."""
    name = f"{split}.{extension}"
    with replacing_files(folder, last=(name,)) as temporary:
        write_dictionary(temporary / f"dict.{extension}.txt", map(str, range(clusters)))
        write_units(temporary / name, units)
        write_checksum(temporary / name)
    return Path(folder) / name


def check_units(path: Path, manifest: Path, clusters: int) -> list[np.ndarray]:
    """Read a `.km`, (frames,) an utterance, and check that it fits the manifest's audio and a dictionary of K units.

    Raises FormatError for another number of utterances or frames, or a unit outside 0 to K-1.
    """
    units = read_units(path)
    places = [f"{path}:{line}" for line in range(1, len(units) + 1)]
    _check_lengths(path, places, [len(row) for row in units], manifest)
    for place, row in zip(places, units):
        if row.max() >= clusters:
            raise FormatError(
                f"{place}: unit {row.max()}, expected 0 to {clusters - 1}; it is of another k-means model"
            )
    return units


def check_model(frames: Path, dim: int, source: Source | None, path: Path, model: KMeansModel) -> None:
    """Raise FormatError where the model at `path` was fitted on other frames than these, of `dim` and `source`."""
    if model.dim != dim:
        raise FormatError(
            f"{frames}: {dim}-dimensional frames, but {path} was fitted on {model.dim} dimensions; "
            "fit a model on these features with flea kmeans"
        )
    if model.source and source and model.source != source:
        raise FormatError(
            f"{frames}: frames of {source}, but {path} was fitted on {model.source}; "
            "fit a model on these features with flea kmeans"
        )


def _check_lengths(what: Path, places: Iterable[str], lengths: Sequence[int], manifest: Path) -> None:
    listing = read_manifest(manifest)
    if len(lengths) != len(listing.names):
        raise FormatError(
            f"{what}: {len(lengths)} utterances, but {manifest} lists {len(listing.names)}; "
            "extract and label the same manifest"
        )
    rows = zip(places, lengths, listing.names, listing.frames)
    for line, (place, length, name, samples) in enumerate(rows, start=2):
        if problem := length_problem(length, name, samples, f"{manifest}:{line}"):
            raise FormatError(f"{place}: {problem}")


def length_problem(frames: int, name: str, samples: int, where: str) -> str | None:
    """What is wrong with so many frames of a recording of so many samples, or None."""
    if frames == frame_count(samples):
        return None
    return (
        f"{frames} frames for {name!r}, but its {samples} samples ({where}) make {frame_count(samples)} at 50 a "
        "second; extract and label the same manifest"
    )
