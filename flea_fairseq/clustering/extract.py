"""`flea extract`: the frames of a model's layer, or MFCC, at 50 a second; each utterance by itself."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torchaudio
from tqdm import tqdm

from flea_fairseq.clustering.features import Source, shard_range, write_features
from flea_fairseq.data.audio import FRAME_SAMPLES, SAMPLE_RATE, frame_count, read_audio
from flea_fairseq.data.manifest import read_manifest
from flea_fairseq.errors import AudioError, CheckpointError, ExperimentError

Embedding = Callable[[np.ndarray], np.ndarray]


def extract(
    manifest: Path,
    output: Path,
    checkpoint: Path | None = None,
    layer: int | None = None,
    mfcc: bool = False,
    shard: int = 0,
    shards: int = 1,
) -> Path:
    """Write the features of shard `shard` of a manifest into the folder `output`, and return the path of the `.npy`.

    checkpoint, layer: any model that `load_encoder` reads, and its transformer layer from 1; or mfcc: 39 dimensions.
    Raises ExperimentError unless one of the two is asked for, CheckpointError for a layer that the model does not
    have or frames that are not 50 a second, AudioError for recordings that are unlike the manifest.
    """
    if mfcc == (checkpoint is not None) or (checkpoint is not None) != (layer is not None):
        raise ExperimentError("extract: give a checkpoint and a layer, or --mfcc, and not both")
    listing = read_manifest(manifest)
    part = shard_range(len(listing.names), shard, shards)
    paths, samples = listing.paths()[part.start : part.stop], listing.frames[part.start : part.stop]
    for path, count in zip(paths, samples):
        if count < FRAME_SAMPLES:
            raise AudioError(
                f"{path}: {count} samples, fewer than one frame's {FRAME_SAMPLES}; leave it out of {manifest}"
            )
    embed, source = (mfcc_features, Source("mfcc", None)) if mfcc else _layer_of(Path(checkpoint), layer)
    frames = _embed_all(embed, paths, samples)
    lengths = [frame_count(count) for count in samples]
    return write_features(output, Path(manifest).stem, shard, shards, lengths, frames, source)


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


def _embed_all(embed: Embedding, paths: list[Path], samples: tuple[int, ...]) -> Iterator[np.ndarray]:
    for path, count in zip(tqdm(paths, desc="extract", unit="utterance", disable=None), samples):
        waveform = read_audio(path)
        if len(waveform) != count:
            raise AudioError(f"{path}: {len(waveform)} samples at 16 kHz, the manifest says {count}; write it again")
        frames = embed(waveform)
        if len(frames) != frame_count(count):
            raise CheckpointError(
                f"{path}: the model makes {len(frames)} frames of {count} samples, expected {frame_count(count)}: "
                "its convolutions do not give 50 frames a second"
            )
        if not np.isfinite(frames).all():
            raise CheckpointError(f"{path}: frames that are not finite numbers; the model is damaged or diverged")
        yield frames


def _layer_of(checkpoint: Path, layer: int) -> tuple[Embedding, Source]:
    from flea_fairseq.models.checkpoints import load_encoder  # imports fairseq, which MFCC do not need
    from flea_fairseq.models.encoder import layer_normalised

    encoder = load_encoder(checkpoint)
    if not 1 <= layer <= encoder.num_layers:
        raise CheckpointError(
            f"{checkpoint}: layer {layer} asked for, but the model has layers 1 to {encoder.num_layers}"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = encoder.eval().to(device)

    @torch.inference_mode()
    def embed(samples: np.ndarray) -> np.ndarray:
        waveform = torch.from_numpy(samples).to(device)
        if encoder.normalize:
            waveform = layer_normalised(waveform)
        frames, _ = encoder(waveform[None], layer=layer)
        return frames[0].float().cpu().numpy()

    return embed, Source(encoder.fingerprint, layer)
