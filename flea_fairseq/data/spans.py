"""Stretches of one emotion in a recording: read from RTTM or Praat's TextGrid."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from flea_fairseq.data.manifest import read_lines
from flea_fairseq.data.textgrid import read_tiers
from flea_fairseq.errors import FormatError

RTTM_LINE = "SPEAKER <utterance id> 1 <start s> <duration s> <NA> <NA> <emotion> <NA> <NA>"
EMOTIONS = "emotion"  # the tier of a TextGrid that holds them


class Span(NamedTuple):
    """A stretch of one emotion: start and end in seconds."""

    start: float
    end: float
    emotion: str


def read_spans(path: str | Path) -> dict[str, list[Span]]:
    """Spans by utterance id: of an RTTM file, or of a folder of TextGrid files named after their utterances.

    Raises FormatError.
    """
    path = Path(path)
    if not path.is_dir():
        return read_rttm(path)
    grids = sorted(path.rglob("*.TextGrid"))
    if not grids:
        raise FormatError(f"{path}: holds no .TextGrid; give a folder of them, or an RTTM file")
    return {grid.stem: read_textgrid(grid) for grid in grids}


def read_rttm(path: str | Path) -> dict[str, list[Span]]:
    """Read spans from RTTM lines: `SPEAKER <utterance id> 1 <start s> <duration s> <NA> <NA> <emotion> <NA> <NA>`.

    Raises FormatError for another line.
    """
    spans: dict[str, list[Span]] = {}
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split()
        try:
            kind, utterance, _, start, duration, _, _, emotion, _, _ = fields
            first, length = float(start), float(duration)
            if kind != "SPEAKER" or not 0 <= first < first + length < math.inf:
                raise ValueError
        except ValueError:
            raise FormatError(f"{path}:{number}: {line[:80]!r}, expected `{RTTM_LINE}`") from None
        spans.setdefault(utterance, []).append(Span(first, first + length, emotion))
    return spans


def read_textgrid(path: str | Path) -> list[Span]:
    """Read the intervals that are not empty of a TextGrid's tier `emotion`, or of its only one. Raises FormatError."""
    tiers = read_tiers(path)
    named = [tier for tier in tiers if tier.name == EMOTIONS] or (tiers if len(tiers) == 1 else [])
    if not named or named[0].intervals is None:
        names = ", ".join(tier.name for tier in tiers) or "none"
        raise FormatError(f"{path}: tiers {names}, expected an interval tier named {EMOTIONS!r}")
    return [Span(*interval) for interval in named[0].intervals if interval[2]]


def one_line(text: str) -> str:
    """A name from elsewhere without tabs and line ends, which would break a table."""
    return " ".join(text.split())


def rttm_line(utterance: str, span: Span) -> str:
    """A span as an RTTM line, with its line end; milliseconds. Blanks would end a field, and become `_`."""
    name, emotion = ("_".join(text.split()) or "_" for text in (utterance, span.emotion))
    return f"SPEAKER {name} 1 {span.start:.3f} {span.end - span.start:.3f} <NA> <NA> {emotion} <NA> <NA>\n"


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same spans in order of time, those of one emotion that touch or overlap joined."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and joined[-1].emotion == span.emotion and span.start <= joined[-1].end:
            joined[-1] = joined[-1]._replace(end=max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined
