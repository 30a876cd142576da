"""`flea merge`: the frame labels of a manifest's shards as those of the manifest."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from flea_fairseq.clustering.label import length_problem
from flea_fairseq.data.files import check_whole, checksum_path, replacing_files, write_checksum, writing
from flea_fairseq.data.manifest import manifest_rows, read_dictionary, write_dictionary
from flea_fairseq.data.shard import shard_paths
from flea_fairseq.errors import FormatError


def merge(manifests: Sequence[Path], parts: Path, output: Path, shards: int, label_sets: Sequence[str]) -> list[Path]:
    """Join the labels of each manifest's shards, and return what is written.

    `parts/<shard>/l9/<shard>.km50`, as `flea cluster <shard>.tsv parts/<shard>` writes it for each shard that
    `flea shard` made, becomes `output/l9/<manifest>.km50`; label_sets: such as l9/km50. Every shard must be there and
    whole, by its `.sha256` and by the manifest's lengths; one that is not is renamed to `.damaged`, so that the step
    that writes it runs again. Memory does not depend on the number of lines. Raises FormatError; then nothing is
    written for that label set.
    """
    written = []
    for name in label_sets:
        folder, kind = Path(name).parent, Path(name).name
        for manifest in manifests:
            paths = [parts / path.stem / folder / path.name for path in shard_paths(manifest, parts, shards, kind)]
            symbols = _symbols(paths)
            target = output / folder / f"{manifest.stem}.{kind}"
            with replacing_files(target.parent, last=(target.name,)) as temporary:
                joined = temporary / target.name
                with writing(joined), open(joined, "wb") as file:
                    file.writelines(_lines(manifest, paths))
                write_dictionary(temporary / f"dict.{kind}.txt", symbols)
                write_checksum(joined)
            written.append(target)
    return written


def _symbols(paths: Sequence[Path]) -> list[str]:
    """The dictionary that all shards have, once each of them is there and whole."""
    for path in paths:
        _check(path)
    dictionaries = [path.with_name(f"dict{path.suffix}.txt") for path in paths]
    symbols = [read_dictionary(path) for path in dictionaries]
    for path, found in zip(dictionaries, symbols):
        if found != symbols[0]:
            raise FormatError(
                f"{path}: {len(found)} units, but {dictionaries[0]} has {len(symbols[0])}; label it again"
            )
    return symbols[0]


def _check(path: Path) -> None:
    if not (path.is_file() and checksum_path(path).is_file()):
        raise FormatError(f"{path}: this shard is missing; label it with flea cluster --fitted")
    try:
        check_whole(path)
    except FormatError:
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        raise FormatError(
            f"{path}: damaged or cut short; it is {aside.name} now, run the step that made it again"
        ) from None


def _lines(manifest: Path, paths: Sequence[Path]) -> Iterator[bytes]:
    """All shards' lines, each with as many units as its recording has frames."""
    _, rows = manifest_rows(manifest)
    line = 1
    for path in paths:
        with open(path, "rb") as file:
            for number, units in enumerate(file, start=1):
                line += 1
                name, samples = next(rows, ("", 0))
                if problem := length_problem(units.count(b" ") + 1, name, samples, f"{manifest}:{line}"):
                    raise FormatError(f"{path}:{number}: {problem}")
                yield units
    if left := sum(1 for _ in rows):
        raise FormatError(f"{paths[-1]}: the shards end {left} recordings before {manifest}; shard and label it again")
