"""Run folders with results that a test knows, as an experiment leaves them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from flea_fairseq.data.corpus import Corpus, Utterance, write_corpus
from flea_fairseq.data.folds import fold_hash
from flea_fairseq.data.manifest import Manifest, write_dictionary, write_labels, write_manifest
from flea_fairseq.evaluation.predictions import Predictions, write_predictions

CLASSES = ("angry", "happy", "neutral", "sad")
SYSTEMS = (
    {"key": "baseline", "title": "Logistic regression", "seeded": False, "group": "baseline"},
    {"key": "tapt", "title": "TAPT", "seeded": True, "group": "tapt"},
    {"key": "flea", "title": "FLEA, attention", "seeded": True},
)
Answers = Callable[[str, str, int | str, np.ndarray], np.ndarray]  # system, fold, seed, truth (N,) -> predicted (N,)


def at_random(system: str, fold: str, seed: int | str, truth: np.ndarray) -> np.ndarray:
    """Right six times of ten (the baseline: four), else any class."""
    random = np.random.default_rng([*f"{system} {fold} {seed}".encode()])
    rate = 0.4 if system == "baseline" else 0.6
    return np.where(random.random(len(truth)) < rate, truth, random.integers(0, len(CLASSES), len(truth)))


def one_fold(fold: int, classes: Sequence[str] = CLASSES) -> np.ndarray:
    """30 (40, 50, ...) class indices of unequal share."""
    return np.random.default_rng(fold).choice(len(classes), 30 + 10 * fold, p=[0.4, 0.3, 0.2, 0.1])


def predictions_of(ids: Sequence[str], truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Predictions:
    """Predictions whose most probable class is the given one."""
    probabilities = np.full((len(truth), len(classes)), 0.1 / (len(classes) - 1))
    probabilities[np.arange(len(truth)), predicted] = 0.9
    return Predictions(tuple(ids), tuple(classes[i] for i in truth), tuple(classes), probabilities)


def make_run(
    run: Path,
    systems: Sequence[dict] = SYSTEMS,
    answers: Answers = at_random,
    truth_of: Callable[[int], np.ndarray] = one_fold,
    folds: Sequence[str] = ("S1", "S2"),
    seeds: Sequence[int] = (1, 2),
    classes: Sequence[str] = CLASSES,
    score: str = "pooled",
    protocol: str = "inner",
    **facts: object,
) -> dict:
    """Write a run folder; gives {(system, fold, seed): (truth, predicted, speakers)}, truth and predicted as labels."""
    utterances, made, names = [], {}, np.array(classes)
    for number, fold in enumerate(folds):
        truth = truth_of(number)
        ids = [f"{fold}_{i}" for i in range(len(truth))]
        speakers = [f"{fold}{'ABB'[i % 3]}" for i in range(len(ids))]
        folder = run / "folds" / fold
        write_manifest(folder / "test.tsv", Manifest(run, tuple(f"{id_}.wav" for id_ in ids), (16000,) * len(ids)))
        write_labels(folder / "test.emo", names[truth].tolist())
        for split in ("train", "valid", "ssl"):
            write_manifest(folder / f"{split}.tsv", Manifest(run, (f"{split}.wav",), (16000,)))
            write_labels(folder / f"{split}.emo", [classes[0]])
        write_dictionary(folder / "dict.emo.txt", classes)
        split = {
            "fold": fold, "protocol": protocol, "score": score, "transductive": False, "hash": fold_hash(folder)
        }  # fmt: skip
        (folder / "fold.json").write_text(json.dumps(split))
        utterances += [
            Utterance(id_, f"{id_}.wav", 16000, speaker, fold, classes[label])
            for id_, speaker, label in zip(ids, speakers, truth)
        ]
        for system in systems:
            for seed in seeds if system["seeded"] else ("any",):
                predicted = answers(system["key"], fold, seed, truth)
                place = f"results/{fold}/{'any' if seed == 'any' else f'seed{seed}'}/{system['key']}/predictions.tsv"
                write_predictions(run / place, predictions_of(ids, truth, predicted, classes))
                made[system["key"], fold, seed] = (names[truth], names[predicted], np.array(speakers))
    write_corpus(run / "corpus.tsv", Corpus(run, tuple(utterances)))
    described = {
        "name": "small", "protocol": protocol, "seeds": list(seeds), "folds": list(folds), "systems": list(systems),
        "versions": {"torch": "2.11.0"}, **facts,
    }  # fmt: skip
    (run / "run.json").write_text(json.dumps(described))
    return made


def grid_systems(layers: Sequence[int], clusters: Sequence[int]) -> list[dict]:
    """The systems of Table 1: TAPT, and FLEA for each layer, K and pooling."""
    cells = [(layer, k, pooling) for layer in layers for k in clusters for pooling in ("mean", "attention")]
    return [
        {"key": "tapt", "title": "TAPT, average pooling", "seeded": True, "group": "tapt"},
        *[
            {
                "key": f"flea_l{layer}_k{k}_{pooling}", "title": f"FLEA, layer {layer}, K {k}, {pooling} pooling",
                "seeded": True, "group": "flea", "layer": layer, "clusters": k, "pooling": pooling,
            }
            for layer, k, pooling in cells
        ],
    ]  # fmt: skip
