"""Writing files so that a reader never sees half of one; reading small ones."""

import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flea_fairseq.errors import ExperimentError, FormatError

SMALL = 64 << 20  # bytes of a text that is read whole


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` on success, remove it on failure.

    The temporary name keeps the suffix, because numpy and soundfile choose a format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    os.chmod(name, 0o666 & ~_umask())
    try:
        yield Path(name)
        os.replace(name, path)
    except OSError as error:
        if error.filename in (None, name):  # a full disk's error has none
            error.filename = str(path)
        raise
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def holding(path: str | Path, busy: str) -> Iterator[int]:
    """Hold a lock file; gives its descriptor, for processes that are to hold it too.

    The system lets go of it when the last process that holds it ends, however that happens: there is no stale lock.
    Raises ExperimentError, with `busy` as its text, while another holds it.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExperimentError(busy) from None
        yield file.fileno()


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def read_text(path: str | Path) -> str:
    """A small UTF-8 text file. Raises OSError, and ValueError for one that is no text, no file, or not small."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a device may never end, a pipe never begin
            raise ValueError("not a file")
        content = file.read(SMALL + 1)
    if len(content) > SMALL:
        raise ValueError(f"larger than {SMALL >> 20} MiB")
    return content.decode("utf-8")


def read_json(path: Path, keys: Sequence[str], remedy: str) -> dict[str, Any]:
    """Read a JSON object that must hold some keys. Raises FormatError."""
    try:
        values = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read as JSON ({error}); {remedy}") from None
    if not isinstance(values, dict):
        raise FormatError(f"{path}: {type(values).__name__}, expected an object with {', '.join(keys)}; {remedy}")
    missing = [key for key in keys if key not in values]
    if missing:
        raise FormatError(f"{path}: lacks {', '.join(missing)}; {remedy}")
    return values


def parse_json(text: str) -> Any:
    """JSON text as plain values. Raises ValueError, also where it is nested too deep or has a number of 4300 digits."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_checksum(path: str | Path) -> None:
    """Write `<path>.sha256` beside a file, in the format of `sha256sum --check`."""
    path = Path(path)
    write_text(checksum_path(path), f"{sha256(path)}  {path.name}\n")


def check_whole(path: str | Path) -> None:
    """Raise FormatError for a file that is not what its `.sha256` says; one without it is taken as it is."""
    path = Path(path)
    if not checksum_path(path).is_file():
        return
    expected = checksum_path(path).read_text(encoding="utf-8", errors="replace").split(" ")[0].strip()
    if not path.is_file() or sha256(path) != expected:
        raise FormatError(
            f"{path}: damaged or cut short: not the file that {checksum_path(path).name} is of; make it again"
        )


def checksum_path(path: Path) -> Path:
    """Where a file's checksum stands."""
    return path.with_name(f"{path.name}.sha256")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
