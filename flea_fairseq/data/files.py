"""Writing files so that a reader never sees half of one; reading small ones."""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flea_fairseq.errors import ExperimentError, FormatError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` on success, remove it on failure.

    The temporary name keeps the suffix, because numpy and soundfile choose a format by it, and no more of a long name
    than a file system takes beside its own letters.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}.", suffix=path.suffix, dir=path.parent)
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


def read_json(path: Path, keys: Sequence[str], remedy: str) -> dict:
    """Read a JSON object that must hold some keys. Raises FormatError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read as JSON ({error}); {remedy}") from None
    missing = [key for key in keys if not isinstance(values, dict) or key not in values]
    if missing:
        raise FormatError(f"{path}: lacks {', '.join(missing)}; {remedy}")
    return values


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
