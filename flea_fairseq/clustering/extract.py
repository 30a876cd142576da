"""`flea extract`: the frames of a model's layers, or MFCC, at 50 a second; each utterance by itself."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from flea_fairseq.clustering.embedding import embed, open_embedding
from flea_fairseq.clustering.features import writing_features
from flea_fairseq.clustering.recordings import read_recordings
from flea_fairseq.data.shard import shard_bounds
from flea_fairseq.errors import ExperimentError


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

    Shards have as much audio each (fairseq's have as many recordings each, which take unlike times).

    checkpoint, layers: any model that `load_encoder` reads, and its transformer layers from 1, in one pass; or mfcc:
    39 dimensions. Raises ExperimentError unless one of the two is asked for, CheckpointError for a layer that the
    model does not have or frames that are not 50 a second, AudioError for recordings that are unlike the manifest.
    """
    recordings = read_recordings(manifest)
    bounds = shard_bounds([recording.samples for recording in recordings], shards)
    if not 0 <= shard < shards:
        raise ExperimentError(f"shard {shard} of {shards}: expected 0 to {shards - 1}")
    recordings = recordings[bounds[shard] : bounds[shard + 1]]
    embedding = open_embedding("extract", checkpoint, layers, mfcc)
    lengths = [recording.frames for recording in recordings]
    folders = embedding.folders(output)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(writing_features(folder, Path(manifest).stem, shard, shards, lengths, source))
            for folder, source in zip(folders, embedding.sources)
        ]
        for _, layers_frames in embed(embedding, recordings, "extract"):
            for write, frames in zip(writers, layers_frames):
                write(frames)
    return folders
