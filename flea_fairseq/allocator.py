"""What a process keeps, such as freed memory for the next tensor, and that it ends without searching through it."""

import atexit
import ctypes
import gc
import os

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # names and numbers of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let glibc serve large blocks from memory that the process already has; say whether this C library can.

    By default each large tensor is a mapping of its own, unmapped when it is freed: every step of a training then
    touches all of its memory for the first time, and a fifth of its time goes into the system's page faults. Results
    and peak memory are the same. To be called before the first large tensor; see mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))


def keep_few_primitives(count: int) -> None:
    """Let oneDNN keep so many operations, unless the environment says how many; it reads this at its first one.

    It keeps 1024 by itself, with their code and scratch memory: of a HuBERT-base about 13 MiB for every length of
    audio it has seen, of which few are ever used again.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(count))


def end_at_once() -> None:
    """Let Python pass over a million objects of torch and fairseq when it ends: a second for every step of a graph."""
    atexit.register(gc.freeze)
