"""Small files that claim gigabytes are refused before memory is taken for them."""

import io
import json
import os
import pickle
import resource
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from guard import guarded
from parsers import HUGGING_FACE, judge, parsers, placed

MEMORY = 512 << 20  # bytes, beside what the interpreter has already


def seed(name: str, number: int = 0) -> bytes:
    return parsers()[name].seeds()[number]


def wav(rate: int = 16000, channels: int = 1, promised: int = 8) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 & 0xFFFFFFFF, channels * 2 & 0xFFFF, 16)
    data = b"data" + struct.pack("<I", promised) + b"\0" * 2048
    return b"RIFF" + struct.pack("<I", promised + 36 & 0xFFFFFFFF) + b"WAVEfmt " + struct.pack("<I", 16) + form + data


def flac() -> bytes:
    """The seed, its header changed to say 2^36 - 1 samples."""
    content = bytearray(seed("audio", 9))
    assert content[:4] == b"fLaC"
    content[21:26] = bytes([content[21] | 15]) + b"\xff" * 4
    return bytes(content)


def aiff() -> bytes:
    """The seed, its header changed to say 2^32 - 1 frames at 1 Hz."""
    content = bytearray(seed("audio", 1))
    at = content.index(b"COMM") + 8
    content[at + 2 : at + 6] = b"\xff" * 4
    content[at + 8 : at + 18] = b"\x3f\xff\x80" + b"\0" * 7
    return bytes(content)


def w64() -> bytes:
    """The seed, its data said to have 2^60 bytes."""
    content = bytearray(seed("audio", 2))
    at = content.index(b"data\xf3\xac\xd3\x11") + 16
    content[at : at + 8] = struct.pack("<Q", 1 << 60)
    return bytes(content)


def caf(rate: float) -> bytes:
    content = bytearray(seed("audio", 3))
    at = content.index(b"desc") + 12
    content[at : at + 8] = struct.pack(">d", rate)
    return bytes(content)


def npy(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue() + b"\0" * 64


def npz(centroids: bytes, compress: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compress) as archive:
        archive.writestr("centroids.npy", centroids)
        archive.writestr("metadata.npy", npy((), "<U1"))
    return file.getvalue()


def four_gigabytes() -> bytes:
    """A stored entry whose sizes in the list say 4 GiB."""
    content = bytearray(npz(npy((2, 2))))
    at = content.index(b"PK\x01\x02")
    content[at + 20 : at + 28] = b"\xfe\xff\xff\xff" * 2
    return bytes(content)


def doubled(times: int) -> bytes:
    """A pickled tuple of two tuples of two ...: 2^times of them, each in the file once."""
    return b")" + b"2\x86" * times


def sklearn_shape() -> bytes:
    """An array's shape that has no end, in a k-means model."""
    content = seed("sklearn", 2)
    at = content.index(b"\x8c\x05shape") + 7
    assert content[at : at + 1] == b"\x94"
    return content[: at + 1] + doubled(60) + content[at + 1 :]


def aliases(use: str = "[{0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}]") -> bytes:
    """The billion laughs."""
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} " + use.format(f"*a{n - 1}") for n in range(1, 40))]
    return "\n".join(lines).encode()


def hugging_face(**changes: object) -> bytes:
    return json.dumps({**HUGGING_FACE, **changes}).encode()


def deflated() -> bytes:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(seed("checkpoint"))) as old,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return file.getvalue()


def nested() -> bytes:
    return b'{"a":' * 100_000


CLAIMS: list[tuple[str, Callable[[], bytes], str]] = [
    ("audio", lambda: wav(rate=1), "1 Hz, expected 4000"),
    ("audio", lambda: wav(rate=2**31 - 1), "2147483647 Hz, expected"),
    ("audio", lambda: wav(rate=44101), "too little in common"),
    ("audio", lambda: wav(promised=0x7FFFEFFF), "truncated"),
    ("audio", lambda: wav(channels=65535), "not audio"),
    ("audio", flac, "truncated|promises"),
    ("audio", aiff, "truncated|promises|Hz"),
    ("audio", w64, "it was read"),  # libsndfile takes what is there
    ("audio", lambda: caf(1.0), "1 Hz, expected"),
    ("audio", lambda: caf(1e300), "Hz, expected|not audio"),
    ("long_audio", flac, "truncated|promises"),
    ("features", lambda: npy((10**9, 768)), "promises 3072000000000 bytes"),
    ("features", lambda: npy((2**32, 2**32)), "promises"),
    ("features", lambda: npy((2, 2), "|O"), "items of object"),
    ("kmeans", lambda: npz(npy((10**9, 768))), "promises 3072000000000 bytes"),
    ("kmeans", lambda: npz(npy((2, 2), "|O")), "items of object"),
    ("kmeans", lambda: npz(b"\0" * (64 << 20), zipfile.ZIP_DEFLATED), "compressed"),
    ("kmeans", four_gigabytes, "claim 4294967"),
    ("sklearn", lambda: zlib.compress(b"\0" * (64 << 20), 9), "more than 50 times"),
    ("sklearn", sklearn_shape, "damaged"),
    ("sklearn", lambda: b"\x80\x04}" + doubled(60) + b"Ns.", "neither text nor number"),
    ("sklearn", lambda: pickle.dumps({"a": 1})[:-1] + b"\x8e" + struct.pack("<Q", 1 << 40), "damaged"),
    ("safetensors", lambda: struct.pack("<Q", 1 << 40) + b"{}", "damaged"),
    ("checkpoint", deflated, "compressed"),
    ("hugging_face", lambda: hugging_face(hidden_size=60_000), "its config describes"),
    ("hugging_face", lambda: hugging_face(num_hidden_layers=60_000), "its config describes"),
    ("hugging_face", lambda: hugging_face(intermediate_size=10**12), "encoder_ffn_embed_dim is 1000000000000"),
    ("hugging_face", nested, "nested too deep"),
    ("source", nested, "nested too deep"),
    ("run", nested, "nested too deep"),
    ("experiment", aliases, "aliases stand for more"),
    ("experiment", lambda: aliases("{{<<: [{0}, {0}, {0}], y: {0}}}"), "aliases stand for more"),
    ("config", aliases, "aliases stand for more"),
    ("config", nested, "nested deeper"),
    ("textgrid", lambda: b'"ooTextFile" "TextGrid" 0 3 <exists> 999999999', "file ends here"),
    ("conv_layers", lambda: b"[(1,2,3)]" + b" * 64" * 8, "only lists"),
]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", range(len(CLAIMS)), ids=[f"{i}-{claim[0]}" for i, claim in enumerate(CLAIMS)])
def test_claims_are_refused_within_little_memory(number):
    name, make, words = CLAIMS[number]
    parser, content = parsers()[name], make()
    assert len(content) < 1 << 20
    with placed(parser) as path:
        said = limited(lambda: judge(parser, path, content) or "it was read")
    assert _matches(words, said), said


def test_a_reader_that_takes_the_memory_is_seen():
    """The limit is one; what earlier tests freed may be used again, so that a little more than it could be had."""
    assert "MemoryError" in limited(lambda: str(len(bytearray(64 * MEMORY))))


def _matches(words: str, said: str) -> bool:
    return any(word in said for word in words.split("|"))


def limited(call: Callable[[], str]) -> str:
    """What a call gives in a child process with little memory, or the error that ended it."""
    begin, end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with open("/proc/self/statm") as file:
                used = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            with guarded():
                said = call()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(end, said[:4000].encode())
        os._exit(0)
    os.close(end)
    with open(begin, "rb") as file:
        said = file.read().decode()
    os.waitpid(child, 0)
    return said
