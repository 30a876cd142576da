"""`flea project`: the same frames as two checkpoints embed them, in two dimensions, and how far emotions lie apart.

What the eye sees in t-SNE depends on its settings; the two numbers are taken before it, on the embeddings themselves.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import balanced_accuracy_score, silhouette_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from flea_fairseq.clustering.extract import extract
from flea_fairseq.clustering.features import read_features
from flea_fairseq.data.audio import frame_count
from flea_fairseq.data.files import hidden_folder, write_text
from flea_fairseq.data.manifest import read_dictionary, utterance_id
from flea_fairseq.errors import CorpusError
from flea_fairseq.evaluation.splits import read_split

NEIGHBOURS = 10
PERPLEXITY = 30
COMPONENTS = 50


def project(
    manifest: Path, before: Path, after: Path, layer: int, output: Path, frames: int = 2000, seed: int = 1
) -> dict[str, Any]:
    """Embed `frames` frames of a split (.tsv with .emo) by layer `layer` of two checkpoints; write JSON to `output`.

    The frames are dealt evenly to the emotions and, in each, to its utterances, and drawn with `seed`. Both sides hold
    `points` (PCA to 50 dimensions, t-SNE to 2), `knn`: balanced accuracy of a frame's emotion by vote of its nearest
    frames in other utterances, and `silhouette` by emotion (-1 to 1; 0: the emotions lie in each other).
    Raises CorpusError of fewer than two emotions or utterances, FormatError, AudioError, CheckpointError.
    """
    manifest, output = Path(manifest), Path(output)
    split, labels = read_split(manifest, read_dictionary(manifest.parent / "dict.emo.txt"))
    if len(set(labels)) < 2:
        raise CorpusError(f"{manifest}: one emotion only, {labels[0]!r}; expected two or more to tell apart")
    lengths = np.array([frame_count(samples) for samples in split.frames])
    rows, owners = sample(lengths, labels, frames, np.random.default_rng(seed))
    ids = [utterance_id(name) for name in split.names]
    emotions = np.array(labels)[owners]
    sides = {}
    for side, checkpoint in (("before", before), ("after", after)):
        embedded = embed(manifest, Path(checkpoint), layer, rows, output)
        sides[side] = {
            "points": flat(embedded, seed).astype(float).round(3).tolist(),
            "knn": round(nearest_accuracy(embedded, emotions, owners), 6),
            "silhouette": round(float(silhouette_score(embedded, emotions)), 6),
        }
    facts = {
        "layer": layer,
        "neighbours": NEIGHBOURS,
        "emotions": emotions.tolist(),
        "utterances": [ids[owner] for owner in owners],
        **sides,
        "knn_chance": 1 / len(set(labels)),
        "silhouette_chance": 0.0,
    }
    write_text(output, json.dumps(facts) + "\n")
    return facts


def sample(
    lengths: np.ndarray, labels: list[str], frames: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw frames of a split: their rows among all frames, sorted, (R,), and the utterance of each, (R,)."""
    emotions, index = np.unique(labels, return_inverse=True)
    quota = np.zeros_like(lengths)
    of_emotion = spread(frames, np.bincount(index, weights=lengths).astype(int))
    for emotion in range(len(emotions)):
        quota[index == emotion] = spread(of_emotion[emotion], lengths[index == emotion])
    starts = np.cumsum(lengths) - lengths
    rows = [start + np.sort(random.permutation(n)[:k]) for start, n, k in zip(starts, lengths, quota)]
    return np.concatenate(rows), np.repeat(np.arange(len(lengths)), quota)


def spread(total: int, room: np.ndarray) -> np.ndarray:
    """Deal `total` as evenly as the room that each has allows: (N,) -> (N,)."""
    given = np.zeros_like(room)
    while (left := min(total, room.sum()) - given.sum()) > 0:
        free = np.flatnonzero(given < room)[:left]
        given[free] = np.minimum(given[free] + left // len(free), room[free])
    return given


def embed(manifest: Path, checkpoint: Path, layer: int, rows: np.ndarray, output: Path) -> np.ndarray:
    """The frames at `rows` of a split: (R, D). Those of the whole split lie beside `output` for as long as it takes."""
    with hidden_folder(output) as temporary:
        [features] = extract(manifest, temporary, checkpoint, [layer])
        return read_features(features, manifest.stem).frames(rows)


def flat(embedded: np.ndarray, seed: int) -> np.ndarray:
    """PCA and t-SNE, as scikit-learn has them: (R, D) -> (R, 2)."""
    count = len(embedded)
    reduced = PCA(min(COMPONENTS, count, embedded.shape[1]), random_state=seed).fit_transform(embedded)
    perplexity = min(PERPLEXITY, (count - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)


def nearest_accuracy(embedded: np.ndarray, emotions: np.ndarray, owners: np.ndarray) -> float:
    """Balanced accuracy of the majority of a frame's nearest frames (Euclid, as k-means) outside its utterance."""
    fewest = len(owners) - np.bincount(owners).max()
    voter = KNeighborsClassifier(min(NEIGHBOURS, fewest))
    voted = cross_val_predict(voter, embedded, emotions, groups=owners, cv=LeaveOneGroupOut())
    return float(balanced_accuracy_score(emotions, voted))
