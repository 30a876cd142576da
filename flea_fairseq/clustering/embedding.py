"""A model's layers, or MFCC, as a function of audio: what `flea extract` and `flea cluster` share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from flea_fairseq.clustering.features import Source
from flea_fairseq.clustering.recordings import Recording, batches, waveforms
from flea_fairseq.data.audio import SAMPLE_RATE
from flea_fairseq.errors import CheckpointError, ExperimentError
from flea_fairseq.models.device import best_device, on_best_device

GPU_BATCH_SECONDS = 120.0  # a CPU is faster with recordings one by one, without padding


@dataclass(frozen=True)
class Embedding:
    """Frames at 50 a second.

    sources: what is asked for, such as layers; dim: D; encode: waveforms, (samples,) float32 at 16 kHz -> for each of
    them (T, D) float32 of every source; batch_seconds: so much audio at once is fast (0: one waveform);
    bf16: in half precision.
    """

    sources: tuple[Source, ...]
    dim: int
    encode: Callable[[Sequence[np.ndarray]], list[list[np.ndarray]]]
    batch_seconds: float = 0.0
    bf16: bool = False

    def folders(self, output: str | Path) -> list[Path]:
        """Where what is made of each source lies: `output/l<layer>` or `output/mfcc`."""
        return [Path(output) / (f"l{source.layer}" if source.layer else source.name) for source in self.sources]


def open_embedding(
    verb: str, checkpoint: Path | None, layers: Sequence[int], mfcc: bool, bf16: bool = False
) -> Embedding:
    """The layers (from 1) of any model that `load_encoder` reads, in one pass; or 39-dimensional MFCC.

    bf16: matrix products and convolutions in half precision. Raises ExperimentError, naming the verb, unless one of
    the two is asked for, and CheckpointError for a layer that the model does not have.
    """
    if mfcc and checkpoint is None and not layers:
        return Embedding((Source("mfcc", None),), 39, lambda audio: [[mfcc_features(waveform)] for waveform in audio])
    if checkpoint is not None and layers and not mfcc:
        return _layers_of(Path(checkpoint), list(dict.fromkeys(layers)), bf16)
    raise ExperimentError(f"{verb}: give a checkpoint and layers, or --mfcc, and not both")


def mfcc_features(samples: np.ndarray) -> np.ndarray:
    """39-dimensional MFCC at 50 frames a second: (N,) float32 at 16 kHz -> (frame_count(N), 39).

    fairseq's recipe (Kaldi's 13 coefficients every 10 ms, with first and second differences), of which every second
    frame is kept, so that frames fall together with HuBERT's.
    """
    waveform = torch.from_numpy(samples)[None]
    mfcc = torchaudio.compliance.kaldi.mfcc(waveform, sample_frequency=SAMPLE_RATE, use_energy=False).T
    deltas = torchaudio.functional.compute_deltas(mfcc)
    both = torch.cat([mfcc, deltas, torchaudio.functional.compute_deltas(deltas)])
    return both.T[::2].contiguous().numpy()


def embed(
    embedding: Embedding, recordings: Sequence[Recording], what: str, batch_seconds: float = 0.0
) -> Iterator[tuple[Recording, list[np.ndarray]]]:
    """Each recording with its frames, (T, D) of every source: in order, or those of like length together.

    batch_seconds: so much audio at once, padding included (0: one recording). `what` names the progress bar, whose
    rate is seconds of audio a second. Raises AudioError for recordings that are unlike the manifest, CheckpointError
    for frames that are not 50 a second or not finite.
    """
    groups = batches(recordings, batch_seconds)
    seconds = round(sum(recording.seconds for recording in recordings), 1)
    decoded = waveforms([recording for group in groups for recording in group])
    with tqdm(total=seconds, desc=what, unit="s audio", unit_scale=True, disable=None) as bar, closing(decoded):
        for group in groups:
            for recording, frames in zip(group, embedding.encode([next(decoded) for _ in group])):
                _check(recording, frames)
                bar.update(recording.seconds)
                yield recording, frames


def _layers_of(checkpoint: Path, layers: list[int], bf16: bool) -> Embedding:
    from flea_fairseq.models.checkpoints import load_encoder  # imports fairseq, which MFCC do not need
    from flea_fairseq.models.encoder import Encoder, layer_normalised

    encoder, device = load_encoder(checkpoint), best_device()
    for layer in layers:
        if not 1 <= layer <= encoder.num_layers:
            raise CheckpointError(
                f"{checkpoint}: layer {layer} asked for, but the model has layers 1 to {encoder.num_layers}"
            )
    if bf16:
        for module in encoder.modules():
            if isinstance(module, nn.Linear):
                module.to(torch.bfloat16)  # once; autocast would do it for every recording
    pads = isinstance(encoder, Encoder)  # wav2vec of the first kind takes whole waveforms only
    if isinstance(encoder, Encoder):
        del encoder.encoder.layers[max(layers) :]  # nobody asks for them
    torch.backends.cudnn.allow_tf32 = False  # its rounding would show in the labels
    encoder = on_best_device(encoder)

    @torch.inference_mode()
    def encode(audio: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        if len(audio) > 1 and not pads:
            return [encode([waveform])[0] for waveform in audio]
        tensors = [torch.from_numpy(waveform).to(device) for waveform in audio]
        if encoder.normalize:
            tensors = [layer_normalised(tensor) for tensor in tensors]
        lengths = torch.tensor([len(tensor) for tensor in tensors], device=device)
        options: dict[str, Any] = {"lengths": lengths, "last": max(layers)} if pads else {}
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            states, counts = encoder.hidden_states(pad_sequence(tensors, batch_first=True), **options)
        kept = [states[layer].float().cpu().numpy() for layer in layers]
        return [[frames[row, :count] for frames in kept] for row, count in enumerate(counts.tolist())]

    sources = tuple(Source(encoder.fingerprint, layer) for layer in layers)
    return Embedding(sources, encoder.dim, encode, GPU_BATCH_SECONDS if device.type == "cuda" else 0.0, bf16)


def _check(recording: Recording, layers: Sequence[np.ndarray]) -> None:
    for frames in layers:
        if len(frames) != recording.frames:
            raise CheckpointError(
                f"{recording.path}: the model makes {len(frames)} frames of {recording.samples} samples, "
                f"expected {recording.frames}: its convolutions do not give 50 frames a second"
            )
        if not np.isfinite(frames).all():
            raise CheckpointError(
                f"{recording.path}: frames that are not finite numbers; the model is damaged or diverged"
            )
