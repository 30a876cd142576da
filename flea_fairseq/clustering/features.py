"""fairseq's feature files: `{split}_{shard}_{shards}.npy` and `.len`, and a `.json` that says whose they are."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from flea_fairseq.data.files import replacing_files, write_text, writing
from flea_fairseq.data.manifest import read_lines
from flea_fairseq.errors import FormatError


@dataclass(frozen=True)
class Source:
    """What made the features: the SHA-256 of a checkpoint and the layer (from 1), or "mfcc" and None."""

    name: str
    layer: int | None

    def __str__(self) -> str:
        return self.name[:12] + (f", layer {self.layer}" if self.layer else "")


@dataclass(frozen=True)
class Features:
    """The frames of a split, on disk until they are touched.

    shards: (frames, D) float32 each; lengths: (N,) frames of each utterance; places: where each length is written
    (file:line), for messages; source: None where another tool wrote the files.
    """

    source: Source | None
    shards: tuple[np.ndarray, ...]
    lengths: np.ndarray
    places: tuple[str, ...]

    @property
    def dim(self) -> int:
        return self.shards[0].shape[1]

    def frames(self, rows: np.ndarray | None = None) -> np.ndarray:
        """All frames, (total, D), or those of the sorted row numbers: (R,) -> (R, D)."""
        if rows is None:
            return self.shards[0] if len(self.shards) == 1 else np.concatenate(self.shards)
        ends = np.cumsum([len(shard) for shard in self.shards])
        parts = np.split(rows, np.searchsorted(rows, ends[:-1]))
        return np.concatenate([s[part - (end - len(s))] for s, part, end in zip(self.shards, parts, ends)])

    def utterances(self) -> Iterator[np.ndarray]:
        """The frames of one utterance after the other: (T, D) each."""
        lengths = iter(self.lengths.tolist())
        for shard in self.shards:
            start = 0
            while start < len(shard):
                length = next(lengths)
                yield shard[start : start + length]
                start += length


@contextmanager
def writing_features(
    folder: str | Path, split: str, shard: int, shards: int, lengths: Sequence[int], source: Source
) -> Iterator[Callable[[np.ndarray], None]]:
    """Give a function that takes the (T, D) frames of one utterance after the other.

    lengths: frames of each utterance, known beforehand. The `.npy` appears last, so a shard that was interrupted is
    one that is missing. Raises ValueError for an utterance of another shape, or another number of them.
    """
    path = _path(folder, split, shard, shards)
    with replacing_files(folder, last=(path.name,)) as temporary:
        with writing(temporary / path.name), open(temporary / path.name, "wb") as file:
            writer = _ArrayWriter(file, lengths)
            yield writer.write
            writer.finish()
        facts = {"source": source.name, "layer": source.layer}
        write_text(temporary / f"{path.stem}.len", "".join(f"{length}\n" for length in lengths))
        write_text(temporary / f"{path.stem}.json", json.dumps(facts) + "\n")


def read_features(folder: str | Path, split: str, shards: int = 1) -> Features:
    """Open all shards of a split. Raises FormatError for one that is missing, damaged, or unlike the others."""
    paths = [_path(folder, split, shard, shards) for shard in range(shards)]
    for shard, path in enumerate(paths):
        if missing := [p.name for p in (path, path.with_suffix(".len")) if not p.is_file()]:
            raise FormatError(
                f"{path}: shard {shard} of {shards} is missing ({', '.join(missing)}); "
                f"write it with flea extract --shard {shard} --shards {shards}"
            )
    arrays = [_open_array(path) for path in paths]
    lengths = [_read_lengths(path.with_suffix(".len"), len(array)) for path, array in zip(paths, arrays)]
    sources = [_read_source(path.with_suffix(".json")) for path in paths]
    for path, array, source in zip(paths, arrays, sources):
        if (array.shape[1], source) != (arrays[0].shape[1], sources[0]):
            raise FormatError(
                f"{path}: {array.shape[1]}-dimensional frames of {source or 'unknown source'}, but {paths[0].name} has "
                f"{arrays[0].shape[1]}-dimensional ones of {sources[0] or 'unknown source'}; extract all shards alike"
            )
    places = tuple(f"{path.with_suffix('.len')}:{n}" for path, ls in zip(paths, lengths) for n in range(1, len(ls) + 1))
    return Features(sources[0], tuple(arrays), np.concatenate(lengths), places)


def _path(folder: str | Path, split: str, shard: int, shards: int) -> Path:
    return Path(folder) / f"{split}_{shard}_{shards}.npy"


class _ArrayWriter:
    """A `.npy` whose shape is written before its frames are made, so that they need not be kept in memory."""

    def __init__(self, file: BinaryIO, lengths: Sequence[int]) -> None:
        self.file, self.lengths = file, lengths
        self.written, self.dim = 0, 0

    def write(self, frames: np.ndarray) -> None:
        if not self.written:
            self.dim = frames.shape[1]
            shape = (sum(self.lengths), self.dim)
            np.lib.format.write_array_header_1_0(self.file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        expected = (self.lengths[self.written], self.dim) if self.written < len(self.lengths) else "no more"
        if frames.shape != expected:
            raise ValueError(f"frames of shape {frames.shape}, expected {expected}")
        self.file.write(np.ascontiguousarray(frames, dtype="<f4").data)
        self.written += 1

    def finish(self) -> None:
        if self.written != len(self.lengths):
            raise ValueError(f"{self.written} utterances, expected {len(self.lengths)}")


def _open_array(path: Path) -> np.ndarray:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError) as error:
        raise FormatError(f"{path}: not a whole array of numbers ({error}); extract it again") from None
    if array.ndim != 2 or array.dtype != np.float32:
        raise FormatError(f"{path}: {array.dtype} of shape {array.shape}, expected float32 of (frames, dimensions)")
    return array


def _read_lengths(path: Path, rows: int) -> np.ndarray:
    lines = read_lines(path)
    for number, line in enumerate(lines, start=1):
        if not (line.isascii() and line.isdecimal()) or int(line) == 0:
            raise FormatError(f"{path}:{number}: {line[:40]!r} frames, expected a whole number above zero")
    lengths = [int(line) for line in lines]
    if sum(lengths) != rows:
        raise FormatError(
            f"{path}: {sum(lengths)} frames in all, but the .npy beside it holds {rows}; extract it again"
        )
    return np.array(lengths, dtype=np.int64)


def _read_source(path: Path) -> Source | None:
    if not path.exists():  # fairseq's own tools write none
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Source(str(values["source"]), None if values["layer"] is None else int(values["layer"]))
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path}: {error!r}, expected the features' source and layer; extract them again") from None
