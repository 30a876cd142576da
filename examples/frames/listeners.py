"""What is said of each frame of a recording: by a classifier, and by whatever it has to be better than."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from flea_fairseq.clustering.emotions import emotion_shares, units_of
from flea_fairseq.data.audio import FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE, frame_count
from flea_fairseq.evaluation.splits import read_split
from flea_fairseq.inference.frame_units import load_units
from flea_fairseq.inference.recognizer import EmotionRecognizer
from flea_fairseq.models.flea_classifier import FleaClassifier

HOP = 5  # frames between two windows of the sliding classifier
MOST_FRAMES = 20_000  # on which a probe is fitted
AVERAGE = "mean"  # the name of its pooling


@dataclass(frozen=True)
class Heard:
    """posteriors: (T, C) of each frame's emotions; attention: (T,), None where the pooling learns none."""

    posteriors: np.ndarray
    attention: np.ndarray | None = None


Listener = Callable[[np.ndarray], Heard]  # (samples,) -> of every frame


def classifier(model: Path, context: float | None = None) -> Listener:
    """What `flea predict` says; context: seconds of it in place of those that the model was trained with.

    The weights of average pooling say nothing, and those of a head that judges frames are of the emotion that wins,
    be it the neutral one: neither is attention to emotional frames.
    """
    recognizer = EmotionRecognizer.from_pretrained(model, window=1e6, context=context)
    attends = not (recognizer.model.pooling_name == AVERAGE or recognizer.model.pooling.judges_frames)

    def listen(samples: np.ndarray) -> Heard:
        said = recognizer(samples, SAMPLE_RATE)
        return Heard(said.posteriors, said.attention if attends else None)

    return listen


def sliding(model: Path, seconds: float) -> Listener:
    """The same classifier on windows of so many seconds, each by itself; a frame has the mean of those that hold it."""
    recognizer = EmotionRecognizer.from_pretrained(model)
    length = frame_count(round(seconds * SAMPLE_RATE))

    def listen(samples: np.ndarray) -> Heard:
        frames = frame_count(len(samples))
        starts = list(range(0, max(frames - length, 0), HOP)) + [max(frames - length, 0)]
        spans = [(start, min(start + length, frames)) for start in starts]
        cut = [samples[a * HOP_SAMPLES : (b - 1) * HOP_SAMPLES + FRAME_SAMPLES] for a, b in spans]
        with torch.inference_mode():
            logits = recognizer.model.listen([torch.from_numpy(window) for window in cut])["logits"]
        said = recognizer.model.probabilities(logits).cpu().numpy()
        total, count = np.zeros((frames, said.shape[1])), np.zeros((frames, 1))
        for (start, stop), one in zip(spans, said):
            total[start:stop] += one
            count[start:stop] += 1
        return Heard(total / count)

    return listen


def clusters(kmeans: Path, model: Path, fold: Path, classes: Sequence[str]) -> Listener:
    """P(emotion | cluster) of each frame's cluster, from the labels of training utterances alone; the clusters of their
    frames lie beside the k-means model."""
    train, labels = read_split(fold / "train.tsv", list(classes))
    rows, number = units_of(train.names, kmeans.parent, kmeans.stem, fold / "ssl.tsv")
    known, shares = load_units(kmeans, model), emotion_shares(rows, labels, classes, number)

    def listen(samples: np.ndarray) -> Heard:
        return Heard(shares.T[known.label(samples)])

    return listen


def probe(path: Path, recordings: Sequence[tuple[np.ndarray, Sequence[str]]], seed: int) -> Listener:
    """The oracle: a linear classifier of a model's frames, fitted on the true emotion of every frame of other
    recordings. The encoder has been trained on the utterances in them, so it may fit them too well."""
    model = EmotionRecognizer.from_pretrained(path).model
    frames, truth = [], []
    for samples, names in recordings:
        frames.append(_encoded(model, samples))
        truth += names
    x, y = np.concatenate(frames), np.array(truth)
    chosen = np.random.default_rng(seed).permutation(len(x))[:MOST_FRAMES]
    fitted = fitted_regression(x[chosen], y[chosen])
    order = [list(fitted.classes_).index(name) for name in model.classes]

    def listen(samples: np.ndarray) -> Heard:
        return Heard(fitted.predict_proba(_encoded(model, samples))[:, order])

    return listen


def fitted_regression(x: np.ndarray, y: np.ndarray) -> Pipeline:
    """Logistic regression on standardised values, every class as heavy as any other."""
    regression = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
    return make_pipeline(StandardScaler(), regression).fit(x, y)


@torch.inference_mode()
def _encoded(model: FleaClassifier, samples: np.ndarray) -> np.ndarray:
    return model.listen([torch.from_numpy(samples)])["x"][0].float().cpu().numpy()
