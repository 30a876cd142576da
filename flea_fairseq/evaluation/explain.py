"""`flea explain`: the utterances that attention pooling helped and hurt most, each with its attention curve.

A high weight says that the classifier used a frame, not that the frame is emotional.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from flea_fairseq.data.audio import HOP_SAMPLES
from flea_fairseq.data.files import write_text
from flea_fairseq.data.manifest import utterance_id
from flea_fairseq.errors import CheckpointError, CorpusError
from flea_fairseq.evaluation.evaluate import classify
from flea_fairseq.evaluation.predictions import Predictions, read_predictions
from flea_fairseq.evaluation.results import describe_difference
from flea_fairseq.evaluation.splits import read_split, read_utterance
from flea_fairseq.models.checkpoints import load_classifier
from flea_fairseq.models.device import on_best_device
from flea_fairseq.models.flea_classifier import FleaClassifier

TOLERANCE = 0.02  # between devices, of a probability


def explain(
    manifest: Path, checkpoint: Path, mean: Path, attention: Path, output: Path, examples: int = 4
) -> dict[str, Any]:
    """Compare the predictions of one test split (.tsv with .emo) with mean and with attention pooling; write JSON.

    mean, attention: predictions.tsv; checkpoint: the classifier that made the latter. `examples` are the utterances
    whose probability of the true emotion rose most, and those where it fell most: `change`, what each pooling said,
    and for each frame (50 Hz) the waveform's extremes `low` and `high` and its attention, `weights`, to compare with
    `uniform` = 1/T. mended, broken: utterances that attention alone, or mean pooling alone, has right.
    Raises CorpusError for predictions of other utterances, CheckpointError for another model, FormatError, AudioError.
    """
    model = on_best_device(load_classifier(checkpoint))
    split, labels = read_split(manifest, list(model.classes))
    ids = list(map(utterance_id, split.names))
    said = {"mean": _predictions(mean, ids, labels, model.classes)}
    said["attention"] = _predictions(attention, ids, labels, model.classes)
    right = {name: np.array(p.predicted) == np.array(labels) for name, p in said.items()}
    change = of_truth(said["attention"]) - of_truth(said["mean"])
    paths, chosen = split.paths(), extremes(change, examples)
    facts = {
        "classes": list(model.classes),
        "utterances": len(ids),
        "mended": int((right["attention"] & ~right["mean"]).sum()),
        "broken": int((right["mean"] & ~right["attention"]).sum()),
        "examples": [
            {
                "id": ids[i],
                "truth": labels[i],
                "change": round(float(change[i]), 6),
                **{name: _answer(predictions, i) for name, predictions in said.items()},
                **_frames(model, paths[i], said["attention"].probabilities[i]),
            }
            for i in tqdm(chosen, desc="explain", unit="utt", disable=None)
        ],
    }
    write_text(output, json.dumps(facts) + "\n")
    return facts


def of_truth(predictions: Predictions) -> np.ndarray:
    """The probability of each utterance's true emotion: (N,)."""
    columns = [predictions.classes.index(label) for label in predictions.truth]
    return predictions.probabilities[np.arange(len(columns)), columns]


def extremes(change: np.ndarray, count: int) -> list[int]:
    """The rows of the `count` greatest rises, greatest first, then of the `count` greatest falls, greatest first."""
    order = np.argsort(-change, kind="stable")
    rises = [int(i) for i in order if change[i] > 0][:count]
    return rises + [int(i) for i in order[::-1] if change[i] < 0][:count]


def _predictions(path: Path, ids: list[str], labels: list[str], classes: tuple[str, ...]) -> Predictions:
    """Read predictions and check that they are of these utterances, in this order."""
    predictions = read_predictions(path)
    if predictions.classes != classes:
        different = f"classes {', '.join(predictions.classes)} in place of {', '.join(classes)}"
    else:
        different = describe_difference(dict(zip(predictions.ids, predictions.truth)), dict(zip(ids, labels)))
    if different or list(predictions.ids) != ids:
        raise CorpusError(
            f"{path}: not the split's utterances with their labels: {different or 'another order'}; "
            "give the predictions of this split, or run flea evaluate again"
        )
    return predictions


def _answer(predictions: Predictions, row: int) -> dict[str, Any]:
    """What was said of an utterance: the most probable emotion, its probability, and that of the truth."""
    return {
        "prediction": predictions.predicted[row],
        "probability": float(predictions.probabilities[row].max()),
        "truth": float(of_truth(predictions)[row]),
    }


def _frames(model: FleaClassifier, path: Path, expected: np.ndarray) -> dict[str, Any]:
    """What is known of each frame; `expected`: the probabilities (C,) that the model must give."""
    result = classify(model, path)
    probabilities = model.probabilities(result["logits"][0]).cpu().numpy()
    if np.abs(probabilities - expected).max() > TOLERANCE:
        raise CheckpointError(
            f"{path}: the classifier gives probabilities {np.round(probabilities, 3).tolist()}, the predictions say "
            f"{np.round(expected, 3).tolist()}; give the checkpoint that made the attention predictions"
        )
    weights = result["attention"][0].double().cpu().numpy()
    windows = read_utterance(path)[: len(weights) * HOP_SAMPLES].reshape(len(weights), HOP_SAMPLES)
    return {
        "low": np.round(windows.min(1).astype(float), 3).tolist(),
        "high": np.round(windows.max(1).astype(float), 3).tolist(),
        "weights": np.round(weights, 6).tolist(),
        "uniform": round(1 / len(weights), 6),
    }
