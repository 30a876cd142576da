"""Compare cluster labels, attention and frame probabilities with known emotional spans, frame by frame.

Attention is not proof of emotion at a frame: its AUC says how far the two agree, on speech where the truth is known.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from flea_fairseq.clustering.emotions import emotion_shares
from flea_fairseq.clustering.label import check_units
from flea_fairseq.data.audio import FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE, frame_count
from flea_fairseq.data.files import write_text
from flea_fairseq.data.manifest import Manifest, read_dictionary, utterance_id
from flea_fairseq.data.spans import Span, read_spans
from flea_fairseq.errors import CorpusError
from flea_fairseq.evaluation.diarisation import diarisation_errors
from flea_fairseq.evaluation.metrics import confusion_matrix, recalls, scores
from flea_fairseq.evaluation.splits import read_split, read_utterance

NEUTRAL = "neutral"  # what a frame outside every span is


def score_frames(
    spans: Path,
    manifest: Path,
    train_manifest: Path,
    units: Path,
    train_units: Path,
    checkpoint: Path | None,
    output: Path,
) -> dict[str, Any]:
    """Score a test split's cluster labels (`units`), and a classifier's frames if given; write JSON to `output`.

    spans: an RTTM file, or a folder of TextGrids named after utterances; what no span covers is neutral.
    frame_ua: clusters are named by `name_clusters` from the training utterances' labels alone, and the frames of the
    test split scored against the spans. attention_auc, energy_auc: can a frame's attention weight, or its log RMS,
    tell emotional from neutral frames? Mean of the AUC of each test utterance that holds both; None without any.
    Of the classifier besides: attention_inside, the mean share of attention on the emotional frames of these
    utterances, beside inside_chance, their share of the frames; posterior_ua, the UA of the frames' likeliest class;
    eder, the mean emotion diarisation error rate of the segments that `flea predict` gives, over all test utterances,
    beside eder_neutral, that of saying neutral always.
    Raises CorpusError, FormatError, AudioError, CheckpointError.
    """
    classes = read_dictionary(Path(train_manifest).parent / "dict.emo.txt")
    if NEUTRAL not in classes:
        raise CorpusError(f"{train_manifest}: classes {', '.join(classes)}, expected {NEUTRAL!r} among them")
    _, train_labels = read_split(train_manifest, classes)
    test, labels = read_split(manifest, classes)
    known = len(read_dictionary(units.with_name(f"dict{units.suffix}.txt")))
    train_clusters, clusters = check_units(train_units, train_manifest, known), check_units(units, manifest, known)
    truth = split_truth(spans, test, labels, classes)

    names = name_clusters(train_clusters, train_labels, classes, known)
    true_frames = [name for row in truth for name in row]
    confusion = confusion_matrix(true_frames, [names[unit] for row in clusters for unit in row], classes)
    result = scores(confusion)
    partial = [i for i, row in enumerate(truth) if len(set(row)) > 1]
    emotional = [np.array([name != NEUTRAL for name in truth[i]]) for i in partial]
    paths = [test.paths()[i] for i in partial]
    facts = {
        "classes": classes,
        "frames": result.n,
        "frame_ua": result.ua,
        "frame_wa": result.wa,
        "frame_recall": {name: value for name, value in zip(classes, recalls(confusion).tolist()) if value == value},
        "frame_chance": 1 / len(classes),
        "partial_utterances": len(partial),
        "attention_auc": None,
        **(score_classifier(checkpoint, test.paths(), truth, classes) if checkpoint else {}),
        "energy_auc": mean_auc(paths, emotional, [log_rms(read_utterance(path)) for path in paths]),
        "auc_chance": 0.5,
    }
    write_text(output, json.dumps(facts, indent=2) + "\n")
    return facts


def frame_truth(spans: Sequence[Span], frames: int) -> list[str]:
    """The emotion at each frame's centre, sample 320 i + 200; outside every span it is neutral."""
    truth = [NEUTRAL] * frames
    for i in range(frames):
        centre = (HOP_SAMPLES * i + FRAME_SAMPLES / 2) / SAMPLE_RATE
        for span in spans:
            if span.start <= centre < span.end:
                truth[i] = span.emotion
    return truth


def split_truth(path: Path, split: Manifest, labels: Sequence[str], classes: Sequence[str]) -> list[list[str]]:
    """Each utterance's frame truth. Raises CorpusError where spans and the utterance's label contradict each other."""
    spans = read_spans(path)
    for name, label in zip(split.names, labels):
        emotions = {span.emotion for span in spans.get(utterance_id(name), [])} - {NEUTRAL}
        expected = {label} - {NEUTRAL}
        if emotions != expected:
            raise CorpusError(
                f"{path}: utterance {utterance_id(name)!r} has spans of {sorted(emotions) or 'no emotion'}, "
                f"but its label is {label!r}; use the spans of this corpus"
            )
    return [
        frame_truth(spans.get(utterance_id(name), []), frame_count(samples))
        for name, samples in zip(split.names, split.frames)
    ]


def name_clusters(
    units: Sequence[np.ndarray], labels: Sequence[str], classes: Sequence[str], clusters: int
) -> list[str]:
    """Name each cluster after the emotion that is likeliest in it; one that training never shows is neutral."""
    shares = emotion_shares(units, labels, classes, clusters)
    return [classes[best] if known else NEUTRAL for best, known in zip(shares.argmax(0), shares.any(0))]


def mean_auc(paths: Sequence[Path], truth: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> float | None:
    """Mean over utterances of the area under the ROC curve of (T,) values for (T,) truth; None of no utterance.

    Raises CorpusError for a file that has other frames than its manifest says.
    """
    areas = []
    for path, true, value in zip(paths, truth, values):
        _check_frames(path, len(value), len(true))
        areas.append(roc_auc_score(true, value))
    return float(np.mean(areas)) if areas else None


def log_rms(waveform: np.ndarray) -> np.ndarray:
    """Log of each frame's root mean square: (samples,) -> (T,), windows of 400 samples every 320."""
    windows = np.lib.stride_tricks.sliding_window_view(waveform, FRAME_SAMPLES)[::HOP_SAMPLES]
    return np.log(np.sqrt(np.square(windows, dtype=np.float64).mean(1)) + 1e-8)


def score_classifier(
    checkpoint: Path, paths: Sequence[Path], truth: Sequence[list[str]], classes: list[str]
) -> dict[str, Any]:
    """What the classifier's attention, frame probabilities and segments know of each frame's emotion."""
    from flea_fairseq.inference.recognizer import FRAME_SECONDS, EmotionRecognizer  # fairseq: only with a model

    recognizer = EmotionRecognizer.from_pretrained(checkpoint, window=1e6)
    if sorted(recognizer.classes) != sorted(classes):
        raise CorpusError(f"{checkpoint}: classes {', '.join(recognizer.classes)}, the split has {', '.join(classes)}")
    partial, likeliest, rates, silent = [], [], [], []
    for path, true in zip(tqdm(paths, desc="frames", unit="utt", disable=None), truth):
        said = recognizer.predict_file(path)
        emotional = np.array([name != NEUTRAL for name in true])
        _check_frames(path, len(said.attention), len(true))
        if emotional.any() and not emotional.all():
            partial.append((path, emotional, said.attention))
        likeliest += [recognizer.classes[i] for i in said.posteriors.argmax(1)]
        duration = len(true) * FRAME_SECONDS
        known, heard = true_segments(true, FRAME_SECONDS), [Span(*segment[:3]) for segment in said.segments]
        rates.append(diarisation_errors(known, heard, duration, NEUTRAL).rate)
        silent.append(diarisation_errors(known, [], duration, NEUTRAL).rate)
    frames = [name for row in truth for name in row]
    inside = [float(attention[emotional].sum()) for _, emotional, attention in partial]
    return {
        "attention_auc": mean_auc(*zip(*partial)) if partial else None,
        "attention_inside": float(np.mean(inside)) if partial else None,
        "inside_chance": float(np.mean([emotional.mean() for _, emotional, _ in partial])) if partial else None,
        "posterior_ua": scores(confusion_matrix(frames, likeliest, classes)).ua,
        "eder": float(np.mean(rates)),
        "eder_neutral": float(np.mean(silent)),
    }


def true_segments(truth: Sequence[str], frame_seconds: float) -> list[Span]:
    """The runs of each emotion but neutral, as spans."""
    spans, start = [], 0
    for i in range(1, len(truth) + 1):
        if i == len(truth) or truth[i] != truth[start]:
            if truth[start] != NEUTRAL:
                spans.append(Span(start * frame_seconds, i * frame_seconds, truth[start]))
            start = i
    return spans


def _check_frames(path: Path, found: int, expected: int) -> None:
    if found != expected:
        raise CorpusError(f"{path}: {found} frames, {expected} by the manifest; run flea folds again")
