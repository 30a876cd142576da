"""`flea shard`: a manifest as several, each with as much audio, so that as many jobs end at the same time."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from flea_fairseq.data.files import replacing_files, writing
from flea_fairseq.data.manifest import manifest_rows
from flea_fairseq.errors import ExperimentError


def shard(manifest: Path, output: Path, shards: int) -> list[Path]:
    """Write `output/<manifest>_<shard>_<shards>.tsv` for each shard, and return them.

    Each holds a run of the manifest's lines, so that what is made of them is joined by writing one after the other.
    They differ by one recording's length at most. Memory is 16 bytes a line. Raises FormatError, and ExperimentError
    for more shards than recordings.
    """
    manifest = Path(manifest)
    _, rows = manifest_rows(manifest)
    samples = np.fromiter((samples for _, samples in rows), dtype=np.int64)
    bounds = shard_bounds(samples, shards)
    root, rows = manifest_rows(manifest)
    paths = shard_paths(manifest, output, shards)
    with replacing_files(output) as temporary:
        for path, start, end in zip(paths, bounds, bounds[1:]):
            part = temporary / path.name
            with writing(part), open(part, "w", encoding="utf-8", newline="\n") as file:
                file.write(f"{root}\n")
                file.writelines(f"{name}\t{length}\n" for name, length in islice(rows, int(end - start)))
    return paths


def shard_paths(manifest: Path, folder: Path, shards: int, extension: str = "tsv") -> list[Path]:
    """The names of a manifest's shards, or with another extension of what is made of them."""
    return [Path(folder) / f"{manifest.stem}_{number}_{shards}.{extension}" for number in range(shards)]


def shard_bounds(samples: Sequence[int], shards: int) -> list[int]:
    """Where a list of recordings is cut: shard i is [bounds[i], bounds[i + 1]), (shards + 1,) in all.

    samples: the recordings' lengths. Each cut is where the audio before it is nearest to its share; each shard has one
    recording at least. Raises ExperimentError for more shards than recordings.
    """
    if not 1 <= shards <= len(samples):
        raise ExperimentError(f"{shards} shards of {len(samples)} recordings; take 1 to {len(samples)}")
    ends = np.cumsum(samples, dtype=np.int64)
    bounds = [0]
    for number in range(1, shards):
        share = ends[-1] * number / shards
        cut = int(np.searchsorted(ends, share)) + 1
        if cut > 1 and share - ends[cut - 2] <= ends[cut - 1] - share:
            cut -= 1
        bounds.append(min(max(cut, bounds[-1] + 1), len(ends) - shards + number))
    return [*bounds, len(ends)]
