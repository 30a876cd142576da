"""`flea cluster`: from audio to frame labels (`.km`) in one pass; frames are fitted and assigned, and not stored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from flea_fairseq.clustering.embedding import Embedding, embed, open_embedding
from flea_fairseq.clustering.kmeans import KMeansModel, fit_kmeans, read_kmeans, write_kmeans
from flea_fairseq.clustering.label import check_model, write_label_set
from flea_fairseq.clustering.recordings import Recording, read_recordings
from flea_fairseq.errors import ExperimentError

MEMORY = 2 << 30  # bytes of float32 frames to fit on: 699,050 of one layer of 768 dimensions, 233,016 of three
TOGETHER = 4096  # frames assigned at once: 12 MiB of a layer of 768 dimensions
ROUNDING = 3e-5  # of a frame's length: 28 times what padding changed in HuBERT-base (1.1e-6)


@dataclass
class LabelSet:
    """One k-means model and the units it gave; layer: which of the embedding's sources it reads."""

    name: str
    layer: int
    model: KMeansModel
    units: dict[Recording, np.ndarray] = field(default_factory=dict)

    def label(self, recordings: Sequence[Recording], frames: np.ndarray) -> None:
        """Assign the frames of recordings, one after the other: (T, D) in all."""
        units = self.model.assign(frames).astype(np.min_scalar_type(self.model.clusters))  # 1 or 2 bytes a frame
        ends = np.cumsum([recording.frames for recording in recordings])
        self.units.update(zip(recordings, np.split(units, ends[:-1])))

    def doubtful(self, frames: np.ndarray) -> bool:
        """Whether rounding may turn a label: a frame lies as good as in the middle between its two nearest centroids.

        Moving a frame x by r|x| changes the difference of its squared distances to a and b by 2 r|x||a - b| at most.
        """
        if self.model.clusters == 1:
            return False
        centroids, frames = self.model.centroids.astype(np.float64), frames.astype(np.float64)
        distances = self.model.relative_distances(frames)
        first, second = np.argpartition(distances, 1)[:, :2].T
        rows = np.arange(len(frames))
        gaps = np.abs(distances[rows, first] - distances[rows, second])
        apart = np.linalg.norm(centroids[first] - centroids[second], axis=1)
        return bool((gaps <= 2 * ROUNDING * np.linalg.norm(frames, axis=1) * apart).any())


def cluster(
    manifests: Sequence[Path],
    output: Path,
    checkpoint: Path | None = None,
    layers: Sequence[int] = (),
    mfcc: bool = False,
    clusters: Sequence[int] = (),
    kmeans_model: Path | None = None,
    max_frames: int | None = None,
    seed: int = 1,
    restarts: int = 1,
    iterations: int = 50,
    batch_seconds: float | None = None,
    bf16: bool = False,
) -> list[Path]:
    """Fit k-means on the first manifest's frames, label the recordings of all; return the `.km` files.

    Writes `output/l9/{km50.npz, dict.km50.txt, <manifest>.km50}` for each layer and K, or below `output/mfcc`; with
    `kmeans_model` (one layer) nothing is fitted, and the label set is called `km`. Each recording is encoded once.

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
    splits = _read_splits(manifests, bool(clusters) != (kmeans_model is not None))
    embedding = open_embedding("cluster", checkpoint, layers, mfcc, bf16)
    if kmeans_model is not None:
        sets = [_given(kmeans_model, embedding, checkpoint)]
    else:
        first = next(iter(splits))
        sample = draw(splits[first], max_frames or MEMORY // (4 * embedding.dim * len(embedding.sources)), seed)
        settings = {"seed": seed, "restarts": restarts, "iterations": iterations}
        sets = list(_fitted(embedding, sample, list(dict.fromkeys(clusters)), first, settings))
    corpus = dict.fromkeys(recording for recordings in splits.values() for recording in recordings)
    rest = [recording for recording in corpus if recording not in sets[0].units]
    _label(embedding, rest, sets, embedding.batch_seconds if batch_seconds is None else batch_seconds)
    return _write(splits, embedding.folders(output), sets, fitted=kmeans_model is None)


def draw(recordings: Sequence[Recording], max_frames: int, seed: int) -> list[Recording]:
    """Recordings in a random order until the next would be too many frames, one at least; in the manifest's order."""
    order = np.random.default_rng(seed).permutation(len(recordings))
    total = np.cumsum([recordings[i].frames for i in order])
    chosen = max(1, int(np.searchsorted(total, max_frames, side="right")))
    return [recordings[i] for i in np.sort(order[:chosen])]


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


def _fitted(
    embedding: Embedding, sample: Sequence[Recording], clusters: Sequence[int], manifest: Path, settings: dict
) -> Iterator[LabelSet]:
    """Fit a model of each source and K on the sample's frames, and label them; a source's frames are freed after it."""
    ends = np.cumsum([recording.frames for recording in sample])
    held = [np.empty((ends[-1], embedding.dim), np.float32) for _ in embedding.sources]
    for end, (recording, layers) in zip(ends, embed(embedding, sample, "frames to fit on")):
        for rows, frames in zip(held, layers):
            rows[end - recording.frames : end] = frames
    for layer, source in enumerate(embedding.sources):
        frames, held[layer] = held[layer], np.empty(0)
        for count in clusters:
            model = fit_kmeans(frames, count, source, f"{manifest}: {source}", **settings)
            if embedding.bf16:
                model = replace(model, metadata={**model.metadata, "bf16": True})
            label_set = LabelSet(f"km{count}", layer, model)
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


def _together(embedded: Iterator[tuple[Recording, list[np.ndarray]]]) -> Iterator[list]:
    """Groups of TOGETHER frames: at every change numpy's threads and torch's disturb each other.

    Assigned after each recording they took a quarter of the whole time (two cores), together less than can be seen.
    """
    group, frames = [], 0
    for recording, layers in embedded:
        group.append((recording, layers))
        frames += recording.frames
        if frames >= TOGETHER:
            yield group
            group, frames = [], 0
    if group:
        yield group


def _write(
    splits: dict[Path, list[Recording]], folders: Sequence[Path], sets: Sequence[LabelSet], fitted: bool
) -> list[Path]:
    written = []
    for units in sets:
        folder = folders[units.layer]
        if fitted:
            write_kmeans(folder / f"{units.name}.npz", units.model)
        for manifest, recordings in splits.items():
            rows = (units.units[recording] for recording in recordings)
            written.append(write_label_set(folder, manifest.stem, units.name, units.model.clusters, rows))
    return written
