"""The centroids of a scikit-learn k-means model that joblib wrote, without running anything that the file asks for.

A joblib file is a pickle in which the raw bytes of each array follow the object that describes it. Every name in the
pickle stands for one of the passive classes below, which only keep what they are given; other names are refused.
Known from scikit-learn 0.20 to 1.9 and joblib 0.11 to 1.6 (the official `hubert_base_ls960_L9_km500.bin` is one).
"""

import io
import math
import os
import pickle
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from flea_fairseq.errors import CheckpointError

MAX_BYTES = 1 << 30  # the official model has 1.5 MB
MAX_RATIO = 50  # of zlib; random numbers as text take a quarter, zeros a thousandth
MAX_DIMS = 32  # of numpy's arrays
ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS  # zlib finds out by itself which of the two
COMPRESSED = (b"\x78", b"\x1f\x8b")
ITEM_TYPE = re.compile("b1|f[248]|[iu][1248]")
PLAIN_OPCODES = (
    pickle.PROTO + pickle.FRAME + pickle.STOP + pickle.MARK + pickle.POP + pickle.POP_MARK + pickle.DUP
    + pickle.NONE + pickle.NEWTRUE + pickle.NEWFALSE + pickle.INT + pickle.BININT + pickle.BININT1 + pickle.BININT2
    + pickle.LONG + pickle.LONG1 + pickle.LONG4 + pickle.FLOAT + pickle.BINFLOAT + pickle.STRING + pickle.BINSTRING
    + pickle.SHORT_BINSTRING + pickle.UNICODE + pickle.BINUNICODE + pickle.SHORT_BINUNICODE + pickle.BINUNICODE8
    + pickle.BINBYTES + pickle.SHORT_BINBYTES + pickle.BINBYTES8
    + pickle.TUPLE + pickle.EMPTY_TUPLE + pickle.TUPLE1 + pickle.TUPLE2 + pickle.TUPLE3
    + pickle.LIST + pickle.EMPTY_LIST + pickle.APPEND + pickle.APPENDS
    + pickle.DICT + pickle.EMPTY_DICT + pickle.SETITEM + pickle.SETITEMS
    + pickle.GET + pickle.BINGET + pickle.LONG_BINGET + pickle.PUT + pickle.BINPUT + pickle.LONG_BINPUT + pickle.MEMOIZE
    + pickle.GLOBAL + pickle.STACK_GLOBAL
)  # fmt: skip


class _Passive:
    """Keeps the state it is given, and ignores its arguments."""

    def __init__(self, *arguments: object) -> None:
        self.state: object = None


class _KMeans(_Passive):
    """Stands for scikit-learn's KMeans and MiniBatchKMeans."""


class _ArrayHeader(_Passive):
    """Stands for joblib's NumpyArrayWrapper: the array's bytes follow it in the file."""


class _ItemType(_Passive):
    """Stands for numpy's dtype: a name such as f8; its state holds the byte order."""

    def __init__(self, name: object = None, *arguments: object) -> None:
        super().__init__()
        self.name = name

    def to_numpy(self) -> np.dtype:
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "|"
        if not isinstance(self.name, str) or not ITEM_TYPE.fullmatch(self.name) or order not in ("<", ">", "|", "="):
            name = self.name if isinstance(self.name, str) else type(self.name)  # tuples in tuples have no end
            raise TypeError(f"arrays of {name!r} items are refused, only numbers are read")
        return np.dtype(f"{order}{self.name}")


def _reconstructor(passive: object, *arguments: object) -> _Passive:
    """Stands for copyreg's, by which pickle protocols 0 and 1 make objects."""
    return _made(passive)


KNOWN_NAMES = {
    **{
        f"sklearn.cluster.{module}.{name}": _KMeans
        for module in ("_kmeans", "k_means_")
        for name in ("KMeans", "MiniBatchKMeans")
    },
    "joblib.numpy_pickle.NumpyArrayWrapper": _ArrayHeader,
    "sklearn.externals.joblib.numpy_pickle.NumpyArrayWrapper": _ArrayHeader,
    "numpy.dtype": _ItemType,
    "copyreg._reconstructor": _reconstructor,
    "copy_reg._reconstructor": _reconstructor,
    # What stands in the other attributes, which are not needed: numbers and random generators.
    **dict.fromkeys(
        [
            "numpy.ndarray",
            *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
            "_codecs.encode",
            "builtins.object",
            "__builtin__.object",
            "numpy.random.__RandomState_ctor",
            *(f"numpy.random._pickle.__{kind}_ctor" for kind in ("randomstate", "generator", "bit_generator")),
            "numpy.random._mt19937.MT19937",
            "numpy.random._pcg64.PCG64",
            "numpy.random.bit_generator.SeedSequence",
            "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
        ],
        _Passive,
    ),
}


def read_sklearn_centroids(path: str | Path) -> np.ndarray:
    """Read the centroids of a KMeans or MiniBatchKMeans that joblib wrote: (K, D) float32.

    Raises CheckpointError for a damaged file, another compression than zlib or gzip, a name that is not known, or a
    model that is not k-means.
    """
    content = _decompressed(path)
    try:
        model = _Reader(path, content).load()
        if not isinstance(model, _KMeans) or not isinstance(model.state, dict):
            raise TypeError("it holds something else")
        centroids = model.state["cluster_centers_"]
        if not isinstance(centroids, np.ndarray) or centroids.ndim != 2 or centroids.dtype.kind != "f":
            raise ValueError("its cluster_centers_ are not a table of numbers")
        with np.errstate(over="ignore"):
            centroids = np.ascontiguousarray(centroids, dtype=np.float32)
        if not centroids.size or not np.isfinite(centroids).all():
            raise ValueError("its cluster_centers_ are empty or not finite")
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
        MemoryError, struct.error,
    ) as error:  # fmt: skip
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(
            f"{path}: not a fitted scikit-learn k-means model as joblib writes it, or damaged ({detail}); "
            "copy it again, or fit one with flea kmeans"
        ) from None
    return centroids


def _decompressed(path: str | Path) -> bytes:
    try:
        with open(path, "rb") as file:
            # Not MAX_BYTES at once: Python takes the memory for as much as it is asked to read.
            content = file.read(min(MAX_BYTES, os.fstat(file.fileno()).st_size) + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if content.startswith(COMPRESSED):
        try:
            limit = min(MAX_BYTES, MAX_RATIO * len(content) + 4096)
            content = zlib.decompressobj(ZLIB_OR_GZIP).decompress(content, limit + 1)
            if len(content) > limit:
                raise zlib.error(f"it holds more than {MAX_RATIO} times its size")
        except zlib.error as error:
            raise CheckpointError(f"{path}: damaged ({error}); fetch or copy it again") from None
    if len(content) > MAX_BYTES:
        raise CheckpointError(f"{path}: more than {MAX_BYTES >> 20} MiB, too large for a k-means model")
    return content


class _Reader(pickle._Unpickler):  # the one written in Python: its steps can be replaced one by one
    """Reads the pickle's plain values, makes passive objects of everything else, and takes in the arrays' bytes."""

    stack: list[Any]  # these two are the base's, whose types lack them
    pop_mark: Callable[[], list[Any]]

    def __init__(self, path: str | Path, content: bytes) -> None:
        self.path = path
        self.content = io.BytesIO(content)
        self.size = len(content)
        super().__init__(self.content, encoding="latin1")

    def find_class(self, module: str, name: str) -> object:
        full_name = f"{module}.{name}"
        if full_name not in KNOWN_NAMES:
            raise CheckpointError(
                f"{self.path}: refused, because it asks for {full_name[:100]!r}, which a k-means model does not need"
            )
        return KNOWN_NAMES[full_name]

    def make(self) -> None:
        """REDUCE and NEWOBJ: a passive object of what would be called and its arguments."""
        arguments = self.stack.pop()
        self.stack[-1] = _made(self.stack[-1], *arguments)

    def build(self) -> None:
        """BUILD: keep the state; where it describes an array, put the array in place of the description."""
        state = self.stack.pop()
        made = self.stack[-1]
        if not isinstance(made, _Passive):
            raise TypeError(f"a state for {type(made).__name__}")
        made.state = state
        if isinstance(made, _ArrayHeader):
            self.stack[-1] = self.read_array(state)

    def read_array(self, header: dict[str, Any]) -> np.ndarray:
        """The array whose bytes begin here, after 1 + n bytes of padding in files of joblib 1.2 and later."""
        item_type, shape = header["dtype"].to_numpy(), header["shape"]
        if not isinstance(shape, tuple) or len(shape) > MAX_DIMS or not all(map(_is_size, shape)):
            raise ValueError("an array of shape that is no tuple of sizes")
        if header.get("numpy_array_alignment_bytes") is not None:
            self.content.read(self.content.read(1)[0])
        length = math.prod(shape) * item_type.itemsize
        there = self.size - self.content.tell()
        if length > there:
            raise ValueError(f"an array of {length} bytes, of which {there} are there")
        array = np.frombuffer(self.content.read(length), dtype=item_type)
        return array.reshape(shape[::-1]).T if header["order"] == "F" else array.reshape(shape)

    def set_item(self) -> None:
        """SETITEM."""
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1].update(_items([key, value]))

    def set_items(self) -> None:
        """SETITEMS."""
        items = self.pop_mark()
        self.stack[-1].update(_items(items))

    def make_dict(self) -> None:
        """DICT."""
        items = self.pop_mark()
        self.stack.append(_items(items))

    dispatch: ClassVar[dict[int, Any]] = {
        **{code: pickle._Unpickler.dispatch[code] for code in PLAIN_OPCODES},
        pickle.REDUCE[0]: make,
        pickle.NEWOBJ[0]: make,
        pickle.BUILD[0]: build,
        pickle.SETITEM[0]: set_item,
        pickle.SETITEMS[0]: set_items,
        pickle.DICT[0]: make_dict,
    }


def _items(flat: list[Any]) -> dict[Any, Any]:
    """Keys and values in turn as a dict; keys are text or numbers: tuples of tuples would take for ever to hash."""
    if not all(isinstance(key, (str, bytes, int, float, type(None))) for key in flat[::2]):
        raise TypeError("a key that is neither text nor number")
    return dict(zip(flat[::2], flat[1::2]))


def _is_size(number: object) -> bool:
    return type(number) is int and 0 <= number < 1 << 63


def _made(maker: object, *arguments: object) -> _Passive:
    if maker is _reconstructor or (isinstance(maker, type) and issubclass(maker, _Passive)):
        return maker(*arguments)
    raise TypeError(f"{type(maker).__name__} cannot be called")
