"""numpy's files from others: only arrays of numbers, and only as large as the file that they stand in."""

import io
import math
import tokenize
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def check_header(file: BinaryIO, size: int) -> None:
    """Read the header of a `.npy` of `size` bytes, and leave the file behind it.

    Raises ValueError unless it is of numbers or text, and what follows has as many bytes as it says: numpy itself takes
    the memory that a header claims.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        if dtype.hasobject or dtype.kind not in "fiubU" or not dtype.itemsize or not all(0 <= n for n in shape):
            raise ValueError(f"items of {dtype}, shape {shape}")
    except (SyntaxError, TypeError, MemoryError, RecursionError, OverflowError, tokenize.TokenError) as error:
        raise ValueError(f"its header is none of numpy's ({type(error).__name__})") from None
    claimed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if claimed != there:
        raise ValueError(f"its header promises {claimed} bytes of numbers, {there} are there")


def read_arrays(path: Path, names: tuple[str, ...]) -> list[Array]:
    """The named arrays of a `.npz`. Raises ValueError, KeyError or OSError for one that is not whole."""
    check_stored(path)
    with zipfile.ZipFile(path) as archive:
        return [_read_member(archive, f"{name}.npy") for name in names]


def _read_member(archive: zipfile.ZipFile, name: str) -> Array:
    try:
        content = archive.read(name)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:  # RuntimeError: encrypted
        raise ValueError(f"{name}: {error}") from None
    file = io.BytesIO(content)
    check_header(file, len(content))
    file.seek(0)
    array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def check_stored(path: Path) -> None:
    """Raise ValueError unless a zip file holds all that it lists: what is compressed could be a thousand times larger.

    numpy's `savez` and torch's `save` do not compress.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, OverflowError, EOFError) as error:
        raise ValueError(f"not a whole zip file ({error})") from None
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its entries are compressed, expected them as they are")
    claimed, there = sum(member.file_size for member in members), path.stat().st_size
    if claimed > there:
        raise ValueError(f"its entries claim {claimed} bytes, the file has {there}")
