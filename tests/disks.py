"""A real disk that can be filled: a file system in memory, of a fixed size."""

import gc
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = 4096  # bytes; what this file system gives at once


class SmallDisk:
    """A mounted file system and the one file that takes the room which nobody is to have."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._filler = folder, folder / ".filler"

    def resize(self, kibibytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={kibibytes}k", str(self.folder)], check=True)

    def leave(self, pages: int) -> None:
        """Fill it but for so many pages."""
        gc.collect()  # a removed file takes room as long as an object that nobody uses maps it
        self.free()
        if taken := self._free_bytes() - pages * PAGE:
            with open(self._filler, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, taken)

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all that is on it."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def pages_free(self) -> int:
        return self._free_bytes() // PAGE

    def files(self) -> dict[str, tuple[int, bytes]]:
        """What is on it, hidden files and all: the inode and the content of each."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file() and path != self._filler)
        return {str(path.relative_to(self.folder)): (path.stat().st_ino, path.read_bytes()) for path in paths}

    def _free_bytes(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize


@contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[SmallDisk]:
    """Mount a disk of a size; where that is not allowed, skip the test."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        pytest.skip(f"no disk to fill: mounting a file system in memory needs root ({str(reason).strip()})")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
