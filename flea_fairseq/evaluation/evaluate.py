"""Score every utterance of a split with a trained classifier: checkpoint + manifest -> predictions.tsv."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from flea_fairseq.data.manifest import utterance_id
from flea_fairseq.evaluation.predictions import Predictions, write_predictions
from flea_fairseq.evaluation.splits import read_split, read_utterance
from flea_fairseq.models.checkpoints import load_classifier
from flea_fairseq.models.device import on_best_device
from flea_fairseq.models.flea_classifier import FleaClassifier


def evaluate(checkpoint: Path, manifest: Path, output: Path) -> Predictions:
    """Classify whole utterances, one at a time, and write predictions.tsv to `output`.

    The labels are in the `.emo` beside the manifest. Raises CheckpointError, CorpusError, FormatError, AudioError.
    """
    model = on_best_device(load_classifier(checkpoint))
    split, truth = read_split(manifest, list(model.classes))
    ids = tuple(utterance_id(name) for name in split.names)
    rows = model.probabilities(all_logits(model, split.paths(), "evaluate")).numpy()
    predictions = Predictions(ids, tuple(truth), tuple(model.classes), rows)
    write_predictions(output, predictions)
    return predictions


def all_logits(model: FleaClassifier, paths: Sequence[Path], what: str) -> Tensor:
    """The logits of whole files, one at a time: (N, C); `what` names the progress bar."""
    bar = tqdm(paths, desc=what, unit="utt", disable=None)
    return torch.cat([classify(model, path)["logits"].cpu() for path in bar])


def classify(model: FleaClassifier, path: Path) -> dict[str, Tensor]:
    """Run a classifier on one whole file: {"logits": (1, C), "attention": (1, T), "x": (1, T, D), "frames": (1,)}."""
    return model.listen([torch.from_numpy(read_utterance(path))])
