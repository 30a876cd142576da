"""Praat's TextGrid, in its long and its short text format, which are read alike.

Praat itself reads only the numbers, the texts in quotes and the flags in angle brackets that stand free, in their
order; every other word is for people ("TextGrid file formats" in Praat's manual).
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flea_fairseq.errors import FormatError

TOKEN = re.compile(r'"((?:[^"]|"")*)"|![^\n]*|(<\w+>)|(\S+)')
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")


class Tier(NamedTuple):
    """intervals: (start, end, text), in seconds; None where the tier is one of points."""

    name: str
    intervals: list[tuple[float, float, str]] | None


def read_tiers(path: str | Path) -> list[Tier]:
    """All tiers of a TextGrid. Raises FormatError with the line of whatever is wrong."""
    reader = _Reader(path, _decoded(path))
    if not reader.text("the file's type").startswith("ooTextFile") or reader.text("the object's class") != "TextGrid":
        raise reader.error('the types "ooTextFile" and "TextGrid"')
    reader.number("its start"), reader.number("its end")
    if reader.flag() != "<exists>":
        return []
    return [_read_tier(reader) for _ in range(reader.count("the number of tiers"))]


def _read_tier(reader: "_Reader") -> Tier:
    kind, name = reader.text("a tier's class"), reader.text("a tier's name")
    if kind not in ("IntervalTier", "TextTier"):
        raise reader.error('a tier of class "IntervalTier" or "TextTier"')
    reader.number("the tier's start"), reader.number("the tier's end")
    size = reader.count("the number of intervals or points")
    if kind == "TextTier":
        for _ in range(size):
            reader.number("a point's time"), reader.text("a point's text")
        return Tier(name, None)
    intervals = []
    for _ in range(size):
        start, end = reader.number("an interval's start"), reader.number("an interval's end")
        if not 0 <= start < end:
            raise reader.error(f"an interval that ends after its start, not {start} to {end}")
        intervals.append((start, end, reader.text("an interval's text").strip()))
    return Tier(name, intervals)


class _Reader:
    """The free numbers, texts and flags of a file, one after the other."""

    def __init__(self, path: str | Path, content: str) -> None:
        self.path, self.content, self.at = path, content, 0
        self._tokens = self._found()

    def _found(self) -> Iterator[re.Match[str]]:
        for match in TOKEN.finditer(self.content):
            word = match[3]
            if word is None:
                if match[0].startswith("!"):
                    continue
            elif word.startswith('"'):
                self.at = match.start()
                raise self.error("a text that ends with a quote")
            elif not NUMBER.fullmatch(word):
                continue
            self.at = match.start()
            yield match
        self.at = len(self.content)

    def _next(self, group: int, what: str) -> str:
        match = next(self._tokens, None)
        if match is None or match[group] is None:
            raise self.error(what)
        return match[group]

    def text(self, what: str) -> str:
        return self._next(1, f"{what} in quotes").replace('""', '"')

    def flag(self) -> str:
        return self._next(2, "<exists>, whether there are tiers")

    def number(self, what: str) -> float:
        value = float(self._next(3, f"{what}, a number"))
        if not math.isfinite(value):
            raise self.error(f"{what}, a number that is not infinite")
        return value

    def count(self, what: str) -> int:
        value = self.number(what)
        if value < 0 or not value.is_integer():
            raise self.error(f"{what}, a whole number")
        return int(value)

    def error(self, expected: str) -> FormatError:
        line = self.content.count("\n", 0, self.at) + 1
        found = self.content[self.at : self.at + 40].partition("\n")[0]
        return FormatError(
            f"{self.path}:{line}: {repr(found) if found else 'the file ends here'}, expected {expected}; "
            "not a TextGrid as Praat writes it, save it again with Praat"
        )


def _decoded(path: str | Path) -> str:
    """The file's text: UTF-8, or UTF-16 with its mark, as Praat writes where a text needs it."""
    try:
        content = Path(path).read_bytes()
        encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
        text = content.decode(encoding)
    except OSError as error:
        raise FormatError(f"{path}: no such file, or it cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FormatError(f"{path}:{line}: not UTF-8 or UTF-16 text; save it again with Praat as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
