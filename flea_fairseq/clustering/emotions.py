"""What clusters of frames say of emotions, by the labels of training utterances alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flea_fairseq.clustering.label import check_units
from flea_fairseq.data.manifest import read_dictionary, read_manifest, utterance_id
from flea_fairseq.errors import FormatError


def emotion_shares(
    units: Sequence[np.ndarray], labels: Sequence[str], classes: Sequence[str], clusters: int
) -> np.ndarray:
    """P(emotion | cluster), were all emotions equally frequent in frames: (C, K); 0 for clusters that are never seen.

    It is proportional to P(cluster | emotion), counted over frames that take their utterance's label.
    """
    counts = np.zeros((len(classes), clusters))
    for row, label in zip(units, labels):
        counts[classes.index(label)] += np.bincount(row, minlength=clusters)
    totals = counts.sum(1, keepdims=True)
    likely = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    seen = likely.sum(0)
    return np.divide(likely, seen, out=np.zeros_like(likely), where=seen > 0)


def units_of(names: Sequence[str], folder: Path, label_set: str, ssl: Path) -> tuple[list[np.ndarray], int]:
    """The clusters of each frame of some utterances, (frames,) each, and K: `folder/ssl.<label_set>` has the utterances
    of the manifest `ssl`. Raises FormatError where one of them is not among these.
    """
    clusters = len(read_dictionary(folder / f"dict.{label_set}.txt"))
    path = folder / f"ssl.{label_set}"
    rows = dict(zip(read_manifest(ssl).names, check_units(path, ssl, clusters)))
    missing = [name for name in names if name not in rows]
    if missing:
        raise FormatError(
            f"{path}: has no frames of {utterance_id(missing[0])!r} and {len(missing) - 1} other utterances that are "
            "trained on; label the fold's ssl.tsv with flea cluster"
        )
    return [rows[name] for name in names], clusters
