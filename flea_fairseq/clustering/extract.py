"""`flea extract`: the frames of a model's layers, or MFCC, at 50 a second; each utterance by itself."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
import torchaudio
from tqdm import tqdm

from flea_fairseq.clustering.features import Source, shard_range, writing_features
from flea_fairseq.data.audio import FRAME_SAMPLES, SAMPLE_RATE, frame_count, read_audio
from flea_fairseq.data.manifest import read_manifest
from flea_fairseq.errors import AudioError, CheckpointError, ExperimentError

Embedding = Callable[[np.ndarray], list[np.ndarray]]  # (samples,) -> (T, D) for each layer


def extract(
    manifest: Path,
    output: Path,
    checkpoint: Path | None = None,
    layers: Sequence[int] = (),
    mfcc: bool = False,
    shard: int = 0,
    shards: int = 1,
) -> list[Path]:
    """Write the features of shard `shard` of a manifest into `output/l<layer>` or `output/mfcc`; return these folders.

    checkpoint, layers: any model that `load_encoder` reads, and its transformer layers from 1, in one pass; or mfcc:
    39 dimensions. Raises ExperimentError unless one of the two is asked for, CheckpointError for a layer that the
    model does not have or frames that are not 50 a second, AudioError for recordings that are unlike the manifest.
    """
    if mfcc == (checkpoint is not None) or (checkpoint is not None) != bool(layers):
        raise ExperimentError("extract: give a checkpoint and layers, or --mfcc, and not both")
    listing = read_manifest(manifest)
    part = shard_range(len(listing.names), shard, shards)
    paths, samples = listing.paths()[part.start : part.stop], listing.frames[part.start : part.stop]
    for path, count in zip(paths, samples):
        if count < FRAME_SAMPLES:
            raise AudioError(
                f"{path}: {count} samples, fewer than one frame's {FRAME_SAMPLES}; leave it out of {manifest}"
            )
    embed, sources = _mfcc() if mfcc else _layers_of(Path(checkpoint), list(dict.fromkeys(layers)))
    lengths = [frame_count(count) for count in samples]
    folders = [Path(output) / (f"l{source.layer}" if source.layer else source.name) for source in sources]
    with ExitStack() as stack:
        writers = [
            stack.enter_context(writing_features(folder, Path(manifest).stem, shard, shards, lengths, source))
            for folder, source in zip(folders, sources)
        ]
        for path, count in zip(tqdm(paths, desc="extract", unit="utterance", disable=None), samples):
            for write, frames in zip(writers, _embed(embed, path, count)):
                write(frames)
    return folders


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


def _mfcc() -> tuple[Embedding, list[Source]]:
    return lambda samples: [mfcc_features(samples)], [Source("mfcc", None)]


def _layers_of(checkpoint: Path, layers: list[int]) -> tuple[Embedding, list[Source]]:
    from flea_fairseq.models.checkpoints import load_encoder  # imports fairseq, which MFCC do not need
    from flea_fairseq.models.encoder import layer_normalised

    encoder = load_encoder(checkpoint)
    for layer in layers:
        if not 1 <= layer <= encoder.num_layers:
            raise CheckpointError(
                f"{checkpoint}: layer {layer} asked for, but the model has layers 1 to {encoder.num_layers}"
            )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = encoder.eval().to(device)

    @torch.inference_mode()
    def embed(samples: np.ndarray) -> list[np.ndarray]:
        waveform = torch.from_numpy(samples).to(device)
        if encoder.normalize:
            waveform = layer_normalised(waveform)
        states, _ = encoder.hidden_states(waveform[None])
        return [states[layer][0].float().cpu().numpy() for layer in layers]

    return embed, [Source(encoder.fingerprint, layer) for layer in layers]


def _embed(embed: Embedding, path: Path, count: int) -> list[np.ndarray]:
    """The checked frames of one recording, which must have `count` samples."""
    waveform = read_audio(path)
    if len(waveform) != count:
        raise AudioError(f"{path}: {len(waveform)} samples at 16 kHz, the manifest says {count}; write it again")
    layers = embed(waveform)
    for frames in layers:
        if len(frames) != frame_count(count):
            raise CheckpointError(
                f"{path}: the model makes {len(frames)} frames of {count} samples, expected {frame_count(count)}: "
                "its convolutions do not give 50 frames a second"
            )
        if not np.isfinite(frames).all():
            raise CheckpointError(f"{path}: frames that are not finite numbers; the model is damaged or diverged")
    return layers
