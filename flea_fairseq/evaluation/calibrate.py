"""`flea calibrate`: probabilities that say how often the model is right, by one temperature.

Guo et al., "On calibration of modern neural networks" (2017): logits are divided by T > 0, which lowers the
cross-entropy of held-out utterances and changes no decision.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from flea_fairseq.data.files import sha256
from flea_fairseq.evaluation.evaluate import all_logits
from flea_fairseq.evaluation.metrics import calibration_error, count_pairs, scores
from flea_fairseq.evaluation.splits import read_split
from flea_fairseq.models.checkpoints import load_classifier, write_model
from flea_fairseq.models.device import on_best_device

RANGE = (0.05, 20.0)  # of T: where every validation utterance is right, the best T would be 0


def calibrate(checkpoint: Path, manifest: Path, output: Path) -> dict[str, Any]:
    """Fit the temperature on a split that the model was not trained on, and write the model with it to `output`.

    `output` may be `checkpoint` itself. Returns what is stored. Raises what `find_calibration` does.
    """
    facts = find_calibration(checkpoint, manifest)
    write_model(checkpoint, output, facts)
    return facts


def find_calibration(checkpoint: Path, manifest: Path) -> dict[str, Any]:
    """What calibrating a classifier on a split finds; the labels are in the `.emo` beside the manifest.

    temperature, and under "validation" the utterances, UA, WA, and the calibration error before and after.
    Raises CheckpointError, CorpusError, FormatError, AudioError.
    """
    model = on_best_device(load_classifier(checkpoint))
    split, labels = read_split(manifest, list(model.classes))
    truth = np.array([model.classes.index(label) for label in labels])
    logits = all_logits(model, split.paths(), "calibrate").double().numpy()
    temperature = fit_temperature(logits, truth)
    predicted = logits.argmax(1)
    result = scores(count_pairs(truth, predicted, len(model.classes)))
    before, after = (
        calibration_error(softmax(logits / t, axis=1).max(1), predicted == truth) for t in (1.0, temperature)
    )
    validation = {"utterances": result.n, "ua": result.ua, "wa": result.wa, "ece_before": before, "ece": after,
                  "manifest": sha256(manifest)[:12]}  # fmt: skip
    return {"temperature": temperature, "validation": validation}


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The T within RANGE of the least cross-entropy: logits (N, C), class indices (N,)."""

    def cross_entropy(log_t: float) -> float:
        return -log_softmax(logits / np.exp(log_t), axis=1)[np.arange(len(truth)), truth].mean()

    found = minimize_scalar(cross_entropy, bounds=np.log(RANGE), method="bounded")
    return float(np.exp(found.x))
