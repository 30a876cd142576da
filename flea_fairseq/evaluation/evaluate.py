"""Score every utterance of a split with a trained classifier: checkpoint + manifest -> predictions.tsv."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from flea_fairseq.data.manifest import utterance_id
from flea_fairseq.evaluation.predictions import Predictions, write_predictions
from flea_fairseq.evaluation.splits import read_split, read_utterance
from flea_fairseq.models.checkpoints import load_classifier
from flea_fairseq.models.device import on_best_device
from flea_fairseq.models.encoder import layer_normalised


def evaluate(checkpoint: Path, manifest: Path, output: Path) -> Predictions:
    """Classify whole utterances, one at a time, and write predictions.tsv to `output`.

    The labels are in the `.emo` beside the manifest. Raises CheckpointError, CorpusError, FormatError, AudioError.
    """
    model = on_best_device(load_classifier(checkpoint))
    split, truth = read_split(manifest, list(model.classes))
    rows = [
        classify(model, path)["logits"][0].double().softmax(0).cpu().numpy()
        for path in tqdm(split.paths(), desc="evaluate", unit="utt", disable=None)
    ]
    ids = tuple(utterance_id(name) for name in split.names)
    predictions = Predictions(ids, tuple(truth), tuple(model.classes), np.stack(rows))
    write_predictions(output, predictions)
    return predictions


def classify(model: torch.nn.Module, path: Path) -> dict[str, Tensor]:
    """Run a classifier on one whole file: {"logits": (1, C), "attention": (1, T) or None, "frames": (1,)}."""
    waveform = torch.from_numpy(read_utterance(path))
    if model.normalize:
        waveform = layer_normalised(waveform)
    device = next(model.parameters()).device
    with torch.inference_mode():
        return model(waveform[None].to(device), torch.tensor([len(waveform)], device=device))
