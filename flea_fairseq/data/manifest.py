"""fairseq's own text files (.tsv, .emo, .km, dict.*.txt): read, write, check."""

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flea_fairseq.data.files import replacing, write_text
from flea_fairseq.errors import FormatError

MOST_BYTES = 200  # of a file system's 255: a temporary name is longer
FAIRSEQ_SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>")  # fairseq's Dictionary adds these by itself
LARGEST = 10**12  # of a number in a file: two years of samples; sums of them fit 64 bits
A_LENGTH = "samples, expected a whole number above zero (10^12 at most)"
# What int() reads but fairseq's dictionaries do not have: other scripts' digits, 1_000, +1, 007.
NO_UNITS = re.compile(r"[^0-9\s-]|(?<![0-9])0[0-9]|-0", re.ASCII)


@dataclass(frozen=True)
class Manifest:
    """A list of audio files: the absolute root, the names below it, and their lengths in 16 kHz samples."""

    root: Path
    names: tuple[str, ...]
    frames: tuple[int, ...]

    def paths(self) -> list[Path]:
        """The files' whole paths, in order."""
        return [self.root / name for name in self.names]


def utterance_id(name: str) -> str:
    """The id of an utterance: its file's name without folder and suffix."""
    return posixpath.splitext(posixpath.basename(name))[0]


def read_manifest(path: str | Path) -> Manifest:
    """Read a `.tsv`: the root in the first line, then `name<tab>samples`. Raises FormatError."""
    root, rows = manifest_rows(path)
    names, frames = zip(*rows)
    _refuse_twice(path, names)
    return Manifest(root, names, frames)


def manifest_rows(path: str | Path) -> tuple[Path, Iterator[tuple[str, int]]]:
    """The root of a `.tsv`, and its rows (name, samples) one by one: a manifest of any length takes no memory.

    Raises FormatError for the root; the rows raise it for a line that is none, and where there are no rows. That no
    id stands twice is not checked.
    """
    return read_root(path, next(iterate_lines(path))), _rows(path)


def _rows(path: str | Path) -> Iterator[tuple[str, int]]:
    number = 1
    for number, line in enumerate(iterate_lines(path), start=1):
        if number == 1:
            continue
        columns = line.split("\t")
        if len(columns) != 2:
            raise FormatError(f"{path}:{number}: {len(columns)} columns, expected 2 (name, samples) parted by one tab")
        if problem := name_problem(columns[0]):
            raise FormatError(f"{path}:{number}: name {columns[0]!r} {problem}")
        yield columns[0], parse_frames(f"{path}:{number}", columns[1])
    if number == 1:
        raise FormatError(f"{path}: lists no recordings, expected one at least")


def write_manifest(path: str | Path, manifest: Manifest) -> None:
    """Write a `.tsv` as fairseq reads it. Raises FormatError for what could not be read back."""
    _checked(path, manifest)
    check_root(path, manifest.root)
    rows = [f"{name}\t{frames}" for name, frames in zip(manifest.names, manifest.frames)]
    write_text(path, _joined([str(manifest.root), *rows]))


def read_labels(path: str | Path) -> list[str]:
    """Read a `.emo`: one emotion an utterance and line. Raises FormatError."""
    return _checked_words(path, read_lines(path))


def write_labels(path: str | Path, labels: Iterable[str]) -> None:
    """Write a `.emo`: one emotion an utterance and line. Raises FormatError."""
    write_text(path, _joined(_checked_words(path, list(labels))))


def read_units(path: str | Path) -> list[np.ndarray]:
    """Read a `.km`: for each utterance (line) its frames' units, (frames,) int64. Raises FormatError."""
    units = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            if NO_UNITS.search(line):
                raise ValueError
            row = np.array(line.split(), dtype=np.int64)
        except (ValueError, OverflowError):
            raise FormatError(f"{path}:{number}: {line[:40]!r} are not units, expected integers and spaces") from None
        units.append(_checked_units(f"{path}:{number}", row))
    return units


def write_units(path: str | Path, units: Iterable[np.ndarray]) -> None:
    """Write a `.km`: a line for each utterance, its units (frames,) parted by spaces. Raises FormatError."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        for number, row in enumerate(units, start=1):
            file.write(" ".join(map(str, _checked_units(f"{path}:{number}", np.asarray(row)).tolist())) + "\n")


def read_dictionary(path: str | Path) -> list[str]:
    """Read the symbols of a fairseq dictionary (`symbol count` a line), in order. Raises FormatError."""
    symbols = []
    for number, line in enumerate(read_lines(path), start=1):
        symbol, _, count = line.rpartition(" ")
        if not symbol or whole_number(count) is None:
            raise FormatError(f"{path}:{number}: {line!r}, expected a symbol, one space and a count, as `happy 1`")
        symbols.append(symbol)
    return _checked_symbols(path, symbols)


def write_dictionary(path: str | Path, symbols: Iterable[str]) -> None:
    """Write a fairseq dictionary: `symbol 1` a line. Raises FormatError."""
    write_text(path, _joined([f"{symbol} 1" for symbol in _checked_symbols(path, list(symbols))]))


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file, with Unix or Windows line ends. Raises FormatError if there are none."""
    return list(iterate_lines(path))


def iterate_lines(path: str | Path) -> Iterator[str]:
    """The same, one by one."""
    empty = True
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, line in enumerate(file, start=1):
                if not line.isascii() and (bad := re.search("[\ud800-\udfff]", line)):
                    raise FormatError(f"{path}:{number}: {bad[0]!r} is no UTF-8; save the file as UTF-8 text")
                yield line.removesuffix("\n")
                empty = False
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file; run the step that writes it, or check the path") from None
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror})") from None
    if empty:
        raise FormatError(f"{path}: the file is empty; write it again")


def read_root(path: str | Path, line: str) -> Path:
    """The corpus root that a file's first line names. Raises FormatError unless it is absolute."""
    root = Path(line.strip())
    check_root(f"{path}:1", root)
    return root


def check_root(where: str | Path, root: Path) -> None:
    """Raise FormatError unless a corpus root is absolute: training runs in a folder of its own."""
    problem = text_problem(str(root))
    if problem or not root.is_absolute():
        raise FormatError(f"{where}: root {str(root)!r}, expected the absolute path of the corpus's folder")


def parse_frames(where: str, text: str) -> int:
    """The number of 16 kHz samples in a column. Raises FormatError unless it is a whole number above zero."""
    number = whole_number(text)
    if not number:
        raise FormatError(f"{where}: {text!r} {A_LENGTH}")
    return number


def whole_number(text: str) -> int | None:
    """The number that decimal digits make, 0 to LARGEST; None for any other text."""
    if not re.fullmatch("[0-9]{1,13}", text) or int(text) > LARGEST:
        return None
    return int(text)


def label_problem(value: str) -> str | None:
    """What keeps a value from being an emotion or another label, or None."""
    if problem := text_problem(value):
        return problem
    if len(value.split()) != 1:
        return "holds a space, expected one word"
    if "${" in value:
        return "holds `${`, which fairseq's configs read as a reference"
    return None


def text_problem(value: str) -> str | None:
    """What keeps a value from standing in a column, or None."""
    if not value:
        return "is empty"
    if value != value.strip():
        return "begins or ends with a space"
    if not value.isprintable():
        return "holds a tab, line break or other control character"
    if any(len(part.encode()) > MOST_BYTES for part in value.split("/")):
        return f"is longer than {MOST_BYTES} bytes, too long for the name of a file"
    return None


def name_problem(name: str) -> str | None:
    """What keeps a name from being a file's path below the corpus root, or None."""
    if problem := text_problem(name):
        return problem
    if name.startswith("/") or ".." in name.split("/"):  # pathlib keeps every part in memory for good
        return "leaves the corpus root; give the path relative to the root, without `..`"
    if name.endswith(("/", "/.")) or name == ".":
        return "is a folder's; give the path of a file"
    return None


def _checked(path: str | Path, manifest: Manifest) -> None:
    if not manifest.names or len(manifest.names) != len(manifest.frames):
        raise FormatError(
            f"{path}: {len(manifest.names)} names and {len(manifest.frames)} lengths, expected the same "
            "number, and one at least"
        )
    for number, (name, frames) in enumerate(zip(manifest.names, manifest.frames), start=2):
        if problem := name_problem(name):
            raise FormatError(f"{path}:{number}: name {name!r} {problem}")
        if not 0 < frames <= LARGEST:
            raise FormatError(f"{path}:{number}: {frames} {A_LENGTH}")
    _refuse_twice(path, manifest.names)


def _refuse_twice(path: str | Path, names: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=2):
        if first := seen.get(utterance_id(name)):
            raise FormatError(
                f"{path}:{number}: utterance id {utterance_id(name)!r} is in line {first} already; "
                "rename one of the files"
            )
        seen[utterance_id(name)] = number


def _checked_words(path: str | Path, words: Sequence[str]) -> list[str]:
    if not words:
        raise FormatError(f"{path}: no labels, expected one at least")
    for number, word in enumerate(words, start=1):
        if problem := label_problem(word):
            raise FormatError(f"{path}:{number}: label {word!r} {problem}")
    return list(words)


def _checked_units(where: str, row: np.ndarray) -> np.ndarray:
    if row.ndim != 1 or row.size == 0:
        raise FormatError(f"{where}: an utterance without units; leave out utterances shorter than 25 ms")
    if not np.issubdtype(row.dtype, np.integer) or row.min() < 0 or row.max() > LARGEST:
        found = row.max() if row.min() >= 0 else row.min()
        raise FormatError(f"{where}: units must be integers, zero or above; found {found}")
    return row


def _checked_symbols(path: str | Path, symbols: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    for number, symbol in enumerate(_checked_words(path, symbols), start=1):
        if symbol in seen or symbol in FAIRSEQ_SYMBOLS:
            raise FormatError(f"{path}:{number}: symbol {symbol!r} is there already (or fairseq's own); name each once")
        seen.add(symbol)
    return list(symbols)


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
