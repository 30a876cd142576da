"""Writing files so that a reader never sees half of one, nor a full disk as success; reading small ones."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flea_fairseq.errors import ExperimentError, FleaError, FormatError, WriteError

FULL = (errno.ENOSPC, errno.EDQUOT)
REMEDIES = {
    **dict.fromkeys(FULL, "free some space, and start the same command again"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "name another place, or let this one be writable"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file has the name of its folder; name another"),
    **dict.fromkeys((errno.EISDIR, errno.ENOTEMPTY), "a folder has this name; name another, or remove it"),
    errno.EFBIG: "let files be larger (ulimit -f)",
}
PROBE = 1 << 16  # bytes that a disk must take to count as not full
SMALL = 64 << 20  # bytes of a text that is read whole


def explained(number: int) -> str:
    """An errno in words, with what to do."""
    return "; ".join([os.strerror(number), *([REMEDIES[number]] if number in REMEDIES else [])])


def check_room(folder: str | Path) -> None:
    """Raise WriteError for a folder whose disk is full: programs tell it in many words, so the disk is asked."""
    if number := _full(folder):
        raise WriteError(folder, explained(number))


def _full(folder: str | Path) -> int | None:
    """The errno with which a disk refuses a little file for want of room, or None."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE))
    except OSError as error:
        return error.errno if error.errno in FULL else None
    return None


@contextmanager
def writing(path: str | Path, temporary: Path | None = None) -> Iterator[None]:
    """Raise WriteError, which names `path`, where it, or `temporary` that is to become it, cannot be written within.

    Libraries tell a full disk in words of their own, torch as a RuntimeError: of those the disk itself is asked.
    """
    own = temporary or Path(path)
    try:
        yield
    except (FleaError, BrokenPipeError):
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number is None:
            number = _full(own.parent)
        if number is None or not _is_of(error, own):
            raise
        raise WriteError(path, explained(number)) from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` on success, remove it on failure.

    The temporary name keeps the suffix, because numpy chooses a format by it, and the beginning of a long name. Write
    it with Python's own files: libsndfile's can lose their end on a full disk, and say nothing. Raises WriteError.
    """
    path = Path(path)
    temporary = _temporary(path, path.parent, tempfile.mkstemp)
    try:
        with writing(path, temporary):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_files(folder: str | Path, last: tuple[str, ...] = ()) -> Iterator[Path]:
    """Give a temporary folder; what is in it at the end moves to `folder`, all of it or, on failure, nothing.

    last: ends of names; such a file tells a reader that the others are whole, so an older one goes before they come,
    and the new one comes after them. Raises WriteError.
    """
    folder = Path(folder)
    with hidden_folder(folder, inside=True) as temporary:
        yield temporary
        names = [path.relative_to(temporary) for path in sorted(temporary.rglob("*")) if path.is_file()]
        names.sort(key=lambda name: next((i for i, end in enumerate(last, 1) if name.name.endswith(end)), 0))
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if (folder / name).is_dir():
                raise WriteError(folder / name, explained(errno.EISDIR))
        for name in reversed(names):
            if name.name.endswith(last):
                (folder / name).unlink(missing_ok=True)
        for name in names:
            os.replace(temporary / name, folder / name)


@contextmanager
def hidden_folder(path: str | Path, inside: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `path`, or in it, which is removed at the end.

    Raises WriteError for what cannot be written there, under the name of `path`.
    """
    path = Path(path)
    temporary = _temporary(path, path if inside else path.parent, tempfile.mkdtemp)
    try:
        with writing(path, temporary):
            yield temporary
    except WriteError as error:
        if temporary not in error.path.parents:
            raise
        name = error.path.relative_to(temporary) if inside else ""
        raise WriteError(path / name, error.problem) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_of(error: Exception, path: Path) -> bool:
    """Whether an error is of a file, or of one in it, and not of another, that was to be read."""
    names = [name for name in (getattr(error, "filename", None), getattr(error, "filename2", None)) if name]
    return not names or any(path in (Path(str(name)), *Path(str(name)).parents) for name in names)


def _temporary(path: Path, parent: Path, make: Callable[..., tuple[int, str] | str]) -> Path:
    """A new file or folder in `parent`, by one of tempfile's functions, with the rights that the umask gives.

    It has no more of a long name than a file system takes beside its own letters.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        made = make(prefix=f".{path.stem[:40]}.", suffix=path.suffix, dir=parent)
        if isinstance(made, str):
            os.chmod(made, 0o777 & ~_umask())
            return Path(made)
        handle, name = made
        os.close(handle)
        os.chmod(name, 0o666 & ~_umask())
        return Path(name)
    except OSError as error:
        raise WriteError(path, explained(error.errno or 0)) from error


@contextmanager
def holding(path: str | Path, busy: str) -> Iterator[int]:
    """Hold a lock file; gives its descriptor, for processes that are to hold it too.

    The system lets go of it when the last process that holds it ends, however that happens: there is no stale lock.
    Raises ExperimentError, with `busy` as its text, while another holds it.
    """
    with writing(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")  # noqa: SIM115 -- closed below
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExperimentError(busy) from None
        yield file.fileno()


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_text(path: str | Path) -> str:
    """A small UTF-8 text file. Raises OSError, and ValueError for one that is no text, no file, or not small."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):  # a device may never end, a pipe never begin
            raise ValueError("not a file")
        if status.st_size > SMALL:
            raise ValueError(f"larger than {SMALL >> 20} MiB")
        return file.read().decode("utf-8")


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
