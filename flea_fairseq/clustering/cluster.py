"""`flea cluster`: from audio to frame labels (`.km`) in one pass; frames are fitted and assigned, and not stored."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flea_fairseq.clustering.embedding import Embedding, embed, open_embedding
from flea_fairseq.clustering.fit import draw, fitted_models, most_frames
from flea_fairseq.clustering.kmeans import read_kmeans, write_kmeans
from flea_fairseq.clustering.label import check_model, write_label_set
from flea_fairseq.clustering.label_set import LabelSet
from flea_fairseq.clustering.recordings import Recording, read_recordings
from flea_fairseq.data.files import replacing_files
from flea_fairseq.errors import ExperimentError

Encoded = tuple[Recording, list[np.ndarray]]  # a recording and its frames of each source

TOGETHER = 4096  # frames assigned at once: 12 MiB of a layer of 768 dimensions


def cluster(
    manifests: Sequence[Path],
    output: Path,
    checkpoint: Path | None = None,
    layers: Sequence[int] = (),
    mfcc: bool = False,
    clusters: Sequence[int] = (),
    kmeans_model: Path | None = None,
    fitted: Path | None = None,
    max_frames: int | None = None,
    seed: int = 1,
    restarts: int = 1,
    iterations: int = 50,
    batch_seconds: float | None = None,
    bf16: bool = False,
) -> list[Path]:
    """Fit k-means on the first manifest's frames, label the recordings of all; return the `.km` files.

    Writes `output/l9/{km50.npz, dict.km50.txt, <manifest>.km50}` for each layer and K, or below `output/mfcc`; with
    `kmeans_model` (one layer) nothing is fitted, and the label set is called `km`; with `fitted`, a folder that
    `flea fit` wrote, its models of these layers and K label. Each recording is encoded once.

    Fitted on all frames of the first manifest, or, where they are more than `max_frames` (None: as many as take 2 GiB
    over all layers), on those of utterances drawn with `seed`. `flea kmeans` draws single frames: those of whole
    utterances are more alike, so draw more of them. The frames are fitted utterance by utterance as encoded alone; of
    the rest as many are encoded at once as make `batch_seconds` (None: 120 on a GPU, one by one on a CPU), and again
    alone where rounding might turn a label. So labels do not depend on `batch_seconds`, except with bf16 (matrix
    products in half precision), where rounding is larger than what this could catch. Memory is `max_frames`, a batch,
    five minutes of decoded audio, and 1 or 2 bytes a frame and label set.

    Raises ExperimentError for options that do not go together, CheckpointError, FormatError, AudioError; then no file
    is written.
    """
    splits = _read_splits(manifests, bool(clusters) != (kmeans_model is not None) and not (kmeans_model and fitted))
    embedding = open_embedding("cluster", checkpoint, layers, mfcc, bf16)
    if kmeans_model is not None:
        sets = [_given(kmeans_model, embedding, checkpoint)]
    elif fitted is not None:
        sets = list(_read_sets(fitted, embedding, checkpoint, clusters))
    else:
        first = next(iter(splits))
        sample = draw(splits[first], max_frames or most_frames(embedding), seed)
        how = {"seed": seed, "restarts": restarts, "iterations": iterations}
        sets = list(_fitted(embedding, sample, clusters, first, how))
    corpus = dict.fromkeys(recording for recordings in splits.values() for recording in recordings)
    rest = [recording for recording in corpus if recording not in sets[0].units]
    _label(embedding, rest, sets, embedding.batch_seconds if batch_seconds is None else batch_seconds)
    own = kmeans_model is None and fitted is None
    return _write(splits, embedding.folders(output), sets, own)


def _read_splits(manifests: Sequence[Path], one_kind: bool) -> dict[Path, list[Recording]]:
    """The recordings of each manifest."""
    if not one_kind:
        raise ExperimentError("cluster: give --clusters, or --kmeans with a model, and not both")
    paths = [Path(manifest) for manifest in manifests]
    if not paths or len({path.stem for path in paths}) < len(paths):
        raise ExperimentError(
            f"cluster: manifests {', '.join(map(str, paths)) or 'are missing'}; give one or more, "
            "each with another name, since their labels lie beside each other"
        )
    return {path: read_recordings(path) for path in paths}


def _given(path: Path, embedding: Embedding, checkpoint: Path | None) -> LabelSet:
    if len(embedding.sources) > 1:
        raise ExperimentError(f"cluster: {path} is a model of one layer, but {len(embedding.sources)} are asked for")
    model = read_kmeans(path)
    check_model(checkpoint or Path("mfcc"), embedding.dim, embedding.sources[0], path, model)
    return LabelSet("km", 0, model)


def _read_sets(
    fitted: Path, embedding: Embedding, checkpoint: Path | None, clusters: Sequence[int]
) -> Iterator[LabelSet]:
    for layer, (folder, source) in enumerate(zip(embedding.folders(fitted), embedding.sources)):
        for count in dict.fromkeys(clusters):
            path = folder / f"km{count}.npz"
            model = read_kmeans(path)
            check_model(checkpoint or Path("mfcc"), embedding.dim, source, path, model)
            yield LabelSet(f"km{count}", layer, model)


def _fitted(
    embedding: Embedding, sample: Sequence[Recording], clusters: Sequence[int], manifest: Path, how: dict[str, Any]
) -> Iterator[LabelSet]:
    """Fit a model of each source and K on the sample's frames, and label them."""
    for layer, model, frames in fitted_models(embedding, sample, clusters, manifest, how):
        label_set = LabelSet(f"km{model.clusters}", layer, model)
        label_set.label(sample, frames)
        yield label_set


def _label(
    embedding: Embedding, recordings: Sequence[Recording], sets: Sequence[LabelSet], batch_seconds: float
) -> None:
    """Assign every recording's frames; those that were encoded with others and are in doubt once more, alone."""
    doubtful = []
    for group in _together(embed(embedding, recordings, "label", batch_seconds)):
        if batch_seconds and not embedding.bf16:
            unsure = [any(units.doubtful(layers[units.layer]) for units in sets) for _, layers in group]
            doubtful += [recording for (recording, _), again in zip(group, unsure) if again]
            group = [member for member, again in zip(group, unsure) if not again]
        for units in sets if group else ():
            units.label(
                [recording for recording, _ in group], np.concatenate([layers[units.layer] for _, layers in group])
            )
    if doubtful:
        _label(embedding, doubtful, sets, 0)


def _together(embedded: Iterator[Encoded]) -> Iterator[list[Encoded]]:
    """Groups of TOGETHER frames: at every change numpy's threads and torch's disturb each other.

    Assigned after each recording they took a quarter of the whole time (two cores), together less than can be seen.
    """
    group: list[Encoded] = []
    frames = 0
    for recording, layers in embedded:
        group.append((recording, layers))
        frames += recording.frames
        if frames >= TOGETHER:
            yield group
            group, frames = [], 0
    if group:
        yield group


def _write(
    splits: dict[Path, list[Recording]], folders: Sequence[Path], sets: Sequence[LabelSet], models: bool
) -> list[Path]:
    written = []
    for units in sets:
        folder = folders[units.layer]
        with replacing_files(folder, last=tuple(f"{manifest.stem}.{units.name}" for manifest in splits)) as temporary:
            if models:
                write_kmeans(temporary / f"{units.name}.npz", units.model)
            for manifest, recordings in splits.items():
                rows = (units.units[recording] for recording in recordings)
                path = write_label_set(temporary, manifest.stem, units.name, units.model.clusters, rows)
                written.append(folder / path.name)
    return written
