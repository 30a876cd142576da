"""`flea score-units`: how many clusters are used, and what they know of emotions and of speakers.

The measures are those of HuBERT's paper (Hsu et al. 2021, on the quality of cluster assignments), there with phones:
for frames with label y in cluster z, purity = sum_z max_y p(y, z), cluster purity = sum_y max_z p(y, z), and
PNMI = I(y; z) / H(y), which is scikit-learn's homogeneity_score.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from flea_fairseq.clustering.label import check_units
from flea_fairseq.data.corpus import read_corpus
from flea_fairseq.data.files import write_text
from flea_fairseq.data.manifest import read_dictionary, utterance_id
from flea_fairseq.errors import CorpusError
from flea_fairseq.evaluation.splits import read_split

MEASURES = ("purity", "cluster_purity", "pnmi")
SHUFFLES = 20
SEED = 1


def score_units(manifest: Path, units: Path, corpus: Path, output: Path, clusters: int) -> dict[str, Any]:
    """Score the frame labels `units` (.km, of K = `clusters`) of a split (.tsv with .emo); write JSON to `output`.

    used: clusters that occur; perplexity: 2 to the entropy of their use in bits, K if all occur equally often. For
    `emotion` and `speaker` (from corpus.tsv) the three measures, each {"value", "chance"}: chance is their mean when
    the same labels are dealt out to the utterances at random. Raises CorpusError, FormatError.
    """
    split, emotions = read_split(manifest, read_dictionary(Path(manifest).parent / "dict.emo.txt"))
    counts = np.stack([np.bincount(row, minlength=clusters) for row in check_units(units, manifest, clusters)])
    use = counts.sum(0)
    facts = {
        "clusters": clusters,
        "used": int(np.count_nonzero(use)),
        "perplexity": round(float(np.exp(entropy(use))), 6),
        "utterances": len(counts),
        "frames": int(use.sum()),
        "emotion": quality(counts, emotions),
        "speaker": quality(counts, _speakers(corpus, list(map(utterance_id, split.names)))),
    }
    write_text(output, json.dumps(facts, indent=2) + "\n")
    return facts


def quality(counts: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """The three measures and their chance. counts: (N, K) frames of each utterance in each cluster; labels: N."""
    names, index = np.unique(labels, return_inverse=True)
    random = np.random.default_rng(SEED)
    shuffled = [_measures(counts, random.permutation(index)) for _ in range(SHUFFLES)]
    pairs = zip(MEASURES, _measures(counts, index), zip(*shuffled))
    return {"labels": len(names), **{name: _beside_chance(value, chance) for name, value, chance in pairs}}


def _measures(counts: np.ndarray, index: np.ndarray) -> tuple[float, float, float]:
    """Purity, cluster purity and PNMI (nan of one label only); index: (N,) the label of each utterance."""
    table = np.zeros((index.max() + 1, counts.shape[1]), dtype=np.int64)
    np.add.at(table, index, counts)
    uncertainty = entropy(table.sum(1))
    information = mutual_info_score(None, None, contingency=table)
    purity, cluster_purity = (table.max(axis).sum() / table.sum() for axis in (0, 1))
    return purity, cluster_purity, information / uncertainty if uncertainty > 0 else np.nan


def _beside_chance(value: float, chance: Sequence[float]) -> dict[str, Any]:
    if np.isnan(value):
        return {"value": None, "chance": None}
    return {"value": round(float(value), 6), "chance": round(float(np.mean(chance)), 6)}


def _speakers(corpus: Path, ids: Sequence[str]) -> list[str]:
    speakers = read_corpus(corpus).speakers()
    if missing := [id_ for id_ in ids if id_ not in speakers]:
        raise CorpusError(
            f"{corpus}: lacks {len(missing)} of the split's {len(ids)} utterances, such as {missing[0]!r}; "
            "use the corpus.tsv that the folds were made of"
        )
    return [speakers[id_] for id_ in ids]
