"""`flea export`: a trained classifier for other tools, each export checked against the model on sound."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from flea_fairseq.data.audio import SAMPLE_RATE, read_audio
from flea_fairseq.data.files import hidden_folder
from flea_fairseq.errors import CheckpointError, ExperimentError
from flea_fairseq.models.checkpoints import load_classifier
from flea_fairseq.models.device import best_device
from flea_fairseq.models.flea_classifier import FleaClassifier

TOLERANCE = 1e-4
LENGTHS = (0.6, 1.0, 1.7)  # seconds of the recording that an export is checked on, beside all of it


class Exported(NamedTuple):
    """What was written; run: waveform (samples,) at 16 kHz -> what the export gives; reference: what it must give."""

    path: Path
    run: Callable[[np.ndarray], np.ndarray]
    reference: Callable[[np.ndarray], np.ndarray]


def export(checkpoint: Path, target: str, output: Path, audio: Path | None = None) -> str:
    """Write a classifier as `hf` (a folder), `onnx` or `fairseq` (a file), and say how far it is from the original.

    audio: the recording on which both are run, at four lengths; None: generated sound. Nothing is left under `output`
    where they differ by more than 1e-4. Raises CheckpointError for that, and for a model that the target cannot hold.
    """
    if output.exists():
        raise ExperimentError(f"{output}: is there already; name another, or remove it")
    model = load_classifier(checkpoint).to(best_device()).float()
    waveform = read_audio(audio) if audio else generated_sound()
    write = _writer(target)
    with hidden_folder(output) as folder:
        unchecked = folder / output.name
        exported = write(model, checkpoint, unchecked)
        furthest = max(float(np.abs(exported.run(part) - exported.reference(part)).max()) for part in _parts(waveform))
        if not furthest <= TOLERANCE:
            raise CheckpointError(f"{output}: gives values {furthest:.1e} away from {checkpoint}; nothing is written")
        unchecked.replace(output)
    heard = f"{audio}" if audio else "generated sound (give --audio for a recording)"
    return f"{output}: at most {furthest:.1e} away from {checkpoint}, on {heard}"


def calibrated_logits(model: FleaClassifier, waveform: np.ndarray) -> np.ndarray:
    """What an export must give: logits over the temperature, so that their softmax is calibrated: (C,)."""
    logits = model.listen([torch.from_numpy(waveform)])["logits"][0]
    return (logits.double() / model.temperature).cpu().numpy()


def generated_sound() -> np.ndarray:
    """Two seconds of noise whose loudness and colour change, always the same."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(2 * SAMPLE_RATE)
    seconds = np.arange(len(noise)) / SAMPLE_RATE
    return (0.05 * noise * (1.2 + np.sin(5 * seconds)) + 0.1 * np.sin(900 * seconds**2)).astype(np.float32)


def _writer(target: str) -> Callable[[FleaClassifier, Path, Path], Exported]:
    """Each needs packages that the others do not."""
    try:
        if target == "hf":
            from flea_fairseq.inference.export_hf import write_hf as write
        elif target == "onnx":
            from flea_fairseq.inference.export_onnx import write_onnx as write
        else:
            from flea_fairseq.inference.export_fairseq import write_fairseq as write
    except ImportError as error:
        raise ExperimentError(f"export needs {error.name}: pip install 'flea_fairseq[export]'") from None
    return write


def _parts(waveform: np.ndarray) -> list[np.ndarray]:
    cut = [waveform[: int(seconds * SAMPLE_RATE)] for seconds in LENGTHS if seconds * SAMPLE_RATE < len(waveform)]
    return [*cut, waveform]
