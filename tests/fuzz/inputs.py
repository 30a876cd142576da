"""Hypothesis strategies for broken files: random bytes, and valid ones after a few odd changes."""

from collections.abc import Sequence

from hypothesis import strategies as st

HOSTILE = [
    *(text.encode() for text in ("0", "-1", "1.5", "nan", "inf", "-inf", "1e309", "1_0", "0x10", "٣", "²", "9" * 20)),
    *(text.encode() for text in ("../../x", "/etc", "a/", ".", "${oc.env:HOME}", "null", "true", "~", "!!set {}")),
    *(text.encode() for text in ('"', "'", ",", ";", "|", "\t", " ", ":", "[", "{", "]", "}", "&a [*a, *a]", "<<: *a")),
    *(text.encode() for text in ("\x1b[31m", "\u202e", "\u2028", "\x85", "\xa0", "\ufeff", "\x00", "\x1c")),
    b"\r", b"\n", b"\r\n",
    b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xf4\x90\x80\x80",  # no UTF-8
    b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x00\x00\x00\x00\x00\x01\x00\x00",  # sizes
    b"9" * 5000, b"x" * 100_000, b"[" * 100_000, b"{\"a\":" * 20_000, b" " * 5000, b"\n" * 5000, b"(" * 5000,
]  # fmt: skip


@st.composite
def broken(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """Random bytes, or one of the seeds after one to four changes."""
    content = draw(st.sampled_from([b"", *seeds, *seeds]))
    if not content:
        return draw(st.binary(max_size=200))
    for change in draw(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=4)):
        content = change(draw, content)
    return content


def _flip(draw: st.DrawFn, content: bytes) -> bytes:
    return _put(draw, content, draw(st.binary(min_size=1, max_size=4)), over=True)


def _insert(draw: st.DrawFn, content: bytes) -> bytes:
    return _put(draw, content, draw(st.sampled_from(HOSTILE)), over=False)


def _overwrite(draw: st.DrawFn, content: bytes) -> bytes:
    return _put(draw, content, draw(st.sampled_from(HOSTILE)), over=True)


def _put(draw: st.DrawFn, content: bytes, piece: bytes, over: bool) -> bytes:
    at = draw(st.integers(0, len(content)))
    return content[:at] + piece + content[at + len(piece) * over :]


def _cut(draw: st.DrawFn, content: bytes) -> bytes:
    start, end = sorted((draw(st.integers(0, len(content))), draw(st.integers(0, len(content)))))
    return content[:start] + content[end:] if draw(st.booleans()) else content[:end]


def _fields(draw: st.DrawFn, content: bytes) -> bytes:
    """One field of one line gone, doubled, or in place of another's, or something odd instead of it."""
    lines = content.split(b"\n")
    at = draw(st.integers(0, len(lines) - 1))
    blank = draw(st.sampled_from([b"\t", b" ", b",", b": "]))
    fields = lines[at].split(blank)
    one, two = draw(st.integers(0, len(fields) - 1)), draw(st.integers(0, len(fields) - 1))
    fields[one] = draw(st.sampled_from([b"", fields[two], fields[one] + blank + fields[two], *HOSTILE]))
    return b"\n".join([*lines[:at], blank.join(fields), *lines[at + 1 :]])


def _lines(draw: st.DrawFn, content: bytes) -> bytes:
    """One line there twice, or gone, or two of them exchanged; or other line ends."""
    lines = content.split(b"\n")
    one, two = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
    kind = draw(st.sampled_from(["twice", "gone", "exchanged", "windows", "mac"]))
    if kind == "twice":
        lines.insert(two, lines[one])
    elif kind == "gone":
        del lines[one]
    elif kind == "exchanged":
        lines[one], lines[two] = lines[two], lines[one]
    return {"windows": b"\r\n", "mac": b"\r"}.get(kind, b"\n").join(lines)


CHANGES = [_flip, _insert, _overwrite, _cut, _fields, _fields, _lines]
